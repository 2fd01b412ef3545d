/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The counts that the image stores: the refcount table as it is in the file,
 * its blocks one by one, and what they should be.
 *
 * After comparing, only one thing of a stored count is still wanted, whether it
 * is 1. So the array of counters turns into an array of bits, in place: it is
 * smaller than a processor's cache, which makes the random look-ups of the
 * COPIED pass cheap.
 */
#include "formats/qcow2/check.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "block/storage.h"
#include "block/zero.h"

/* Slots compared in one step; every block holds a multiple of it. */
#define STEP 64u

int qcheck_reftable_load(struct qcheck *c)
{
	const struct qcow2_header *h = &c->q->header;
	uint64_t bytes = (uint64_t)h->reftable_clusters << c->cluster_bits;
	int ret;

	if (!bytes || bytes > QCOW2_REFTABLE_BYTES_MAX ||
	    !is_aligned(h->reftable_off, c->cluster_size) ||
	    h->reftable_off >= c->file_size) {
		qcheck_say(&c->report,
			   "ERROR refcount table at 0x%" PRIx64 " of %" PRIu64
			   " bytes is invalid",
			   h->reftable_off, bytes);
		c->tally.corruptions++;
		c->tally.rebuild = true;
		return 0;
	}
	/* What a damaged header claims beyond the file has no entries. */
	bytes = min_u64(bytes, align_up(c->file_size - h->reftable_off,
					sizeof(be64_t)));
	c->reftable = malloc(bytes);
	if (!c->reftable)
		return -ENOMEM;
	ret = storage_read_padded(c->file, c->reftable, bytes, h->reftable_off);
	if (ret < 0) {
		qcheck_say(&c->report,
			   "ERROR refcount table at 0x%" PRIx64 ": %s",
			   h->reftable_off, strerror(-ret));
		c->tally.errors++;
		c->tally.rebuild = true;
		c->reftable_unread = true;
		return 0;
	}
	c->reftable_entries = bytes / sizeof(be64_t);
	for (uint64_t i = 0; i < c->reftable_entries; i++)
		c->reftable[i] = be64toh(c->reftable[i]);
	return 0;
}

static uint64_t block_entry(const struct qcheck *c, uint64_t idx)
{
	return idx < c->reftable_entries ? c->reftable[idx] : 0;
}

static uint64_t block_off(const struct qcheck *c, uint64_t idx)
{
	return block_entry(c, idx) & ~QCOW2_REFTABLE_RESERVED;
}

bool qcheck_block_readable(const struct qcheck *c, uint64_t cluster)
{
	uint64_t off = block_off(c, cluster >> c->q->refblock_bits);

	return is_aligned(off, c->cluster_size) && off <= INT64_MAX;
}

/* An entry that cannot be trusted with its place. True: it can. */
static bool block_entry_sane(struct qcheck_slice *s, uint64_t idx)
{
	uint64_t entry = block_entry(s->c, idx);
	const char *what;

	if (entry & QCOW2_REFTABLE_RESERVED)
		what = "has reserved bits set";
	else if (!is_aligned(entry, s->c->cluster_size))
		what = "is not cluster aligned; refcount table entry corrupted";
	else if (entry >> s->c->cluster_bits >= s->c->cluster_count)
		what = "is outside image";
	else
		return true;
	if (s->lead) {
		qcheck_say(&s->report, "%s refcount block %" PRIu64 " %s",
			   s->c->fix_errors ? "Repairing" : "ERROR", idx, what);
		s->tally.corruptions++;
		s->tally.rebuild = true;
	}
	return false;
}

void qcheck_count_blocks(struct qcheck_slice *s)
{
	for (uint64_t i = 0; i < s->c->reftable_entries; i++) {
		uint64_t entry = block_entry(s->c, i);
		uint64_t cluster = entry >> s->c->cluster_bits;
		uint64_t count;

		if (!entry || !block_entry_sane(s, i) ||
		    cluster - s->first >= s->count)
			continue;
		qcheck_add(s, cluster, 1, 1);
		count = qcheck_count_of(s, cluster);
		if (count == 1)
			continue;
		qcheck_say(&s->report,
			   "ERROR refcount block %" PRIu64 " refcount=%" PRIu64,
			   i, count);
		s->tally.corruptions++;
		s->tally.rebuild = true;
	}
}

bool qcheck_block_load(struct qcheck_slice *s, uint64_t idx)
{
	uint64_t off = block_off(s->c, idx);

	if (!off || off >= s->c->file_size) {
		memset(s->block, 0, s->c->cluster_size);
		return is_aligned(off, s->c->cluster_size);
	}
	return is_aligned(off, s->c->cluster_size) &&
	       !storage_read_padded(s->c->file, s->block, s->c->cluster_size,
				    off);
}

