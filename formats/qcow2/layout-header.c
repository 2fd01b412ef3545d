/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The fixed part of the qcow2 header: 72 bytes in version 2, 104 and more in
 * version 3 (spec: qcow2 1, 14, 22).
 *
 * Decoding is total. Validation judges the fields against each other, the
 * limits and the length of the file; nothing that it let pass can make a table
 * too large for memory, wrap a sum, or lead two tables to the same bytes.
 *
 * A table may reach past the end of the file, where it reads as zeros: images
 * are not padded to whole clusters. A table that starts there is another thing:
 *  - L1 table: refused. The file was cut, and every read would give zeros where
 *    there was data. Only check looks at such an image.
 *  - refcount table, snapshot table: refused for writing, since counts would be
 *    made up; reading guest data does not need them, so it is allowed.
 */
#include "formats/qcow2/layout.h"

#include <inttypes.h>

#include "block/error.h"

#define V3_HEADER_BYTES_MIN 104u
/* The fixed part of a snapshot table entry: the least an entry takes. */
#define SNAPSHOT_ENTRY_MIN	     40u
#define EXTENDED_L2_CLUSTER_BITS_MIN 14u

void qcow2_header_decode(struct qcow2_header *out, const uint8_t *buf)
{
	struct qcow2_header_disk disk;

	memcpy(&disk, buf, sizeof(disk));
	*out = (struct qcow2_header){
		.version = be32_get(disk.version),
		.backing_off = be64_get(disk.backing_file_offset),
		.backing_len = be32_get(disk.backing_file_size),
		.cluster_bits = be32_get(disk.cluster_bits),
		.size_bytes = be64_get(disk.size),
		.crypt_method = be32_get(disk.crypt_method),
		.l1_entries = be32_get(disk.l1_size),
		.l1_off = be64_get(disk.l1_table_offset),
		.reftable_off = be64_get(disk.refcount_table_offset),
		.reftable_clusters = be32_get(disk.refcount_table_clusters),
		.snapshot_count = be32_get(disk.nb_snapshots),
		.snapshots_off = be64_get(disk.snapshots_offset),
		.refcount_order = 4,
		.header_len = QCOW2_V2_HEADER_BYTES,
	};
	if (out->version < 3)
		return;
	out->incompatible = be64_get(disk.incompatible_features);
	out->compatible = be64_get(disk.compatible_features);
	out->autoclear = be64_get(disk.autoclear_features);
	out->refcount_order = be32_get(disk.refcount_order);
	out->header_len = be32_get(disk.header_length);
	if (out->header_len > V3_HEADER_BYTES_MIN)
		out->compression_type = disk.compression_type;
}

static uint64_t cluster_size(const struct qcow2_header *h)
{
	return 1ull << h->cluster_bits;
}

static int check_version(const struct qcow2_header *h, struct error *err)
{
	if (h->version != 2 && h->version != 3)
		return error_set(err, ENOTSUP,
				 "Unsupported qcow2 version %" PRIu32
				 "; 2 and 3 are supported",
				 h->version);
	if (h->cluster_bits < QCOW2_CLUSTER_BITS_MIN ||
	    h->cluster_bits > QCOW2_CLUSTER_BITS_MAX)
		return error_set(err, ENOTSUP,
				 "Unsupported cluster size: 2^%" PRIu32
				 "; cluster_bits has to be %d to %d",
				 h->cluster_bits, QCOW2_CLUSTER_BITS_MIN,
				 QCOW2_CLUSTER_BITS_MAX);
	return 0;
}

static int check_header_len(const struct qcow2_header *h, struct error *err)
{
	if (h->version < 3)
		return 0;
	if (h->header_len < V3_HEADER_BYTES_MIN)
		return error_set(err, ERROR_CORRUPT,
				 "qcow2 header too short: header_length is "
				 "%" PRIu32 ", the least is %u",
				 h->header_len, V3_HEADER_BYTES_MIN);
	if (h->header_len > cluster_size(h))
		return error_set(err, ERROR_CORRUPT,
				 "qcow2 header exceeds cluster size: "
				 "header_length is %" PRIu32
				 ", the cluster size is %" PRIu64,
				 h->header_len, cluster_size(h));
	if (!is_aligned(h->header_len, 8))
		return error_set(err, ERROR_CORRUPT,
				 "header_length is %" PRIu32
				 ", which is not a multiple of 8",
				 h->header_len);
	return 0;
}

/*
 * Fields that a feature bit belongs to. Bits that are not known may change what
 * these fields mean; they are left to be refused by name.
 */
