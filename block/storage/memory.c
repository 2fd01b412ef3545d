/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Storage in memory: sparse pages, absent ones read as zeros.
 *
 * Invariant: bytes of a page past the end of the store are zeros, so growing
 * needs no cleaning. A write gets all its pages before it changes a byte; it
 * succeeds as a whole or changes nothing.
 */
#include "block/storage/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/storage/pages.h"

struct memory {
	struct storage base;
	pthread_rwlock_t lock; /* of pages; innermost */
	struct pages pages;
};

static struct memory *to_memory(struct storage *s)
{
	return (struct memory *)s;
}

static int memory_readv(struct storage *s, const struct iovec *iov,
			int iov_count, uint64_t off)
{
	struct memory *m = to_memory(s);
	struct pages_walk walk = {
		.iov = iov, .iov_count = iov_count, .off = off};
	struct pages_piece piece;

	pthread_rwlock_rdlock(&m->lock);
	while (pages_walk_next(&walk, &piece)) {
		const uint8_t *page = pages_get(&m->pages, piece.idx);

		if (page)
			memcpy(piece.buf, page + piece.in_page, piece.len);
		else
			memset(piece.buf, 0, piece.len);
	}
	pthread_rwlock_unlock(&m->lock);
	return 0;
}

static int memory_read_nowait(struct storage *s, void *buf, size_t len,
			      uint64_t off)
{
	struct iovec iov = {.iov_base = buf, .iov_len = len};

	return memory_readv(s, &iov, 1, off);
}

/* Makes every page of the vector; what it adds reads as before. */
static int make_pages(struct memory *m, struct pages_walk walk)
{
	struct pages_piece piece;

	while (pages_walk_next(&walk, &piece))
		if (!pages_make(&m->pages, piece.idx))
			return -ENOMEM;
	return 0;
}

static int memory_writev(struct storage *s, const struct iovec *iov,
			 int iov_count, uint64_t off)
{
	struct memory *m = to_memory(s);
	struct pages_walk walk = {
		.iov = iov, .iov_count = iov_count, .off = off};
	struct pages_piece piece;
	int ret;

	pthread_rwlock_wrlock(&m->lock);
	ret = make_pages(m, walk);
	while (!ret && pages_walk_next(&walk, &piece)) {
		uint8_t *page = pages_make(&m->pages, piece.idx);

		memcpy(page + piece.in_page, piece.buf, piece.len);
	}
	pthread_rwlock_unlock(&m->lock);
	return ret;
}

/* Goes from page to page: a store may be far larger than what it holds. */
static void zero_locked(struct memory *m, uint64_t off, uint64_t end)
{
	uint64_t idx;

	while (off < end &&
	       pages_next(&m->pages, off / PAGES_PAGE_SIZE, &idx)) {
		struct pages_piece piece;

		off = max_u64(off, idx * PAGES_PAGE_SIZE);
		if (off >= end)
			break;
		piece = pages_first_piece(off, end - off);
		if (piece.len == PAGES_PAGE_SIZE)
			pages_drop(&m->pages, idx);
		else
			memset(pages_make(&m->pages, idx) + piece.in_page, 0,
			       piece.len);
		off += piece.len;
	}
}

static int memory_zero(struct storage *s, uint64_t off, uint64_t len,
		       unsigned flags)
{
	struct memory *m = to_memory(s);

	(void)flags;
	pthread_rwlock_wrlock(&m->lock);
	zero_locked(m, off, off + len);
	pthread_rwlock_unlock(&m->lock);
	return 0;
}

static int memory_discard(struct storage *s, uint64_t off, uint64_t len)
{
	return memory_zero(s, off, len, STORAGE_ZERO_MAY_UNMAP);
}

static int memory_resize(struct storage *s, uint64_t new_size,
			 enum prealloc_mode mode, struct error *err)
{
	struct memory *m = to_memory(s);

	(void)mode;
	(void)err;
	pthread_rwlock_wrlock(&m->lock);
	zero_locked(m, new_size, align_up(new_size, PAGES_PAGE_SIZE));
	pages_drop_from(&m->pages, div_round_up(new_size, PAGES_PAGE_SIZE));
	pthread_rwlock_unlock(&m->lock);
	return 0;
}

static int memory_extent(struct storage *s, uint64_t off, uint64_t len,
			 struct storage_extent *out)
{
	struct memory *m = to_memory(s);
	uint64_t idx = off / PAGES_PAGE_SIZE;
	uint64_t stop = div_round_up(off + len, PAGES_PAGE_SIZE);
	uint64_t next = stop;

	pthread_rwlock_rdlock(&m->lock);
	out->hole = !pages_get(&m->pages, idx);
	if (!out->hole)
		for (next = idx; next < stop && pages_get(&m->pages, next);)
			next++;
	else if (!pages_next(&m->pages, idx, &next) || next > stop)
		next = stop;
	pthread_rwlock_unlock(&m->lock);
	out->len = min_u64(next * PAGES_PAGE_SIZE, off + len) - off;
	return 0;
}

static int64_t memory_allocated_bytes(struct storage *s)
{
	struct memory *m = to_memory(s);
	uint64_t used_count;

	pthread_rwlock_rdlock(&m->lock);
	used_count = m->pages.used_count;
	pthread_rwlock_unlock(&m->lock);
	return used_count * PAGES_PAGE_SIZE;
}

static void memory_close(struct storage *s)
{
	struct memory *m = to_memory(s);

	pages_release(&m->pages);
	pthread_rwlock_destroy(&m->lock);
	storage_release(s);
	free(m);
}

static const struct storage_ops memory_ops = {
	.name = "memory",
	.readv = memory_readv,
	.read_nowait = memory_read_nowait,
	.writev = memory_writev,
	.zero = memory_zero,
	.discard = memory_discard,
	.resize = memory_resize,
	.extent = memory_extent,
	.allocated_bytes = memory_allocated_bytes,
	.close = memory_close,
};

int storage_memory_new(struct storage **out, const char *name,
		       uint64_t size_bytes)
{
	struct memory *m;
	int ret;

	if (size_bytes > INT64_MAX)
		return -EFBIG;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	ret = storage_init(&m->base, &memory_ops, name);
	if (ret) {
		free(m);
		return ret;
	}
	pthread_rwlock_init(&m->lock, NULL);
	m->base.writable = true;
	m->base.can_grow = true;
	m->base.can_punch = true;
	m->base.zero_is_fast = true;
	storage_raise_size(&m->base, size_bytes);
	*out = &m->base;
	return 0;
}

int storage_memory_from(struct storage **out, const char *name,
			const void *data, size_t len)
{
	struct storage *s;
	int ret;

	ret = storage_memory_new(&s, name, 0);
	if (ret)
		return ret;
	ret = storage_write(s, data, len, 0);
	if (ret) {
		storage_close(s);
		return ret;
	}
	*out = s;
	return 0;
}
