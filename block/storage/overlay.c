/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Changes in memory above a base that is only read.
 *
 * What a page of the overlay holds, in the order of looking:
 *	a page in the map	its bytes, or zeros if it is the zero mark
 *	none, below base_end	the base's bytes up to base_end, then zeros
 *	none, above		zeros
 *
 * base_end only sinks: what a shrink cut off stays cut off when the store grows
 * again. Bytes of a page past the end of the store are zeros.
 */
#include "block/storage/overlay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/storage/pages.h"

struct overlay {
	struct storage base;
	struct storage *below;
	pthread_rwlock_t lock; /* of what follows; outside the locks of below */
	struct pages pages;
	uint64_t base_end; /* bytes of `below` that show through */
};

static struct overlay *to_overlay(struct storage *s)
{
	return (struct overlay *)s;
}

/* Reads as if the map were empty. */
static int read_below(struct overlay *o, uint8_t *buf, size_t len, uint64_t off)
{
	size_t inside = off < o->base_end ? min_u64(len, o->base_end - off) : 0;
	int ret = storage_read(o->below, buf, inside, off);

	if (!ret && inside < len)
		memset(buf + inside, 0, len - inside);
	return ret;
}

static int overlay_readv(struct storage *s, const struct iovec *iov,
			 int iov_count, uint64_t off)
{
	struct overlay *o = to_overlay(s);
	struct pages_walk walk = {
		.iov = iov, .iov_count = iov_count, .off = off};
	struct pages_piece piece;
	int ret = 0;

	pthread_rwlock_rdlock(&o->lock);
	while (!ret && pages_walk_next(&walk, &piece)) {
		const uint8_t *page = pages_get(&o->pages, piece.idx);

		if (page)
			memcpy(piece.buf, page + piece.in_page, piece.len);
		else
			ret = read_below(o, piece.buf, piece.len, piece.off);
	}
	pthread_rwlock_unlock(&o->lock);
	return ret;
}

/* A page to write into, which reads as before. */
static int own_page(struct overlay *o, uint64_t idx, uint8_t **out)
{
	bool is_new = !pages_get(&o->pages, idx);
	int ret = 0;

	*out = pages_make(&o->pages, idx);
	if (!*out)
		return -ENOMEM;
	if (is_new)
		ret = read_below(o, *out, PAGES_PAGE_SIZE,
				 idx * PAGES_PAGE_SIZE);
	if (ret)
		pages_drop(&o->pages, idx);
	return ret;
}

/* First all pages, then the bytes: a failed write changes nothing. */
static int write_locked(struct overlay *o, struct pages_walk walk)
{
	struct pages_walk again = walk;
	struct pages_piece piece;
	uint8_t *page;
	int ret = 0;

	while (!ret && pages_walk_next(&walk, &piece))
		ret = own_page(o, piece.idx, &page);
	while (!ret && pages_walk_next(&again, &piece)) {
		ret = own_page(o, piece.idx, &page);
		if (!ret)
			memcpy(page + piece.in_page, piece.buf, piece.len);
	}
	return ret;
}

static int overlay_writev(struct storage *s, const struct iovec *iov,
			  int iov_count, uint64_t off)
{
	struct overlay *o = to_overlay(s);
	struct pages_walk walk = {
		.iov = iov, .iov_count = iov_count, .off = off};
	int ret;

	pthread_rwlock_wrlock(&o->lock);
	ret = write_locked(o, walk);
	pthread_rwlock_unlock(&o->lock);
	return ret;
}

/* A whole page: nothing shows through above base_end, so no mark is needed. */
static int zero_page(struct overlay *o, uint64_t idx)
{
	if (idx * PAGES_PAGE_SIZE < o->base_end)
		return pages_mark_zero(&o->pages, idx);
	pages_drop(&o->pages, idx);
	return 0;
}

static int zero_part(struct overlay *o, const struct pages_piece *piece)
{
	uint8_t *page;
	int ret;

	if (!pages_get(&o->pages, piece->idx) && piece->off >= o->base_end)
		return 0;
	if (pages_get(&o->pages, piece->idx) == pages_zero_mark)
		return 0;
	ret = own_page(o, piece->idx, &page);
	if (!ret)
		memset(page + piece->in_page, 0, piece->len);
	return ret;
}

/* Above base_end only pages that exist matter; the rest is zeros already. */
static bool skip_empty(struct overlay *o, uint64_t *off, uint64_t end)
{
	uint64_t idx;

	if (*off >= end)
		return false;
	if (*off < o->base_end)
		return true;
	if (!pages_next(&o->pages, *off / PAGES_PAGE_SIZE, &idx))
		return false;
	*off = max_u64(*off, idx * PAGES_PAGE_SIZE);
	return *off < end;
}

