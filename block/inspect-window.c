/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bytes that an inspection looks at: a bounded buffer over a file, or over
 * a stream that is read forwards only.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/inspect-private.h"
#include "block/storage.h"

#define CHUNK_BYTES (64u * 1024)

/* ---- streams ---- */

/* Keeps the last bytes of all that came. */
static void remember_tail(struct window *w, const uint8_t *data, size_t len)
{
	size_t keep;

	if (len >= INSPECT_TAIL_BYTES) {
		memcpy(w->tail, data + len - INSPECT_TAIL_BYTES,
		       INSPECT_TAIL_BYTES);
		w->tail_len = INSPECT_TAIL_BYTES;
		return;
	}
	keep = min_u64(w->tail_len, INSPECT_TAIL_BYTES - len);
	memmove(w->tail, w->tail + w->tail_len - keep, keep);
	memcpy(w->tail + keep, data, len);
	w->tail_len = keep + len;
}

/* The next bytes; `*got` is less than `len` at the end only. */
static int read_next(struct window *w, uint8_t *buf, size_t len, size_t *got,
		     struct error *err)
{
	int64_t ret = w->read(w->opaque, buf, len);

	if (ret < 0)
		return error_set_errno(err, (int)-ret, "reading the stream");
	assert((uint64_t)ret <= len);
	*got = (size_t)ret;
	w->pos += *got;
	w->bytes_read += *got;
	remember_tail(w, buf, *got);
	if (*got < len)
		w->size = w->pos;
	return 0;
}

/* Reads on to `off`, or to the end. */
static int skip_to(struct window *w, uint64_t off, struct error *err)
{
	uint8_t *chunk = malloc(CHUNK_BYTES);
	int ret = 0;

	if (!chunk)
		return error_set_errno(err, ENOMEM, "reading the stream");
	while (!ret && w->pos < off && w->size == UINT64_MAX) {
		size_t got;

		ret = read_next(w, chunk, min_u64(off - w->pos, CHUNK_BYTES),
				&got, err);
	}
	free(chunk);
	return ret;
}

/* ---- pieces ---- */

/* Bytes at hand from `off` on; `*len` of them. NULL: none. */
static const uint8_t *find_held(const struct window *w, uint64_t off,
				size_t *len)
{
	if (off < INSPECT_HEAD_BYTES) {
		*len = INSPECT_HEAD_BYTES - (size_t)off;
		return w->head + off;
	}
	for (size_t i = 0; i < w->piece_count; i++) {
		const struct piece *p = &w->pieces[i];

		if (off >= p->off && off - p->off < p->len) {
			*len = p->len - (size_t)(off - p->off);
			return p->data + (off - p->off);
		}
	}
	return NULL;
}

/*
 * What lies before the stream's position has to be at hand, up to there.
 * `*done` bytes of the piece are filled from it.
 */
static int fill_from_held(struct window *w, struct piece *p, size_t *done,
			  struct error *err)
{
	*done = 0;
	while (*done < p->len && p->off + *done < w->pos) {
		size_t len;
		const uint8_t *held = find_held(w, p->off + *done, &len);

		if (!held)
			return error_set(err, ESPIPE,
					 "the image has its metadata in an "
					 "order that a stream cannot show; "
					 "inspect it as a file");
		len = min_u64(len, p->len - *done);
		memcpy(p->data + *done, held, len);
		*done += len;
	}
	return 0;
}

static int fill_from_stream(struct window *w, struct piece *p,
			    struct error *err)
{
	size_t done, got = 0;
	int ret = fill_from_held(w, p, &done, err);

	if (!ret)
		ret = skip_to(w, p->off, err);
	if (ret || w->size != UINT64_MAX || done == p->len)
		return ret;
	return read_next(w, p->data + done, p->len - done, &got, err);
}

static int fill_from_file(struct window *w, struct piece *p, struct error *err)
{
	int ret = storage_read_padded(w->file, p->data, p->len, p->off);

	if (ret)
		return error_set_errno(err, -ret, "reading the file");
	w->bytes_read += min_u64(p->len, w->size - min_u64(p->off, w->size));
	return 0;
}

static int fetch_piece(struct window *w, const struct piece *wish,
		       struct error *err)
{
	struct piece p = *wish;
	int ret;

