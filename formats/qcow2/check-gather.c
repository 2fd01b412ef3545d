/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What can be told before any L2 table is read: which bytes are L1 tables, and
 * which clusters are in use for anything but L2 tables, data and refcounts.
 *
 * Tables that overlap, as only a damaged or hostile image has them, become
 * spans with weights, so that no byte is read for each of its uses.
 */
#include "formats/qcow2/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/quote.h"
#include "block/storage.h"

#define BITMAP_DIRECTORY_MAX (1024ull * QCOW2_BITMAPS_MAX)

/* Longer than any entry of a snapshot table or a bitmap directory. */
#define ENTRY_BYTES_MAX (160u * 1024)
#define WINDOW_BYTES	(512u * 1024)

bool qcheck_past_end(const struct qcheck *c, uint64_t host_off, uint64_t len)
{
	uint64_t end;

	if (add_overflows(host_off, len, &end))
		return true;
	return host_off >= c->file_size ||
	       (end > c->file_size && end - c->file_size >= c->cluster_size);
}

/* The clusters that [off, off + len) touches; 0 < len, whatever they are. */
static struct qcheck_span clusters_of(const struct qcheck *c, uint64_t off,
				      uint64_t len)
{
	uint64_t first = off >> c->cluster_bits;
	uint64_t head = off & (c->cluster_size - 1);

	return (struct qcheck_span){
		.start = first,
		.len = ((head + (len - 1)) >> c->cluster_bits) + 1,
		.weight = 1,
	};
}

/* Bytes that hold one reference for each cluster they touch. */
static int add_region(struct qcheck *c, uint64_t off, uint64_t len,
		      const char *what)
{
	if (!len)
		return 0;
	if (!qcheck_past_end(c, off, len))
		return qcheck_spans_add(&c->fixed, clusters_of(c, off, len));
	qcheck_say(&c->report,
		   "ERROR %s at 0x%" PRIx64 " of %" PRIu64
		   " bytes exceeds the file's end at 0x%" PRIx64,
		   what, off, len, c->file_size);
	c->tally.corruptions++;
	if (len > UINT64_MAX - c->cluster_size)
		return 0;
	return qcheck_spans_add(&c->dangling, clusters_of(c, off, len));
}

/* A table whose entries are read later, as far as the file has it. */
static int add_table(struct qcheck *c, struct qcheck_spans *list, uint64_t off,
		     uint64_t entries, uint32_t active, const char *what)
{
	uint64_t len = entries * sizeof(be64_t);
	int ret;

	ret = add_region(c, off, len, what);
	if (ret < 0 || !len)
		return ret;
	if (off >= c->file_size) {
		c->tally.pointers_lost = true;
		return 0;
	}
	if (!range_inside(off, len, c->file_size)) {
		c->tally.pointers_lost |= qcheck_past_end(c, off, len);
		len = align_up(c->file_size - off, sizeof(be64_t));
	}
	return qcheck_spans_add(list, (struct qcheck_span){.start = off,
							   .len = len,
							   .weight = 1,
							   .active = active});
}

/* Counts as one place that could not be checked. */
static void cannot_check(struct qcheck *c, const char *what, const char *why)
{
	qcheck_say(&c->report, "ERROR %s cannot be checked: %s", what, why);
	c->tally.errors++;
	c->tally.pointers_lost = true;
}

static int gather_l1(struct qcheck *c)
{
	const struct qcow2_header *h = &c->q->header;

	if (!is_aligned(h->l1_off, c->cluster_size) && h->l1_entries) {
		cannot_check(c, "L1 table", "it is not cluster aligned");
		return 0;
	}
	if (h->l1_entries > QCOW2_L1_ENTRIES_MAX) {
		cannot_check(c, "L1 table", "it is too large");
		return 0;
	}
	return add_table(c, &c->l1, h->l1_off, h->l1_entries, 1, "L1 table");
}

/*
 * A piece of a table whose entries have no fixed length, with at least one
 * whole entry at `pos` unless the table ends.
 */
struct window {
	uint64_t table_off, table_len;
	uint64_t start; /* of buf in the table; a multiple of 8 */
	size_t len;
	uint8_t *buf; /* of the table's length, WINDOW_BYTES at most */
};

