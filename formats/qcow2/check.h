/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of check and repair (spec: qcow2 7, 16; performance 8).
 *
 *	check.c            the passes, threads, results; what open.c calls
 *	check-report.c     findings and lists of spans
 *	check-gather.c     what refers to clusters without an L2 table
 *	check-walk.c       reading all L1 and L2 tables, each byte once
 *	check-count.c      counting references
 *	check-refcounts.c  the stored counts: reading, comparing, setting
 *	check-copied.c     the COPIED flags
 *	check-repair.c     repair in place; check-rebuild.c new refcount tables
 *
 * Everything is read straight from the storage, in large pieces, and nothing is
 * looked up by I/O for each entry. Host clusters are counted in slices: one
 * slice is a range of clusters whose counts fit into memory, two bytes each. A
 * slice is counted, compared and has its COPIED flags verified by one thread
 * that walks all L2 tables for it; so threads share nothing but constants, and
 * memory is bounded whatever the image. The lead slice also reports what is
 * wrong with entries themselves.
 *
 * Time is bounded too: tables to which many pointers lead are read once and
 * weigh as much as they have paths. A file of n bytes cannot make more work
 * than a small multiple of n.
 */
#ifndef PLATTER_FORMATS_QCOW2_CHECK_H
#define PLATTER_FORMATS_QCOW2_CHECK_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/qcow2/qcow2.h"

/* All slices that are in memory at one time: 2 TiB in clusters of 64 KiB. */
#define QCHECK_WINDOW_CLUSTERS (34ull << 20)
/* What one read asks for; a single table may be larger. */
#ifdef PLATTER_SMALL_BUFFERS
#define QCHECK_READ_BYTES (4u << 10)
#else
#define QCHECK_READ_BYTES (1u << 20)
#endif
/* More host clusters than QEMU's check can count either. */
#define QCHECK_CLUSTERS_MAX ((uint64_t)INT32_MAX)

/* ---- check-report.c ---- */

/* Lines for the user, kept until the calling thread can deliver them. */
struct qcheck_report {
	char *text; /* lines, each ended by NUL */
	size_t len, capacity;
	unsigned lines, lines_max; /* lines_max 0: nobody wants them */
	bool cut;
};

void qcheck_say(struct qcheck_report *r, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void qcheck_vsay(struct qcheck_report *r, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));
/* False once a line would only be dropped. */
bool qcheck_report_open(const struct qcheck_report *r);
void qcheck_report_release(struct qcheck_report *r);

/* [start, start + len), in bytes or in clusters, with its number of uses. */
struct qcheck_span {
	uint64_t start, len;
	uint32_t weight; /* all uses; saturates */
	uint32_t active; /* of these: in the active tables */
};

struct qcheck_spans {
	struct qcheck_span *items;
	size_t count, capacity;
};

int qcheck_spans_add(struct qcheck_spans *list, struct qcheck_span span);
/* Sorted, disjoint, weights of what overlaps added up. */
int qcheck_spans_flatten(struct qcheck_spans *list);
void qcheck_spans_release(struct qcheck_spans *list);

static inline uint32_t qcheck_weight_sum(uint32_t a, uint32_t b)
{
	uint32_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT32_MAX : sum;
}

/* ---- check.c ---- */

struct qcheck_tally {
	uint64_t errors, corruptions, leaks;
	uint64_t copied;	  /* of the corruptions: COPIED flags */
	uint64_t misplaced_zeros; /* of these: their offset can be dropped */
	uint64_t allocated, fragmented, compressed;
	uint64_t end_cluster; /* behind the last that is used or counted */
	bool rebuild; /* the refcount structures cannot be mended in place */
	/*
	 * A pointer or table is damaged: clusters that seem unused may be what
	 * it once led to. Nothing is freed then.
	 */
	bool pointers_lost;
};

void qcheck_tally_add(struct qcheck_tally *sum, const struct qcheck_tally *t);

/*
 * Clusters of L1 and L2 tables that something else refers to as well, as data
 * say: one of the pointers is wrong, and nobody knows which. Repair does not
 * write to them, for it might be writing to a guest's data.
 */
struct qcheck_shared {
	uint64_t *clusters; /* sorted */
	size_t count, capacity;
	bool all; /* too many to remember: take every table for one */
};

/* The image as one pass sees it: gathered first, then constant. */
struct qcheck {
	struct qcow2 *q;
	struct storage *file;
	struct progress *progress;
	bool fix_leaks, fix_errors;

