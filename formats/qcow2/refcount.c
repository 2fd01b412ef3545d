/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Counts of host clusters: refcount blocks in a cache, the refcount table in
 * memory (spec: qcow2 7, 15).
 *
 * A missing block means that every count of its range is zero. A new block goes
 * into the first cluster of the range that it describes, which is free for that
 * very reason, and counts itself. Where the table is full too, a new table and
 * the blocks that describe its clusters are laid out together behind
 * everything that is counted (append_area), so that neither has to ask the
 * allocator for space that it is about to describe.
 *
 * Everything here runs with change_lock held and takes table_lock around the
 * caches, never over a sync.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "formats/qcow2/breaks.h"
#include "formats/qcow2/qcow2.h"

/* Slots of one block that lie in one unit of the cache. */
static uint64_t slots_per_unit(const struct qcow2 *q)
{
	return ((uint64_t)table_cache_unit(q->refblock_cache) * 8) >>
	       q->refcount_order;
}

static bool block_missing(const struct qcow2 *q, uint64_t block)
{
	return block >= q->reftable_entries || !q->reftable[block];
}

/*
 * Pins the unit with the cluster's count. The block exists. A full cache is
 * written out first: counts may reach the disk at any time, because raised ones
 * are leaks at worst and lowered ones wait in the quarantine until they are
 * safe.
 */
static int get_unit(struct qcow2 *q, uint64_t cluster, struct table **out,
		    uint64_t *slot)
{
	uint64_t block = cluster >> q->refblock_bits;
	uint64_t in_block = cluster & ((1ull << q->refblock_bits) - 1);
	uint64_t per_unit = slots_per_unit(q);
	uint64_t host_off =
		q->reftable[block] +
		in_block / per_unit * table_cache_unit(q->refblock_cache);
	int ret;

	*slot = in_block % per_unit;
	ret = table_cache_get(q->refblock_cache, host_off, out);
	if (ret == -EAGAIN) {
		ret = table_cache_write(q->refblock_cache, TABLES_ALL);
		if (!ret)
			ret = table_cache_get(q->refblock_cache, host_off, out);
	}
	return ret;
}

int qcow2_refcount_read(struct qcow2 *q, uint64_t cluster, uint64_t *out)
{
	struct table *unit;
	uint64_t slot;
	int ret;

	if (block_missing(q, cluster >> q->refblock_bits)) {
		*out = 0;
		return 0;
	}
	pthread_mutex_lock(&q->table_lock);
	ret = get_unit(q, cluster, &unit, &slot);
	if (!ret) {
		*out = qcow2_refcount_get(unit->data, slot, q->refcount_order);
		table_cache_put(q->refblock_cache, unit);
	}
	pthread_mutex_unlock(&q->table_lock);
	return ret;
}

/* First free slot at or behind `slot`, or `end`. */
static uint64_t skip_used(const struct qcow2 *q, const void *data,
			  uint64_t slot, uint64_t end)
{
	while (slot < end && qcow2_refcount_get(data, slot, q->refcount_order))
		slot++;
	return slot;
}

static uint64_t count_free(const struct qcow2 *q, const void *data,
			   uint64_t slot, uint64_t end)
{
	uint64_t i = slot;

	while (i < end && !qcow2_refcount_get(data, i, q->refcount_order))
		i++;
	return i - slot;
}

/*
 * Looks into the unit that holds `from`: a free run there, or count 0 and
 * *next where to go on.
 */
static int find_in_unit(struct qcow2 *q, uint64_t from, uint64_t want,
			struct qcow2_run *out, uint64_t *next)
{
	uint64_t per_unit = slots_per_unit(q), slot, first;
	struct table *unit;
	int ret;

	pthread_mutex_lock(&q->table_lock);
	ret = get_unit(q, from, &unit, &slot);
	if (!ret) {
		first = skip_used(q, unit->data, slot, per_unit);
		out->first = from + (first - slot);
		out->count = count_free(q, unit->data, first,
					min_u64(per_unit, first + want));
		*next = from + (per_unit - slot);
		table_cache_put(q->refblock_cache, unit);
	}
	pthread_mutex_unlock(&q->table_lock);
	return ret;
}

int qcow2_refcount_find_free(struct qcow2 *q, uint64_t from, uint64_t want,
			     struct qcow2_run *out)
{
	uint64_t per_block = 1ull << q->refblock_bits;
	int ret;

	assert(want > 0);
	for (;;) {
		uint64_t block = from >> q->refblock_bits;
		uint64_t next = from;

		if (block_missing(q, block)) {
			out->first = from;
			out->count =
				min_u64(want, (block + 1) * per_block - from);
			return 0;
		}
		ret = find_in_unit(q, from, want, out, &next);
		if (ret < 0 || out->count)
			return ret;
		from = next;
	}
}

