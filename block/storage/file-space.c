/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The space of files and block devices: zeroing without writing, giving space
 * back, reserving it, sharing it, and the length (spec: raw-and-probing 3, 5,
 * 6).
 *
 * Zeroing is asked of the file system in ways of which each may fail for
 * reasons of its own (a swap file, a sealed one, an odd border). None of these
 * is an error of ours: the next way is tried, and in the end storage.c writes
 * zeros, whose success or failure is the truth. Only -EIO is passed on at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/storage/file-private.h"

static bool is_unsupported(int negative_errno)
{
	return negative_errno == -EOPNOTSUPP || negative_errno == -ENOSYS ||
	       negative_errno == -ENOTTY;
}

/* Notes an answer that will not change; returns 0, -EIO or -EOPNOTSUPP. */
static int judge(int ret, atomic_bool *unsupported)
{
	if (is_unsupported(ret))
		atomic_store_explicit(unsupported, true, memory_order_relaxed);
	return !ret || ret == -EIO ? ret : -EOPNOTSUPP;
}

static int do_fallocate(struct file *f, int mode, uint64_t off, uint64_t len)
{
	int ret;

	do {
		ret = fallocate(f->base.fd, mode, off, len);
	} while (ret && errno == EINTR);
	return ret ? -errno : 0;
}

static int do_range_ioctl(struct file *f, unsigned long request, uint64_t off,
			  uint64_t len)
{
	uint64_t range[2] = {off, len};
	int ret;

	do {
		ret = ioctl(f->base.fd, request, range);
	} while (ret && errno == EINTR);
	return ret ? -errno : 0;
}

static int punch_hole(struct file *f, uint64_t off, uint64_t len)
{
	if (file_flag(&f->no_punch))
		return -EOPNOTSUPP;
	return judge(do_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				  off, len),
		     &f->no_punch);
}

static int zero_range(struct file *f, uint64_t off, uint64_t len)
{
	if (file_flag(&f->no_zero_range))
		return -EOPNOTSUPP;
	return judge(do_fallocate(f, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
				  off, len),
		     &f->no_zero_range);
}

static int zero_out(struct file *f, uint64_t off, uint64_t len)
{
	if (file_flag(&f->no_zero_out))
		return -EOPNOTSUPP;
	return judge(do_range_ioctl(f, BLKZEROOUT, off, len), &f->no_zero_out);
}

int file_zero(struct storage *s, uint64_t off, uint64_t len, unsigned flags)
{
	struct file *f = to_file(s);
	int ret = -EOPNOTSUPP;

	if (flags & STORAGE_ZERO_MAY_UNMAP)
		ret = punch_hole(f, off, len);
	if (ret == -EOPNOTSUPP)
		ret = zero_range(f, off, len);
	return ret;
}

/*
 * Whole sectors. On a device a punch fails if the hardware cannot do it, while
 * the other two then write zeros inside the kernel: no fallback in their place.
 */
static int zero_sectors(struct file *f, uint64_t off, uint64_t len,
			unsigned flags)
{
	bool may_write = !(flags & STORAGE_ZERO_NO_FALLBACK);
	int ret = -EOPNOTSUPP;

	if (flags & STORAGE_ZERO_MAY_UNMAP)
		ret = punch_hole(f, off, len);
	if (ret == -EOPNOTSUPP && (may_write || f->base.zero_is_fast))
		ret = zero_range(f, off, len);
	if (ret == -EOPNOTSUPP && may_write)
		ret = zero_out(f, off, len);
	return ret;
}

/* The kernel zeroes sectors; the parts of sectors at both ends are written. */
int file_device_zero(struct storage *s, uint64_t off, uint64_t len,
		     unsigned flags)
{
	struct file *f = to_file(s);
	uint64_t end = off + len;
	uint64_t start = align_up(off, f->sector);
	uint64_t stop = align_down(end, f->sector);
	int ret;

	if (start >= stop)
		return -EOPNOTSUPP;
	ret = zero_sectors(f, start, stop - start, flags);
	if (!ret)
		ret = file_write_zeros(f, off, start - off);
	if (!ret)
		ret = file_write_zeros(f, stop, end - stop);
	return ret;
}

