/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Walking the tables: every L1 table of image and snapshots in pieces, and
 * every L2 table that they lead to, neighbours in one read.
 *
 * L1 entries are collected in batches, sorted by where their tables are, and
 * entries that lead to one table are made one with a weight. So tables are read
 * in the order of the file and, unless a batch overflows with more distinct
 * tables than it holds, exactly once.
 *
 * Thousands of snapshots bring millions of entries for few tables. So on their
 * way to the batch they pass a cache of tables that were met lately, which
 * makes most of them one, for sorting all of them would take longer than all
 * else.
 */
#include "formats/qcow2/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "block/progress.h"
#include "block/storage.h"
#include "block/zero.h"

/* L1 entries in memory: 8 MiB. */
#define BATCH_MAX (512u * 1024)
#ifdef PLATTER_SMALL_BUFFERS
#define L1_PIECE (4u * 1024)
#else
#define L1_PIECE (64u * 1024)
#endif
/* Spans no further apart than this are read together. */
#define L1_GAP 4096u
/*
 * Misaligned tables overlap each other, so many of them could make a small file
 * an endless one. More than this are not looked into.
 */
#define MISALIGNED_MAX 1024
/* The cache of recent tables: 4 MiB; and in how many places each may be. */
#ifdef PLATTER_SMALL_BUFFERS
#define RECENT_BITS 6u
#else
#define RECENT_BITS 18u
#endif
#define RECENT_WAYS 4u
/* Fewer entries are sorted as fast. */
#ifdef PLATTER_SMALL_BUFFERS
#define RECENT_ENTRIES_MIN 64u
#else
#define RECENT_ENTRIES_MIN 4096u
#endif

static int table_compare(const void *a, const void *b)
{
	const struct qcheck_table *x = a, *y = b;

	return (x->host_off > y->host_off) - (x->host_off < y->host_off);
}

/* Tables written one after the other are in order already. */
static bool batch_sorted(const struct qcheck_walk *w)
{
	for (size_t i = 1; i < w->batch_count; i++)
		if (w->batch[i - 1].host_off >= w->batch[i].host_off)
			return false;
	return true;
}

static void batch_join(struct qcheck_table *to, const struct qcheck_table *t)
{
	to->weight = qcheck_weight_sum(to->weight, t->weight);
	to->active = qcheck_weight_sum(to->active, t->active);
}

/* There is room; an entry for the same table as the last one joins it. */
static void batch_add(struct qcheck_walk *w, struct qcheck_table t)
{
	if (w->batch_count &&
	    w->batch[w->batch_count - 1].host_off == t.host_off)
		batch_join(&w->batch[w->batch_count - 1], &t);
	else
		w->batch[w->batch_count++] = t;
}

static void batch_compact(struct qcheck_walk *w)
{
	size_t count = w->batch_count;

	if (batch_sorted(w))
		return;
	qsort(w->batch, count, sizeof(*w->batch), table_compare);
	w->batch_count = 0;
	for (size_t i = 0; i < count; i++)
		batch_add(w, w->batch[i]);
}

static void unreadable(struct qcheck_walk *w, const char *what, uint64_t off,
		       uint32_t weight, int error)
{
	if (!w->slice)
		return;
	/* Each slice has to know: it may be about to free what is not seen. */
	w->slice->tally.pointers_lost = true;
	if (!w->report)
		return;
	qcheck_say(&w->slice->report, "ERROR %s at 0x%" PRIx64 ": %s", what,
		   off, strerror(error));
	w->slice->tally.errors += weight;
}

static int visit_one(struct qcheck_walk *w, const struct qcheck_table *t)
{
	uint8_t *buf = w->slice->buf;
	int ret;

	ret = storage_read_padded(w->c->file, buf, w->c->cluster_size,
				  t->host_off);
	if (ret < 0) {
		unreadable(w, "L2 table", t->host_off, t->weight, -ret);
		return 0;
	}
	return w->table(w->slice, t, buf);
}

/* Neighbours of one read; if it fails, one by one what can be had. */
static int visit_run(struct qcheck_walk *w, const struct qcheck_table *t,
		     size_t count)
{
	size_t size = w->c->cluster_size;
	uint8_t *buf = w->slice->buf;
	int ret;

	ret = storage_read_padded(w->c->file, buf, count * size, t->host_off);
	for (size_t i = 0; i < count; i++) {
		int err = ret < 0 ? visit_one(w, &t[i])
				  : w->table(w->slice, &t[i], buf + i * size);

		if (err < 0)
			return err;
	}
	return 0;
}