static int check_features(const struct qcow2_header *h, struct error *err)
{
	bool bit = h->incompatible & QCOW2_INCOMPAT_COMPRESSION;

	if (h->refcount_order > 6)
		return error_set(err, ENOTSUP,
				 "Reference count entry width too large; may "
				 "not exceed 64 bits: refcount_order is "
				 "%" PRIu32 ", not 0 to 6",
				 h->refcount_order);
	if (h->crypt_method > QCOW2_CRYPT_LUKS)
		return error_set(err, ENOTSUP,
				 "Unsupported encryption method %" PRIu32
				 "; crypt_method has to be 0 to 2",
				 h->crypt_method);
	if (h->incompatible & ~QCOW2_INCOMPAT_KNOWN)
		return 0;
	if (h->compression_type > QCOW2_COMPRESSION_ZSTD)
		return error_set(err, ENOTSUP,
				 "unknown compression type: %u; 0 (zlib) and "
				 "1 (zstd) are supported",
				 h->compression_type);
	if (bit != (h->compression_type != QCOW2_COMPRESSION_DEFLATE))
		return error_set(err, ERROR_CORRUPT,
				 "Compression type incompatible feature bit "
				 "must %sbe set: compression_type is %u",
				 bit ? "not " : "", h->compression_type);
	if ((h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2) &&
	    h->cluster_bits < EXTENDED_L2_CLUSTER_BITS_MIN)
		return error_set(err, ERROR_CORRUPT,
				 "Extended L2 entries need a cluster size of "
				 "16384 at least, not %" PRIu64,
				 cluster_size(h));
	return 0;
}

/* Without an offset there is no backing file, whatever the length says. */
static int check_backing(const struct qcow2_header *h, struct error *err)
{
	if (!h->backing_off)
		return 0;
	if (h->backing_len > QCOW2_BACKING_NAME_MAX)
		return error_set(err, ERROR_CORRUPT,
				 "Backing file name too long: "
				 "backing_file_size is %" PRIu32
				 ", the limit is %d",
				 h->backing_len, QCOW2_BACKING_NAME_MAX);
	if (!h->backing_len)
		return error_set(err, ERROR_CORRUPT,
				 "Backing file name is empty: "
				 "backing_file_size is 0, but "
				 "backing_file_offset is 0x%" PRIx64,
				 h->backing_off);
	if (h->backing_off < h->header_len || h->backing_off > cluster_size(h))
		return error_set(err, ERROR_CORRUPT,
				 "Invalid backing file offset 0x%" PRIx64
				 ": it has to be behind the header (0x%" PRIx32
				 ") and in the first cluster (0x%" PRIx64 ")",
				 h->backing_off, h->header_len,
				 cluster_size(h));
	if (h->backing_len > cluster_size(h) - h->backing_off)
		return error_set(err, ERROR_CORRUPT,
				 "Backing file name too long: %" PRIu32
				 " bytes at 0x%" PRIx64
				 " do not fit into the first cluster "
				 "(0x%" PRIx64 ")",
				 h->backing_len, h->backing_off,
				 cluster_size(h));
	return 0;
}

/* Alignment, and an end that still is an offset in a file. */
static int check_table(const struct qcow2_header *h, const char *name,
		       uint64_t off, uint64_t bytes, struct error *err)
{
	if (!is_aligned(off, cluster_size(h)))
		return error_set(err, ERROR_CORRUPT,
				 "%s offset invalid: 0x%" PRIx64
				 " is not a multiple of the cluster size "
				 "0x%" PRIx64,
				 name, off, cluster_size(h));
	if (!range_inside(off, bytes, INT64_MAX))
		return error_set(err, ERROR_CORRUPT,
				 "%s offset invalid: 0x%" PRIx64 " and %" PRIu64
				 " bytes end behind 2^63 - 1",
				 name, off, bytes);
	return 0;
}

static int check_l1(const struct qcow2_header *h, struct error *err)
{
	bool extended = h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2;
	unsigned l2_bits = h->cluster_bits - (extended ? 4 : 3);
	uint64_t needed = div_round_up(h->size_bytes,
				       1ull << (h->cluster_bits + l2_bits));

	/* Guest offsets, and sums of two of them, are kept in 63 bits. */
	if (h->size_bytes > (uint64_t)INT64_MAX - 511)
		return error_set(err, EFBIG,
				 "Image is too big: size is %" PRIu64
				 " bytes, the limit is 2^63 - 512",
				 h->size_bytes);
	if (needed > QCOW2_L1_ENTRIES_MAX)
		return error_set(err, EFBIG,
				 "Image is too big: size %" PRIu64
				 " needs %" PRIu64
				 " L1 entries with clusters of %" PRIu64
				 " bytes, the limit is %u",
				 h->size_bytes, needed, cluster_size(h),
				 QCOW2_L1_ENTRIES_MAX);
	if (h->l1_entries > QCOW2_L1_ENTRIES_MAX)
		return error_set(err, EFBIG,
				 "Active L1 table too large: l1_size is "
				 "%" PRIu32 " entries, the limit is %u",
				 h->l1_entries, QCOW2_L1_ENTRIES_MAX);
	if (h->l1_entries < needed)
		return error_set(err, ERROR_CORRUPT,
				 "L1 table is too small: l1_size is %" PRIu32
				 " entries, size %" PRIu64 " needs %" PRIu64,
				 h->l1_entries, h->size_bytes, needed);
	return check_table(h, "Active L1 table", h->l1_off,
			   h->l1_entries * 8ull, err);
}