int file_discard(struct storage *s, uint64_t off, uint64_t len)
{
	return punch_hole(to_file(s), off, len);
}

int file_device_discard(struct storage *s, uint64_t off, uint64_t len)
{
	struct file *f = to_file(s);
	uint64_t start = align_up(off, f->sector);
	uint64_t stop = align_down(off + len, f->sector);

	if (start >= stop || file_flag(&f->no_discard))
		return -EOPNOTSUPP;
	return judge(do_range_ioctl(f, BLKDISCARD, start, stop - start),
		     &f->no_discard);
}

void file_reserve(struct file *f, uint64_t off, uint64_t len)
{
	if (!file_flag(&f->no_reserve))
		judge(do_fallocate(f, FALLOC_FL_KEEP_SIZE, off, len),
		      &f->no_reserve);
}

int file_clone(struct storage *dst, uint64_t dst_off, struct storage *src,
	       uint64_t src_off, uint64_t len)
{
	struct file *f = to_file(dst);
	struct file_clone_range range = {
		.src_fd = src->fd,
		.src_offset = src_off,
		.src_length = len,
		.dest_offset = dst_off,
	};
	int ret;

	if (file_flag(&f->no_clone))
		return -EOPNOTSUPP;
	do {
		ret = ioctl(dst->fd, FICLONERANGE, &range);
	} while (ret && errno == EINTR);
	if (!ret)
		return 0;
	ret = -errno;
	/* Two file systems: the next source may live on the right one. */
	if (ret == -EXDEV || ret == -EINVAL || ret == -EIO || ret == -ENOSPC ||
	    ret == -EDQUOT)
		return ret;
	return judge(ret, &f->no_clone);
}

static int set_length(struct file *f, uint64_t new_size)
{
	int ret;

	do {
		ret = ftruncate(f->base.fd, new_size);
	} while (ret && errno == EINTR);
	return ret ? -errno : 0;
}

/*
 * Writes zeros over all of [old_size, new_size), which O_DIRECT lets us do by
 * whole blocks only: the first one holds old data and its space already, and
 * the last one may end past the new end.
 */
static int write_new_part(struct file *f, uint64_t old_size, uint64_t new_size)
{
	uint64_t start = align_up(old_size, f->base.align);
	uint64_t stop = align_up(new_size, f->base.align);
	int ret = 0;

	if (start < stop)
		ret = file_write_zeros(f, start, stop - start);
	return ret ? ret : set_length(f, new_size);
}

static int grow(struct file *f, uint64_t old_size, uint64_t new_size,
		enum prealloc_mode mode)
{
	int ret = -EOPNOTSUPP;

	if (mode == PREALLOC_OFF)
		return set_length(f, new_size);
	if (mode == PREALLOC_FALLOC)
		ret = do_fallocate(f, 0, old_size, new_size - old_size);
	if (is_unsupported(ret))
		ret = write_new_part(f, old_size, new_size);
	return ret;
}

int file_resize(struct storage *s, uint64_t new_size, enum prealloc_mode mode,
		struct error *err)
{
	struct file *f = to_file(s);
	uint64_t old_size = storage_size(s);
	int ret;

	if (new_size > old_size)
		ret = grow(f, old_size, new_size, mode);
	else
		ret = set_length(f, new_size);
	if (!ret)
		return 0;
	/* edge_lock is held: nobody else has grown the file meanwhile. */
	if (new_size > old_size && !set_length(f, old_size))
		atomic_store(&s->size_bytes, old_size);
	return error_set_errno(err, -ret,
			       "%s: could not resize from %llu to %llu bytes",
			       s->name, (unsigned long long)old_size,
			       (unsigned long long)new_size);
}