	unsigned cluster_bits;
	uint32_t cluster_size;
	uint64_t file_size;
	uint64_t cluster_count; /* of the file; the last may be partial */
	bool has_data_file, extended_l2;

	struct qcheck_spans l1;		   /* bytes: L1 tables */
	struct qcheck_spans bitmap_tables; /* bytes */
	struct qcheck_spans fixed; /* clusters: what needs no L2 to be found */
	struct qcheck_spans dangling; /* clusters: the same past the end */
	uint64_t *reftable;
	uint64_t reftable_entries;
	bool reftable_unread;	 /* it is in its place; reading failed */
	bool skip_old_refcounts; /* rebuilding: they will not be used again */
	uint64_t table_count;	 /* L2 tables to read in each walk */
	struct qcheck_shared *shared; /* while repairing */

	struct qcheck_tally tally; /* of gathering */
	struct qcheck_report report;
};

/* References past 65535 of one cluster. */
struct qcheck_excess {
	uint64_t cluster, count;
};

struct qcheck_slice {
	struct qcheck *c;
	uint64_t first,
		count; /* host clusters; first starts a refcount block */
	bool lead;
	bool past_end;	/* count what lies behind the file, too */
	bool no_tables; /* do not count L1 entries' references */

	uint16_t *counts;    /* `count` of them; qcheck_compare() turns them */
	size_t counts_bytes; /* into one bit each: "the stored count is 1" */
	struct qcheck_excess *excess; /* by cluster hashed, or NULL */
	size_t excess_count;
	bool excess_lost; /* there were too many to remember */
	uint8_t *buf;	  /* QCHECK_READ_BYTES or one cluster, if larger */
	uint8_t *block;	  /* one refcount block */

	struct qcheck_tally tally;
	struct qcheck_report report;
};

#define QCHECK_REPORT	     1u /* keep findings for args->finding */
#define QCHECK_NEW_REFCOUNTS 2u /* the old structures are in use no more */

int qcheck_begin(struct qcheck *c, struct qcow2 *q,
		 const struct check_args *args, unsigned flags,
		 struct error *err);
void qcheck_end(struct qcheck *c);

int qcheck_slice_init(struct qcheck_slice *s, struct qcheck *c, uint64_t first,
		      uint64_t count);
void qcheck_slice_release(struct qcheck_slice *s);

/* Whole blocks, at most `max` clusters unless one block has more. */
uint64_t qcheck_slice_clusters(const struct qcheck *c, uint64_t max);

/*
 * Calls fn for slices that cover the first `clusters`, one after the other.
 * Stops at the first that does not return 0, and returns that.
 */
int qcheck_each_slice(struct qcheck *c, uint64_t clusters,
		      int (*fn)(struct qcheck_slice *s, void *opaque),
		      void *opaque);

/* One read-only pass over everything; flags: QCHECK_REPORT. */
int qcheck_run(struct qcow2 *q, const struct check_args *args, unsigned flags,
	       struct qcheck_tally *out, struct error *err);

/* Clusters that slices cover: the file's and one that it may not have. */
static inline uint64_t qcheck_clusters(const struct qcheck *c)
{
	return c->cluster_count + 1;
}

static inline uint64_t qcheck_block_slots(const struct qcheck *c)
{
	return 1ull << c->q->refblock_bits;
}

/* ---- check-gather.c ---- */

int qcheck_gather(struct qcheck *c);
/*
 * Whether [host_off, host_off + len) starts at the end of the file or behind
 * it, or reaches a whole cluster or more past it. The last cluster may be
 * partial.
 */
bool qcheck_past_end(const struct qcheck *c, uint64_t host_off, uint64_t len);

/* ---- check-walk.c ---- */

/* An L2 table with the number of L1 entries that lead to it. */
struct qcheck_table {
	uint64_t host_off;
	uint32_t weight, active;
};

struct qcheck_walk {
	struct qcheck *c;
	struct qcheck_slice *slice; /* NULL: only count the tables */
	bool active_only;
	bool report; /* errors of reading are counted in the slice's tally */
	/* Every entry that is not 0, at entry_off. NULL callbacks: not wanted.
	 */
	int (*l1_entry)(struct qcheck_slice *s, uint64_t entry,
			uint64_t entry_off, const struct qcheck_span *span);
	/*
	 * Each aligned table inside the file, whether it can be read or not;
	 * again much later with further weight.
	 */
	void (*table_found)(struct qcheck_slice *s,
			    const struct qcheck_table *t);
	/* Each table that can be read; may change its bytes. */
	int (*table)(struct qcheck_slice *s, const struct qcheck_table *t,
		     uint8_t *bytes);

