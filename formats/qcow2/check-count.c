/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Counting references into one slice.
 *
 * Pointers that continue each other are counted as one run. The lead slice also
 * reports what is wrong with the entries themselves, and gathers the figures of
 * allocation, so that both happen once.
 *
 * A count stops at 65535 in its two bytes; the rest of it goes to a small table
 * beside them.
 */
#include "formats/qcow2/check.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "block/progress.h"
#include "block/storage.h"

#ifdef PLATTER_SMALL_BUFFERS
#define EXCESS_SLOTS 1024u
#else
#define EXCESS_SLOTS 65536u
#endif
#define EXCESS_MAX (EXCESS_SLOTS / 4 * 3)
/* Counters that are added to in one step, as compilers like it. */
#define ADD_STEP 64

#define SUBCLUSTERS_ALLOCATED 0x00000000ffffffffull

static struct qcheck_excess *excess_find(const struct qcheck_slice *s,
					 uint64_t cluster)
{
	uint64_t hash = cluster * 0x9e3779b97f4a7c15ull;
	size_t slot = (size_t)(hash >> 48) % EXCESS_SLOTS;

	while (s->excess[slot].count && s->excess[slot].cluster != cluster)
		slot = (slot + 1) % EXCESS_SLOTS;
	return &s->excess[slot];
}

static void excess_add(struct qcheck_slice *s, uint64_t cluster, uint64_t count)
{
	struct qcheck_excess *e;

	if (!s->excess)
		s->excess = calloc(EXCESS_SLOTS, sizeof(*s->excess));
	if (!s->excess) {
		s->excess_lost = true;
		return;
	}
	e = excess_find(s, cluster);
	if (!e->count) {
		if (s->excess_count == EXCESS_MAX) {
			s->excess_lost = true;
			return;
		}
		s->excess_count++;
		e->cluster = cluster;
	}
	if (add_overflows(e->count, count, &e->count))
		e->count = UINT64_MAX;
}

uint64_t qcheck_count_of(const struct qcheck_slice *s, uint64_t cluster)
{
	uint16_t low = s->counts[cluster - s->first];
	uint64_t sum;

	if (low < UINT16_MAX || !s->excess)
		return low;
	return add_overflows(low, excess_find(s, cluster)->count, &sum)
		       ? UINT64_MAX
		       : sum;
}

/* Counters that went past their end: all below the weight just added. */
static void carry(struct qcheck_slice *s, uint64_t k, size_t count,
		  uint16_t weight)
{
	for (size_t i = 0; i < count; i++) {
		if (s->counts[k + i] >= weight)
			continue;
		excess_add(s, s->first + k + i, s->counts[k + i] + 1u);
		s->counts[k + i] = UINT16_MAX;
	}
}

static void add_step(struct qcheck_slice *s, uint64_t k, size_t count,
		     uint16_t weight)
{
	uint16_t *p = s->counts + k;
	unsigned carried = 0;

	if (count == ADD_STEP) {
		for (size_t i = 0; i < ADD_STEP; i++) {
			p[i] = (uint16_t)(p[i] + weight);
			carried |= p[i] < weight;
		}
	} else {
		for (size_t i = 0; i < count; i++) {
			p[i] = (uint16_t)(p[i] + weight);
			carried |= p[i] < weight;
		}
	}
	if (carried)
		carry(s, k, count, weight);
}

static void add_run(struct qcheck_slice *s, uint64_t k, uint64_t end,
		    uint32_t weight)
{
	while (weight > UINT16_MAX && k < end) {
		uint32_t room = UINT16_MAX - s->counts[k];

		s->counts[k] = UINT16_MAX;
		excess_add(s, s->first + k, weight - room);
		k++;
	}
	while (k < end) {
		size_t step = (size_t)min_u64(end - k, ADD_STEP);

		add_step(s, k, step, (uint16_t)weight);
		k += step;
	}
}

void qcheck_add(struct qcheck_slice *s, uint64_t first, uint64_t count,
		uint32_t weight)
{
	uint64_t k = first - s->first;

	if (count == 1 && weight == 1) {
		if (k < s->count && !++s->counts[k])
			carry(s, k, 1, 1);
		return;
	}
	if (first + count <= s->first || first >= s->first + s->count)
		return;
	add_run(s, first > s->first ? k : 0,
		min_u64(first + count - s->first, s->count), weight);
}