static int window_make(struct window *w)
{
	w->buf =
		malloc((size_t)min_u64(max_u64(w->table_len, 1), WINDOW_BYTES));
	return w->buf ? 0 : -ENOMEM;
}

static int window_move(struct qcheck *c, struct window *w, uint64_t pos)
{
	uint64_t left = w->table_len - pos;

	if (w->len && pos - w->start + ENTRY_BYTES_MAX <= w->len)
		return 0;
	if (w->len && w->start + w->len == w->table_len)
		return 0;
	w->start = pos;
	w->len = (size_t)min_u64(left, WINDOW_BYTES);
	return storage_read_padded(c->file, w->buf, w->len, w->table_off + pos);
}

static int gather_snapshot(struct qcheck *c, const struct qcow2_snapshot *s)
{
	struct quoted_name id, name;
	const char *what;

	if (!is_aligned(s->l1_off, c->cluster_size))
		what = "is not cluster aligned";
	else if (s->l1_entries > QCOW2_L1_ENTRIES_MAX)
		what = "is too large";
	else
		return add_table(c, &c->l1, s->l1_off, s->l1_entries, 0,
				 "L1 table of a snapshot");
	qcheck_say(&c->report,
		   "ERROR snapshot %s (%s) l1_offset=%#" PRIx64
		   " l1_size=%#" PRIx32
		   ": L1 table %s; snapshot table entry corrupted",
		   quote_name(&id, s->id), quote_name(&name, s->name),
		   s->l1_off, s->l1_entries, what);
	c->tally.corruptions++;
	c->tally.pointers_lost = true;
	return 0;
}

/* *len: of the table in bytes, as far as it could be read. */
static int gather_snapshot_table(struct qcheck *c, struct window *w,
				 uint64_t *len)
{
	struct qcow2_snapshot s;
	struct error err = {0};
	uint64_t pos = 0;
	int64_t next;
	int ret;

	for (uint32_t i = 0; i < c->q->header.snapshot_count; i++) {
		ret = window_move(c, w, pos);
		if (ret < 0) {
			cannot_check(c, "snapshot table", strerror(-ret));
			break;
		}
		next = qcow2_snapshot_decode(&s, w->buf, w->len,
					     (size_t)(pos - w->start),
					     c->q->header.size_bytes, &err);
		if (next == -ENOMEM)
			return -ENOMEM;
		if (next < 0) {
			cannot_check(c, "snapshot table", err.message);
			break;
		}
		ret = gather_snapshot(c, &s);
		if (c->q->header.version >= 3 && s.extra_len < 16) {
			qcheck_say(&c->report,
				   "ERROR snapshot table entry %" PRIu32
				   " is incomplete",
				   i);
			c->tally.corruptions++;
		}
		qcow2_snapshot_release(&s);
		if (ret < 0)
			return ret;
		pos = w->start + (uint64_t)next;
		if (pos >= w->table_len) {
			if (i + 1 < c->q->header.snapshot_count)
				cannot_check(c, "snapshot table",
					     "it ends before its last entry");
			break;
		}
	}
	*len = min_u64(pos, w->table_len);
	return 0;
}

static int gather_snapshots(struct qcheck *c)
{
	const struct qcow2_header *h = &c->q->header;
	struct window w = {.table_off = h->snapshots_off};
	uint64_t len = 0;
	int ret;

	if (!h->snapshot_count)
		return 0;
	if (h->snapshot_count > QCOW2_SNAPSHOTS_MAX ||
	    !is_aligned(h->snapshots_off, c->cluster_size) ||
	    h->snapshots_off >= c->file_size) {
		cannot_check(c, "snapshot table",
			     "its place or length is invalid");
		return 0;
	}
	if (c->has_data_file) {
		qcheck_say(&c->report,
			   "ERROR %" PRIu32 " snapshots in image with data "
			   "file: snapshots are not supported",
			   h->snapshot_count);
		c->tally.corruptions++;
	}
	w.table_len = min_u64(align_up(c->file_size - h->snapshots_off, 8),
			      QCOW2_SNAPSHOT_TABLE_MAX);
	ret = window_make(&w);
	if (ret < 0)
		return ret;
	ret = gather_snapshot_table(c, &w, &len);
	free(w.buf);
	if (ret < 0)
		return ret;
	return add_region(c, h->snapshots_off, len, "snapshot table");
}