/* Changes the counts of a run inside one unit: all or nothing. */
static int change_in_unit(struct qcow2 *q, struct qcow2_run run, int delta)
{
	uint64_t limit = delta > 0 ? q->refcount_max : 0;
	struct table *unit;
	uint64_t slot, i;
	int ret;

	ret = get_unit(q, run.first, &unit, &slot);
	if (ret < 0)
		return ret;
	for (i = 0; i < run.count; i++) {
		if (qcow2_refcount_get(unit->data, slot + i,
				       q->refcount_order) == limit)
			break;
	}
	if (i < run.count) {
		/* Going below zero contradicts the image's own tables. */
		ret = delta > 0 ? -EOVERFLOW : -ERANGE;
	} else {
		for (i = 0; i < run.count; i++) {
			uint64_t v = qcow2_refcount_get(unit->data, slot + i,
							q->refcount_order);

			qcow2_refcount_put(unit->data, slot + i,
					   q->refcount_order,
					   delta > 0 ? v + 1 : v - 1);
		}
		table_cache_mark_dirty(q->refblock_cache, unit);
	}
	table_cache_put(q->refblock_cache, unit);
	return ret;
}

/* The part of the run that lies in the unit where it starts. */
static struct qcow2_run clip_to_unit(const struct qcow2 *q,
				     struct qcow2_run run)
{
	uint64_t per_unit = slots_per_unit(q);

	run.count = min_u64(run.count, per_unit - run.first % per_unit);
	return run;
}

static int change_counted(struct qcow2 *q, struct qcow2_run run, int delta)
{
	struct qcow2_run rest = run;
	int ret = 0;

	pthread_mutex_lock(&q->table_lock);
	while (rest.count) {
		struct qcow2_run part = clip_to_unit(q, rest);

		ret = block_missing(q, part.first >> q->refblock_bits)
			      ? -ERANGE
			      : change_in_unit(q, part, delta);
		if (ret < 0)
			break;
		rest.first += part.count;
		rest.count -= part.count;
	}
	/* Take back what was done; these units were just at hand. */
	run.count -= rest.count;
	while (ret < 0 && run.count) {
		struct qcow2_run part = clip_to_unit(q, run);

		if (change_in_unit(q, part, -delta) < 0)
			break; /* unreadable now: a leak at worst */
		run.first += part.count;
		run.count -= part.count;
	}
	pthread_mutex_unlock(&q->table_lock);
	return ret;
}

/* Marks the first `used` slots of the block that starts at `host_off`. */
static int fill_new_block(struct qcow2 *q, uint64_t host_off, uint64_t used)
{
	uint32_t unit_len = table_cache_unit(q->refblock_cache);
	uint64_t per_unit = slots_per_unit(q);
	int ret = 0;

	for (uint32_t at = 0; at < q->cluster_size && !ret; at += unit_len) {
		struct table *unit;
		uint64_t n = min_u64(used, per_unit);

		ret = table_cache_get_new(q->refblock_cache, host_off + at,
					  &unit);
		if (ret == -EAGAIN) {
			ret = table_cache_write(q->refblock_cache, TABLES_ALL);
			if (!ret)
				ret = table_cache_get_new(q->refblock_cache,
							  host_off + at, &unit);
		}
		if (ret < 0)
			break;
		for (uint64_t i = 0; i < n; i++)
			qcow2_refcount_put(unit->data, i, q->refcount_order, 1);
		table_cache_mark_dirty(q->refblock_cache, unit);
		table_cache_put(q->refblock_cache, unit);
		used -= n;
	}
	return ret;
}

static void reftable_mark(struct qcow2 *q, uint64_t first, uint64_t end)
{
	struct qcow2_dirty_range *d = &q->reftable_dirty;

	if (d->first >= d->end) {
		d->first = first;
		d->end = end;
		return;
	}
	d->first = min_u64(d->first, first);
	d->end = max_u64(d->end, end);
}

void qcow2_refcount_set_block(struct qcow2 *q, uint64_t block,
			      uint64_t host_off)
{
	q->reftable[block] = host_off;
	reftable_mark(q, block, block + 1);
}

/* A block for a range whose table entry exists: it goes to the range's start.
 */
static int add_block_in_place(struct qcow2 *q, uint64_t block)
{
	uint64_t cluster = block << q->refblock_bits;
	uint64_t host_off = cluster << q->cluster_bits;
	int ret;

	if (host_off >= QCOW2_HOST_OFF_MAX)
		return -EFBIG;
	/* A table (or the header) is there: it was not counted. */
	if (qcow2_run_hits_metadata(q, (struct qcow2_run){cluster, 1, false}))
		return qcow2_mark_corrupt(q);
	pthread_mutex_lock(&q->table_lock);
	ret = fill_new_block(q, host_off, 1);
	if (!ret)
		ret = qcow2_cluster_set_add(q->metadata, cluster);
	if (!ret)
		qcow2_refcount_set_block(q, block, host_off);
	pthread_mutex_unlock(&q->table_lock);
	return ret;
}