static uint64_t reftable_bytes(const struct qcow2_header *h)
{
	return (uint64_t)h->reftable_clusters << h->cluster_bits;
}

static int check_reftable(const struct qcow2_header *h, unsigned flags,
			  struct error *err)
{
	if (reftable_bytes(h) > QCOW2_REFTABLE_BYTES_MAX)
		return error_set(err, EFBIG,
				 "Reference count table too large: "
				 "refcount_table_clusters is %" PRIu32
				 ", the limit is %u bytes, %" PRIu64
				 " clusters",
				 h->reftable_clusters, QCOW2_REFTABLE_BYTES_MAX,
				 QCOW2_REFTABLE_BYTES_MAX / cluster_size(h));
	if (!h->reftable_clusters && !(flags & QCOW2_VALIDATE_FOR_CHECK))
		return error_set(err, ERROR_CORRUPT,
				 "Image does not contain a reference count "
				 "table: refcount_table_clusters is 0; "
				 "check can repair it");
	return check_table(h, "Reference count table", h->reftable_off,
			   reftable_bytes(h), err);
}

static uint64_t snapshot_bytes_min(const struct qcow2_header *h)
{
	return (uint64_t)h->snapshot_count * SNAPSHOT_ENTRY_MIN;
}

static int check_snapshots(const struct qcow2_header *h, struct error *err)
{
	if (h->snapshot_count > QCOW2_SNAPSHOTS_MAX)
		return error_set(err, EFBIG,
				 "Snapshot table too large: nb_snapshots is "
				 "%" PRIu32 ", the limit is %u",
				 h->snapshot_count, QCOW2_SNAPSHOTS_MAX);
	return check_table(h, "Snapshot table", h->snapshots_off,
			   snapshot_bytes_min(h), err);
}

struct area {
	const char *name;
	uint64_t off, bytes;
	bool for_reading; /* guest data cannot be read without it */
};

static int check_overlaps(const struct qcow2_header *h,
			  const struct area *areas, size_t count,
			  struct error *err)
{
	size_t i, j;

	for (i = 0; i < count; i++)
		for (j = 0; j < i; j++) {
			const struct area *a = &areas[i], *b = &areas[j];

			if (!a->bytes || !b->bytes)
				continue;
			if (a->off >= align_up(b->off + b->bytes,
					       cluster_size(h)) ||
			    b->off >= align_up(a->off + a->bytes,
					       cluster_size(h)))
				continue;
			return error_set(err, ERROR_CORRUPT,
					 "%s offset invalid: 0x%" PRIx64
					 " overlaps the %s at 0x%" PRIx64,
					 a->name, a->off, b->name, b->off);
		}
	return 0;
}

static int check_file_end(const struct area *areas, size_t count,
			  uint64_t file_size, unsigned flags, struct error *err)
{
	size_t i;

	for (i = 0; i < count; i++) {
		const struct area *a = &areas[i];

		if (!a->bytes || a->off < file_size)
			continue;
		if (!a->for_reading && (flags & QCOW2_VALIDATE_READ_ONLY))
			continue;
		return error_set(err, ERROR_CORRUPT,
				 "%s offset invalid: 0x%" PRIx64
				 " is behind the end of the file, which has "
				 "%" PRIu64 " bytes; is the file complete?",
				 a->name, a->off, file_size);
	}
	return 0;
}

int qcow2_header_validate(const struct qcow2_header *h, uint64_t file_size,
			  unsigned flags, struct error *err)
{
	struct area areas[4];
	int ret;

	if ((ret = check_version(h, err)) < 0 ||
	    (ret = check_header_len(h, err)) < 0 ||
	    (ret = check_features(h, err)) < 0 ||
	    (ret = check_backing(h, err)) < 0 || (ret = check_l1(h, err)) < 0 ||
	    (ret = check_reftable(h, flags, err)) < 0 ||
	    (ret = check_snapshots(h, err)) < 0)
		return ret;
	if (flags & QCOW2_VALIDATE_FOR_CHECK)
		return 0;

	areas[0] = (struct area){"Header", 0, cluster_size(h), true};
	areas[1] = (struct area){"Active L1 table", h->l1_off,
				 h->l1_entries * 8ull, true};
	areas[2] = (struct area){"Reference count table", h->reftable_off,
				 reftable_bytes(h), false};
	areas[3] = (struct area){"Snapshot table", h->snapshots_off,
				 snapshot_bytes_min(h), false};
	if ((ret = check_overlaps(h, areas, 4, err)) < 0)
		return ret;
	return check_file_end(areas, 4, file_size, flags, err);
}
