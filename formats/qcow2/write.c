/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Making guest ranges writable: reserve finds clusters, the block layer writes
 * them whole, commit links them (spec: qcow2 4.2, 7, 15).
 *
 * reserve also makes the L2 table writable, so that whatever can run out of
 * space does so before data is written. Nothing that commit changes reaches the
 * disk before the next ordered write-back, and so never before the data.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "block/error.h"
#include "block/image.h"
#include "formats/qcow2/breaks.h"
#include "formats/qcow2/qcow2.h"

/*
 * Frees that wait for a flush take memory and keep clusters from being used;
 * past this many runs a flush is due whether the guest asks or not.
 */
#define QUARANTINE_RUNS_MAX 65536

static void l1_set(struct qcow2 *q, uint64_t idx, uint64_t entry)
{
	struct qcow2_dirty_range *d = &q->l1_dirty;

	q->l1[idx] = entry;
	if (d->first >= d->end) {
		d->first = idx;
		d->end = idx + 1;
	} else {
		d->first = min_u64(d->first, idx);
		d->end = max_u64(d->end, idx + 1);
	}
}

/* table_cache_get and get_new, making room by an ordered write-back. */
static int get_unit(struct qcow2 *q, uint64_t host_off, bool fresh,
		    struct table **out)
{
	int ret;

	for (int tries = 0;; tries++) {
		ret = fresh ? table_cache_get_new(q->l2_cache, host_off, out)
			    : table_cache_get(q->l2_cache, host_off, out);
		if (ret != -EAGAIN || tries)
			return ret == -EAGAIN ? -EIO : ret;
		pthread_mutex_unlock(&q->table_lock);
		ret = qcow2_write_back_locked(q);
		pthread_mutex_lock(&q->table_lock);
		if (ret < 0)
			return ret;
	}
}

/*
 * Fills a new table, in the cache, with zeros or with a copy of an old one.
 * In units, so that both tables never have to fit in the cache at once.
 */
static int fill_l2(struct qcow2 *q, uint64_t new_off, uint64_t old_off)
{
	uint32_t unit = table_cache_unit(q->l2_cache);
	void *copy = NULL;
	int ret = 0;

	if (old_off) {
		copy = malloc(unit);
		if (!copy)
			return -ENOMEM;
	}
	for (uint32_t at = 0; at < q->cluster_size && !ret; at += unit) {
		struct table *table;

		if (old_off) {
			ret = get_unit(q, old_off + at, false, &table);
			if (ret < 0)
				break;
			memcpy(copy, table->data, unit);
			table_cache_put(q->l2_cache, table);
		}
		ret = get_unit(q, new_off + at, true, &table);
		if (ret < 0)
			break;
		if (copy)
			memcpy(table->data, copy, unit);
		table_cache_put(q->l2_cache, table);
	}
	free(copy);
	return ret;
}

static void forget_l2(struct qcow2 *q, uint64_t l2_off)
{
	uint32_t unit = table_cache_unit(q->l2_cache);

	for (uint32_t at = 0; at < q->cluster_size; at += unit)
		table_cache_forget(q->l2_cache, l2_off + at);
	qcow2_cluster_set_remove(q->metadata, qcow2_cluster_index(q, l2_off));
}

void qcow2_l1_drop(struct qcow2 *q, uint64_t l1_idx)
{
	uint64_t off = q->l1[l1_idx] & QCOW2_OFFSET_MASK;
	struct qcow2_run run = {qcow2_cluster_index(q, off), 1, true};

	if (!off)
		return;
	l1_set(q, l1_idx, 0);
	forget_l2(q, off);
	/* A bad entry is dropped without freeing what it points to. */
	if (is_aligned(off, q->cluster_size) &&
	    !qcow2_run_hits_metadata(q, run))
		qcow2_free_later(q, run);
}

/* Whether a table in use counts as free, and could be handed out. */
static int check_counted(struct qcow2 *q, uint64_t table_off)
{
	uint64_t count;
	int ret = qcow2_refcount_read(q, qcow2_cluster_index(q, table_off),
				      &count);

	return ret ? ret : count ? 0 : -ERROR_CORRUPT;
}

/*
 * Gives the L1 entry a table of its own: a new empty one, or a copy of one that
 * a snapshot shares. Secures the replacement before it lets go of the old (W6).
 */
