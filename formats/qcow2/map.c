/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where guest bytes are: two levels of tables (spec: qcow2 4).
 *
 * One answer covers a run of entries that continue each other inside one unit
 * of the L2 cache, or a span of empty L1 entries.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "block/error.h"
#include "block/image.h"
#include "formats/qcow2/qcow2.h"

/* How far in guest bytes one L1 entry reaches, as a power of two. */
static unsigned l1_span_bits(const struct qcow2 *q)
{
	return q->cluster_bits + q->l2_bits;
}

/* Bytes from guest_off on that lie under L1 entries without a table. */
static uint64_t empty_span(const struct qcow2 *q, uint64_t guest_off,
			   uint64_t len)
{
	uint64_t idx = guest_off >> l1_span_bits(q);
	uint64_t last = (guest_off + len - 1) >> l1_span_bits(q);
	uint64_t end = idx;

	while (end <= last && !(q->l1[end] & QCOW2_OFFSET_MASK))
		end++;
	if (end == idx)
		return 0;
	if (end > last)
		return len;
	return (end << l1_span_bits(q)) - guest_off;
}

static bool offset_bad(const struct qcow2 *q, uint64_t host_off)
{
	return !is_aligned(host_off, q->cluster_size);
}

/* The entries of one unit, looked at for one answer. */
struct entry_view {
	const be64_t *entries; /* at the asked cluster */
	size_t count;	       /* to the end of the unit or of what was asked */
	bool table_copied;     /* the L2 table is nobody else's */
};

/* Entries from the first on that are equal to it, step apart. */
static size_t run_length(const struct entry_view *v, uint64_t step)
{
	uint64_t expect = be64_get(v->entries[0]);
	size_t n = 1;

	while (n < v->count && be64_get(v->entries[n]) == expect + n * step)
		n++;
	return n;
}

/* The length of the run that may be written in place. */
static size_t trusted_length(const struct qcow2 *q, uint64_t host_off,
			     size_t count)
{
	struct qcow2_run run = {.first = qcow2_cluster_index(q, host_off),
				.count = 1};
	size_t n = 0;

	if (!q->img->writable)
		return count;
	while (n < count && !qcow2_run_hits_metadata(q, run)) {
		run.first++;
		n++;
	}
	return n;
}

/*
 * Fills kind, flags and host_off from the entries; returns how many clusters
 * are alike, or -ERROR_CORRUPT for an entry that makes no sense.
 */
static int64_t view_to_mapping(const struct qcow2 *q,
			       const struct entry_view *v, struct mapping *out)
{
	uint64_t entry = be64_get(v->entries[0]);
	uint64_t host_off = entry & QCOW2_OFFSET_MASK;
	struct qcow2_packed packed;
	size_t n;

	switch (qcow2_l2_kind(entry)) {
	case QCOW2_COMPRESSED:
		packed = qcow2_packed_decode(entry, q->cluster_bits);
		out->kind = MAPPING_PACKED;
		out->host_off = packed.host_off;
		out->packed_len = packed.len;
		return 1;
	case QCOW2_UNALLOCATED:
		out->kind = MAPPING_BACKING;
		return (int64_t)run_length(v, 0);
	case QCOW2_ZERO_PLAIN:
		if (q->header.version < 3)
			return -ERROR_CORRUPT;
		out->kind = MAPPING_ZERO;
		out->flags = MAPPING_EXPLICIT;
		return (int64_t)run_length(v, 0);
	case QCOW2_ZERO_ALLOCATED:
		if (q->header.version < 3 || offset_bad(q, host_off))
			return -ERROR_CORRUPT;
		out->kind = MAPPING_ZERO;
		out->flags = MAPPING_EXPLICIT | MAPPING_HAS_HOST;
		out->host_off = host_off;
		return (int64_t)run_length(v, q->cluster_size);
	case QCOW2_NORMAL:
		break;
	}
	if (offset_bad(q, host_off))
		return -ERROR_CORRUPT;
	out->kind = MAPPING_DATA;
	out->host_off = host_off;
	n = run_length(v, q->cluster_size);
	if (v->table_copied && (entry & QCOW2_COPIED)) {
		size_t trusted = trusted_length(q, host_off, n);

		if (trusted)
			return (int64_t)trusted;
		/* Never in place; reserve() will look closer and refuse. */
		n = 1;
	}
	out->flags = MAPPING_SHARED;
	return (int64_t)n;
}

/*
 * The unit of the L2 table that holds the entry, from the cache, or read past
 * it into memory that the caller frees, when the cache is full of changes.
 */
static int unit_get(struct qcow2 *q, uint64_t unit_off, struct table **table,
		    void **uncached)
{
	uint32_t unit = table_cache_unit(q->l2_cache);
	int ret = table_cache_get(q->l2_cache, unit_off, table);

	*uncached = NULL;
	if (ret != -EAGAIN)
		return ret;
	*table = NULL;
	*uncached = malloc(unit);
	if (!*uncached)
		return -ENOMEM;
	ret = storage_read_padded(q->file, *uncached, unit, unit_off);
	if (ret < 0) {
		free(*uncached);
		*uncached = NULL;
	}
	return ret;
}

static int map_in_table(struct qcow2 *q, uint64_t guest_off, uint64_t len,
			struct mapping *out)
{
	uint64_t l1_entry = q->l1[guest_off >> l1_span_bits(q)];
	uint64_t l2_off = l1_entry & QCOW2_OFFSET_MASK;
	uint64_t l2_idx =
		(guest_off >> q->cluster_bits) & ((1ull << q->l2_bits) - 1);
	uint64_t in_cluster = guest_off & (q->cluster_size - 1);
	uint64_t unit_entries = table_cache_unit(q->l2_cache) / 8;
	/* Units are powers of two; a division would cost more than the rest. */
	uint64_t in_unit = l2_idx & (unit_entries - 1);
	struct entry_view view;
	struct table *table;
	void *uncached;
	int64_t n;
	int ret;

	if (offset_bad(q, l2_off))
		return -ERROR_CORRUPT;
	ret = unit_get(q, l2_off + (l2_idx - in_unit) * 8, &table, &uncached);
	if (ret < 0)
		return ret;
	view.entries =
		(const be64_t *)(table ? table->data : uncached) + in_unit;
	view.count = min_u64(unit_entries - in_unit,
			     ((in_cluster + len - 1) >> q->cluster_bits) + 1);
	view.table_copied = l1_entry & QCOW2_COPIED;
	n = view_to_mapping(q, &view, out);
	if (table)
		table_cache_put(q->l2_cache, table);
	free(uncached);
	if (n < 0)
		return (int)n;
	out->len = min_u64(len, ((uint64_t)n << q->cluster_bits) - in_cluster);
	if (out->kind == MAPPING_DATA || (out->flags & MAPPING_HAS_HOST))
		out->host_off += in_cluster;
	return 0;
}

int qcow2_map(struct image *img, uint64_t guest_off, uint64_t len,
	      struct mapping *out)
{
	struct qcow2 *q = img->state;
	uint64_t span;
	int ret = 0;

	assert(len > 0 && range_inside(guest_off, len, img->size_bytes));
	*out = (struct mapping){.guest_off = guest_off, .storage = q->file};
	pthread_mutex_lock(&q->table_lock);
	span = empty_span(q, guest_off, len);
	if (span) {
		out->kind = MAPPING_BACKING;
		out->len = span;
	} else {
		ret = map_in_table(q, guest_off, len, out);
	}
	pthread_mutex_unlock(&q->table_lock);
	if (ret == -ERROR_CORRUPT)
		return qcow2_mark_corrupt(q);
	return ret;
}
