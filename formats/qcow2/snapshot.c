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

static int read_one(struct qcow2 *q, struct window *w,
		    struct qcow2_snapshot *out, struct error *err)
{
	int64_t next;
	int ret = window_fill(w);

	if (ret < 0)
		return error_set_errno(err, -ret,
				       "Could not read the snapshot table");
	next = qcow2_snapshot_decode(out, w->buf, w->len, w->pos,
				     q->header.size_bytes, err);
	if (next < 0)
		return (int)next;
	ret = qcow2_snapshot_validate(out, &q->header, err);
	if (ret < 0) {
		qcow2_snapshot_release(out);
		return ret;
	}
	w->pos = (size_t)min_u64((uint64_t)next, w->len);
	return 0;
}

static int read_all(struct qcow2 *q, struct window *w,
		    struct qcow2_snapshot *list, size_t *count,
		    struct error *err)
{
	for (; *count < q->header.snapshot_count; (*count)++) {
		int ret = read_one(q, w, &list[*count], err);

		if (ret < 0) {
			error_prefix(err, "Snapshot %zu of %" PRIu32 ": ",
				     *count + 1, q->header.snapshot_count);
			return ret;
		}
	}
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
	uint64_t size = storage_size(q->file), off = q->header.snapshots_off;
	struct window w = {.file = q->file, .next = off, .end = off};
	struct qcow2_snapshot *list = NULL;
	size_t done = 0;
	int ret = 0;

	if (q->header.snapshot_count > 0) {
		if (off < size)
			w.end = off +
				min_u64(size - off, QCOW2_SNAPSHOT_TABLE_MAX);
		w.buf = malloc(WINDOW_BYTES);
		list = calloc(q->header.snapshot_count, sizeof(*list));
		if (!w.buf || !list)
			ret = error_set(err, ENOMEM,
					"No memory for the snapshot table");
		else
			ret = read_all(q, &w, list, &done, err);
	}
	free(w.buf);
	if (ret < 0) {
		qcow2_snapshots_free(list, done);
		return ret;
	}
	*out = list;
	*count = done;
	return 0;
}