static int make_l2(struct qcow2 *q, uint64_t l1_idx)
{
	uint64_t old_off = q->l1[l1_idx] & QCOW2_OFFSET_MASK;
	struct qcow2_run run, old;
	uint64_t new_off;
	int ret;

	pthread_mutex_unlock(&q->table_lock);
	ret = old_off ? check_counted(q, old_off) : 0;
	if (!ret)
		ret = qcow2_alloc(q, 1, &run);
	pthread_mutex_lock(&q->table_lock);
	if (ret < 0)
		return ret;
	new_off = run.first << q->cluster_bits;
	ret = fill_l2(q, new_off, old_off);
	if (!ret)
		ret = qcow2_cluster_set_add(q->metadata, run.first);
	if (!ret && old_off) {
		old = (struct qcow2_run){qcow2_cluster_index(q, old_off), 1,
					 false};
		ret = qcow2_free_later(q, old);
	}
	if (ret < 0) {
		forget_l2(q, new_off);
		pthread_mutex_unlock(&q->table_lock);
		qcow2_alloc_undo(q, run);
		pthread_mutex_lock(&q->table_lock);
		return ret;
	}
	/* The old table belongs to snapshots alone now. */
	if (old_off)
		forget_l2(q, old_off);
	l1_set(q, l1_idx, new_off | QCOW2_COPIED);
	return 0;
}

int qcow2_l2_get_writable(struct qcow2 *q, uint64_t guest_off,
			  struct table **table, size_t *index)
{
	uint64_t l1_idx = guest_off >> (q->cluster_bits + q->l2_bits);
	uint64_t l2_idx =
		(guest_off >> q->cluster_bits) & ((1ull << q->l2_bits) - 1);
	uint64_t unit_entries = table_cache_unit(q->l2_cache) / 8;
	uint64_t entry = q->l1[l1_idx];
	uint64_t l2_off = entry & QCOW2_OFFSET_MASK;
	struct qcow2_run run;
	int ret;

	assert(l1_idx < q->l1_entries);
	run = (struct qcow2_run){qcow2_cluster_index(q, l2_off), 1, false};
	/* Before it is copied: the copy would let go of what it was. */
	if (!is_aligned(l2_off, q->cluster_size) ||
	    (l2_off && qcow2_run_hits_tables(q, run)))
		return -ERROR_CORRUPT;
	if (!l2_off || !(entry & QCOW2_COPIED)) {
		ret = make_l2(q, l1_idx);
		if (ret < 0)
			return ret;
		l2_off = q->l1[l1_idx] & QCOW2_OFFSET_MASK;
	}
	*index = l2_idx % unit_entries;
	return get_unit(q, l2_off + l2_idx / unit_entries * unit_entries * 8,
			false, table);
}

/* Zero with a cluster of its own: its bytes may be written in place. */
static bool reusable(uint64_t entry)
{
	return qcow2_l2_kind(entry) == QCOW2_ZERO_ALLOCATED &&
	       (entry & QCOW2_COPIED);
}

/* Entries from `index` on that reserve can treat as the first one. */
static size_t similar_entries(const struct qcow2 *q, const be64_t *entries,
			      size_t count)
{
	uint64_t first = be64_get(entries[0]);
	size_t n = 1;

	if (reusable(first)) {
		while (n < count &&
		       be64_get(entries[n]) == first + n * q->cluster_size)
			n++;
		return n;
	}
	while (n < count) {
		uint64_t e = be64_get(entries[n]);

		if (reusable(e) ||
		    (qcow2_l2_kind(e) == QCOW2_NORMAL && (e & QCOW2_COPIED)))
			break;
		n++;
	}
	return n;
}

/* What reserve needs to know of the entries at guest_off. */
static int look_at_entries(struct qcow2 *q, uint64_t guest_off,
			   uint64_t clusters, uint64_t *first_entry, size_t *n)
{
	uint64_t unit_entries = table_cache_unit(q->l2_cache) / 8;
	struct table *table;
	size_t index;
	int ret;

	pthread_mutex_lock(&q->table_lock);
	ret = qcow2_l2_get_writable(q, guest_off, &table, &index);
	if (!ret) {
		const be64_t *entries = (const be64_t *)table->data + index;

		*first_entry = be64_get(entries[0]);
		*n = similar_entries(q, entries,
				     min_u64(clusters, unit_entries - index));
		table_cache_put(q->l2_cache, table);
	}
	pthread_mutex_unlock(&q->table_lock);
	return ret;
}

