/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unaligned I/O on storages that want alignment (O_DIRECT, spec:
 * raw-and-probing 4), in pieces through one buffer of bounded size.
 *
 * A write that covers a block in part reads the block, changes it and writes
 * it whole. Two of these in one block, or one of these and an aligned write,
 * would undo each other; so they hold edge_lock for writing, and every other
 * write to such a store holds it for reading.
 *
 * A store may end inside a block. Such a block is written whole, which makes
 * the store longer than asked, so the store is cut back before the lock is
 * dropped; a crash in between leaves zeros behind the old end and no harm.
 */
#include "block/storage-private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"

#define BOUNCE_MAX (1u << 20)

/* A position in the caller's vector. */
struct cursor {
	const struct iovec *iov;
	size_t skip; /* bytes of iov[0] that are done */
};

bool storage_needs_bounce(const struct storage *s, const struct iovec *iov,
			  int iov_count, uint64_t off)
{
	if (!storage_is_aligned_kind(s))
		return false;
	if (!is_aligned(off, s->align))
		return true;
	for (int i = 0; i < iov_count; i++)
		if (!is_aligned(iov[i].iov_len, s->align) ||
		    !is_aligned((uintptr_t)iov[i].iov_base, s->mem_align))
			return true;
	return false;
}

/* Copies `len` bytes between the vector and `buf`, and moves the cursor. */
static void cursor_copy(struct cursor *c, uint8_t *buf, size_t len,
			bool to_vector)
{
	while (len) {
		size_t step = min_u64(len, c->iov->iov_len - c->skip);
		uint8_t *at = c->iov->iov_base;

		if (step && to_vector)
			memcpy(at + c->skip, buf, step);
		else if (step)
			memcpy(buf, at + c->skip, step);
		buf += step;
		len -= step;
		c->skip += step;
		if (c->skip == c->iov->iov_len) {
			c->iov++;
			c->skip = 0;
		}
	}
}

/* The buffer for a request that covers [start, stop), both aligned. */
static uint8_t *bounce_new(const struct storage *s, uint64_t start,
			   uint64_t stop)
{
	void *buf;
	size_t align = max_u64(s->mem_align, sizeof(void *));

	assert(is_power_of_2(s->align) && s->align <= BOUNCE_MAX);
	assert(is_power_of_2(s->mem_align));
	if (posix_memalign(&buf, align, min_u64(stop - start, BOUNCE_MAX)))
		return NULL;
	return buf;
}

static int read_piece(struct storage *s, uint8_t *buf, size_t len, uint64_t off)
{
	struct iovec iov = {.iov_base = buf, .iov_len = len};

	return s->ops->readv(s, &iov, 1, off);
}

static int write_piece(struct storage *s, uint8_t *buf, size_t len,
		       uint64_t off)
{
	struct iovec iov = {.iov_base = buf, .iov_len = len};

	return s->ops->writev(s, &iov, 1, off);
}

/* One block of the store as it is now; past the end it is zeros. */
static int load_block(struct storage *s, uint8_t *buf, uint64_t off)
{
	if (off >= storage_size(s)) {
		memset(buf, 0, s->align);
		return 0;
	}
	return read_piece(s, buf, s->align, off);
}

/* Loads the blocks of the piece that [off, end) covers only in part. */
static int load_edges(struct storage *s, uint8_t *buf, uint64_t at,
		      size_t piece, uint64_t off, uint64_t end)
{
	uint64_t last = at + piece - s->align;
	int ret = 0;

	if (at < off)
		ret = load_block(s, buf, at);
	if (!ret && at + piece > end && (last != at || at >= off))
		ret = load_block(s, buf + (last - at), last);
	return ret;
}

/* One piece of whole blocks between the store and the caller's vector. */
static int move_piece(struct storage *s, struct cursor *c, uint8_t *buf,
		      uint64_t at, size_t piece, uint64_t off, uint64_t end,
		      bool is_write)
{
	uint64_t from = max_u64(at, off);
	uint64_t to = min_u64(at + piece, end);
	int ret;

	if (is_write)
		ret = load_edges(s, buf, at, piece, off, end);
	else
		ret = read_piece(s, buf, piece, at);
	if (ret)
		return ret;
	cursor_copy(c, buf + (from - at), to - from, !is_write);
	return is_write ? write_piece(s, buf, piece, at) : 0;
}

/* All of it, piece by piece; for writing edge_lock is held. */
static int move_pieces(struct storage *s, const struct iovec *iov, uint64_t off,
		       uint64_t len, bool is_write)
{
	struct cursor c = {.iov = iov};
	uint64_t at = align_down(off, s->align);
	uint64_t stop = align_up(off + len, s->align);
	uint8_t *buf;
	int ret = 0;

	buf = bounce_new(s, at, stop);
	if (!buf)
		return -ENOMEM;
	while (at < stop && !ret) {
		size_t piece = min_u64(stop - at, BOUNCE_MAX);

		ret = move_piece(s, &c, buf, at, piece, off, off + len,
				 is_write);
		at += piece;
	}
	free(buf);
	return ret;
}

int storage_bounce_read(struct storage *s, const struct iovec *iov,
			uint64_t off, uint64_t len)
{
	return move_pieces(s, iov, off, len, false);
}

/* Ends the store where it is meant to end, after whole blocks were written. */
static int cut_back_locked(struct storage *s, uint64_t end)
{
	uint64_t size = max_u64(storage_size(s), end);
	uint64_t written = align_up(end, s->align);
	int ret = 0;

	if (written > size && s->ops->resize)
		ret = s->ops->resize(s, size, PREALLOC_OFF, NULL);
	else if (written > size)
		size = written;
	storage_raise_size(s, size);
	return ret;
}

int storage_bounce_write(struct storage *s, const struct iovec *iov,
			 uint64_t off, uint64_t len)
{
	bool partial = !is_aligned(off, s->align) || !is_aligned(len, s->align);
	int ret;

	if (partial)
		pthread_rwlock_wrlock(&s->edge_lock);
	else
		pthread_rwlock_rdlock(&s->edge_lock);
	ret = move_pieces(s, iov, off, len, true);
	if (!ret)
		ret = cut_back_locked(s, off + len);
	pthread_rwlock_unlock(&s->edge_lock);
	return ret;
}