static int overlay_zero(struct storage *s, uint64_t off, uint64_t len,
			unsigned flags)
{
	struct overlay *o = to_overlay(s);
	uint64_t end = off + len;
	int ret = 0;

	(void)flags;
	pthread_rwlock_wrlock(&o->lock);
	while (!ret && skip_empty(o, &off, end)) {
		struct pages_piece piece = pages_first_piece(off, end - off);

		if (piece.len == PAGES_PAGE_SIZE)
			ret = zero_page(o, piece.idx);
		else
			ret = zero_part(o, &piece);
		off += piece.len;
	}
	pthread_rwlock_unlock(&o->lock);
	return ret;
}

static int overlay_discard(struct storage *s, uint64_t off, uint64_t len)
{
	return overlay_zero(s, off, len, STORAGE_ZERO_MAY_UNMAP);
}

/* Clears a page's bytes from `new_size` on, if the page has memory. */
static void clear_tail(struct overlay *o, uint64_t new_size)
{
	uint64_t idx = new_size / PAGES_PAGE_SIZE;
	size_t keep = new_size % PAGES_PAGE_SIZE;
	const uint8_t *page = pages_get(&o->pages, idx);

	if (page && page != pages_zero_mark)
		memset(pages_make(&o->pages, idx) + keep, 0,
		       PAGES_PAGE_SIZE - keep);
}

static int overlay_resize(struct storage *s, uint64_t new_size,
			  enum prealloc_mode mode, struct error *err)
{
	struct overlay *o = to_overlay(s);

	(void)mode;
	(void)err;
	pthread_rwlock_wrlock(&o->lock);
	o->base_end = min_u64(o->base_end, new_size);
	clear_tail(o, new_size);
	pages_drop_from(&o->pages, div_round_up(new_size, PAGES_PAGE_SIZE));
	pthread_rwlock_unlock(&o->lock);
	return 0;
}

/* Where the run of pages like the one at `idx` ends, at most `stop`. */
static uint64_t run_end(struct overlay *o, uint64_t idx, uint64_t stop)
{
	const uint8_t *first = pages_get(&o->pages, idx);
	bool is_hole = first == pages_zero_mark;

	if (!first)
		return pages_next(&o->pages, idx, &idx) ? min_u64(idx, stop)
							: stop;
	for (; idx < stop; idx++) {
		const uint8_t *page = pages_get(&o->pages, idx);

		if (!page || (page == pages_zero_mark) != is_hole)
			break;
	}
	return idx;
}

static int overlay_extent(struct storage *s, uint64_t off, uint64_t len,
			  struct storage_extent *out)
{
	struct overlay *o = to_overlay(s);
	uint64_t idx = off / PAGES_PAGE_SIZE;
	const uint8_t *page;
	uint64_t end;
	int ret = 0;

	pthread_rwlock_rdlock(&o->lock);
	end = run_end(o, idx, div_round_up(off + len, PAGES_PAGE_SIZE)) *
	      PAGES_PAGE_SIZE;
	out->len = min_u64(end, off + len) - off;
	page = pages_get(&o->pages, idx);
	if (page)
		out->hole = page == pages_zero_mark;
	else if (off >= o->base_end)
		out->hole = true;
	else
		ret = storage_extent_at(o->below, off,
					min_u64(out->len, o->base_end - off),
					out);
	pthread_rwlock_unlock(&o->lock);
	return ret;
}

static int64_t overlay_allocated_bytes(struct storage *s)
{
	struct overlay *o = to_overlay(s);
	int64_t below = storage_allocated_bytes(o->below);
	uint64_t used_count;

	pthread_rwlock_rdlock(&o->lock);
	used_count = o->pages.used_count;
	pthread_rwlock_unlock(&o->lock);
	return below < 0 ? below
			 : below + (int64_t)used_count * PAGES_PAGE_SIZE;
}

static void overlay_close(struct storage *s)
{
	struct overlay *o = to_overlay(s);

	pages_release(&o->pages);
	pthread_rwlock_destroy(&o->lock);
	storage_close(o->below);
	storage_release(s);
	free(o);
}

/* No sync: nothing of this is meant to last. */
static const struct storage_ops overlay_ops = {
	.name = "overlay",
	.readv = overlay_readv,
	.writev = overlay_writev,
	.zero = overlay_zero,
	.discard = overlay_discard,
	.resize = overlay_resize,
	.extent = overlay_extent,
	.allocated_bytes = overlay_allocated_bytes,
	.close = overlay_close,
};

int storage_overlay_new(struct storage **out, struct storage *base)
{
	struct overlay *o = calloc(1, sizeof(*o));
	int ret =
		o ? storage_init(&o->base, &overlay_ops, base->name) : -ENOMEM;

	if (ret) {
		free(o);
		storage_close(base);
		return ret;
	}
	pthread_rwlock_init(&o->lock, NULL);
	o->below = base;
	o->base_end = storage_size(base);
	o->base.writable = true;
	o->base.can_grow = true;
	o->base.can_punch = true;
	o->base.zero_is_fast = true;
	storage_raise_size(&o->base, o->base_end);
	*out = &o->base;
	return 0;
}