static size_t run_length(const struct qcheck_walk *w,
			 const struct qcheck_table *t, size_t max)
{
	uint64_t size = w->c->cluster_size;
	size_t count = 1;

	max = (size_t)min_u64(max, max_u64(QCHECK_READ_BYTES / size, 1));
	while (count < max && t[count].host_off == t->host_off + count * size)
		count++;
	return count;
}

static void tell_found(struct qcheck_walk *w, const struct qcheck_table *t,
		       size_t count)
{
	if (!w->slice || !w->table_found)
		return;
	for (size_t i = 0; i < count; i++)
		if (is_aligned(t[i].host_off, w->c->cluster_size))
			w->table_found(w->slice, &t[i]);
}

static int batch_visit(struct qcheck_walk *w)
{
	size_t count;
	int ret;

	for (size_t i = 0; i < w->batch_count; i += count) {
		count = run_length(w, &w->batch[i], w->batch_count - i);
		if (progress_cancelled(w->c->progress))
			return -ECANCELED;
		w->tables += count;
		tell_found(w, &w->batch[i], count);
		if (!w->slice || !w->table)
			continue;
		ret = visit_run(w, &w->batch[i], count);
		if (ret < 0)
			return ret;
		progress_advance(w->c->progress,
				 (uint64_t)count << w->c->cluster_bits);
	}
	w->batch_count = 0;
	return 0;
}

/* Makes room for one more entry. */
static int batch_reserve(struct qcheck_walk *w)
{
	size_t capacity = w->batch_capacity ? w->batch_capacity * 2 : 1024;
	struct qcheck_table *batch;

	if (w->batch_count < w->batch_capacity)
		return 0;
	if (w->batch_capacity < BATCH_MAX) {
		batch = realloc(w->batch, capacity * sizeof(*batch));
		if (!batch)
			return -ENOMEM;
		w->batch = batch;
		w->batch_capacity = capacity;
		return 0;
	}
	batch_compact(w);
	return w->batch_count > BATCH_MAX / 2 ? batch_visit(w) : 0;
}

static int batch_take(struct qcheck_walk *w, struct qcheck_table t)
{
	int ret = batch_reserve(w);

	if (!ret)
		batch_add(w, t);
	return ret;
}

/*
 * Joins the entry of the same table if that is in the cache, or enters it and
 * passes on what was there. No table has a weight of 0: that place is free.
 */
static int recent_take(struct qcheck_walk *w, struct qcheck_table t)
{
	uint64_t hash = (t.host_off >> 9) * 0x9e3779b97f4a7c15ull;
	struct qcheck_table *places = &w->recent[(hash >> (64 - RECENT_BITS)) &
						 ~(uint64_t)(RECENT_WAYS - 1)];
	struct qcheck_table out;

	for (unsigned way = 0; way < RECENT_WAYS; way++) {
		if (!places[way].weight) {
			places[way] = t;
			return 0;
		}
		if (places[way].host_off == t.host_off) {
			batch_join(&places[way], &t);
			return 0;
		}
	}
	out = places[0];
	places[0] = t;
	return batch_take(w, out);
}

static int recent_drain(struct qcheck_walk *w)
{
	int ret = 0;

	for (size_t i = 0; w->recent && i < 1u << RECENT_BITS && !ret; i++)
		if (w->recent[i].weight)
			ret = batch_take(w, w->recent[i]);
	return ret;
}

static int recent_init(struct qcheck_walk *w)
{
	const struct qcheck_spans *l1 = &w->c->l1;
	uint64_t bytes = 0;

	for (size_t i = 0; i < l1->count; i++)
		bytes += l1->items[i].len;
	if (bytes / sizeof(be64_t) < RECENT_ENTRIES_MIN)
		return 0;
	w->recent = calloc(1u << RECENT_BITS, sizeof(*w->recent));
	return w->recent ? 0 : -ENOMEM;
}