int qcheck_stored_at(const struct qcheck *c, uint64_t cluster, uint64_t *out)
{
	unsigned order = c->q->refcount_order;
	uint64_t slot = cluster & (qcheck_block_slots(c) - 1);
	uint64_t group_slots = 64u >> order;
	uint64_t off = block_off(c, cluster >> c->q->refblock_bits);
	uint8_t group[8];
	int ret;

	*out = 0;
	if (!qcheck_block_readable(c, cluster))
		return -EIO;
	if (!off || off >= c->file_size)
		return 0;
	ret = storage_read_padded(c->file, group, sizeof(group),
				  off + slot / group_slots * sizeof(group));
	if (ret < 0)
		return -EIO;
	*out = qcow2_refcount_get(group, slot % group_slots, order);
	return 0;
}

/* What a cluster's count should be; past the width's maximum is corruption. */
static uint64_t wanted_count(struct qcheck_slice *s, uint64_t cluster)
{
	uint64_t max = s->c->q->refcount_max;
	uint64_t count = qcheck_count_of(s, cluster);

	if (count <= max)
		return count;
	qcheck_say(&s->report,
		   "ERROR overflow cluster offset=0x%" PRIx64 ": %" PRIu64
		   " references, at most %" PRIu64 " can be counted",
		   cluster << s->c->cluster_bits, count, max);
	s->tally.corruptions += count - max;
	return max;
}

static void mismatch(struct qcheck_slice *s, uint64_t cluster, uint64_t stored,
		     uint64_t wanted)
{
	const struct qcheck *c = s->c;
	bool leak = stored > wanted;
	const char *word = leak ? "Leaked" : "ERROR";

	if (leak ? c->fix_leaks : c->fix_errors)
		word = "Repairing";
	qcheck_say(&s->report,
		   "%s cluster %" PRIu64 " refcount=%" PRIu64
		   " reference=%" PRIu64,
		   word, cluster, stored, wanted);
	if (leak) {
		s->tally.leaks++;
		return;
	}
	s->tally.corruptions++;
	if (!block_off(c, cluster >> c->q->refblock_bits))
		s->tally.rebuild = true;
}

/*
 * Whether a cluster behind the last whole or partial one is looked at too: only
 * if something refers to it.
 */
static bool is_counted(const struct qcheck_slice *s, uint64_t cluster)
{
	return cluster < s->c->cluster_count ||
	       (cluster - s->first < s->count && s->counts[cluster - s->first]);
}

static uint64_t compare_slots(struct qcheck_slice *s, uint64_t cluster,
			      uint64_t slot)
{
	unsigned order = s->c->q->refcount_order;
	uint64_t ones = 0;

	for (unsigned i = 0; i < STEP; i++, cluster++) {
		uint64_t stored = qcow2_refcount_get(s->block, slot + i, order);
		uint64_t wanted;

		ones |= (uint64_t)(stored == 1) << i;
		if (!is_counted(s, cluster))
			continue;
		wanted = wanted_count(s, cluster);
		if (stored || wanted)
			s->tally.end_cluster = cluster + 1;
		if (stored != wanted)
			mismatch(s, cluster, stored, wanted);
	}
	return ones;
}

/*
 * The common case: 16 bits, and all counts of the step are right. Else false.
 * The swap is right for little endian machines; others take the slow way.
 */
static bool compare_fast(struct qcheck_slice *s, uint64_t cluster,
			 uint64_t slot, uint64_t *ones)
{
	const uint16_t *counts = s->counts + (cluster - s->first);
	unsigned diff = 0, other = 0, last = STEP;
	uint16_t stored[STEP];

	if (s->c->q->refcount_order != 4 || __BYTE_ORDER != __LITTLE_ENDIAN ||
	    cluster + STEP > s->c->cluster_count)
		return false;
	memcpy(stored, s->block + slot * sizeof(uint16_t), sizeof(stored));
	for (unsigned i = 0; i < STEP; i++) {
		uint16_t v = (uint16_t)(stored[i] >> 8 | stored[i] << 8);

		diff |= v ^ counts[i];
		other |= v ^ 1u;
	}
	/* A counter that is full may stand for more than it says. */
	if (diff || other >= 0x8000)
		return false;
	*ones = other ? 0 : UINT64_MAX;
	for (unsigned i = 0; other && i < STEP; i++)
		*ones |= (uint64_t)(counts[i] == 1) << i;
	while (last && !counts[last - 1])
		last--;
	if (last)
		s->tally.end_cluster = cluster + last;
	return true;
}

