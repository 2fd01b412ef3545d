/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qcow2 on disk: decode, validate and encode, pure functions without I/O, each
 * a fuzz target (spec: qcow2 1-4, 8.1, 10.1, 14, 22).
 */
#ifndef PLATTER_FORMATS_QCOW2_LAYOUT_H
#define PLATTER_FORMATS_QCOW2_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/bytes.h"

struct error;

#define QCOW2_MAGIC 0x514649fbu

/* Limits: what QEMU enforces too, so no image of its is refused (spec 14). */
#define QCOW2_CLUSTER_BITS_MIN	 9
#define QCOW2_CLUSTER_BITS_MAX	 21
#define QCOW2_L1_ENTRIES_MAX	 (32u * 1024 * 1024 / 8)
#define QCOW2_REFTABLE_BYTES_MAX (8u * 1024 * 1024)
#define QCOW2_SNAPSHOTS_MAX	 65536
#define QCOW2_SNAPSHOT_TABLE_MAX (64u * 1024 * 1024)
#define QCOW2_SNAPSHOT_EXTRA_MAX 1024
#define QCOW2_BACKING_NAME_MAX	 1023
#define QCOW2_BITMAPS_MAX	 65535
/* L1 entries, L2 entries and refcount table entries hold 56 bits of offset. */
#define QCOW2_HOST_OFF_MAX (1ull << 56)

#define QCOW2_INCOMPAT_DIRTY	   (1ull << 0)
#define QCOW2_INCOMPAT_CORRUPT	   (1ull << 1)
#define QCOW2_INCOMPAT_DATA_FILE   (1ull << 2)
#define QCOW2_INCOMPAT_COMPRESSION (1ull << 3)
#define QCOW2_INCOMPAT_EXTENDED_L2 (1ull << 4)
#define QCOW2_INCOMPAT_KNOWN	   0x1full
#define QCOW2_COMPAT_LAZY	   (1ull << 0)
#define QCOW2_AUTOCLEAR_BITMAPS	   (1ull << 0)
#define QCOW2_AUTOCLEAR_RAW_DATA   (1ull << 1)
#define QCOW2_AUTOCLEAR_KNOWN	   0x3ull

#define QCOW2_CRYPT_NONE 0
#define QCOW2_CRYPT_AES	 1
#define QCOW2_CRYPT_LUKS 2

#define QCOW2_COMPRESSION_DEFLATE 0
#define QCOW2_COMPRESSION_ZSTD	  1

#define QCOW2_EXT_END		 0x00000000u
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acau
#define QCOW2_EXT_FEATURE_NAMES	 0x6803f857u
#define QCOW2_EXT_BITMAPS	 0x23852875u
#define QCOW2_EXT_ENCRYPTION	 0x0537be77u
#define QCOW2_EXT_DATA_FILE	 0x44415441u

#define QCOW2_V2_HEADER_BYTES 72
#define QCOW2_V3_HEADER_BYTES 112 /* as written; 104 at least when read */

struct qcow2_header_disk {
	be32_t magic, version;
	be64_t backing_file_offset;
	be32_t backing_file_size, cluster_bits;
	be64_t size;
	be32_t crypt_method, l1_size;
	be64_t l1_table_offset, refcount_table_offset;
	be32_t refcount_table_clusters, nb_snapshots;
	be64_t snapshots_offset;
	/* version 3 */
	be64_t incompatible_features, compatible_features, autoclear_features;
	be32_t refcount_order, header_length;
	uint8_t compression_type, padding[7];
};

_Static_assert(sizeof(struct qcow2_header_disk) == QCOW2_V3_HEADER_BYTES,
	       "qcow2 header size");

/* Decoded. A field that the file does not have holds what absence means. */
struct qcow2_header {
	uint32_t version;
	uint64_t backing_off; /* host */
	uint32_t backing_len;
	uint32_t cluster_bits;
	uint64_t size_bytes;
	uint32_t crypt_method;
	uint32_t l1_entries;
	uint64_t l1_off;       /* host */
	uint64_t reftable_off; /* host */
	uint32_t reftable_clusters;
	uint32_t snapshot_count;
	uint64_t snapshots_off; /* host */
	uint64_t incompatible, compatible, autoclear;
	uint32_t refcount_order;
	uint32_t header_len;
	uint8_t compression_type;
};

/* One header extension as it stands in the file, order kept. */
struct qcow2_extension {
	uint32_t type, len;
	uint8_t *data;
};

/* What follows the fixed header in the first cluster. All owned. */
struct qcow2_header_tail {
	uint8_t *unknown; /* header bytes from 112 to header_len */
	size_t unknown_len;
	struct qcow2_extension *extensions; /* without the end marker */
	size_t extension_count;
	char *backing_name;   /* NUL-terminated; NULL: none */
	char *backing_format; /* from its extension; NULL: none */
	bool has_bitmaps;     /* extension present (valid or not) */
	bool bitmaps_valid;   /* and its fields and the autoclear bit agree */
	uint32_t bitmap_count;
	uint64_t bitmap_directory_len, bitmap_directory_off;
	bool has_encryption;
	uint64_t encryption_off, encryption_len;
	char *data_file_name;
};

/* Waives what `check` can report or mend: overlaps, tables behind the end. */
#define QCOW2_VALIDATE_FOR_CHECK 1u
/* Waives what reading guest data does not need: counts behind the file's end.
 */
#define QCOW2_VALIDATE_READ_ONLY 2u

