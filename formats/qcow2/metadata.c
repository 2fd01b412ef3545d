/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which host clusters hold the image's own tables. Entries of a damaged or
 * hostile image may lead anywhere, so every write and every allocation asks
 * first whether it would hit one.
 */
#include <errno.h>
#include <inttypes.h>

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

bool qcow2_run_hits_metadata(const struct qcow2 *q, struct qcow2_run run)
{
	if (qcow2_run_hits_tables(q, run))
		return true;
	for (uint64_t i = 0; i < run.count; i++) {
		if (qcow2_cluster_set_has(q->metadata, run.first + i))
			return true;
	}
	return false;
}

/*
 * Notes that the cluster holds a table. Two pointers to one table would let a
 * change of one guest range change another: such an image is not written. Nor
 * is one that was cut off before a table: it would read as zeros, and zeros say
 * that clusters are free which hold data.
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
	if (qcow2_cluster_set_has(q->metadata, cluster))
		return error_set(err, ERROR_CORRUPT,
				 "%s entry %" PRIu64 " points to 0x%" PRIx64
				 ", which another entry points to already; "
				 "the image cannot be written (see: check)",
				 what, idx, table_off);
	if (qcow2_cluster_set_add(q->metadata, cluster) < 0)
		return error_set_errno(err, ENOMEM, "Could not note %s entry",
				       what);
	return 0;
}

int qcow2_metadata_collect(struct qcow2 *q, struct error *err)
{
	int ret = qcow2_cluster_set_new(&q->metadata);

	if (ret < 0)
		return error_set_errno(err, -ret, "Could not note the tables");

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
}
