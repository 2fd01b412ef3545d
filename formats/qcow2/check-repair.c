/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Repair in place, in an order that leaves a valid or a better image after a
 * crash at any point:
 *
 *  1. misaligned zero clusters lose their host offset; sync, for what they
 *     referred to may be freed below
 *  2. counts that are too low are raised; sync
 *  3. counts that are too high are lowered; sync
 *  4. COPIED flags follow the counts; sync
 *
 * Or, in place of 2 and 3, new refcount structures. Data is never guessed: no
 * table is written to which something else than the L1 table leads, and while a
 * pointer is damaged nothing is freed, for what looks like a leak may be what
 * it led to.
 */
#include "formats/qcow2/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/storage.h"

/* Tables that are shared and remembered: 512 KiB. */
#define SHARED_MAX 65536u

struct repair {
	struct qcheck c;
	struct qcheck_shared shared;
	bool raise, lower;
};

static void note_shared(struct qcheck_shared *shared, uint64_t cluster)
{
	size_t capacity = shared->capacity ? shared->capacity * 2 : 64;
	uint64_t *clusters;

	if (shared->count == shared->capacity) {
		clusters = capacity > SHARED_MAX
				   ? NULL
				   : realloc(shared->clusters,
					     capacity * sizeof(*clusters));
		if (!clusters) {
			shared->all = true;
			return;
		}
		shared->clusters = clusters;
		shared->capacity = capacity;
	}
	shared->clusters[shared->count++] = cluster;
}

/* An L2 table to which more than L1 entries lead; its bytes are not read. */
static void note_shared_table(struct qcheck_slice *s,
			      const struct qcheck_table *t)
{
	uint64_t cluster = t->host_off >> s->c->cluster_bits;

	if (cluster - s->first < s->count && qcheck_count_of(s, cluster))
		note_shared(s->c->shared, cluster);
}

/* The active L1 table's own clusters should have one reference each. */
static void note_shared_l1(struct qcheck_slice *s)
{
	const struct qcow2_header *h = &s->c->q->header;
	uint64_t first = h->l1_off >> s->c->cluster_bits;
	uint64_t count = div_round_up(h->l1_entries * sizeof(be64_t),
				      s->c->cluster_size);

	for (uint64_t i = first; i < first + count; i++)
		if (i - s->first < s->count && qcheck_count_of(s, i) != 1)
			note_shared(s->c->shared, i);
}

static int find_shared(struct qcheck_slice *s, void *opaque)
{
	struct qcheck_walk walk = {
		.c = s->c,
		.slice = s,
		.table_found = note_shared_table,
	};
	int ret;

	(void)opaque;
	s->no_tables = true;
	/* A table that is longer than the file still lies on what it covers. */
	s->past_end = true;
	ret = qcheck_count(s);
	if (ret < 0)
		return ret;
	note_shared_l1(s);
	return qcheck_walk(&walk);
}

static int cluster_compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static bool is_misplaced_zero(const struct qcheck *c, const be64_t *entry)
{
	uint64_t word = be64_get(entry[0]);
	uint64_t host_off = word & QCOW2_OFFSET_MASK;

	if (word & QCOW2_L2_COMPRESSED || is_aligned(host_off, c->cluster_size))
		return false;
	if (c->extended_l2)
		return !(be64_get(entry[1]) & UINT32_MAX);
	return word & QCOW2_L2_ZERO;
}

/* What the guest reads stays the same: no subcluster has its data there. */
static int mend_zero_table(struct qcheck_slice *s, const struct qcheck_table *t,
			   uint8_t *bytes)
{
	const struct qcheck *c = s->c;
	const uint64_t flag = QCOW2_L2_ZERO;
	const be64_t mended = be64_make(c->extended_l2 ? 0 : flag);
	be64_t *words = (void *)bytes;
	size_t count = c->cluster_size / sizeof(be64_t);
	size_t step = c->extended_l2 ? 2 : 1;
	int ret;

	if (!qcheck_may_mend(c, t, bytes))
		return 0;
	for (size_t i = 0; i < count; i += step) {
		if (!is_misplaced_zero(c, &words[i]))
			continue;
		words[i] = mended;
		ret = storage_write(c->file, &words[i], sizeof(words[i]),
				    t->host_off + i * sizeof(words[i]));
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int mend_zeros(struct qcheck_slice *s, void *opaque)
{
	struct qcheck_walk walk = {
		.c = s->c,
		.slice = s,
		.table = mend_zero_table,
	};
	int ret = qcheck_walk(&walk);

	(void)opaque;
	/* One walk sees every table: there is nothing to do for more slices. */
	return ret < 0 ? ret : 1;
}

static bool lost_pointers(const struct qcheck_slice *s)
{
	return s->tally.pointers_lost || s->c->tally.pointers_lost;
}

static int mend_counts(struct qcheck_slice *s, void *opaque)
{
	const struct repair *r = opaque;
	int ret;

	ret = qcheck_count(s);
	if (!ret && r->raise) {
		ret = qcheck_set_counts(s, true);
		if (!ret)
			ret = storage_sync(s->c->file);
	}
	/*
	 * The tables are read anew here. What one that cannot be read any more
	 * leads to looks like leaks, and must not be freed.
	 */
	if (!ret && r->lower && lost_pointers(s))
		return -EIO;
	if (!ret && r->lower)
		ret = qcheck_set_counts(s, false);
	return ret;
}

static int mend_flags(struct qcheck_slice *s, void *opaque)
{
	int ret = qcheck_load_ones(s);

	(void)opaque;
	return ret ? ret : qcheck_mend_copied(s);
}

/* One step over all slices, then a sync. */
static int repair_step(struct qcow2 *q, const struct check_args *args,
		       struct repair *r,
		       int (*fn)(struct qcheck_slice *s, void *opaque),
		       struct error *err)
{
	int ret;

	ret = qcheck_begin(&r->c, q, args, 0, err);
	if (ret < 0)
		return ret;
	r->c.shared = &r->shared;
	ret = qcheck_each_slice(&r->c, qcheck_clusters(&r->c), fn, r);
	qcheck_end(&r->c);
	if (ret >= 0)
		ret = storage_sync(q->file);
	return ret < 0 ? error_default(err, ret, "repairing") : 0;
}

/* Flags are mended for -r leaks only if nothing else was wrong. */
static bool flags_allowed(const struct check_args *args,
			  const struct qcheck_tally *found)
{
	return args->fix_errors ||
	       (!found->errors && found->corruptions == found->copied);
}

int qcheck_repair(struct qcow2 *q, const struct check_args *args,
		  const struct qcheck_tally *found, struct error *err)
{
	struct repair r = {
		.raise = args->fix_errors,
		.lower = args->fix_leaks && !found->pointers_lost,
	};
	int ret;

	if (found->rebuild && !args->fix_errors)
		return 0;
	ret = repair_step(q, args, &r, find_shared, err);
	if (!ret && r.shared.count)
		qsort(r.shared.clusters, r.shared.count,
		      sizeof(*r.shared.clusters), cluster_compare);
	if (!ret && args->fix_errors && found->misplaced_zeros &&
	    q->discards_to_zero)
		ret = repair_step(q, args, &r, mend_zeros, err);
	if (!ret && found->rebuild)
		ret = qcheck_rebuild(q, args, found->pointers_lost, err);
	else if (!ret)
		ret = repair_step(q, args, &r, mend_counts, err);
	if (!ret && flags_allowed(args, found))
		ret = repair_step(q, args, &r, mend_flags, err);
	free(r.shared.clusters);
	return ret;
}
