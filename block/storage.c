/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The checked front of every storage: ranges, permissions, alignment, growth,
 * fallbacks and the memory of a failed sync live here, once.
 *
 * size_bytes never says more than the store holds. It grows after the bytes
 * are there, under edge_lock, so that nobody who makes the store longer by
 * setting its length can cut off what another thread has just appended.
 */
#include "block/storage.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/storage-private.h"

/* Written zeros go out in pieces of many small vectors: one cached buffer. */
#define ZERO_BUF_SIZE  65536u
#define ZERO_VEC_COUNT 16
#define ZERO_PIECE     ((uint64_t)ZERO_BUF_SIZE * ZERO_VEC_COUNT)

/* Not const, so that it costs no room in the program file; never written. */
static uint8_t zero_buf[ZERO_BUF_SIZE] __attribute__((aligned(4096)));

static int init_locks(struct storage *s)
{
	pthread_rwlockattr_t attr;
	int ret;

	ret = pthread_rwlockattr_init(&attr);
	if (ret)
		return -ret;
	/* A stream of aligned writes must not starve an unaligned one. */
	pthread_rwlockattr_setkind_np(
		&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	ret = pthread_rwlock_init(&s->edge_lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	if (ret)
		return -ret;
	pthread_mutex_init(&s->sync_lock, NULL);
	pthread_cond_init(&s->sync_ended, NULL);
	return 0;
}

int storage_init(struct storage *s, const struct storage_ops *ops,
		 const char *name)
{
	int ret;

	memset(s, 0, sizeof(*s));
	s->ops = ops;
	s->align = 1;
	s->mem_align = 1;
	s->fd = -1;
	s->name = strdup(name);
	if (!s->name)
		return -ENOMEM;
	ret = init_locks(s);
	if (ret) {
		free(s->name);
		s->name = NULL;
	}
	return ret;
}

void storage_release(struct storage *s)
{
	pthread_cond_destroy(&s->sync_ended);
	pthread_mutex_destroy(&s->sync_lock);
	pthread_rwlock_destroy(&s->edge_lock);
	free(s->name);
	s->name = NULL;
}

void storage_raise_size(struct storage *s, uint64_t size_bytes)
{
	uint64_t size = storage_size(s);

	while (size < size_bytes)
		if (atomic_compare_exchange_weak_explicit(
			    &s->size_bytes, &size, size_bytes,
			    memory_order_acq_rel, memory_order_acquire))
			break;
}

/* False if the lengths or the end of the range pass 63 bits. */
static bool vector_len(const struct iovec *iov, int iov_count, uint64_t off,
		       uint64_t *len)
{
	uint64_t sum = 0;
	uint64_t end;

	for (int i = 0; i < iov_count; i++)
		if (add_overflows(sum, iov[i].iov_len, &sum))
			return false;
	*len = sum;
	return !add_overflows(off, sum, &end) && end <= INT64_MAX;
}

/* What every change of [off, off + len) has to pass; may be past the end. */
static int check_change(const struct storage *s, uint64_t off, uint64_t len)
{
	uint64_t end;

	if (!s->writable)
		return -EACCES;
	if (add_overflows(off, len, &end) || end > INT64_MAX)
		return -EFBIG;
	if (end > storage_size(s) && !s->can_grow)
		return -ENOSPC;
	return 0;
}

/* In-place writes to a store without alignment go without the lock. */
static bool lock_for_write(struct storage *s, uint64_t end)
{
	if (!storage_is_aligned_kind(s) && end <= storage_size(s))
		return false;
	pthread_rwlock_rdlock(&s->edge_lock);
	return true;
}

static void unlock_for_write(struct storage *s, bool locked)
{
	if (locked)
		pthread_rwlock_unlock(&s->edge_lock);
}

int storage_readv(struct storage *s, const struct iovec *iov, int iov_count,
		  uint64_t off)
{
	uint64_t len;

	if (!vector_len(iov, iov_count, off, &len))
		return -EIO;
	if (!len)
		return 0;
	if (!range_inside(off, len, storage_size(s)))
		return -EIO;
	if (storage_needs_bounce(s, iov, iov_count, off))
		return storage_bounce_read(s, iov, off, len);
	return s->ops->readv(s, iov, iov_count, off);
}

int storage_read(struct storage *s, void *buf, size_t len, uint64_t off)
{
	struct iovec iov = {.iov_base = buf, .iov_len = len};

	return storage_readv(s, &iov, 1, off);
}

int storage_read_nowait(struct storage *s, void *buf, size_t len, uint64_t off)
{
	if (!s->ops->read_nowait || storage_is_aligned_kind(s) ||
	    !range_inside(off, len, storage_size(s)))
		return -EAGAIN;
	return len ? s->ops->read_nowait(s, buf, len, off) : 0;
}

const void *storage_lend(struct storage *s, uint64_t off, size_t len)
{
	if (!s->ops->lend || storage_is_aligned_kind(s) || !len ||
	    !range_inside(off, len, storage_size(s)))
		return NULL;
	return s->ops->lend(s, off, len);
}

int storage_read_padded(struct storage *s, void *buf, size_t len, uint64_t off)
{
	uint64_t size = storage_size(s);
	size_t inside = off < size ? min_u64(len, size - off) : 0;
	int ret;

	ret = storage_read(s, buf, inside, off);
	if (!ret && inside < len)
		memset((uint8_t *)buf + inside, 0, len - inside);
	return ret;
}

int storage_writev(struct storage *s, const struct iovec *iov, int iov_count,
		   uint64_t off)
{
	uint64_t len;
	bool locked;
	int ret;

	if (!vector_len(iov, iov_count, off, &len))
		return s->writable ? -EFBIG : -EACCES;
	if (!len)
		return 0;
	ret = check_change(s, off, len);
	if (ret)
		return ret;
	if (storage_needs_bounce(s, iov, iov_count, off))
		return storage_bounce_write(s, iov, off, len);

	locked = lock_for_write(s, off + len);
	ret = s->ops->writev(s, iov, iov_count, off);
	if (!ret)
		storage_raise_size(s, off + len);
	unlock_for_write(s, locked);
	return ret;
}

int storage_write(struct storage *s, const void *buf, size_t len, uint64_t off)
{
	/* A vector has no const; writev never writes through it. */
	struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};

	return storage_writev(s, &iov, 1, off);
}

/* One piece of at most ZERO_PIECE bytes. */
static int write_zero_piece(struct storage *s, uint64_t off, uint64_t len)
{
	struct iovec iov[ZERO_VEC_COUNT];
	int count = 0;

	assert(len <= ZERO_PIECE);
	while (len) {
		uint64_t step = min_u64(len, ZERO_BUF_SIZE);

		iov[count].iov_base = zero_buf;
		iov[count++].iov_len = step;
		len -= step;
	}
	return storage_writev(s, iov, count, off);
}

/* Pieces end at multiples of their size, so that only the edges bounce. */
static int write_zeros(struct storage *s, uint64_t off, uint64_t len)
{
	int ret = 0;

	while (len && !ret) {
		uint64_t step = min_u64(len, ZERO_PIECE - off % ZERO_PIECE);

		ret = write_zero_piece(s, off, step);
		off += step;
		len -= step;
	}
	return ret;
}

/* Zeroes whole blocks by what the store offers. */
static int zero_blocks(struct storage *s, uint64_t off, uint64_t len,
		       unsigned flags)
{
	bool locked;
	int ret;

	if (!s->ops->zero || !len)
		return -EOPNOTSUPP;
	locked = lock_for_write(s, off + len);
	ret = s->ops->zero(s, off, len, flags);
	unlock_for_write(s, locked);
	return ret;
}

/* [off, off + len) is inside the store as it was a moment ago. */
static int zero_inside(struct storage *s, uint64_t off, uint64_t len,
		       unsigned flags)
{
	uint64_t end = off + len;
	uint64_t start = align_up(off, s->align);
	uint64_t stop = align_down(end, s->align);
	int ret;

	if (end == storage_size(s))
		stop = end;
	ret = zero_blocks(s, start, stop > start ? stop - start : 0, flags);
	if (ret == -EOPNOTSUPP && !(flags & STORAGE_ZERO_NO_FALLBACK))
		return write_zeros(s, off, len);
	if (!ret)
		ret = write_zeros(s, off, start - off);
	if (!ret)
		ret = write_zeros(s, stop, end - stop);
	return ret;
}

/* What is past the end reads as zeros once the length says so. */
static int extend_to(struct storage *s, uint64_t end)
{
	int ret = 0;

	pthread_rwlock_wrlock(&s->edge_lock);
	if (storage_size(s) < end) {
		ret = s->ops->resize(s, end, PREALLOC_OFF, NULL);
		if (!ret)
			storage_raise_size(s, end);
	}
	pthread_rwlock_unlock(&s->edge_lock);
	return ret;
}

int storage_zero(struct storage *s, uint64_t off, uint64_t len, unsigned flags)
{
	uint64_t size = storage_size(s);
	uint64_t inside = off < size ? min_u64(len, size - off) : 0;
	int ret;

	if (!len)
		return 0;
	ret = check_change(s, off, len);
	if (!ret && inside)
		ret = zero_inside(s, off, inside, flags);
	if (ret || inside == len)
		return ret;
	if (s->ops->resize)
		return extend_to(s, off + len);
	if (flags & STORAGE_ZERO_NO_FALLBACK)
		return -EOPNOTSUPP;
	return write_zeros(s, off + inside, len - inside);
}

/* Cuts the range at the end of the store; false if nothing is left of it. */
static bool clip(const struct storage *s, uint64_t off, uint64_t *len)
{
	uint64_t size = storage_size(s);

	if (off >= size || !*len)
		return false;
	*len = min_u64(*len, size - off);
	return true;
}

int storage_discard(struct storage *s, uint64_t off, uint64_t len)
{
	uint64_t start;
	uint64_t stop;
	int ret;

	if (!s->writable)
		return len ? -EACCES : 0;
	if (!s->ops->discard || !clip(s, off, &len))
		return 0;
	/* Inwards: what was not named keeps its contents. */
	start = align_up(off, s->align);
	stop = off + len;
	if (stop != storage_size(s))
		stop = align_down(stop, s->align);
	if (start >= stop)
		return 0;
	ret = s->ops->discard(s, start, stop - start);
	return ret == -EOPNOTSUPP ? 0 : ret;
}

void storage_write_behind(struct storage *s, uint64_t off, uint64_t len)
{
	if (s->writable && s->ops->write_behind && clip(s, off, &len))
		s->ops->write_behind(s, off, len);
}

int storage_clone(struct storage *dst, uint64_t dst_off, struct storage *src,
		  uint64_t src_off, uint64_t len)
{
	bool locked;
	int ret;

	if (!len)
		return 0;
	ret = check_change(dst, dst_off, len);
	if (ret)
		return ret;
	if (!range_inside(src_off, len, storage_size(src)))
		return -EIO;
	/* Only stores of one kind can know how to share. */
	if (!dst->ops->clone || dst->ops->clone != src->ops->clone)
		return -EOPNOTSUPP;
	locked = lock_for_write(dst, dst_off + len);
	ret = dst->ops->clone(dst, dst_off, src, src_off, len);
	if (!ret)
		storage_raise_size(dst, dst_off + len);
	unlock_for_write(dst, locked);
	return ret;
}

/*
 * One sync at a time: the kernel reports a lost write once per descriptor, so
 * of two at the same time one could succeed though the other was told of the
 * loss. Whoever comes while one runs may not rely on it, as it may have started
 * before their writes, but all of these can share the next.
 */
int storage_sync(struct storage *s)
{
	uint64_t wanted;
	int ret = 0;

	if (s->ignore_sync || !s->writable || !s->ops->sync)
		return 0;
	pthread_mutex_lock(&s->sync_lock);
	wanted = s->sync_started_count + 1;
	while (s->sync_ended_count < wanted && !s->sync_error) {
		if (s->sync_started_count != s->sync_ended_count) {
			pthread_cond_wait(&s->sync_ended, &s->sync_lock);
			continue;
		}
		s->sync_started_count++;
		pthread_mutex_unlock(&s->sync_lock);
		ret = s->ops->sync(s);
		pthread_mutex_lock(&s->sync_lock);
		s->sync_ended_count++;
		if (ret && !s->sync_error)
			s->sync_error = ret;
		pthread_cond_broadcast(&s->sync_ended);
	}
	if (!ret && s->sync_error)
		ret = -EIO;
	pthread_mutex_unlock(&s->sync_lock);
	return ret;
}

static int check_resize(const struct storage *s, uint64_t new_size,
			enum prealloc_mode mode, struct error *err)
{
	if (!s->writable)
		return error_set(err, EACCES,
				 "%s: opened read-only, cannot be resized",
				 s->name);
	if (mode == PREALLOC_METADATA)
		return error_set(err, EINVAL,
				 "%s: preallocation mode 'metadata' needs a "
				 "format that has metadata; use off, falloc or "
				 "full",
				 s->name);
	if (new_size > INT64_MAX)
		return error_set(err, EFBIG,
				 "%s: size %llu is over the limit of %llu",
				 s->name, (unsigned long long)new_size,
				 (unsigned long long)INT64_MAX);
	if (!s->can_grow || !s->ops->resize)
		return error_set(err, ENOTSUP,
				 "%s: cannot be resized to %llu: the size of "
				 "this %s storage is fixed at %llu bytes",
				 s->name, (unsigned long long)new_size,
				 s->ops->name,
				 (unsigned long long)storage_size(s));
	return 0;
}

int storage_resize(struct storage *s, uint64_t new_size,
		   enum prealloc_mode mode, struct error *err)
{
	int ret = 0;

	if (new_size == storage_size(s))
		return 0;
	ret = check_resize(s, new_size, mode, err);
	if (ret)
		return ret;
	pthread_rwlock_wrlock(&s->edge_lock);
	if (new_size != storage_size(s)) {
		ret = s->ops->resize(s, new_size, mode, err);
		if (!ret)
			atomic_store_explicit(&s->size_bytes, new_size,
					      memory_order_release);
	}
	pthread_rwlock_unlock(&s->edge_lock);
	return ret;
}

int storage_extent_at(struct storage *s, uint64_t off, uint64_t len,
		      struct storage_extent *out)
{
	int ret = -EOPNOTSUPP;

	assert(len > 0);
	out->hole = true;
	out->len = len;
	if (!clip(s, off, &len))
		return 0;
	if (s->ops->extent)
		ret = s->ops->extent(s, off, len, out);
	if (ret == -ESHUTDOWN)
		return -EIO;
	if (!ret && out->len > 0 && out->len <= len)
		return 0;
	out->hole = false;
	out->len = len;
	return 0;
}

int64_t storage_allocated_bytes(struct storage *s)
{
	if (!s->ops->allocated_bytes)
		return -EOPNOTSUPP;
	return s->ops->allocated_bytes(s);
}

void storage_close(struct storage *s)
{
	if (s)
		s->ops->close(s);
}

bool storage_same(const struct storage *a, const struct storage *b)
{
	return a == b ||
	       (a->ops == b->ops && a->ops->same && a->ops->same(a, b));
}