/* Something wrong with an entry that `weight` paths lead to. */
static void __attribute__((format(printf, 3, 4)))
entry_corrupt(struct qcheck_slice *s, uint32_t weight, const char *fmt, ...)
{
	va_list ap;

	if (!s->lead)
		return;
	s->tally.corruptions += weight;
	va_start(ap, fmt);
	qcheck_vsay(&s->report, fmt, ap);
	va_end(ap);
}

void qcheck_reference(struct qcheck_slice *s, uint64_t host_off, uint64_t len,
		      uint32_t weight)
{
	unsigned bits = s->c->cluster_bits;
	uint64_t first = host_off >> bits;

	if (qcheck_past_end(s->c, host_off, len)) {
		entry_corrupt(s, weight,
			      "ERROR reference past the end of the file: "
			      "offset 0x%" PRIx64 " size 0x%" PRIx64,
			      host_off, len);
		s->tally.pointers_lost = true;
		if (!s->past_end)
			return;
	}
	qcheck_add(s, first, ((host_off + len - 1) >> bits) - first + 1,
		   weight);
}

/* Where the walk through one L2 table is. */
struct place {
	const struct qcheck_table *table;
	uint64_t next_off; /* behind the last plain cluster, host; 0: none */
};

/* The figures are of the active tables only. */
static void note_allocated(struct qcheck_slice *s, struct place *p,
			   uint64_t host_off, uint64_t clusters)
{
	uint32_t active = p->table->active;

	if (!s->lead || !active)
		return;
	s->tally.allocated += clusters * active;
	if (p->next_off && host_off != p->next_off)
		s->tally.fragmented += active;
	p->next_off = host_off + (clusters << s->c->cluster_bits);
}

static void count_packed(struct qcheck_slice *s, struct place *p,
			 uint64_t entry, uint64_t bitmap)
{
	uint32_t weight = p->table->weight;
	struct qcow2_packed packed =
		qcow2_packed_decode(entry, s->c->cluster_bits);

	if (entry & QCOW2_COPIED)
		entry_corrupt(s, weight,
			      "ERROR compressed cluster at 0x%" PRIx64
			      " has OFLAG_COPIED: l2_entry=%" PRIx64,
			      packed.host_off, entry);
	if (s->c->has_data_file) {
		entry_corrupt(s, weight,
			      "ERROR compressed cluster with data file: "
			      "l2_entry=%" PRIx64,
			      entry);
		return;
	}
	if (bitmap)
		entry_corrupt(s, weight,
			      "ERROR compressed cluster with subcluster bitmap "
			      "%" PRIx64 ": l2_entry=%" PRIx64,
			      bitmap, entry);
	qcheck_reference(s, packed.host_off, packed.len, weight);
	if (s->lead) {
		s->tally.allocated += p->table->active;
		s->tally.compressed += p->table->active;
		s->tally.fragmented += p->table->active;
	}
}

/* Zero clusters can do without their host cluster; data cannot. */
static void report_misaligned(struct qcheck_slice *s, uint32_t weight,
			      uint64_t host_off, bool holds_data)
{
	if (holds_data) {
		entry_corrupt(s, weight,
			      "ERROR offset=%" PRIx64
			      ": Data cluster is not properly aligned; L2 "
			      "entry corrupted.",
			      host_off);
		s->tally.pointers_lost = true;
		return;
	}
	entry_corrupt(s, weight,
		      "%s offset=%" PRIx64
		      ": Preallocated cluster is not properly aligned; L2 "
		      "entry corrupted.",
		      s->c->fix_errors ? "Repairing" : "ERROR", host_off);
	if (s->lead)
		s->tally.misplaced_zeros += weight;
}

static void count_plain(struct qcheck_slice *s, struct place *p, uint64_t entry,
			uint64_t bitmap, bool holds_data)
{
	uint64_t host_off = entry & QCOW2_OFFSET_MASK;
	uint32_t weight = p->table->weight;

	if (bitmap >> 32 & bitmap)
		entry_corrupt(s, weight,
			      "ERROR offset=%" PRIx64
			      ": subclusters are both allocated and zero: "
			      "bitmap=%" PRIx64,
			      host_off, bitmap);
	if (!is_aligned(host_off, s->c->cluster_size))
		report_misaligned(s, weight, host_off, holds_data);
	note_allocated(s, p, host_off, 1);
	if (!s->c->has_data_file)
		qcheck_reference(s, host_off, s->c->cluster_size, weight);
}