int qcow2_begin_change(struct qcow2 *q)
{
	int ret = 0;

	if (atomic_load(&q->corrupt))
		return -EIO;
	if (q->quarantine.count > QUARANTINE_RUNS_MAX) {
		ret = qcow2_flush_locked(q);
		if (ret < 0)
			return ret;
	}
	if (!RULE_HOLDS(4))
		ret = qcow2_quarantine_release(q);
	/* The dirty bit is durable before any count may lag. */
	if (q->lazy && !q->dirty_bit) {
		ret = qcow2_features_change(q, QCOW2_INCOMPAT_DIRTY, 0);
		q->dirty_bit = ret == 0;
	}
	return ret;
}

static int reserve_locked(struct qcow2 *q, uint64_t guest_off, uint64_t len,
			  struct reservation *out)
{
	uint64_t start = align_down(guest_off, q->cluster_size);
	uint64_t clusters =
		div_round_up(guest_off + len - start, q->cluster_size);
	struct qcow2_run run;
	uint64_t entry = 0;
	size_t n = 0;
	int ret;

	ret = qcow2_begin_change(q);
	if (!ret)
		ret = look_at_entries(q, start, clusters, &entry, &n);
	if (ret < 0)
		return ret;
	if (reusable(entry)) {
		run.first = qcow2_cluster_index(q, entry & QCOW2_OFFSET_MASK);
		run.count = n;
		if (!is_aligned(entry & QCOW2_OFFSET_MASK, q->cluster_size) ||
		    qcow2_run_hits_metadata(q, run))
			return -ERROR_CORRUPT;
		out->in_place = true;
	} else if (qcow2_l2_kind(entry) == QCOW2_NORMAL &&
		   (entry & QCOW2_COPIED)) {
		/* The map called it shared: it points into a table. */
		return -ERROR_CORRUPT;
	} else {
		ret = qcow2_alloc(q, n, &run);
		if (ret < 0)
			return ret;
	}
	out->guest_off = start;
	out->len = run.count << q->cluster_bits;
	out->storage = q->file;
	out->host_off = run.first << q->cluster_bits;
	return 0;
}

int qcow2_reserve(struct image *img, uint64_t guest_off, uint64_t len,
		  struct reservation *out)
{
	struct qcow2 *q = img->state;
	int ret;

	*out = (struct reservation){0};
	pthread_mutex_lock(&q->change_lock);
	ret = reserve_locked(q, guest_off, len, out);
	pthread_mutex_unlock(&q->change_lock);
	if (ret == -ERROR_CORRUPT)
		return qcow2_mark_corrupt(q);
	return ret;
}

/*
 * Points the entries to the new clusters. W3: the entry changes, the table is
 * marked, then what the entry held is freed (after the next flush).
 */
static int link_clusters(struct qcow2 *q, const struct reservation *r)
{
	uint64_t count = r->len >> q->cluster_bits;
	struct table *table;
	size_t index;
	int ret;

	pthread_mutex_lock(&q->table_lock);
	ret = qcow2_l2_get_writable(q, r->guest_off, &table, &index);
	if (!ret) {
		be64_t *entries = (be64_t *)table->data + index;
		uint64_t host_off = r->host_off;

		for (uint64_t i = 0; i < count; i++) {
			uint64_t old = be64_get(entries[i]);

			entries[i] = be64_make(host_off | QCOW2_COPIED);
			host_off += q->cluster_size;
			/* Out of memory here leaks the old cluster. */
			if (!r->in_place)
				qcow2_free_entry_later(q, old, false);
		}
		table_cache_mark_dirty(q->l2_cache, table);
		table_cache_put(q->l2_cache, table);
	}
	pthread_mutex_unlock(&q->table_lock);
	return ret;
}

int qcow2_commit(struct image *img, const struct reservation *r)
{
	struct qcow2 *q = img->state;
	int ret;

	pthread_mutex_lock(&q->change_lock);
	ret = atomic_load(&q->corrupt) ? -EIO : link_clusters(q, r);
	pthread_mutex_unlock(&q->change_lock);
	if (ret == -ERROR_CORRUPT)
		return qcow2_mark_corrupt(q);
	return ret;
}

void qcow2_abort(struct image *img, const struct reservation *r)
{
	struct qcow2 *q = img->state;
	struct qcow2_run run = {qcow2_cluster_index(q, r->host_off),
				r->len >> q->cluster_bits, false};

	if (r->in_place)
		return;
	pthread_mutex_lock(&q->change_lock);
	qcow2_alloc_undo(q, run);
	pthread_mutex_unlock(&q->change_lock);
}
