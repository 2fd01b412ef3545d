/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * COPIED flags: in the active tables they must say exactly whether the stored
 * count of what they point to is 1. Snapshots' tables may say anything.
 *
 * The flag is compared with one bit for each cluster of the slice. Only where
 * they differ is the stored count itself looked up.
 */
#include "formats/qcow2/check.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "block/storage.h"

/* Whether this slice answers for a cluster: the lead for those past the end. */
static bool is_mine(const struct qcheck_slice *s, uint64_t cluster)
{
	return cluster - s->first < s->count ||
	       (s->lead && cluster > s->c->cluster_count);
}

/*
 * Whether the flag is wrong. The stored count is looked up only if somebody
 * wants to know it.
 */
static bool is_wrong(struct qcheck_slice *s, uint64_t cluster, bool copied,
		     uint64_t *stored)
{
	bool in_slice = cluster - s->first < s->count;

	if (in_slice && qcheck_stored_is_one(s, cluster) == copied)
		return false;
	if (in_slice && !qcheck_report_open(&s->report)) {
		*stored = copied ? 0 : 1;
		return qcheck_block_readable(s->c, cluster);
	}
	if (qcheck_stored_at(s->c, cluster, stored) < 0)
		return false;
	return (*stored == 1) != copied;
}

static void tally_wrong(struct qcheck_slice *s, uint32_t paths)
{
	s->tally.corruptions += paths;
	s->tally.copied += paths;
}

static const char *report_word(const struct qcheck_slice *s)
{
	return s->c->fix_errors ? "Repairing" : "ERROR";
}

static int check_l1_entry(struct qcheck_slice *s, uint64_t entry,
			  uint64_t entry_off, const struct qcheck_span *span)
{
	uint64_t host_off = entry & QCOW2_OFFSET_MASK;
	uint64_t cluster = host_off >> s->c->cluster_bits;
	uint64_t stored;

	if (!host_off || !is_mine(s, cluster) ||
	    !is_wrong(s, cluster, entry & QCOW2_COPIED, &stored))
		return 0;
	tally_wrong(s, span->active);
	qcheck_say(&s->report,
		   "%s OFLAG_COPIED L2 cluster: l1_index=%" PRIu64
		   " l1_entry=%" PRIx64 " refcount=%" PRIu64,
		   report_word(s),
		   (entry_off - s->c->q->header.l1_off) / sizeof(be64_t), entry,
		   stored);
	return 0;
}

/* Whether an L2 entry has a COPIED flag that means something. */
static bool has_flag(uint64_t entry)
{
	if (entry & QCOW2_L2_COMPRESSED)
		return false;
	return entry & QCOW2_OFFSET_MASK;
}

/* True if the flag of the entry is wrong; *stored is then the count. */
static bool entry_wrong(struct qcheck_slice *s, uint64_t entry,
			uint64_t *stored)
{
	uint64_t cluster = (entry & QCOW2_OFFSET_MASK) >> s->c->cluster_bits;

	if (!has_flag(entry))
		return false;
	if (s->c->has_data_file) {
		*stored = 1;
		return s->lead && !(entry & QCOW2_COPIED);
	}
	return is_mine(s, cluster) &&
	       is_wrong(s, cluster, entry & QCOW2_COPIED, stored);
}

/*
 * Whether no flag of a run is wrong, as far as the bits tell. False may only
 * mean that this slice has to look closer.
 */
static inline bool run_right(const struct qcheck_slice *s, uint64_t first,
			     uint64_t count, bool copied)
{
	uint64_t k = first - s->first, end;
	bool mine = k < s->count;

	if (count == 1 && first < s->c->cluster_count)
		return !mine || qcheck_stored_is_one(s, first) == copied;
	if (s->lead && first + count > qcheck_clusters(s->c))
		return false;
	end = min_u64(first + count - s->first, s->count);
	if (first + count <= s->first || first >= s->first + s->count)
		return true;
	for (k = first > s->first ? k : 0; k < end; k++) {
		while (k % 64 == 0 && end - k > 64 &&
		       qcheck_ones_word(s, k) == (copied ? UINT64_MAX : 0))
			k += 64;
		if (qcheck_stored_is_one(s, s->first + k) != copied)
			return false;
	}
	return true;
}

static void check_entry(struct qcheck_slice *s, const struct qcheck_table *t,
			uint64_t entry)
{
	uint64_t stored;

	if (!entry_wrong(s, entry, &stored))
		return;
	tally_wrong(s, t->active);
	qcheck_say(&s->report,
		   "%s OFLAG_COPIED data cluster: l2_entry=%" PRIx64
		   " refcount=%" PRIu64,
		   report_word(s), entry, stored);
}

static int check_extended_table(struct qcheck_slice *s,
				const struct qcheck_table *t, uint8_t *bytes)
{
	const be64_t *words = (const void *)bytes;
	size_t count = s->c->cluster_size / sizeof(be64_t);

	for (size_t i = 0; i < count; i += 2)
		check_entry(s, t, be64_get(words[i]));
	return 0;
}