/* With a data file offset 0 is a place if the entry has COPIED. */
static enum qcow2_cluster_kind entry_kind(const struct qcheck *c,
					  uint64_t entry)
{
	enum qcow2_cluster_kind kind;

	if (c->extended_l2)
		entry &= ~QCOW2_L2_ZERO;
	kind = qcow2_l2_kind(entry);
	if (kind == QCOW2_UNALLOCATED && c->has_data_file &&
	    entry & QCOW2_COPIED)
		return QCOW2_NORMAL;
	return kind;
}

/* Any entry; `bitmap` is 0 without extended L2 entries. */
static void count_entry(struct qcheck_slice *s, struct place *p, uint64_t entry,
			uint64_t bitmap)
{
	enum qcow2_cluster_kind kind = entry_kind(s->c, entry);
	uint32_t weight = p->table->weight;

	if (kind != QCOW2_COMPRESSED && entry & QCOW2_L2_RESERVED) {
		entry_corrupt(
			s, weight,
			"ERROR found l2 entry with reserved bits set: %" PRIx64,
			entry);
		s->tally.pointers_lost = true;
	}
	switch (kind) {
	case QCOW2_COMPRESSED:
		count_packed(s, p, entry, bitmap);
		break;
	case QCOW2_NORMAL:
		count_plain(s, p, entry, bitmap,
			    !s->c->extended_l2 ||
				    bitmap & SUBCLUSTERS_ALLOCATED);
		break;
	case QCOW2_ZERO_ALLOCATED:
		count_plain(s, p, entry, bitmap, false);
		break;
	case QCOW2_UNALLOCATED:
		if (bitmap & SUBCLUSTERS_ALLOCATED)
			entry_corrupt(
				s, weight,
				"ERROR unallocated cluster has subclusters "
				"that are allocated: bitmap=%" PRIx64,
				bitmap);
		break;
	case QCOW2_ZERO_PLAIN:
		break;
	}
}

static int count_extended_table(struct qcheck_slice *s,
				const struct qcheck_table *t, uint8_t *bytes)
{
	const be64_t *words = (const void *)bytes;
	size_t count = s->c->cluster_size / sizeof(be64_t);
	struct place p = {.table = t};

	for (size_t i = 0; i < count; i += 2) {
		uint64_t entry = be64_get(words[i]);
		uint64_t bitmap = be64_get(words[i + 1]);

		if (entry | bitmap)
			count_entry(s, &p, entry, bitmap);
	}
	return 0;
}

/*
 * Aligned plain data inside the file: most of all entries. Whether a single
 * cluster is of this slice cannot be predicted in a shuffled image, so that is
 * no branch: others add 0 to the first counter.
 */
static inline void count_run(struct qcheck_slice *s, struct place *p,
			     uint64_t host_off, uint64_t clusters)
{
	uint64_t k = (host_off >> s->c->cluster_bits) - s->first;
	bool mine = k < s->count;
	uint16_t *count = &s->counts[mine ? k : 0];

	if (s->lead)
		note_allocated(s, p, host_off, clusters);
	if (clusters == 1 && p->table->weight == 1 && *count < UINT16_MAX)
		*count = (uint16_t)(*count + mine);
	else
		qcheck_add(s, k + s->first, clusters, p->table->weight);
}

static int count_table(struct qcheck_slice *s, const struct qcheck_table *t,
		       uint8_t *bytes)
{
	const struct qcheck *c = s->c;
	const be64_t *entries = (const void *)bytes;
	const size_t count = c->cluster_size / sizeof(be64_t);
	/* Entries without any of these bits are aligned, plain data. */
	const uint64_t special = QCOW2_L2_COMPRESSED | QCOW2_L2_RESERVED |
				 QCOW2_L2_ZERO | (c->cluster_size - 1);
	const uint64_t host_end =
		c->has_data_file ? 0 : c->cluster_count << c->cluster_bits;
	struct place p = {.table = t};
	uint64_t run;

	for (size_t i = 0; i < count; i += run) {
		uint64_t entry = be64_get(entries[i]);
		uint64_t host_off = entry & QCOW2_OFFSET_MASK;

		run = 1;
		if (!entry)
			continue;
		if (entry & special || !host_off || host_off >= host_end) {
			count_entry(s, &p, entry, 0);
			continue;
		}
		run = qcheck_run_length(&entries[i], count - i,
					c->cluster_size);
		run = min_u64(run, (host_end - host_off) >> c->cluster_bits);
		count_run(s, &p, host_off, run);
	}
	return 0;
}

