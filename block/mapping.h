/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One run of guest bytes and where they are: what format drivers answer.
 */
#ifndef PLATTER_BLOCK_MAPPING_H
#define PLATTER_BLOCK_MAPPING_H

#include <stdbool.h>
#include <stdint.h>

struct image;
struct storage;

enum mapping_kind {
	MAPPING_DATA,	 /* these bytes, in `storage`, at `host_off` */
	MAPPING_ZERO,	 /* reads as zeros, whatever `host_off` holds */
	MAPPING_BACKING, /* this layer has nothing: ask the one below */
	MAPPING_PACKED,	 /* compressed: only the driver can unpack it */
};

/* The layer's own metadata says zero (rather than nothing being there). */
#define MAPPING_EXPLICIT 0x01u
/* DATA that others refer to as well: reserve and copy before writing. */
#define MAPPING_SHARED 0x02u
/* DATA that is enciphered in the store. */
#define MAPPING_CIPHERED 0x04u
/* `host_off` is valid although the run is ZERO (a hole, or space kept). */
#define MAPPING_HAS_HOST 0x08u
/* No layer of the chain has anything here. Only from image_map(). */
#define MAPPING_ABSENT 0x10u

struct mapping {
	enum mapping_kind kind;
	unsigned flags;
	uint64_t guest_off;	 /* as asked */
	uint64_t len;		 /* 0 only at the end of the disk */
	struct storage *storage; /* DATA, HAS_HOST and PACKED; borrowed */
	uint64_t host_off;	 /* of guest_off; of the packed bytes */
	uint32_t packed_len;	 /* PACKED: upper bound of the packed bytes */

	/* filled by image_map() only */
	struct image *layer; /* whose mapping this is */
	unsigned depth;	     /* layers above it */
};

#endif