	uint64_t tables; /* out */

	/* private */
	struct qcheck_table *batch;
	size_t batch_count, batch_capacity;
	struct qcheck_table *recent; /* by offset hashed; NULL: not used */
	unsigned misaligned;
};

int qcheck_walk(struct qcheck_walk *w);

/*
 * How many entries, the first included, continue it one cluster further each,
 * flags alike.
 */
static inline size_t qcheck_run_length(const be64_t *entries, size_t count,
				       uint64_t step)
{
	uint64_t first = be64_get(entries[0]);
	size_t n = 1;

	if (count < 2 || be64_get(entries[1]) != first + step)
		return 1;
	/* Eight at a time: one branch for all of them. */
	for (; n + 8 <= count; n += 8) {
		uint64_t diff = 0;

		for (size_t k = n; k < n + 8; k++)
			diff |= be64_get(entries[k]) ^ (first + k * step);
		if (diff)
			break;
	}
	while (n < count && be64_get(entries[n]) == first + n * step)
		n++;
	return n;
}

/* ---- check-count.c ---- */

/* Adds references to the clusters of a run that lie in the slice. */
void qcheck_add(struct qcheck_slice *s, uint64_t first, uint64_t count,
		uint32_t weight);
/* The same for bytes; past the end of the file is corruption, not counted. */
void qcheck_reference(struct qcheck_slice *s, uint64_t host_off, uint64_t len,
		      uint32_t weight);
uint64_t qcheck_count_of(const struct qcheck_slice *s, uint64_t cluster);
/* All references into the slice. */
int qcheck_count(struct qcheck_slice *s);

/* ---- check-refcounts.c ---- */

int qcheck_reftable_load(struct qcheck *c);
/* References by the refcount table's entries, and what is wrong with them. */
void qcheck_count_blocks(struct qcheck_slice *s);
/*
 * Compares counted with stored, which also finds the last used cluster, and
 * leaves in s->counts only the bits for qcheck_stored_is_one().
 */
int qcheck_compare(struct qcheck_slice *s);
/* Only the bits. */
int qcheck_load_ones(struct qcheck_slice *s);
/* Sets stored counts of the slice that are too low, or those too high. */
int qcheck_set_counts(struct qcheck_slice *s, bool raise);
/* Block `idx` of stored counts into s->block; false: it cannot be had. */
bool qcheck_block_load(struct qcheck_slice *s, uint64_t idx);
/* One stored count, by I/O; -EIO if its block cannot be had. */
int qcheck_stored_at(const struct qcheck *c, uint64_t cluster, uint64_t *out);
/* Whether its block could be read, as far as its pointer tells. */
bool qcheck_block_readable(const struct qcheck *c, uint64_t cluster);

static inline bool qcheck_stored_is_one(const struct qcheck_slice *s,
					uint64_t cluster)
{
	uint64_t k = cluster - s->first;

	unsigned byte = ((const uint8_t *)s->counts)[k / 8];

	return byte & 1u << k % 8;
}

/* The bits of 64 clusters, the k-th of the slice first; k a multiple of 64. */
static inline uint64_t qcheck_ones_word(const struct qcheck_slice *s,
					uint64_t k)
{
	uint64_t word;

	memcpy(&word, (const uint8_t *)s->counts + k / 8, sizeof(word));
	return le64toh(word);
}

/* ---- check-copied.c ---- */

/* Needs the bits of qcheck_compare(). */
int qcheck_copied(struct qcheck_slice *s);
/* The same, and corrects the flags on disk, except in c->shared. */
int qcheck_mend_copied(struct qcheck_slice *s);
/*
 * Whether an L2 table may be written to: nothing but L1 entries leads there,
 * and most of its entries make sense. Else the L1 entry may be what is wrong,
 * and the table may be a guest's data.
 */
bool qcheck_may_mend(const struct qcheck *c, const struct qcheck_table *t,
		     const uint8_t *bytes);

/* ---- check-repair.c, check-rebuild.c ---- */

/* Mends what `found` tells of, as far as args allow. */
int qcheck_repair(struct qcow2 *q, const struct check_args *args,
		  const struct qcheck_tally *found, struct error *err);
/*
 * Writes new refcount structures and switches to them. keep_stored: what the
 * old ones count as used stays used.
 */
int qcheck_rebuild(struct qcow2 *q, const struct check_args *args,
		   bool keep_stored, struct error *err);

#endif