	p.data = calloc(1, p.len);
	if (!p.data)
		return error_set_errno(err, ENOMEM, "inspecting the file");
	ret = w->file ? fill_from_file(w, &p, err)
		      : fill_from_stream(w, &p, err);
	if (ret) {
		free(p.data);
		return ret;
	}
	w->held += p.len;
	w->pieces[w->piece_count++] = p;
	return 0;
}

static int fetch_tail(struct window *w, struct error *err)
{
	int ret;

	if (!w->file) {
		ret = window_find_size(w, err);
	} else {
		w->tail_len = min_u64(w->size, INSPECT_TAIL_BYTES);
		ret = storage_read_padded(w->file, w->tail, w->tail_len,
					  w->size - w->tail_len);
		if (ret)
			error_set_errno(err, -ret, "reading the file");
		w->bytes_read += w->tail_len;
	}
	w->has_tail = !ret;
	return ret;
}

/* ---- the window ---- */

int window_open(struct window *w, struct error *err)
{
	size_t got;

	w->size = w->file ? storage_size(w->file) : UINT64_MAX;
	w->head = calloc(1, INSPECT_HEAD_BYTES);
	if (!w->head)
		return error_set_errno(err, ENOMEM, "inspecting the file");
	w->held = INSPECT_HEAD_BYTES;
	if (w->file) {
		struct piece head = {0, INSPECT_HEAD_BYTES, w->head};

		return fill_from_file(w, &head, err);
	}
	return read_next(w, w->head, INSPECT_HEAD_BYTES, &got, err);
}

int window_find_size(struct window *w, struct error *err)
{
	return w->size == UINT64_MAX ? skip_to(w, UINT64_MAX, err) : 0;
}

static int by_offset(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;

	return (x->off > y->off) - (x->off < y->off);
}

int window_fetch(struct window *w, struct error *err)
{
	int ret = 0;

	/* In order, or a stream would be past what is wished for next. */
	qsort(w->wishes, w->wish_count, sizeof(w->wishes[0]), by_offset);
	for (size_t i = 0; !ret && i < w->wish_count; i++)
		ret = fetch_piece(w, &w->wishes[i], err);
	if (!ret && w->wants_tail)
		ret = fetch_tail(w, err);
	w->wish_count = 0;
	w->wants_tail = false;
	return ret;
}

/* False if there is no room for it. */
static bool make_wish(struct window *w, uint64_t off, size_t len)
{
	uint64_t wished = 0;

	for (size_t i = 0; i < w->wish_count; i++) {
		if (w->wishes[i].off == off && w->wishes[i].len == len)
			return true;
		wished += w->wishes[i].len;
	}
	if (w->wish_count == WISHES_MAX ||
	    w->piece_count + w->wish_count == PIECES_MAX ||
	    w->held + wished + len > INSPECT_HELD_MAX)
		return false;
	w->wishes[w->wish_count++] = (struct piece){off, len, NULL};
	return true;
}

enum inspect_answer window_bytes(struct window *w, uint64_t off, size_t len,
				 const uint8_t **out)
{
	size_t at_hand = 0;
	const uint8_t *held = find_held(w, off, &at_hand);

	if (len > INSPECT_PIECE_MAX || !range_inside(off, len, w->size))
		return INSPECT_NOWHERE;
	if (held && at_hand >= len) {
		*out = held;
		return INSPECT_HERE;
	}
	for (size_t i = 0; i < w->piece_count; i++) {
		if (w->pieces[i].off == off && w->pieces[i].len >= len) {
			*out = w->pieces[i].data;
			return INSPECT_HERE;
		}
	}
	return make_wish(w, off, len) ? INSPECT_LATER : INSPECT_NOWHERE;
}

enum inspect_answer window_tail(struct window *w, size_t len,
				const uint8_t **out)
{
	assert(len <= INSPECT_TAIL_BYTES);
	if (len > w->size)
		return INSPECT_NOWHERE;
	if (!w->has_tail) {
		w->wants_tail = true;
		return INSPECT_LATER;
	}
	if (len > w->tail_len)
		return INSPECT_NOWHERE;
	*out = w->tail + w->tail_len - len;
	return INSPECT_HERE;
}

void window_close(struct window *w)
{
	for (size_t i = 0; i < w->piece_count; i++)
		free(w->pieces[i].data);
	free(w->head);
	*w = (struct window){0};
}
