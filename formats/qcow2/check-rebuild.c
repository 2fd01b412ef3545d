/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * New refcount structures, for when the old ones cannot be mended in place.
 *
 * They go behind everything, where neither the file nor any pointer, sound or
 * not, has something: first the blocks, then the table. Only when all of them
 * are durable does the header's pointer change, in one write (W7). Until then
 * the image is what it was. The old structures are not counted any more.
 *
 * Only blocks that count something are written, so a file that is long but
 * empty does not grow.
 */
#include "formats/qcow2/check.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/storage.h"

/* Of refcount_table_offset and _clusters, which are neighbours. */
#define HEADER_REFTABLE_OFF 48

struct header_reftable_disk {
	be64_t host_off;
	be32_t clusters;
};

struct rebuild {
	struct qcheck c;
	bool keep_stored;
	uint8_t *used;	     /* one byte for each block: it counts something */
	uint64_t used_count; /* length of `used` */
	struct qcow2_run home; /* where the new structures go */
	uint64_t block_count, table_clusters;
	be64_t *table;
	uint64_t written; /* blocks */
};

static bool block_used(const struct rebuild *r, uint64_t idx)
{
	return idx < r->used_count && r->used[idx];
}

/* What the new block has to say of a cluster. */
static uint64_t new_count(const struct rebuild *r, struct qcheck_slice *s,
			  uint64_t cluster, bool have_old)
{
	uint64_t slot = cluster & (qcheck_block_slots(s->c) - 1);
	uint64_t count =
		min_u64(qcheck_count_of(s, cluster), s->c->q->refcount_max);

	if (count || !r->keep_stored || !have_old)
		return count;
	return qcow2_refcount_get(s->block, slot, s->c->q->refcount_order) != 0;
}

/*
 * The stored counts of block `idx`, if they are to be kept. A pointer that is
 * damaged leads to no counts, but those behind a read error are there: a new
 * block without them would give away what only they still know to be in use.
 */
static int load_old(const struct rebuild *r, struct qcheck_slice *s,
		    uint64_t idx, bool *have)
{
	*have = r->keep_stored && qcheck_block_load(s, idx);
	if (*have || !r->keep_stored)
		return 0;
	return qcheck_block_readable(s->c, idx << s->c->q->refblock_bits) ? -EIO
									  : 0;
}

static uint64_t block_slots_in(const struct qcheck_slice *s, uint64_t base)
{
	return min_u64(qcheck_block_slots(s->c), s->first + s->count - base);
}

/*
 * The tables are read anew here. A cluster to which only a table leads that
 * cannot be read any more would be taken for free.
 */
static int count_all(struct qcheck_slice *s, const struct rebuild *r)
{
	int ret = qcheck_count(s);

	if (!ret && !r->keep_stored &&
	    (s->tally.pointers_lost || s->c->tally.pointers_lost))
		ret = -EIO;
	return ret;
}

/* Which blocks are needed for the clusters of the slice. */
static int mark_used(struct qcheck_slice *s, void *opaque)
{
	unsigned bits = s->c->q->refblock_bits;
	struct rebuild *r = opaque;
	int ret = count_all(s, r);

	if (ret < 0)
		return ret;
	for (uint64_t i = s->first >> bits; i << bits < s->first + s->count;
	     i++) {
		uint64_t base = i << bits, slots = block_slots_in(s, base);
		bool old;

		ret = load_old(r, s, i, &old);
		if (ret < 0)
			return ret;
		for (uint64_t k = 0; k < slots && !r->used[i]; k++)
			r->used[i] = new_count(r, s, base + k, old) != 0;
	}
	return 0;
}

/*
 * How many clusters the structures need if they start at `home`: they count
 * themselves, which may take more blocks, and so on.
 */
