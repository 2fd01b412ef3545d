/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading the snapshot table.
 *
 * Its length is stored nowhere, only the count of entries. It is read through a
 * window that always holds one whole entry of the largest legal size, so a
 * hostile count costs no more memory than the entries that are there.
 */
#include "formats/qcow2/qcow2.h"

#include <inttypes.h>
#include <stdlib.h>

#include "block/error.h"
#include "block/storage.h"

/* fixed part, extra data, id and name, padding */
#define ENTRY_BYTES_MAX (40 + QCOW2_SNAPSHOT_EXTRA_MAX + 2 * 65535 + 2 + 8)
#define WINDOW_BYTES	(512u * 1024)

_Static_assert(ENTRY_BYTES_MAX < WINDOW_BYTES / 2, "window size");

struct window {
	struct storage *file;
	uint64_t next, end; /* host; what was not read yet */
	uint8_t *buf;
	size_t pos, len;
};

/* Makes sure of one entry behind pos, unless the table ends before that. */
static int window_fill(struct window *w)
{
	size_t left = w->len - w->pos, take;
	int ret;

	if (left >= ENTRY_BYTES_MAX || w->next == w->end)
		return 0;
	memmove(w->buf, w->buf + w->pos, left);
	take = (size_t)min_u64(WINDOW_BYTES - left, w->end - w->next);
	ret = storage_read(w->file, w->buf + left, take, w->next);
	w->next += take;
	w->pos = 0;
	w->len = left + take;
	return ret;
}

static int visit_one(struct qcow2 *q, struct window *w,
		     qcow2_snapshot_visit *visit, void *opaque,
		     struct error *err)
{
	struct qcow2_snapshot s;
	int64_t next;
	int ret = window_fill(w);

	if (ret < 0)
		return error_set_errno(err, -ret,
				       "Could not read the snapshot table");
	next = qcow2_snapshot_decode(&s, w->buf, w->len, w->pos,
				     q->header.size_bytes, err);
	if (next < 0)
		return (int)next;
	w->pos = (size_t)min_u64((uint64_t)next, w->len);
	ret = visit(opaque, &s, err);
	qcow2_snapshot_release(&s);
	return ret;
}

static int visit_all(struct qcow2 *q, struct window *w,
		     qcow2_snapshot_visit *visit, void *opaque,
		     struct error *err)
{
	for (uint32_t i = 0; i < q->header.snapshot_count; i++) {
		int ret = visit_one(q, w, visit, opaque, err);

		if (ret < 0) {
			error_prefix(err,
				     "Snapshot %" PRIu32 " of %" PRIu32 ": ",
				     i + 1, q->header.snapshot_count);
			return ret;
		}
	}
	return 0;
}

int qcow2_snapshots_each(struct qcow2 *q, qcow2_snapshot_visit *visit,
			 void *opaque, uint64_t *table_len, struct error *err)
{
	uint64_t size = storage_size(q->file), off = q->header.snapshots_off;
	struct window w = {.file = q->file, .next = off, .end = off};
	int ret;

	if (off < size)
		w.end += min_u64(size - off, QCOW2_SNAPSHOT_TABLE_MAX);
	w.buf = malloc(WINDOW_BYTES);
	if (!w.buf)
		return error_set(err, ENOMEM,
				 "No memory for the snapshot table");
	ret = visit_all(q, &w, visit, opaque, err);
	if (table_len)
		*table_len = w.next - off - (w.len - w.pos);
	free(w.buf);
	return ret;
}

/* ---- all of them at once ---- */

struct list {
	const struct qcow2_header *header;
	struct qcow2_snapshot *items;
	size_t count;
};

/* The list has it from now on. */
static int take_one(void *opaque, struct qcow2_snapshot *s, struct error *err)
{
	struct list *list = opaque;
	int ret = qcow2_snapshot_validate(s, list->header, err);

	if (ret < 0)
		return ret;
	list->items[list->count++] = *s;
	s->id = s->name = NULL;
	return 0;
}

void qcow2_snapshots_free(struct qcow2_snapshot *list, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		qcow2_snapshot_release(&list[i]);
	free(list);
}

int qcow2_snapshots_read(struct qcow2 *q, struct qcow2_snapshot **out,
			 size_t *count, struct error *err)
{
	struct list list = {.header = &q->header};
	int ret;

	*out = NULL;
	*count = 0;
	if (!q->header.snapshot_count)
		return 0;
	list.items = calloc(q->header.snapshot_count, sizeof(*list.items));
	if (!list.items)
		return error_set(err, ENOMEM,
				 "No memory for the snapshot table");
	ret = qcow2_snapshots_each(q, take_one, &list, NULL, err);
	if (ret < 0) {
		qcow2_snapshots_free(list.items, list.count);
		return ret;
	}
	*out = list.items;
	*count = list.count;
	return 0;
}
