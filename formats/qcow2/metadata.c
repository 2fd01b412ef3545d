/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which host clusters hold the image's own tables. Entries of a damaged or
 * hostile image may lead anywhere, so every write and every allocation asks
 * first whether it would hit one.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/storage.h"
#include "formats/qcow2/qcow2.h"

static bool runs_overlap(struct qcow2_run run, uint64_t first, uint64_t count)
{
	return run.first < first + count && first < run.first + run.count;
}

bool qcow2_run_hits_tables(const struct qcow2 *q, struct qcow2_run run)
{
	uint64_t l1_clusters =
		div_round_up((uint64_t)q->l1_entries * 8, q->cluster_size);

	return run.first == 0 ||
	       runs_overlap(run, qcow2_cluster_index(q, q->header.l1_off),
			    l1_clusters) ||
	       runs_overlap(run, qcow2_cluster_index(q, q->header.reftable_off),
			    q->header.reftable_clusters);
}

/* They are in order and do not overlap. */
static bool hits_snapshots(const struct qcow2 *q, struct qcow2_run run)
{
	const struct qcow2_run *items = q->snapshot_runs.items;
	size_t low = 0, high = q->snapshot_runs.count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (runs_overlap(run, items[mid].first, items[mid].count))
			return true;
		if (items[mid].first < run.first)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

bool qcow2_run_hits_metadata(const struct qcow2 *q, struct qcow2_run run)
{
	if (qcow2_run_hits_tables(q, run) || hits_snapshots(q, run))
		return true;
	for (uint64_t i = 0; i < run.count; i++) {
		if (qcow2_cluster_set_has(q->metadata, run.first + i))
			return true;
	}
	return false;
}

/*
 * Notes that the cluster holds a table. Two tables in one place, or two
 * pointers to one, would let a change of one guest range change another: such
 * an image is not written. Nor is one that was cut off before a table: it would
 * read as zeros, and zeros say that clusters are free which hold data.
 */
static int note_table(struct qcow2 *q, uint64_t table_off, const char *what,
		      uint64_t idx, struct error *err)
{
	uint64_t cluster = qcow2_cluster_index(q, table_off);

	if (table_off >= storage_size(q->file))
		return error_set(err, ERROR_CORRUPT,
				 "%s entry %" PRIu64 " points to 0x%" PRIx64
				 ", behind the end of the file, which has "
				 "%" PRIu64 " bytes; the image cannot be "
				 "written (see: check)",
				 what, idx, table_off, storage_size(q->file));
	if (qcow2_run_hits_metadata(q, (struct qcow2_run){cluster, 1, false}))
		return error_set(err, ERROR_CORRUPT,
				 "%s entry %" PRIu64 " points to 0x%" PRIx64
				 ", where another table is; the image cannot "
				 "be written (see: check)",
				 what, idx, table_off);
	if (qcow2_cluster_set_add(q->metadata, cluster) < 0)
		return error_set_errno(err, ENOMEM, "Could not note %s entry",
				       what);
	return 0;
}

/* The clusters that a table touches, which need not be aligned. */
static int note_snapshot_run(struct qcow2 *q, uint64_t host_off, uint64_t len,
			     struct error *err)
{
	struct qcow2_run run = {.first = qcow2_cluster_index(q, host_off)};

	if (!len)
		return 0;
	if (!range_inside(host_off, len, QCOW2_HOST_OFF_MAX))
		return error_set(
			err, ERROR_CORRUPT,
			"a table of %" PRIu64 " bytes at 0x%" PRIx64
			" does not lie below 2^56; the image cannot be "
			"written (see: check)",
			len, host_off);
	run.count = qcow2_cluster_index(q, host_off + len - 1) - run.first + 1;
	if (qcow2_run_list_add(&q->snapshot_runs, run) < 0)
		return error_set_errno(err, ENOMEM, "Could not note a table");
	return 0;
}

static int note_snapshot(void *opaque, struct qcow2_snapshot *s,
			 struct error *err)
{
	return note_snapshot_run(opaque, s->l1_off,
				 (uint64_t)s->l1_entries * sizeof(be64_t), err);
}

static int run_compare(const void *a, const void *b)
{
	const struct qcow2_run *x = a, *y = b;

	return (x->first > y->first) - (x->first < y->first);
}

/* Snapshots may share a table: none of them is written. */
static void join_runs(struct qcow2_run_list *list)
{
	size_t kept = 0;

	qsort(list->items, list->count, sizeof(*list->items), run_compare);
	for (size_t i = 1; i < list->count; i++) {
		struct qcow2_run *last = &list->items[kept];
		struct qcow2_run run = list->items[i];

		if (run.first > last->first + last->count)
			list->items[++kept] = run;
		else
			last->count = max_u64(last->first + last->count,
					      run.first + run.count) -
				      last->first;
	}
	list->count = kept + 1;
}

/*
 * A snapshot's L1 table in the place of the active one would change with that,
 * whatever the counts say.
 */
static int refuse_shared_tables(const struct qcow2 *q, struct error *err)
{
	for (size_t i = 0; i < q->snapshot_runs.count; i++) {
		const struct qcow2_run *run = &q->snapshot_runs.items[i];

		if (qcow2_run_hits_tables(q, *run))
			return error_set(
				err, ERROR_CORRUPT,
				"What snapshots need in [0x%" PRIx64
				", 0x%" PRIx64
				") lies on the header, the L1 or the refcount "
				"table; the image cannot be written (make a "
				"copy of it with: convert)",
				run->first << q->cluster_bits,
				(run->first + run->count) << q->cluster_bits);
	}
	return 0;
}

static int collect_snapshots(struct qcow2 *q, struct error *err)
{
	uint64_t table_len;
	int ret;

	if (!q->header.snapshot_count)
		return 0;
	ret = qcow2_snapshots_each(q, note_snapshot, q, &table_len, err);
	if (!ret)
		ret = note_snapshot_run(q, q->header.snapshots_off, table_len,
					err);
	if (ret < 0)
		return ret;
	join_runs(&q->snapshot_runs);
	return refuse_shared_tables(q, err);
}

int qcow2_metadata_collect(struct qcow2 *q, struct error *err)
{
	int ret = qcow2_cluster_set_new(&q->metadata);

	if (ret < 0)
		return error_set_errno(err, -ret, "Could not note the tables");
	ret = collect_snapshots(q, err);
	for (uint64_t i = 0; i < q->l1_entries && !ret; i++) {
		uint64_t off = q->l1[i] & QCOW2_OFFSET_MASK;

		if (off)
			ret = note_table(q, off, "L1 table", i, err);
	}
	for (uint64_t i = 0; i < q->reftable_entries && !ret; i++) {
		if (q->reftable[i])
			ret = note_table(q, q->reftable[i], "Refcount table", i,
					 err);
	}
	return ret;
}

void qcow2_metadata_release(struct qcow2 *q)
{
	qcow2_cluster_set_free(q->metadata);
	q->metadata = NULL;
	qcow2_run_list_release(&q->snapshot_runs);
}