static int measure(struct rebuild *r, uint64_t home)
{
	unsigned bits = r->c.q->refblock_bits;
	uint64_t base_count = 0, need = 0, last = 0, before;

	for (uint64_t i = 0; i < r->used_count; i++) {
		base_count += r->used[i];
		last = r->used[i] ? i : last;
	}
	do {
		before = need;
		r->block_count = base_count;
		for (uint64_t i = home >> bits;
		     before && i <= (home + before - 1) >> bits; i++) {
			r->block_count += !block_used(r, i);
			last = max_u64(last, i);
		}
		r->table_clusters = div_round_up((last + 1) * sizeof(be64_t),
						 r->c.cluster_size);
		need = r->block_count + r->table_clusters;
	} while (need != before);

	r->home = (struct qcow2_run){.first = home, .count = need};
	if (r->table_clusters << r->c.cluster_bits > QCOW2_REFTABLE_BYTES_MAX)
		return -EFBIG;
	return 0;
}

static void add_old_table(struct qcheck_slice *s)
{
	const struct qcow2_header *h = &s->c->q->header;
	uint64_t len = (uint64_t)h->reftable_clusters << s->c->cluster_bits;

	if (len && !qcheck_past_end(s->c, h->reftable_off, len))
		qcheck_reference(s, h->reftable_off, len, 1);
}

/* The first run of r->home.count clusters that nothing refers to: 1 if found */
static int find_gap(struct qcheck_slice *s, void *opaque)
{
	struct rebuild *r = opaque;
	uint64_t from = max_u64(s->first, r->home.first), len = 0;
	int ret = count_all(s, r);

	if (ret < 0)
		return ret;
	if (!s->c->skip_old_refcounts)
		add_old_table(s);
	for (uint64_t i = from; i < s->first + s->count; i++) {
		len = qcheck_count_of(s, i) ? 0 : len + 1;
		if (len == r->home.count) {
			r->home.first = i + 1 - len;
			return 1;
		}
	}
	return 0;
}

/* Behind the file, where damaged pointers may lead nonetheless. */
static int find_gap_behind(struct rebuild *r)
{
	struct qcheck *c = &r->c;
	struct qcheck_slice s = {0};
	uint64_t first = align_down(c->cluster_count, qcheck_block_slots(c));
	uint64_t count = c->cluster_count - first + 4 * r->home.count + 4096;
	int ret;

	ret = qcheck_slice_init(&s, c, first, count);
	if (ret < 0)
		return ret;
	s.past_end = true;
	ret = find_gap(&s, r);
	qcheck_slice_release(&s);
	return ret;
}

/* A device cannot grow: then anywhere that nothing refers to, old or new. */
static int find_gap_inside(struct rebuild *r)
{
	uint64_t whole = r->c.file_size >> r->c.cluster_bits;
	int ret;

	if (r->keep_stored)
		return 0;
	r->home.first = 0;
	r->c.skip_old_refcounts = false;
	ret = qcheck_each_slice(&r->c, whole, find_gap, r);
	r->c.skip_old_refcounts = true;
	return ret;
}

/*
 * Settles r->home. A gap elsewhere than thought may need other blocks, a few at
 * most: a little more than needed is looked for.
 */
static int find_home(struct rebuild *r, struct error *err)
{
	const uint64_t spare = 8;
	uint64_t found;
	int ret;

	ret = measure(r, r->c.cluster_count);
	if (!ret) {
		r->home.count += spare;
		found = r->home.count;
		ret = r->c.file->can_grow ? find_gap_behind(r)
					  : find_gap_inside(r);
		if (ret > 0) {
			ret = measure(r, r->home.first);
			if (!ret)
				ret = r->home.count <= found;
		}
	}
	if (ret < 0)
		return error_default(err, ret, "planning new refcounts");
	if (!ret)
		return error_set(err, ENOSPC,
				 "found no free place of %" PRIu64
				 " clusters for new refcounts",
				 r->home.count);
	return 0;
}

