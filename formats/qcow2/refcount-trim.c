/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Letting go of refcount blocks that count nothing any more, after a disk has
 * shrunk (spec: qcow2 18).
 *
 * A missing block says what an empty one says. So the table entry goes first,
 * durably; then the block's own cluster is free: if the block counted itself,
 * because its count went with it, else by lowering the count.
 */
#include <errno.h>
#include <stdlib.h>

#include "formats/qcow2/qcow2.h"

/* Whether the block counts nothing but, at most, itself. */
static int block_is_idle(struct qcow2 *q, uint64_t block, bool *idle)
{
	uint64_t own = qcow2_cluster_index(q, q->reftable[block]);
	uint64_t from = block << q->refblock_bits;
	uint64_t end = (block + 1) << q->refblock_bits;
	int ret;

	*idle = false;
	while (from < end) {
		struct qcow2_run run;

		ret = qcow2_refcount_find_free(q, from, end - from, &run);
		if (ret < 0)
			return ret;
		/* Used from here to the run; one cluster may be its own. */
		if (run.first > from && (run.first != from + 1 || from != own))
			return 0;
		from = run.first + run.count;
	}
	*idle = true;
	return 0;
}

/* Takes the block out of the table in memory; its own cluster goes to *freed */
static int drop_block(struct qcow2 *q, uint64_t block,
		      struct qcow2_run_list *freed)
{
	uint64_t own = qcow2_cluster_index(q, q->reftable[block]);
	int ret = 0;

	if (own >> q->refblock_bits != block)
		ret = qcow2_run_list_add(freed,
					 (struct qcow2_run){own, 1, false});
	if (ret < 0)
		return ret;
	pthread_mutex_lock(&q->table_lock);
	qcow2_refcount_forget_block(q, own);
	qcow2_refcount_set_block(q, block, 0);
	pthread_mutex_unlock(&q->table_lock);
	return 0;
}

int qcow2_refcount_trim(struct qcow2 *q)
{
	struct qcow2_run_list freed = {0};
	bool dropped = false;
	int ret = 0;

	/* The first block counts the header: it is never idle. */
	for (uint64_t i = q->reftable_entries; i-- > 1 && !ret;) {
		bool idle;

		if (!q->reftable[i])
			continue;
		ret = block_is_idle(q, i, &idle);
		if (ret < 0 || !idle)
			continue;
		ret = drop_block(q, i, &freed);
		dropped = true;
	}
	if (dropped && !ret)
		ret = qcow2_flush_locked(q);
	for (size_t i = 0; i < freed.count && !ret; i++)
		qcow2_alloc_undo(q, freed.items[i]);
	qcow2_run_list_release(&freed);
	return ret;
}