static int collect(struct qcheck_walk *w, uint64_t entry,
		   const struct qcheck_span *span)
{
	uint64_t host_off = entry & QCOW2_OFFSET_MASK;
	struct qcheck_table t;

	if (!host_off || host_off >= w->c->file_size ||
	    (w->active_only && !span->active))
		return 0;
	if (!is_aligned(host_off, w->c->cluster_size) &&
	    ++w->misaligned > MISALIGNED_MAX) {
		if (w->misaligned == MISALIGNED_MAX + 1)
			unreadable(w, "too many misaligned L2 tables; that",
				   host_off, 1, EUCLEAN);
		return 0;
	}
	t = (struct qcheck_table){
		.host_off = host_off,
		.weight = span->weight,
		.active = span->active,
	};
	return w->recent ? recent_take(w, t) : batch_take(w, t);
}

static int walk_piece(struct qcheck_walk *w, const struct qcheck_span *span,
		      const be64_t *entries, uint64_t off, size_t count)
{
	int ret;

	/* Sparse disks, and tables that are larger than what they describe. */
	if (is_zero(entries, count * sizeof(*entries)))
		return 0;
	for (size_t i = 0; i < count; i++) {
		uint64_t entry = be64_get(entries[i]);

		if (!entry)
			continue;
		if (w->slice && w->l1_entry) {
			ret = w->l1_entry(w->slice, entry,
					  off + i * sizeof(be64_t), span);
			if (ret < 0)
				return ret;
		}
		ret = collect(w, entry, span);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/*
 * A piece of the file that holds L1 tables. Snapshots' tables may be many and
 * short, so neighbours are read together.
 */
struct l1_piece {
	uint64_t off, len; /* host, bytes */
	be64_t *entries;
};

/* From `off` on, with the spans that follow closely. */
static uint64_t piece_len(const struct qcheck_spans *list, size_t i,
			  uint64_t off)
{
	uint64_t end = list->items[i].start + list->items[i].len;

	while (++i < list->count && end - off < L1_PIECE &&
	       list->items[i].start - end <= L1_GAP)
		end = list->items[i].start + list->items[i].len;
	return min_u64(end - off, L1_PIECE);
}

/* What of the i-th span, from `off` on, is in the piece; reads it if none is.
 */
static int piece_get(struct qcheck_walk *w, struct l1_piece *p, size_t i,
		     uint64_t off, uint64_t *len)
{
	const struct qcheck_spans *list = &w->c->l1;
	uint64_t end = list->items[i].start + list->items[i].len;
	int ret = 0;

	if (off < p->off || off >= p->off + p->len) {
		p->off = off;
		p->len = piece_len(list, i, off);
		ret = storage_read_padded(w->c->file, p->entries, p->len, off);
	}
	*len = min_u64(end, p->off + p->len) - off;
	if (ret < 0)
		p->len = 0;
	return ret;
}

static int walk_span(struct qcheck_walk *w, size_t i, struct l1_piece *p)
{
	const struct qcheck_span *span = &w->c->l1.items[i];
	uint64_t len;
	int ret;

	for (uint64_t done = 0; done < span->len; done += len) {
		uint64_t off = span->start + done;

		if (progress_cancelled(w->c->progress))
			return -ECANCELED;
		ret = piece_get(w, p, i, off, &len);
		if (ret < 0) {
			unreadable(w, "L1 table", off, span->weight, -ret);
			continue;
		}
		ret = walk_piece(w, span, p->entries + (off - p->off) / 8, off,
				 len / sizeof(be64_t));
		if (ret < 0)
			return ret;
	}
	return 0;
}

int qcheck_walk(struct qcheck_walk *w)
{
	struct l1_piece piece = {.entries = malloc(L1_PIECE)};
	int ret = piece.entries ? recent_init(w) : -ENOMEM;

	w->tables = 0;
	for (size_t i = 0; i < w->c->l1.count && !ret; i++)
		if (!w->active_only || w->c->l1.items[i].active)
			ret = walk_span(w, i, &piece);
	if (!ret)
		ret = recent_drain(w);
	if (!ret) {
		batch_compact(w);
		ret = batch_visit(w);
	}
	free(w->batch);
	free(w->recent);
	free(piece.entries);
	w->batch = NULL;
	w->recent = NULL;
	w->batch_capacity = 0;
	return ret;
}
