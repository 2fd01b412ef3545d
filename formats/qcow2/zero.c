/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Zeroing and discarding whole clusters: changes of L2 entries only (spec:
 * qcow2 17).
 *
 *	          version 3                     version 2
 *	zero      zero flag; the cluster stays  unallocated, if that reads as
 *	          unless it may be unmapped     zeros; else -ENOTSUP
 *	discard   zero flag, cluster freed      unallocated; with a backing file
 *	                                        nothing, it would show through
 *
 * Resizing has two verbs of its own: cut, while the disk is still as long as
 * it was, and forget, which leaves nothing (spec: qcow2 18).
 *
 * Freed clusters go through the quarantine like all others (W4), so a crash
 * shows the old data or zeros, never another address's bytes.
 */
#include <assert.h>
#include <errno.h>

#include "block/error.h"
#include "block/image.h"
#include "formats/qcow2/breaks.h"
#include "formats/qcow2/qcow2.h"

enum zero_verb { VERB_ZERO, VERB_UNMAP, VERB_CUT, VERB_FORGET };

/* An entry that is empty shows the layer below, or zeros without one. */
static bool empty_reads_as_zeros(const struct qcow2 *q)
{
	return !q->img->backing_name && !q->img->backing;
}

/*
 * What is about to be cut off is given up, but nothing shows in its place that
 * the guest has not seen there: a crash may keep the disk as long as it was.
 */
static uint64_t entry_after_cut(const struct qcow2 *q, uint64_t entry)
{
	if (empty_reads_as_zeros(q))
		return 0;
	if (qcow2_l2_kind(entry) == QCOW2_UNALLOCATED || q->header.version < 3)
		return entry;
	return QCOW2_L2_ZERO;
}

/* The entry after the verb; the same if there is nothing to do. */
static uint64_t entry_after(const struct qcow2 *q, uint64_t entry,
			    enum zero_verb verb)
{
	enum qcow2_cluster_kind kind = qcow2_l2_kind(entry);

	if (verb == VERB_FORGET)
		return 0;
	if (verb == VERB_CUT)
		return entry_after_cut(q, entry);
	if (kind == QCOW2_UNALLOCATED && empty_reads_as_zeros(q))
		return entry;
	if (q->header.version < 3)
		return 0;
	if (verb == VERB_ZERO) {
		if (kind == QCOW2_ZERO_ALLOCATED)
			return entry;
		if (kind == QCOW2_NORMAL && (entry & QCOW2_COPIED))
			return entry | QCOW2_L2_ZERO;
	}
	return QCOW2_L2_ZERO;
}

static bool keeps_cluster(uint64_t old, uint64_t new)
{
	return (new &QCOW2_OFFSET_MASK) &&
	       (new &QCOW2_OFFSET_MASK) == (old & QCOW2_OFFSET_MASK);
}

/* W3 for each: change the entry, mark the table, free what it held. */
static void change_entries(struct qcow2 *q, struct table *table, size_t index,
			   uint64_t count, enum zero_verb verb)
{
	be64_t *entries = (be64_t *)table->data + index;
	bool changed = false;

	for (uint64_t i = 0; i < count; i++) {
		uint64_t old = be64_get(entries[i]);
		uint64_t new = entry_after(q, old, verb);

		if (new == old)
			continue;
		entries[i] = be64_make(new);
		changed = true;
		/* What cannot be noted is leaked. */
		if (!keeps_cluster(old, new))
			qcow2_free_entry_later(q, old, verb != VERB_ZERO);
	}
	if (changed && RULE_HOLDS(3))
		table_cache_mark_dirty(q->l2_cache, table);
}

/* Bytes from guest_off on for which there is nothing to do: no L2 table. */
static uint64_t idle_span(const struct qcow2 *q, uint64_t guest_off,
			  uint64_t len, enum zero_verb verb)
{
	unsigned bits = q->cluster_bits + q->l2_bits;
	uint64_t idx = guest_off >> bits;
	uint64_t last = (guest_off + len - 1) >> bits;
	uint64_t end = idx;

	if (verb < VERB_CUT && !empty_reads_as_zeros(q))
		return 0;
	while (end <= last && !(q->l1[end] & QCOW2_OFFSET_MASK))
		end++;
	if (end == idx)
		return 0;
	return min_u64(len, (end << bits) - guest_off);
}

static int change_one_unit(struct qcow2 *q, uint64_t guest_off, uint64_t len,
			   enum zero_verb verb, uint64_t *done)
{
	uint64_t unit_entries = table_cache_unit(q->l2_cache) / 8;
	uint64_t clusters = div_round_up(len, q->cluster_size);
	struct table *table;
	size_t index;
	int ret;

	ret = qcow2_l2_get_writable(q, guest_off, &table, &index);
	if (ret < 0)
		return ret;
	clusters = min_u64(clusters, unit_entries - index);
	change_entries(q, table, index, clusters, verb);
	table_cache_put(q->l2_cache, table);
	*done = min_u64(len, clusters << q->cluster_bits);
	return 0;
}

static int change_range(struct qcow2 *q, uint64_t guest_off, uint64_t len,
			enum zero_verb verb)
{
	int ret = 0;

	while (len && !ret) {
		uint64_t done;

		ret = qcow2_begin_change(q);
		if (ret < 0)
			break;
		pthread_mutex_lock(&q->table_lock);
		done = idle_span(q, guest_off, len, verb);
		if (!done)
			ret = change_one_unit(q, guest_off, len, verb, &done);
		pthread_mutex_unlock(&q->table_lock);
		guest_off += done;
		len -= done;
	}
	return ret;
}

static int change_range_checked(struct qcow2 *q, uint64_t guest_off,
				uint64_t len, enum zero_verb verb)
{
	int ret;

	assert(is_aligned(guest_off, q->cluster_size));
	pthread_mutex_lock(&q->change_lock);
	ret = change_range(q, guest_off, len, verb);
	pthread_mutex_unlock(&q->change_lock);
	if (ret == -ERROR_CORRUPT)
		return qcow2_mark_corrupt(q);
	return ret;
}

int qcow2_zero(struct image *img, uint64_t guest_off, uint64_t len,
	       unsigned flags)
{
	struct qcow2 *q = img->state;
	bool unmap = flags & FORMAT_ZERO_MAY_UNMAP;

	if (q->header.version < 3 && (!unmap || !empty_reads_as_zeros(q)))
		return -ENOTSUP;
	return change_range_checked(q, guest_off, len,
				    unmap ? VERB_UNMAP : VERB_ZERO);
}

int qcow2_discard(struct image *img, uint64_t guest_off, uint64_t len)
{
	struct qcow2 *q = img->state;

	if (q->header.version < 3 && !empty_reads_as_zeros(q))
		return 0;
	return change_range_checked(q, guest_off, len, VERB_UNMAP);
}

int qcow2_cut_range(struct qcow2 *q, uint64_t guest_off, uint64_t len)
{
	return change_range_checked(q, guest_off, len, VERB_CUT);
}

int qcow2_forget_range(struct qcow2 *q, uint64_t guest_off, uint64_t len)
{
	return change_range_checked(q, guest_off, len, VERB_FORGET);
}
