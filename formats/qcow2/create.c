/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * New images: the plan of their parts, and the header (spec: qcow2 1.1).
 *
 * Whole images appear under their name only when finished (output.h), so the
 * order of the writes does not matter. The header comes last all the same, and
 * after a sync: on a device there is no other name, and a half written image
 * must not look whole.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "block/error.h"
#include "block/options.h"
#include "formats/qcow2/new-image.h"
#include "formats/qcow2/qcow2.h"

void qcow2_plan_refcounts(uint64_t used, unsigned cluster_bits,
			  unsigned refcount_order, uint64_t *table_clusters,
			  uint64_t *blocks)
{
	uint64_t per_block = 1ull << (cluster_bits + 3 - refcount_order);
	uint64_t per_table = 1ull << (cluster_bits - 3);
	uint64_t table = 0, count = 0, before;

	/* Each round can only grow, and by less each time. */
	do {
		before = table + count;
		count = div_round_up(used + before, per_block);
		table = div_round_up(count, per_table);
	} while (table + count != before);
	*table_clusters = table;
	*blocks = count;
}

static int too_large(struct error *err)
{
	return error_set(err, EFBIG,
			 "The image size is too large for file format 'qcow2' "
			 "(try using a larger cluster size)");
}

int qcow2_plan_make(struct qcow2_plan *out, const struct qcow2_new *n,
		    struct error *err)
{
	unsigned entry_bits = n->extended_l2 ? 4 : 3;
	unsigned l2_bits = n->cluster_bits - entry_bits;
	uint64_t clusters =
		div_round_up(n->size_bytes, 1ull << n->cluster_bits);
	uint64_t used;
	struct qcow2_plan p = {.reftable_first = 1};

	p.l1_entries = div_round_up(clusters, 1ull << l2_bits);
	if (p.l1_entries > QCOW2_L1_ENTRIES_MAX)
		return too_large(err);
	p.l1_count = div_round_up(p.l1_entries * 8, 1ull << n->cluster_bits);
	if (n->prealloc != PREALLOC_OFF) {
		p.l2_count = p.l1_entries;
		p.data_count = clusters;
	}
	used = 1 + p.l1_count + p.l2_count + p.data_count;
	qcow2_plan_refcounts(used, n->cluster_bits, n->refcount_order,
			     &p.reftable_count, &p.refblock_count);
	p.refblock_first = p.reftable_first + p.reftable_count;
	p.l1_first = p.refblock_first + p.refblock_count;
	p.l2_first = p.l1_first + p.l1_count;
	p.data_first = p.l2_first + p.l2_count;
	p.total = p.data_first + p.data_count;
	if (p.reftable_count > QCOW2_REFTABLE_BYTES_MAX >> n->cluster_bits ||
	    p.total > QCOW2_HOST_OFF_MAX >> n->cluster_bits)
		return too_large(err);
	*out = p;
	return 0;
}

static struct qcow2_header make_header(const struct qcow2_new *n,
				       const struct qcow2_plan *p)
{
	bool zstd = n->compression_type != QCOW2_COMPRESSION_DEFLATE;

	return (struct qcow2_header){
		.version = n->version,
		.cluster_bits = n->cluster_bits,
		.size_bytes = n->size_bytes,
		.l1_entries = (uint32_t)p->l1_entries,
		.l1_off = p->l1_entries ? p->l1_first << n->cluster_bits : 0,
		.reftable_off = p->reftable_first << n->cluster_bits,
		.reftable_clusters = (uint32_t)p->reftable_count,
		.incompatible = zstd ? QCOW2_INCOMPAT_COMPRESSION : 0,
		.compatible = n->lazy_refcounts ? QCOW2_COMPAT_LAZY : 0,
		.refcount_order = n->refcount_order,
		.compression_type = n->compression_type,
	};
}

static int copy_name(char **out, const char *name)
{
	*out = name ? strdup(name) : NULL;
	return name && !*out ? -ENOMEM : 0;
}

/* Encodes into a whole cluster: what the name leaves free is zeros. */
static int encode_header(uint8_t *area, const struct qcow2_new *n,
			 struct qcow2_header *header, size_t *used,
			 struct error *err)
{
	struct qcow2_header_tail tail = {0};
	int ret = copy_name(&tail.backing_name, n->backing_name);

	if (!ret)
		ret = copy_name(&tail.backing_format, n->backing_format);
	if (ret < 0)
		error_set(err, ENOMEM, "No memory for the header");
	else
		ret = qcow2_header_encode(header, &tail, area,
					  (size_t)1 << n->cluster_bits, used,
					  err);
	qcow2_header_tail_release(&tail);
	return ret;
}

static int write_image(struct storage *s, const struct qcow2_new *n,
		       struct progress *progress, struct error *err)
{
	struct qcow2_plan plan;
	struct qcow2_header header;
	uint8_t *area = NULL;
	size_t used;
	int ret = qcow2_plan_make(&plan, n, err);

	if (ret < 0)
		return ret;
	header = make_header(n, &plan);
	area = malloc((size_t)1 << n->cluster_bits);
	if (!area)
		return error_set(err, ENOMEM, "No memory for the header");
	ret = encode_header(area, n, &header, &used, err);
	if (ret < 0)
		goto out;
	ret = qcow2_plan_write(s, &plan, n, progress, err);
	if (ret < 0)
		goto out;
	/* Last also on the disk, whatever order it writes in. */
	ret = storage_sync(s);
	if (!ret)
		ret = storage_write(s, area, used, 0);
	if (ret < 0)
		error_set_errno(err, -ret, "Could not write the header");
out:
	free(area);
	return ret;
}

int qcow2_create(const struct create_args *args, struct error *err)
{
	struct qcow2_new n;
	int ret = qcow2_new_parse(&n, args->options, err);

	if (ret < 0)
		return ret;
	n.size_bytes = args->size_bytes;
	ret = qcow2_new_check_supported(&n, err);
	if (ret < 0)
		return ret;
	ret = write_image(args->storage, &n, args->progress, err);
	if (ret < 0)
		return ret;
	ret = storage_sync(args->storage);
	if (ret < 0)
		return error_set_errno(err, -ret, "Could not sync the image");
	return 0;
}
