/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Handing out host clusters, and taking them back (spec: qcow2 17; W4).
 *
 * Free clusters are found first-fit from a moving hint. A cluster that is freed
 * goes into the quarantine and keeps its count until a flush has made its
 * unmapping durable: handed out earlier, a crash could leave two guest
 * addresses on one cluster, or show one address the other's new data.
 *
 * All with change_lock held.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "block/error.h"
#include "formats/qcow2/qcow2.h"

int qcow2_run_list_add(struct qcow2_run_list *list, struct qcow2_run run)
{
	struct qcow2_run *last =
		list->count ? &list->items[list->count - 1] : NULL;

	if (last && last->first + last->count == run.first &&
	    last->punch == run.punch) {
		last->count += run.count;
		return 0;
	}
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 64;
		struct qcow2_run *items =
			reallocarray(list->items, capacity, sizeof(*items));

		if (!items)
			return -ENOMEM;
		list->items = items;
		list->capacity = capacity;
	}
	list->items[list->count++] = run;
	return 0;
}

void qcow2_run_list_release(struct qcow2_run_list *list)
{
	free(list->items);
	*list = (struct qcow2_run_list){0};
}

uint64_t qcow2_host_clusters_max(const struct qcow2 *q)
{
	uint64_t max = QCOW2_HOST_OFF_MAX;

	if (!q->file->can_grow)
		max = min_u64(max, storage_size(q->file));
	return max >> q->cluster_bits;
}

/*
 * A free run that refcount blocks describe, not counted yet. `want` long, or
 * shorter where a used cluster or the end of a block is met.
 */
static int find_covered(struct qcow2 *q, uint64_t from, uint64_t want,
			struct qcow2_run *out)
{
	uint64_t per_block = 1ull << q->refblock_bits;
	uint64_t max = qcow2_host_clusters_max(q);
	int ret;

	for (;;) {
		ret = qcow2_refcount_find_free(q, from, want, out);
		if (ret < 0)
			return ret;
		if (out->first >= max)
			return q->file->can_grow ? -EFBIG : -ENOSPC;
		if (qcow2_refcount_covered(q, out->first))
			break;
		/* The new block takes a cluster of its own: look again. */
		ret = qcow2_refcount_cover(q, out->first);
		if (ret < 0)
			return ret;
	}
	out->count =
		min_u64(out->count, per_block - (out->first & (per_block - 1)));
	out->count = min_u64(out->count, max - out->first);
	return 0;
}

static int take(struct qcow2 *q, struct qcow2_run run)
{
	/*
	 * A free count for a cluster that holds a table: the counts are wrong,
	 * and whatever is written there would be the end of the image.
	 */
	if (qcow2_run_hits_metadata(q, run))
		return qcow2_mark_corrupt(q);
	return qcow2_refcount_change(q, run, +1);
}

int qcow2_alloc(struct qcow2 *q, uint64_t want, struct qcow2_run *out)
{
	int ret;

	assert(want > 0);
	out->punch = false;
	ret = find_covered(q, q->free_hint, want, out);
	if (!ret)
		ret = take(q, *out);
	if (!ret)
		q->free_hint = out->first + out->count;
	return ret;
}

int qcow2_alloc_exact(struct qcow2 *q, uint64_t want, struct qcow2_run *out)
{
	uint64_t from = q->free_hint;
	uint64_t per_block = 1ull << q->refblock_bits;
	int ret;

	/* Longer than a block's range: no room except behind everything. */
	while (want < per_block) {
		ret = find_covered(q, from, want, out);
		if (ret < 0)
			return ret;
		if (out->count == want) {
			out->punch = false;
			return take(q, *out);
		}
		from = out->first + out->count;
	}
	out->punch = false;
	return qcow2_refcount_append(q, want, out);
}

static void lower_hint(struct qcow2 *q, uint64_t cluster)
{
	q->free_hint = min_u64(q->free_hint, cluster);
}

void qcow2_alloc_undo(struct qcow2 *q, struct qcow2_run run)
{
	/* Counts that are not to be trusted are not lowered. */
	if (atomic_load(&q->corrupt))
		return;
	/* A failure leaks the run, which is what a crash here would do. */
	if (qcow2_refcount_change(q, run, -1) == 0)
		lower_hint(q, run.first);
}

int qcow2_free_later(struct qcow2 *q, struct qcow2_run run)
{
	return qcow2_run_list_add(&q->quarantine, run);
}

int qcow2_free_entry_later(struct qcow2 *q, uint64_t l2_entry, bool punch)
{
	struct qcow2_run run = {.count = 1, .punch = punch};

	switch (qcow2_l2_kind(l2_entry)) {
	case QCOW2_UNALLOCATED:
	case QCOW2_ZERO_PLAIN:
		return 0;
	case QCOW2_COMPRESSED:
		qcow2_packed_clusters(
			qcow2_packed_decode(l2_entry, q->cluster_bits),
			q->cluster_bits, &run.first, &run.count);
		run.punch = false;
		/* The open cluster may end up somebody else's. */
		q->pack_off = 0;
		break;
	case QCOW2_NORMAL:
	case QCOW2_ZERO_ALLOCATED:
		run.first =
			qcow2_cluster_index(q, l2_entry & QCOW2_OFFSET_MASK);
		if (!is_aligned(l2_entry & QCOW2_OFFSET_MASK, q->cluster_size))
			return -ERROR_CORRUPT;
		break;
	}
	/* A bad entry must not free a table under the image. Leak instead. */
	if (qcow2_run_hits_metadata(q, run))
		return -ERROR_CORRUPT;
	return qcow2_free_later(q, run);
}

static bool is_free(struct qcow2 *q, uint64_t cluster)
{
	uint64_t count;

	return qcow2_refcount_read(q, cluster, &count) == 0 && !count;
}

/* W5: these are free and change_lock is held, so nobody can take them. */
static void punch_free_parts(struct qcow2 *q, struct qcow2_run run)
{
	uint64_t i = 0;

	while (i < run.count) {
		uint64_t start = i;

		while (i < run.count && is_free(q, run.first + i))
			i++;
		if (i > start)
			storage_discard(q->file,
					(run.first + start) << q->cluster_bits,
					(i - start) << q->cluster_bits);
		else
			i++;
	}
}

static int release_run(struct qcow2 *q, struct qcow2_run run)
{
	int ret = qcow2_refcount_change(q, run, -1);

	if (ret < 0)
		return ret;
	lower_hint(q, run.first);
	if (run.punch && q->file->can_punch)
		punch_free_parts(q, run);
	return 0;
}

int qcow2_quarantine_release(struct qcow2 *q)
{
	struct qcow2_run_list list = q->quarantine;
	int ret = 0;

	q->quarantine = (struct qcow2_run_list){0};
	/* A corrupt image leaks rather than that it lowers a count too far. */
	if (atomic_load(&q->corrupt))
		list.count = 0;
	for (size_t i = 0; i < list.count; i++) {
		int one = release_run(q, list.items[i]);

		/* -ERANGE: counts too low already. The rest still counts. */
		if (one == -ERANGE)
			one = qcow2_mark_corrupt(q);
		if (one < 0 && !ret)
			ret = one;
	}
	qcow2_run_list_release(&list);
	return ret;
}