/* Entries whose tables the walk does not find are counted one by one. */
static bool leads_astray(const struct qcheck *c, uint64_t host_off)
{
	return host_off >= c->file_size ||
	       !is_aligned(host_off, c->cluster_size);
}

static void count_found_table(struct qcheck_slice *s,
			      const struct qcheck_table *t)
{
	qcheck_reference(s, t->host_off, s->c->cluster_size, t->weight);
}

static int count_l1_entry(struct qcheck_slice *s, uint64_t entry,
			  uint64_t entry_off, const struct qcheck_span *span)
{
	uint64_t host_off = entry & QCOW2_OFFSET_MASK;

	if (entry & QCOW2_L1_RESERVED) {
		entry_corrupt(
			s, span->weight,
			"ERROR found L1 entry with reserved bits set: %" PRIx64,
			entry);
		s->tally.pointers_lost = true;
	}
	if (!host_off) {
		entry_corrupt(s, span->weight,
			      "ERROR L1 entry at 0x%" PRIx64
			      " has flags but no table: %" PRIx64,
			      entry_off, entry);
		s->tally.pointers_lost = true;
		return 0;
	}
	if (!s->no_tables && leads_astray(s->c, host_off))
		qcheck_reference(s, host_off, s->c->cluster_size, span->weight);
	if (!is_aligned(host_off, s->c->cluster_size)) {
		entry_corrupt(
			s, span->weight,
			"ERROR l2_offset=%" PRIx64
			": Table is not cluster aligned; L1 entry corrupted",
			host_off);
		s->tally.pointers_lost = true;
	}
	return 0;
}

static void count_bitmap_entries(struct qcheck_slice *s, const be64_t *entries,
				 size_t count, uint32_t weight)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t entry = be64_get(entries[i]);
		uint64_t host_off = entry & QCOW2_OFFSET_MASK;
		uint64_t rest = entry & ~QCOW2_OFFSET_MASK;

		if (!host_off && rest <= 1)
			continue;
		if (rest || !is_aligned(host_off, s->c->cluster_size)) {
			entry_corrupt(s, weight,
				      "ERROR bitmap table entry is corrupted: "
				      "%" PRIx64,
				      entry);
			s->tally.pointers_lost = true;
			continue;
		}
		qcheck_reference(s, host_off, s->c->cluster_size, weight);
	}
}

static int count_bitmap_table(struct qcheck_slice *s,
			      const struct qcheck_span *span)
{
	int ret;

	for (uint64_t done = 0; done < span->len; done += QCHECK_READ_BYTES) {
		size_t len =
			(size_t)min_u64(span->len - done, QCHECK_READ_BYTES);

		if (progress_cancelled(s->c->progress))
			return -ECANCELED;
		ret = storage_read_padded(s->c->file, s->buf, len,
					  span->start + done);
		if (ret < 0) {
			s->tally.pointers_lost = true;
			if (!s->lead)
				continue;
			qcheck_say(&s->report,
				   "ERROR bitmap table at 0x%" PRIx64 ": %s",
				   span->start + done, strerror(-ret));
			s->tally.errors += span->weight;
			continue;
		}
		count_bitmap_entries(s, (const void *)s->buf,
				     len / sizeof(be64_t), span->weight);
	}
	return 0;
}

static void count_spans(struct qcheck_slice *s, const struct qcheck_spans *list)
{
	for (size_t i = 0; i < list->count; i++)
		qcheck_add(s, list->items[i].start, list->items[i].len,
			   list->items[i].weight);
}

int qcheck_count(struct qcheck_slice *s)
{
	struct qcheck *c = s->c;
	struct qcheck_walk walk = {
		.c = c,
		.slice = s,
		.report = s->lead,
		.l1_entry = count_l1_entry,
		.table_found = s->no_tables ? NULL : count_found_table,
		.table = c->extended_l2 ? count_extended_table : count_table,
	};
	int ret;

	ret = qcheck_walk(&walk);
	count_spans(s, &c->fixed);
	if (s->past_end)
		count_spans(s, &c->dangling);
	for (size_t i = 0; i < c->bitmap_tables.count && !ret; i++)
		ret = count_bitmap_table(s, &c->bitmap_tables.items[i]);
	if (!ret && !c->skip_old_refcounts)
		qcheck_count_blocks(s);
	return ret;
}