/* -EUCLEAN: the directory makes no sense. */
static int gather_directory(struct qcheck *c, struct window *w)
{
	struct qcow2_bitmap b;
	uint64_t pos = 0;
	uint32_t seen = 0;
	int64_t next;
	int ret;

	for (; pos < w->table_len; seen++) {
		ret = window_move(c, w, pos);
		if (ret < 0)
			return ret;
		next = qcow2_bitmap_decode(&b, w->buf, w->len,
					   (size_t)(pos - w->start),
					   c->cluster_bits, NULL);
		if (next < 0)
			return next == -ENOMEM ? -ENOMEM : -ERROR_CORRUPT;
		ret = add_table(c, &c->bitmap_tables, b.table_off,
				b.table_entries, 0, "bitmap table");
		qcow2_bitmap_release(&b);
		if (ret < 0)
			return ret;
		pos = w->start + (uint64_t)next;
	}
	return seen == c->q->tail.bitmap_count ? 0 : -ERROR_CORRUPT;
}

/*
 * Bitmaps count only while their autoclear bit says that they are up to date;
 * without it they are dead, and their clusters are leaks.
 */
static int gather_bitmaps(struct qcheck *c)
{
	const struct qcow2_header_tail *t = &c->q->tail;
	struct window w = {.table_off = t->bitmap_directory_off,
			   .table_len = t->bitmap_directory_len};
	int ret;

	if (!t->has_bitmaps || c->q->header.version < 3 ||
	    !(c->q->header.autoclear & QCOW2_AUTOCLEAR_BITMAPS))
		return 0;
	ret = add_region(c, w.table_off, w.table_len, "bitmap directory");
	if (ret < 0)
		return ret;
	if (w.table_len > BITMAP_DIRECTORY_MAX ||
	    !range_inside(w.table_off, w.table_len,
			  align_up(c->file_size, c->cluster_size))) {
		ret = -ERROR_CORRUPT;
	} else {
		ret = window_make(&w);
		if (ret < 0)
			return ret;
		ret = gather_directory(c, &w);
		free(w.buf);
	}
	if (ret == -ENOMEM)
		return ret;
	if (ret < 0 && ret != -ERROR_CORRUPT) {
		cannot_check(c, "bitmap directory", strerror(-ret));
	} else if (ret < 0) {
		qcheck_say(&c->report,
			   "ERROR bitmap directory at 0x%" PRIx64
			   " is corrupted",
			   w.table_off);
		c->tally.corruptions++;
		c->tally.pointers_lost = true;
	}
	return 0;
}

static int gather_refcount_table(struct qcheck *c)
{
	const struct qcow2_header *h = &c->q->header;
	int ret;

	ret = qcheck_reftable_load(c);
	if (ret < 0 || c->skip_old_refcounts)
		return ret;
	return add_region(c, h->reftable_off,
			  (uint64_t)h->reftable_clusters << c->cluster_bits,
			  "refcount table");
}

int qcheck_gather(struct qcheck *c)
{
	int ret;

	ret = add_region(c, 0, c->cluster_size, "header");
	if (ret < 0)
		return ret;
	ret = gather_l1(c);
	if (ret < 0)
		return ret;
	ret = gather_snapshots(c);
	if (ret < 0)
		return ret;
	if (c->q->tail.has_encryption) {
		ret = add_region(c, c->q->tail.encryption_off,
				 c->q->tail.encryption_len,
				 "encryption header");
		if (ret < 0)
			return ret;
	}
	ret = gather_bitmaps(c);
	if (ret < 0)
		return ret;
	ret = gather_refcount_table(c);
	if (ret < 0)
		return ret;
	ret = qcheck_spans_flatten(&c->l1);
	if (ret < 0)
		return ret;
	ret = qcheck_spans_flatten(&c->dangling);
	if (ret < 0)
		return ret;
	ret = qcheck_spans_flatten(&c->bitmap_tables);
	if (ret < 0)
		return ret;
	return qcheck_spans_flatten(&c->fixed);
}
