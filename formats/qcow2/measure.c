/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How large a new image would be (spec: qcow2 20).
 *
 * "Fully allocated" has a place for every cluster; "required" leaves out the
 * clusters that the source has no data in. Both count tables as if the disk
 * were fully allocated, as QEMU does, so that the numbers agree.
 */
#include <inttypes.h>

#include "block/error.h"
#include "block/image.h"
#include "block/options.h"
#include "formats/qcow2/new-image.h"
#include "formats/qcow2/qcow2.h"

/*
 * What a LUKS1 header takes with the default cipher, aes-256-xts: one unit for
 * the header, then eight key slots of 4000 stripes of a 64-byte key, each
 * rounded up to the unit (spec: luks1).
 */
#define LUKS_UNIT	4096u
#define LUKS_SLOTS	8u
#define LUKS_SLOT_BYTES (4000u * 64u)

static int luks_bytes(const struct qcow2_new *n, const struct options *opts,
		      uint64_t *out, struct error *err)
{
	const char *alg = options_get(opts, "encrypt.cipher-alg");
	const char *mode = options_get(opts, "encrypt.cipher-mode");

	*out = 0;
	if (n->crypt_method != QCOW2_CRYPT_LUKS)
		return 0;
	if ((alg && strcmp(alg, "aes-256")) || (mode && strcmp(mode, "xts")))
		return error_set(err, ENOTSUP,
				 "Only the default cipher aes-256 in mode xts "
				 "can be measured, not '%s' in mode '%s'",
				 alg ? alg : "aes-256", mode ? mode : "xts");
	*out = align_up(
		LUKS_UNIT + LUKS_SLOTS * align_up(LUKS_SLOT_BYTES, LUKS_UNIT),
		1ull << n->cluster_bits);
	return 0;
}

static int too_large(struct error *err)
{
	return error_set(err, EFBIG,
			 "The image size is too large (try using a larger "
			 "cluster size)");
}

/* Header, L1 and L2 tables and counts of a fully allocated disk. */
static int metadata_bytes(const struct qcow2_new *n, uint64_t disk,
			  uint64_t *out, struct error *err)
{
	unsigned bits = n->cluster_bits;
	uint64_t entry_bytes = n->extended_l2 ? 16 : 8;
	uint64_t per_l2 = (1ull << bits) / entry_bytes;
	uint64_t l2_tables = div_round_up(disk >> bits, per_l2);
	uint64_t l1_clusters = div_round_up(l2_tables, 1ull << (bits - 3));
	uint64_t used = 1 + l1_clusters + l2_tables, blocks, table;

	if (l2_tables > QCOW2_L1_ENTRIES_MAX)
		return too_large(err);
	qcow2_plan_refcounts(used + (disk >> bits), bits, n->refcount_order,
			     &table, &blocks);
	*out = (used + table + blocks) << bits;
	return 0;
}

/* Bytes of the clusters in which the source has data. */
static int data_bytes(struct image *source, uint64_t cluster, uint64_t *out,
		      struct error *err)
{
	struct image_walk walk;
	struct mapping run;
	uint64_t counted_to = 0, first, end;
	int ret;

	*out = 0;
	image_walk_start(&walk, source, 0, source->size_bytes, 0);
	for (;;) {
		ret = image_walk_next(&walk, &run);
		if (ret < 0)
			return error_set_errno(err, -ret,
					       "Could not read the mapping of "
					       "'%s'",
					       source->filename);
		if (!run.len)
			return 0;
		if (run.kind == MAPPING_ZERO)
			continue;
		first = max_u64(align_down(run.guest_off, cluster), counted_to);
		end = align_up(run.guest_off + run.len, cluster);
		if (end > first)
			*out += end - first;
		counted_to = max_u64(counted_to, end);
	}
}

static int needed_bytes(const struct qcow2_new *n, struct image *source,
			uint64_t disk, uint64_t *out, struct error *err)
{
	/* What a backing file will hide is not known: assume nothing. */
	bool all = source && n->backing_name;

	if (n->prealloc == PREALLOC_FALLOC || n->prealloc == PREALLOC_FULL)
		all = true;
	*out = all ? disk : 0;
	if (all || !source)
		return 0;
	return data_bytes(source, 1ull << n->cluster_bits, out, err);
}

static uint64_t whole(uint64_t bytes, const struct qcow2_new *n)
{
	return align_up(bytes, 1ull << n->cluster_bits);
}

/* Version 2 has none, and so no figure that says "none". */
static bool may_have_bitmaps(const struct image *source)
{
	const struct qcow2 *q;

	if (!source || source->driver->measure != qcow2_measure)
		return false;
	q = source->state;
	return q->header.version >= 3;
}

/*
 * Persistent bitmaps of a qcow2 source, copied to an image like `n`: all of
 * their data, their tables and the directory.
 */
static int add_bitmaps(const struct qcow2_new *n, struct image *source,
		       struct measure_result *out, struct error *err)
{
	struct qcow2_bitmap *list;
	uint64_t bits, data, directory = 0;
	size_t count;
	int ret;

	if (n->version < 3 || !may_have_bitmaps(source))
		return 0;
	ret = qcow2_bitmaps_read(source->state, &list, &count, err);
	if (ret < 0)
		return ret;
	out->has_bitmaps = true;
	for (size_t i = 0; i < count; i++) {
		if (list[i].flags & QCOW2_BITMAP_IN_USE)
			continue;
		bits = div_round_up(source->size_bytes,
				    1ull << list[i].granularity_bits);
		data = whole(div_round_up(bits, 8), n);
		out->bitmaps += data + whole((data >> n->cluster_bits) * 8, n);
		directory += align_up(24 + strlen(list[i].name), 8);
	}
	out->bitmaps += whole(directory, n);
	qcow2_bitmaps_free(list, count);
	return 0;
}

int qcow2_measure(const struct options *opts, struct image *source,
		  uint64_t size_bytes, struct measure_result *out,
		  struct error *err)
{
	uint64_t size = source ? source->size_bytes : size_bytes;
	uint64_t disk, meta = 0, luks, needed;
	struct qcow2_new n;
	int ret = qcow2_new_parse(&n, opts, err);

	if (ret < 0)
		return ret;
	if (size > IMAGE_SIZE_MAX)
		return too_large(err);
	/* Neither sum wraps: the size is below 2^63, a cluster 2^21 at most. */
	disk = align_up(align_up(size, 512), 1ull << n.cluster_bits);
	if ((ret = metadata_bytes(&n, disk, &meta, err)) < 0 ||
	    (ret = luks_bytes(&n, opts, &luks, err)) < 0 ||
	    (ret = needed_bytes(&n, source, disk, &needed, err)) < 0)
		return ret;
	*out = (struct measure_result){
		.required = meta + luks + needed,
		.fully_allocated = meta + luks + disk,
	};
	return add_bitmaps(&n, source, out, err);
}