/* Total: never fails; `buf` holds QCOW2_V3_HEADER_BYTES, zeros past the end. */
void qcow2_header_decode(struct qcow2_header *out, const uint8_t *buf);
/* Fields against each other, the limits and the file's size. */
int qcow2_header_validate(const struct qcow2_header *h, uint64_t file_size,
			  unsigned flags, struct error *err);
/*
 * Parses header tail, extensions and backing name out of the first cluster:
 * `buf` holds `len` bytes (cluster size or less; zeros past the file's end are
 * the caller's). Needs a valid `h`. Feature bits against extensions are checked
 * here, unknown incompatible bits by name.
 */
int qcow2_header_tail_decode(struct qcow2_header_tail *out,
			     const struct qcow2_header *h, const uint8_t *buf,
			     size_t len, struct error *err);
void qcow2_header_tail_release(struct qcow2_header_tail *tail);
/*
 * The whole header area for the first cluster: fixed part, unknown part,
 * extensions (feature names included where they fit), backing name. Sets
 * h->backing_off, backing_len and header_len to match. -ENOSPC with text if it
 * does not fit into one cluster. `out` holds cluster_size bytes, zero filled
 * here; *used says how many matter.
 */
int qcow2_header_encode(struct qcow2_header *h,
			const struct qcow2_header_tail *tail, uint8_t *out,
			size_t cluster_size, size_t *used, struct error *err);

/* ---- Table entries (spec 4) ---- */

#define QCOW2_COPIED		(1ull << 63)
#define QCOW2_L2_COMPRESSED	(1ull << 62)
#define QCOW2_L2_ZERO		(1ull << 0) /* version 3 */
#define QCOW2_OFFSET_MASK	0x00fffffffffffe00ull
#define QCOW2_L1_RESERVED	0x7f000000000001ffull
#define QCOW2_L2_RESERVED	0x3f000000000001feull
#define QCOW2_REFTABLE_RESERVED 0x1ffull

enum qcow2_cluster_kind {
	QCOW2_UNALLOCATED,
	QCOW2_NORMAL,
	QCOW2_ZERO_PLAIN,
	QCOW2_ZERO_ALLOCATED,
	QCOW2_COMPRESSED,
};

static inline enum qcow2_cluster_kind qcow2_l2_kind(uint64_t entry)
{
	if (entry & QCOW2_L2_COMPRESSED)
		return QCOW2_COMPRESSED;
	if (entry & QCOW2_L2_ZERO)
		return entry & QCOW2_OFFSET_MASK ? QCOW2_ZERO_ALLOCATED
						 : QCOW2_ZERO_PLAIN;
	return entry & QCOW2_OFFSET_MASK ? QCOW2_NORMAL : QCOW2_UNALLOCATED;
}

/* A compressed descriptor taken apart (spec 4.3). */
struct qcow2_packed {
	uint64_t host_off; /* of the first byte, any alignment */
	uint32_t len;	   /* upper bound: to the end of its last sector */
};

struct qcow2_packed qcow2_packed_decode(uint64_t entry, unsigned cluster_bits);
/* `len` is the true packed length; host_off < qcow2_packed_off_limit(). */
uint64_t qcow2_packed_encode(uint64_t host_off, uint32_t len,
			     unsigned cluster_bits);
uint64_t qcow2_packed_off_limit(unsigned cluster_bits);
/* The host clusters that hold a reference: [first, first + count). */
void qcow2_packed_clusters(struct qcow2_packed p, unsigned cluster_bits,
			   uint64_t *first, uint64_t *count);

/* ---- Refcount slots (spec 7), `order` 0..6 ---- */

uint64_t qcow2_refcount_get(const void *block, uint64_t slot, unsigned order);
void qcow2_refcount_put(void *block, uint64_t slot, unsigned order,
			uint64_t value);

/* ---- Snapshot table (spec 8.1), read only as yet ---- */

struct qcow2_snapshot {
	uint64_t l1_off; /* host */
	uint32_t l1_entries;
	uint32_t date_sec, date_nsec;
	uint64_t vm_clock_nsec, vm_state_size, disk_size, icount;
	uint32_t extra_len;
	char *id, *name; /* owned, NUL-terminated */
};

/*
 * Decodes the entry at `pos` of a table of `len` bytes; returns the position
 * behind it (aligned to 8, possibly > len), or a negative errno.
 */
int64_t qcow2_snapshot_decode(struct qcow2_snapshot *out, const uint8_t *table,
			      size_t len, size_t pos, uint64_t current_size,
			      struct error *err);
/* A decoded entry against the limits; `h` is valid. */
int qcow2_snapshot_validate(const struct qcow2_snapshot *s,
			    const struct qcow2_header *h, struct error *err);
void qcow2_snapshot_release(struct qcow2_snapshot *s);

/* ---- Bitmap directory (spec 10.1), read only as yet ---- */

#define QCOW2_BITMAP_IN_USE (1u << 0)
#define QCOW2_BITMAP_AUTO   (1u << 1)

struct qcow2_bitmap {
	uint64_t table_off; /* host */
	uint32_t table_entries;
	uint32_t flags;
	uint8_t type;
	uint8_t granularity_bits;
	uint32_t extra_len;
	char *name; /* owned, NUL-terminated */
};

/*
 * Decodes and validates the entry at `pos` of a directory of `len` bytes;
 * returns the position behind it, padding included, or a negative errno.
 */
int64_t qcow2_bitmap_decode(struct qcow2_bitmap *out, const uint8_t *directory,
			    size_t len, size_t pos, unsigned cluster_bits,
			    struct error *err);
void qcow2_bitmap_release(struct qcow2_bitmap *b);

#endif
