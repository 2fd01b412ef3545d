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
 * Or, in place of 2 and 3, new refcount structures. Data is never guessed, and
 * while a pointer is damaged nothing is freed: what looks like a leak may be
 * what it led to.
 */
#include "formats/qcow2/check.h"

#include <string.h>

#include "block/error.h"
#include "block/storage.h"

struct repair {
	struct qcheck c;
	bool raise, lower;
};

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
	be64_t *words = (void *)bytes;
	size_t count = c->cluster_size / sizeof(be64_t);
	size_t step = c->extended_l2 ? 2 : 1;
	int ret;

	for (size_t i = 0; i < count; i += step) {
		if (!is_misplaced_zero(c, &words[i]))
			continue;
		words[i] = be64_make(c->extended_l2 ? 0 : QCOW2_L2_ZERO);
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
	int ret = 0;

	if (found->rebuild && !args->fix_errors)
		return 0;
	if (args->fix_errors && found->misplaced_zeros)
		ret = repair_step(q, args, &r, mend_zeros, err);
	if (!ret && found->rebuild)
		ret = qcheck_rebuild(q, args, found->pointers_lost, err);
	else if (!ret)
		ret = repair_step(q, args, &r, mend_counts, err);
	if (!ret && flags_allowed(args, found))
		ret = repair_step(q, args, &r, mend_flags, err);
	return ret;
}