/* How an area behind everything counted is laid out, in clusters. */
struct area {
	uint64_t start; /* first cluster; of a block's range */
	uint64_t blocks, table, payload;
	uint64_t table_entries; /* of the new table; 0: the old one does */
};

static uint64_t area_end(const struct area *a)
{
	return a->start + a->blocks + a->table + a->payload;
}

static uint64_t blocks_present_end(const struct qcow2 *q)
{
	uint64_t end = q->reftable_entries;

	while (end && !q->reftable[end - 1])
		end--;
	return end;
}

#define REFTABLE_ENTRIES_MAX ((uint64_t)QCOW2_REFTABLE_BYTES_MAX / 8)

/* Fixed point of: blocks describe the area, table entries the blocks. */
static int area_plan(const struct qcow2 *q, uint64_t payload, struct area *a)
{
	uint64_t first_block = blocks_present_end(q);
	uint64_t per_block = 1ull << q->refblock_bits;
	uint64_t blocks = 0, table = 0, entries = 0;

	for (;;) {
		uint64_t total = payload + blocks + table;
		uint64_t need_blocks =
			div_round_up(max_u64(total, 1), per_block);
		uint64_t need_entries = first_block + need_blocks;
		uint64_t need_table = 0;

		if (need_entries > q->reftable_entries) {
			if (need_entries > REFTABLE_ENTRIES_MAX)
				return -EFBIG;
			/* Half as many again, so that growth stays rare. */
			entries = min_u64(need_entries + need_entries / 2,
					  REFTABLE_ENTRIES_MAX);
			need_table = div_round_up(entries * 8, q->cluster_size);
			entries = need_table * q->cluster_size / 8;
		}
		if (need_blocks == blocks && need_table <= table)
			break;
		blocks = need_blocks;
		table = max_u64(table, need_table);
	}
	if (table)
		entries = table * q->cluster_size / 8;
	a->start = first_block << q->refblock_bits;
	a->blocks = blocks;
	a->table = table;
	a->payload = payload;
	a->table_entries = table ? entries : 0;
	if (area_end(a) > QCOW2_HOST_OFF_MAX >> q->cluster_bits)
		return -EFBIG;
	return 0;
}

/* Whether the area may be written: what is not counted may be in use. */
static int area_check(struct qcow2 *q, const struct area *a)
{
	struct qcow2_run run = {a->start, area_end(a) - a->start, false};

	if (qcow2_run_hits_metadata(q, run))
		return qcow2_mark_corrupt(q);
	return area_end(a) > qcow2_host_clusters_max(q) ? -ENOSPC : 0;
}

/* Blocks that describe the area, the first ones full. In the cache only. */
static int area_fill_blocks(struct qcow2 *q, const struct area *a)
{
	uint64_t per_block = 1ull << q->refblock_bits;
	uint64_t used = a->blocks + a->table + a->payload;
	int ret = 0;

	for (uint64_t i = 0; i < a->blocks && !ret; i++) {
		uint64_t n = min_u64(used, per_block);

		ret = fill_new_block(q, (a->start + i) << q->cluster_bits, n);
		if (!ret)
			ret = qcow2_cluster_set_add(q->metadata, a->start + i);
		used -= n;
	}
	return ret;
}

/* Writes 12 bytes of the header: where the refcount table is, and how long. */
static int header_point_to_reftable(struct qcow2 *q, uint64_t reftable_off,
				    uint64_t clusters)
{
	struct {
		be64_t off;
		be32_t clusters;
	} field = {be64_make(reftable_off), be32_make((uint32_t)clusters)};

	return storage_write(
		q->file, &field, sizeof(field),
		offsetof(struct qcow2_header_disk, refcount_table_offset));
}

static int write_reftable(struct qcow2 *q, const uint64_t *table,
			  uint64_t entries, uint64_t reftable_off)
{
	be64_t *disk = malloc(entries * sizeof(*disk));
	int ret;

	if (!disk)
		return -ENOMEM;
	for (uint64_t i = 0; i < entries; i++)
		disk[i] = be64_make(table[i]);
	ret = storage_write(q->file, disk, entries * sizeof(*disk),
			    reftable_off);
	free(disk);
	return ret;
}

/*
 * W7: the new table and all blocks are durable before the header points to the
 * table, and the header is durable before the old table's clusters are free.
 */