static int check_table(struct qcheck_slice *s, const struct qcheck_table *t,
		       uint8_t *bytes)
{
	const be64_t *entries = (const void *)bytes;
	size_t count = s->c->cluster_size / sizeof(be64_t), run;

	for (size_t i = 0; i < count; i += run) {
		uint64_t entry = be64_get(entries[i]);
		uint64_t cluster =
			(entry & QCOW2_OFFSET_MASK) >> s->c->cluster_bits;

		run = 1;
		if (!has_flag(entry))
			continue;
		run = qcheck_run_length(&entries[i], count - i,
					s->c->cluster_size);
		if (!s->c->has_data_file &&
		    run_right(s, cluster, run, entry & QCOW2_COPIED))
			continue;
		for (size_t k = i; k < i + run; k++)
			check_entry(s, t, be64_get(entries[k]));
	}
	return 0;
}

int qcheck_copied(struct qcheck_slice *s)
{
	struct qcheck_walk walk = {
		.c = s->c,
		.slice = s,
		.active_only = true,
		.l1_entry = check_l1_entry,
		.table = s->c->extended_l2 ? check_extended_table : check_table,
	};

	return qcheck_walk(&walk);
}

static bool qcheck_is_shared(const struct qcheck *c, uint64_t cluster)
{
	const struct qcheck_shared *shared = c->shared;
	size_t low = 0, high = shared->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (shared->clusters[mid] < cluster)
			low = mid + 1;
		else
			high = mid;
	}
	return shared->all ||
	       (low < shared->count && shared->clusters[low] == cluster);
}

/* Whether a pointer leads somewhere sensible; others are not touched at all. */
static bool is_sound(const struct qcheck *c, uint64_t entry)
{
	uint64_t host_off = entry & QCOW2_OFFSET_MASK;

	if (entry & QCOW2_L2_COMPRESSED)
		return qcow2_packed_decode(entry, c->cluster_bits).host_off <
		       c->file_size;
	if (entry & QCOW2_L2_RESERVED)
		return false;
	if (c->has_data_file)
		return true;
	return host_off < c->file_size &&
	       (is_aligned(host_off, c->cluster_size) || entry & QCOW2_L2_ZERO);
}

bool qcheck_may_mend(const struct qcheck *c, const struct qcheck_table *t,
		     const uint8_t *bytes)
{
	const be64_t *words = (const void *)bytes;
	size_t step = c->extended_l2 ? 2 : 1;
	size_t sound = 0, other = 0;

	if (!is_aligned(t->host_off, c->cluster_size) ||
	    qcheck_is_shared(c, t->host_off >> c->cluster_bits))
		return false;
	for (size_t i = 0; i < c->cluster_size / sizeof(be64_t); i += step) {
		uint64_t entry = be64_get(words[i]);

		if (!entry)
			continue;
		sound += is_sound(c, entry);
		other += !is_sound(c, entry);
	}
	return sound >= other;
}

static int mend_l1_entry(struct qcheck_slice *s, uint64_t entry,
			 uint64_t entry_off, const struct qcheck_span *span)
{
	const struct qcheck *c = s->c;
	uint64_t host_off = entry & QCOW2_OFFSET_MASK;
	uint64_t cluster = host_off >> c->cluster_bits;
	uint64_t stored;
	be64_t mended;

	(void)span;
	if (!host_off || !is_aligned(host_off, c->cluster_size) ||
	    host_off >= c->file_size || !is_mine(s, cluster) ||
	    !is_wrong(s, cluster, entry & QCOW2_COPIED, &stored) ||
	    qcheck_is_shared(s->c, entry_off >> c->cluster_bits))
		return 0;
	mended = be64_make(entry ^ QCOW2_COPIED);
	return storage_write(c->file, &mended, sizeof(mended), entry_off);
}

static int mend_table(struct qcheck_slice *s, const struct qcheck_table *t,
		      uint8_t *bytes)
{
	be64_t *words = (void *)bytes;
	size_t count = s->c->cluster_size / sizeof(be64_t);
	size_t step = s->c->extended_l2 ? 2 : 1;
	size_t first = count, last = 0;
	uint64_t stored;

	if (!qcheck_may_mend(s->c, t, bytes))
		return 0;
	for (size_t i = 0; i < count; i += step) {
		uint64_t entry = be64_get(words[i]);

		if (!is_sound(s->c, entry) || !entry_wrong(s, entry, &stored))
			continue;
		words[i] = be64_make(entry ^ QCOW2_COPIED);
		first = min_u64(first, i);
		last = i;
	}
	if (first > last)
		return 0;
	return storage_write(s->c->file, &words[first],
			     (last - first + 1) * sizeof(be64_t),
			     t->host_off + first * sizeof(be64_t));
}

int qcheck_mend_copied(struct qcheck_slice *s)
{
	struct qcheck_walk walk = {
		.c = s->c,
		.slice = s,
		.active_only = true,
		.l1_entry = mend_l1_entry,
		.table = mend_table,
	};

	return qcheck_walk(&walk);
}