/* The word lies before the counters of its step: all of these are used up. */
static void store_ones(struct qcheck_slice *s, uint64_t cluster, uint64_t ones)
{
	uint64_t word = htole64(ones);

	memcpy((uint8_t *)s->counts + (cluster - s->first) / 8, &word,
	       sizeof(word));
}

static void block_unreadable(struct qcheck_slice *s, uint64_t idx)
{
	uint64_t first = idx << s->c->q->refblock_bits;
	uint64_t end =
		min_u64(first + qcheck_block_slots(s->c), s->c->cluster_count);

	if (first >= end)
		return;
	qcheck_say(&s->report,
		   "ERROR refcounts of clusters %" PRIu64 " to %" PRIu64
		   " cannot be read",
		   first, end - 1);
	s->tally.errors += end - first;
	s->tally.rebuild = true;
}

static void compare_block(struct qcheck_slice *s, uint64_t idx)
{
	uint64_t base = idx << s->c->q->refblock_bits;
	bool readable = qcheck_block_load(s, idx);
	uint64_t slots =
		min_u64(qcheck_block_slots(s->c), s->first + s->count - base);

	if (!readable)
		block_unreadable(s, idx);
	for (uint64_t slot = 0; slot < slots; slot += STEP) {
		uint64_t ones = 0;

		if (readable && !compare_fast(s, base + slot, slot, &ones))
			ones = compare_slots(s, base + slot, slot);
		store_ones(s, base + slot, ones);
	}
}

int qcheck_compare(struct qcheck_slice *s)
{
	unsigned bits = s->c->q->refblock_bits;
	uint64_t end = s->first + s->count;

	assert(is_aligned(s->first, qcheck_block_slots(s->c)));
	for (uint64_t i = s->first >> bits; i << bits < end; i++)
		compare_block(s, i);
	if (s->excess_lost) {
		qcheck_say(&s->report, "ERROR too many clusters with more than "
				       "65535 references");
		s->tally.errors++;
	}
	return 0;
}

static uint64_t ones_at(const struct qcheck_slice *s, uint64_t slot)
{
	unsigned order = s->c->q->refcount_order;
	uint64_t ones = 0;

	for (unsigned i = 0; i < STEP; i++)
		ones |= (uint64_t)(qcow2_refcount_get(s->block, slot + i,
						      order) == 1)
			<< i;
	return ones;
}

int qcheck_load_ones(struct qcheck_slice *s)
{
	unsigned bits = s->c->q->refblock_bits;
	uint64_t end = s->first + s->count;

	for (uint64_t i = s->first >> bits; i << bits < end; i++) {
		uint64_t base = i << bits;
		uint64_t slots = min_u64(qcheck_block_slots(s->c), end - base);
		bool readable = qcheck_block_load(s, i);

		for (uint64_t slot = 0; slot < slots; slot += STEP)
			store_ones(s, base + slot,
				   readable ? ones_at(s, slot) : 0);
	}
	return 0;
}

/* Changes s->block; returns the range of bytes that did, first >= end: none. */
static struct qcow2_dirty_range set_block(struct qcheck_slice *s, uint64_t base,
					  uint64_t slots, bool raise)
{
	struct qcow2_dirty_range r = {.first = UINT64_MAX};
	unsigned order = s->c->q->refcount_order;

	for (uint64_t slot = 0; slot < slots; slot++) {
		uint64_t stored = qcow2_refcount_get(s->block, slot, order);
		uint64_t wanted;

		if (!is_counted(s, base + slot))
			break;
		wanted = min_u64(qcheck_count_of(s, base + slot),
				 s->c->q->refcount_max);
		if (raise ? stored >= wanted : stored <= wanted)
			continue;
		qcow2_refcount_put(s->block, slot, order, wanted);
		r.first = min_u64(r.first, (slot << order) / 8);
		r.end = ((slot << order) + (1u << order) + 7) / 8;
	}
	return r;
}

int qcheck_set_counts(struct qcheck_slice *s, bool raise)
{
	unsigned bits = s->c->q->refblock_bits;
	uint64_t end = s->first + s->count;

	for (uint64_t i = s->first >> bits; i << bits < end; i++) {
		uint64_t base = i << bits;
		uint64_t off = block_off(s->c, i);
		struct qcow2_dirty_range r;
		int ret;

		/* No block: all counts of the range are 0, and rightly so. */
		if (!off || !qcheck_block_load(s, i))
			continue;
		r = set_block(s, base,
			      min_u64(qcheck_block_slots(s->c), end - base),
			      raise);
		if (r.first >= r.end)
			continue;
		r.first = align_down(r.first, 512);
		r.end = align_up(r.end, 512);
		ret = storage_write(s->c->file, s->block + r.first,
				    r.end - r.first, off + r.first);
		if (ret < 0)
			return ret;
	}
	return 0;
}
