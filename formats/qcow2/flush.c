/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The order in which changes reach the disk (spec: qcow2 15; W1, W2, W4).
 *
 *	guest data, counts, tables that nothing points to yet
 *	  -> (sync, refcount table, if it changed)
 *	  -> sync
 *	  -> L2 tables, L1 entries
 *	  -> sync
 *	  -> the quarantine is released
 *
 * The syncs are per flush, not per write, and an overwrite in place pays for
 * one only. change_lock is held throughout, so the tables stand still;
 * table_lock is not held over the syncs, so readers never wait for them.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/image.h"
#include "formats/qcow2/breaks.h"
#include "formats/qcow2/qcow2.h"

#ifdef PLATTER_BREAKABLE
unsigned qcow2_broken_rule;
#endif

/* Writes entries [first, end) of a table in memory to its place. */
static int write_entries(struct qcow2 *q, const uint64_t *table,
			 struct qcow2_dirty_range range, uint64_t table_off)
{
	uint64_t count = range.end - range.first;
	be64_t *disk = malloc(count * sizeof(*disk));
	int ret;

	if (!disk)
		return -ENOMEM;
	for (uint64_t i = 0; i < count; i++)
		disk[i] = be64_make(table[range.first + i]);
	ret = storage_write(q->file, disk, count * sizeof(*disk),
			    table_off + range.first * sizeof(*disk));
	free(disk);
	return ret;
}

static bool range_dirty(struct qcow2_dirty_range range)
{
	return range.first < range.end;
}

/* Step one: whatever may be on disk before anything points to it. */
static int write_unpublished(struct qcow2 *q)
{
	int ret;

	pthread_mutex_lock(&q->table_lock);
	ret = table_cache_write(q->l2_cache, TABLES_FRESH);
	/* Behind the dirty bit counts may lag until close. */
	if (!ret && !(q->lazy && q->dirty_bit))
		ret = table_cache_write(q->refblock_cache, TABLES_ALL);
	pthread_mutex_unlock(&q->table_lock);
	if (ret < 0 || !range_dirty(q->reftable_dirty))
		return ret;

	/* The blocks behind the new entries have to be there first. */
	pthread_mutex_lock(&q->table_lock);
	ret = table_cache_write(q->refblock_cache, TABLES_ALL);
	pthread_mutex_unlock(&q->table_lock);
	if (!ret && RULE_HOLDS(2))
		ret = storage_sync(q->file);
	if (!ret)
		ret = write_entries(q, q->reftable, q->reftable_dirty,
				    q->header.reftable_off);
	if (!ret) {
		q->reftable_dirty = (struct qcow2_dirty_range){0, 0};
		table_cache_publish(q->refblock_cache);
	}
	return ret;
}

/* Step two, after a sync: what points to the bytes of step one. */
static int write_published(struct qcow2 *q)
{
	int ret;

	pthread_mutex_lock(&q->table_lock);
	ret = table_cache_write(q->l2_cache, TABLES_PUBLISHED);
	if (!ret && range_dirty(q->l1_dirty))
		ret = write_entries(q, q->l1, q->l1_dirty, q->header.l1_off);
	if (!ret) {
		q->l1_dirty = (struct qcow2_dirty_range){0, 0};
		table_cache_publish(q->l2_cache);
	}
	pthread_mutex_unlock(&q->table_lock);
	return ret;
}

static bool has_published_changes(struct qcow2 *q)
{
	bool dirty;

	pthread_mutex_lock(&q->table_lock);
	dirty = range_dirty(q->l1_dirty) ||
		table_cache_has_dirty(q->l2_cache, TABLES_PUBLISHED);
	pthread_mutex_unlock(&q->table_lock);
	return dirty;
}

int qcow2_write_back_locked(struct qcow2 *q)
{
	int ret = write_unpublished(q);

	if (ret < 0 || !has_published_changes(q))
		return ret;
	if (RULE_HOLDS(1))
		ret = storage_sync(q->file);
	if (ret < 0)
		return ret;
	return write_published(q);
}

int qcow2_flush_locked(struct qcow2 *q)
{
	int ret = qcow2_write_back_locked(q);

	if (!ret)
		ret = storage_sync(q->file);
	if (!ret)
		ret = qcow2_quarantine_release(q);
	return ret;
}

int qcow2_flush(struct image *img)
{
	struct qcow2 *q = img->state;
	int ret;

	pthread_mutex_lock(&q->change_lock);
	ret = qcow2_flush_locked(q);
	pthread_mutex_unlock(&q->change_lock);
	return ret;
}