static int write_block(struct rebuild *r, struct qcheck_slice *s, uint64_t idx)
{
	unsigned bits = s->c->q->refblock_bits;
	uint64_t base = idx << bits, slots = block_slots_in(s, base);
	uint64_t cluster = r->home.first + r->written;
	uint64_t host_off = cluster << s->c->cluster_bits;
	bool old;
	int ret = load_old(r, s, idx, &old);

	if (ret < 0)
		return ret;
	memset(s->buf, 0, s->c->cluster_size);
	for (uint64_t k = 0; k < slots; k++)
		qcow2_refcount_put(s->buf, k, s->c->q->refcount_order,
				   new_count(r, s, base + k, old));
	assert(r->written < r->block_count);
	r->table[idx] = be64_make(host_off);
	r->written++;
	return storage_write(s->c->file, s->buf, s->c->cluster_size, host_off);
}

static int write_blocks(struct qcheck_slice *s, void *opaque)
{
	unsigned bits = s->c->q->refblock_bits;
	struct rebuild *r = opaque;
	int ret;

	ret = count_all(s, r);
	if (ret < 0)
		return ret;
	qcheck_add(s, r->home.first, r->home.count, 1);
	for (uint64_t i = s->first >> bits; i << bits < s->first + s->count;
	     i++) {
		bool self = r->home.first >> bits <= i &&
			    i <= (r->home.first + r->home.count - 1) >> bits;

		if (!self && !block_used(r, i))
			continue;
		ret = write_block(r, s, i);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int write_structures(struct rebuild *r)
{
	uint64_t table_bytes = r->table_clusters << r->c.cluster_bits;
	uint64_t table_off = (r->home.first + r->block_count)
			     << r->c.cluster_bits;
	uint64_t clusters =
		max_u64(qcheck_clusters(&r->c), r->home.first + r->home.count);
	int ret;

	r->table = calloc(1, table_bytes);
	if (!r->table)
		return -ENOMEM;
	ret = qcheck_each_slice(&r->c, clusters, write_blocks, r);
	if (ret < 0)
		return ret;
	assert(r->written == r->block_count);
	ret = storage_write(r->c.file, r->table, table_bytes, table_off);
	return ret < 0 ? ret : storage_sync(r->c.file);
}

static int switch_header(struct rebuild *r)
{
	struct qcow2 *q = r->c.q;
	uint64_t table_off = (r->home.first + r->block_count)
			     << q->cluster_bits;
	struct header_reftable_disk disk = {
		.host_off = be64_make(table_off),
		.clusters = be32_make((uint32_t)r->table_clusters),
	};
	int ret;

	ret = storage_write(q->file, &disk, sizeof(disk), HEADER_REFTABLE_OFF);
	if (ret < 0)
		return ret;
	q->header.reftable_off = table_off;
	q->header.reftable_clusters = (uint32_t)r->table_clusters;
	return storage_sync(q->file);
}

int qcheck_rebuild(struct qcow2 *q, const struct check_args *args,
		   bool keep_stored, struct error *err)
{
	struct rebuild r = {.keep_stored = keep_stored};
	int ret;

	ret = qcheck_begin(&r.c, q, args, QCHECK_NEW_REFCOUNTS, err);
	if (ret < 0)
		return ret;
	r.used_count = (qcheck_clusters(&r.c) >> q->refblock_bits) + 1;
	r.used = calloc(r.used_count, 1);
	if (!r.used)
		ret = -ENOMEM;
	else if (keep_stored && r.c.reftable_unread)
		ret = -EIO;
	else
		ret = qcheck_each_slice(&r.c, qcheck_clusters(&r.c), mark_used,
					&r);
	if (!ret)
		ret = find_home(&r, err);
	if (!ret)
		ret = write_structures(&r);
	if (!ret)
		ret = switch_header(&r);
	free(r.table);
	free(r.used);
	qcheck_end(&r.c);
	return ret < 0 ? error_default(err, ret, "rebuilding refcounts") : 0;
}