static int switch_reftable(struct qcow2 *q, const struct area *a,
			   uint64_t *table)
{
	uint64_t off = (a->start + a->blocks) << q->cluster_bits;
	struct qcow2_run old = {qcow2_cluster_index(q, q->header.reftable_off),
				q->header.reftable_clusters, false};
	int ret;

	pthread_mutex_lock(&q->table_lock);
	ret = table_cache_write(q->refblock_cache, TABLES_ALL);
	pthread_mutex_unlock(&q->table_lock);
	if (!ret)
		ret = write_reftable(q, table, a->table_entries, off);
	if (!ret && RULE_HOLDS(7))
		ret = storage_sync(q->file);
	if (ret < 0)
		return ret;
	ret = header_point_to_reftable(q, off, a->table);
	if (!ret)
		ret = storage_sync(q->file);
	if (ret < 0) {
		/*
		 * Nobody can tell which table the disk holds now. Either is
		 * good as it stands; no change may be made to them.
		 */
		atomic_store(&q->corrupt, true);
		return ret;
	}

	pthread_mutex_lock(&q->table_lock);
	free(q->reftable);
	q->reftable = table;
	q->reftable_entries = a->table_entries;
	q->reftable_dirty = (struct qcow2_dirty_range){0, 0};
	table_cache_publish(q->refblock_cache);
	/* Readers of mappings compare with these. */
	q->header.reftable_off = off;
	q->header.reftable_clusters = (uint32_t)a->table;
	pthread_mutex_unlock(&q->table_lock);
	/* A failure here leaks the old table, nothing more. */
	if (change_counted(q, old, -1) == 0)
		q->free_hint = min_u64(q->free_hint, old.first);
	return 0;
}

/* The table with the area's blocks entered, in memory of its own. */
static uint64_t *reftable_with_area(const struct qcow2 *q, const struct area *a)
{
	uint64_t entries =
		a->table_entries ? a->table_entries : q->reftable_entries;
	uint64_t *table = calloc(entries, sizeof(*table));

	if (!table)
		return NULL;
	memcpy(table, q->reftable, q->reftable_entries * sizeof(*table));
	for (uint64_t i = 0; i < a->blocks; i++)
		table[(a->start >> q->refblock_bits) + i] = (a->start + i)
							    << q->cluster_bits;
	return table;
}

/*
 * Counts `payload` clusters behind everything counted so far, together with
 * the blocks and, if need be, the table that this takes.
 */
static int append_area(struct qcow2 *q, uint64_t payload, struct qcow2_run *out)
{
	uint64_t *table;
	struct area a;
	int ret;

	ret = area_plan(q, payload, &a);
	if (!ret)
		ret = area_check(q, &a);
	if (ret < 0)
		return ret;
	table = reftable_with_area(q, &a);
	if (!table)
		return -ENOMEM;
	pthread_mutex_lock(&q->table_lock);
	ret = area_fill_blocks(q, &a);
	if (!ret && !a.table_entries) {
		free(q->reftable);
		q->reftable = table;
		reftable_mark(q, a.start >> q->refblock_bits,
			      (a.start >> q->refblock_bits) + a.blocks);
	}
	pthread_mutex_unlock(&q->table_lock);
	if (!ret && a.table_entries)
		ret = switch_reftable(q, &a, table);
	if (ret < 0) {
		/* Nothing points to the blocks: forget them. */
		pthread_mutex_lock(&q->table_lock);
		for (uint64_t i = 0; i < a.blocks; i++)
			qcow2_refcount_forget_block(q, a.start + i);
		pthread_mutex_unlock(&q->table_lock);
		free(table);
		return ret;
	}
	out->first = a.start + a.blocks + a.table;
	out->count = payload;
	return 0;
}

void qcow2_refcount_forget_block(struct qcow2 *q, uint64_t cluster)
{
	uint64_t host_off = cluster << q->cluster_bits;
	uint32_t unit = table_cache_unit(q->refblock_cache);

	for (uint32_t at = 0; at < q->cluster_size; at += unit)
		table_cache_forget(q->refblock_cache, host_off + at);
	qcow2_cluster_set_remove(q->metadata, cluster);
}

int qcow2_refcount_cover(struct qcow2 *q, uint64_t cluster)
{
	uint64_t block = cluster >> q->refblock_bits;
	struct qcow2_run none;

	if (!block_missing(q, block))
		return 0;
	if (block < q->reftable_entries)
		return add_block_in_place(q, block);
	return append_area(q, 0, &none);
}

bool qcow2_refcount_covered(const struct qcow2 *q, uint64_t cluster)
{
	return !block_missing(q, cluster >> q->refblock_bits);
}

int qcow2_refcount_append(struct qcow2 *q, uint64_t want, struct qcow2_run *out)
{
	return append_area(q, want, out);
}

int qcow2_refcount_change(struct qcow2 *q, struct qcow2_run run, int delta)
{
	assert(delta == 1 || delta == -1);
	return change_counted(q, run, delta);
}
