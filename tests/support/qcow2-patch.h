/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sound qcow2 images with a few fields changed by name: how a fuzzer gets past
 * the magic and the bounds, to what lies behind.
 *
 * A patch says which field, and how its value comes about: as it is, from the
 * old value, as the place of a cluster of the file, as a copy of another field
 * of the kind. Any sequence of bytes is a list of patches.
 *
 * One thread.
 */
#ifndef PLATTER_TESTS_SUPPORT_QCOW2_PATCH_H
#define PLATTER_TESTS_SUPPORT_QCOW2_PATCH_H

#include <stddef.h>
#include <stdint.h>

#include "block/bytes.h"

struct qcow2_patch {
	uint8_t what; /* enum qcow2_patch_what, modulo */
	uint8_t how;  /* low half: enum qcow2_patch_how, modulo; high: flags */
	be16_t idx;   /* which of the fields of this kind, modulo */
	be64_t value;
};

_Static_assert(sizeof(struct qcow2_patch) == 12, "patches are packed");

enum qcow2_patch_what {
	QCOW2_PATCH_HEADER,
	QCOW2_PATCH_L1,
	QCOW2_PATCH_L2,
	QCOW2_PATCH_REFTABLE,
	QCOW2_PATCH_REFCOUNT,
	QCOW2_PATCH_SNAPSHOT, /* 8 bytes of its table; else of the header */
	QCOW2_PATCH_TAIL,     /* 8 bytes behind the fixed header */
	QCOW2_PATCH_LENGTH,   /* of the file */
	QCOW2_PATCH_BYTE,     /* anywhere */
	QCOW2_PATCH_WHATS,
};

enum qcow2_patch_how {
	QCOW2_PATCH_SET,
	QCOW2_PATCH_FLIP,     /* one bit */
	QCOW2_PATCH_ADD,      /* small and signed */
	QCOW2_PATCH_CLUSTERS, /* add clusters, few and signed */
	QCOW2_PATCH_PLACE,    /* a cluster of the file, and flags */
	QCOW2_PATCH_COPY,
	QCOW2_PATCH_EDGE, /* a value at which arithmetic breaks */
	QCOW2_PATCH_PACK, /* a packed cluster in the file */
	QCOW2_PATCH_HOWS,
};

/* The bytes of a file; `data` is malloc'ed. */
struct qcow2_bytes {
	uint8_t *data;
	size_t len;
};

/* How many images there are to start from. */
unsigned qcow2_patch_bases(void);

/*
 * The image number `base` (modulo) with `count` patches applied. Made when
 * first asked for; the caller frees the copy.
 */
struct qcow2_bytes qcow2_patched(unsigned base,
				 const struct qcow2_patch *patches,
				 size_t count);

#endif
