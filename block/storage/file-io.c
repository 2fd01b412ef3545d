/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Moving bytes of files and block devices, and asking where they are.
 *
 * I/O is positional. lseek() serves SEEK_DATA and SEEK_HOLE only; the cursor it
 * moves is used by nobody.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/bytes.h"
#include "block/storage/file-private.h"

/* From here on buffered writes take turns. */
#define LARGE_WRITE (256 * 1024u)
/* Zeros to write; the largest alignment O_DIRECT asks for is a page. */
#define ZERO_SIZE 65536u
static uint8_t zeros[ZERO_SIZE] __attribute__((aligned(4096)));

/* What is left of a vector while a transfer makes its way through it. */
struct transfer {
	const struct iovec *iov;
	int iov_count;
	size_t skip; /* bytes of iov[0] that are done */
	uint64_t off;
};

/* One system call; the rest of a begun element goes alone. */
static ssize_t transfer_step(int fd, const struct transfer *t, bool is_write)
{
	struct iovec rest;
	const struct iovec *iov = t->iov;
	int count = t->iov_count < IOV_MAX ? t->iov_count : IOV_MAX;
	ssize_t done;

	if (t->skip) {
		rest.iov_base = (uint8_t *)t->iov->iov_base + t->skip;
		rest.iov_len = t->iov->iov_len - t->skip;
		iov = &rest;
		count = 1;
	}
	do {
		done = is_write ? pwritev(fd, iov, count, t->off)
				: preadv(fd, iov, count, t->off);
	} while (done < 0 && errno == EINTR);
	return done < 0 ? -errno : done;
}

static void transfer_advance(struct transfer *t, size_t done)
{
	t->off += done;
	t->skip += done;
	while (t->iov_count && t->skip >= t->iov->iov_len) {
		t->skip -= t->iov->iov_len;
		t->iov++;
		t->iov_count--;
	}
}

/* The rest of the vector reads as zeros. */
static void transfer_zero_rest(struct transfer *t)
{
	for (; t->iov_count; t->iov++, t->iov_count--) {
		uint8_t *at = t->iov->iov_base;

		if (t->iov->iov_len > t->skip)
			memset(at + t->skip, 0, t->iov->iov_len - t->skip);
		t->skip = 0;
	}
}

/*
 * With O_DIRECT the file may end inside the block that is read; a read that
 * stops short of that means that somebody has cut the file.
 */
static bool is_end_of_file(const struct storage *s, uint64_t off)
{
	return s->align > 1 && off >= storage_size(s);
}

int file_readv(struct storage *s, const struct iovec *iov, int iov_count,
	       uint64_t off)
{
	struct transfer t = {.iov = iov, .iov_count = iov_count, .off = off};

	transfer_advance(&t, 0);
	while (t.iov_count) {
		ssize_t done = transfer_step(s->fd, &t, false);

		if (done < 0)
			return done;
		transfer_advance(&t, done);
		if (t.iov_count && is_end_of_file(s, t.off)) {
			transfer_zero_rest(&t);
			return 0;
		}
		if (!done)
			return -EIO;
	}
	return 0;
}

/* What is short or fails, for whatever reason, is left to a plain read. */
int file_read_nowait(struct storage *s, void *buf, size_t len, uint64_t off)
{
	struct iovec iov = {.iov_base = buf, .iov_len = len};
	ssize_t done = preadv2(s->fd, &iov, 1, off, RWF_NOWAIT);

	return done >= 0 && (size_t)done == len ? 0 : -EAGAIN;
}

/*
 * A write that failed halfway may have made the file longer all the same. The
 * size must own up to it: what lies past the end is taken for zeros later.
 */
static void admit_growth(struct storage *s)
{
	struct stat st;

	if (s->can_grow && fstat(s->fd, &st) == 0)
		storage_raise_size(s, st.st_size);
}

static int write_all(struct storage *s, const struct iovec *iov, int iov_count,
		     uint64_t off)
{
	struct transfer t = {.iov = iov, .iov_count = iov_count, .off = off};

	transfer_advance(&t, 0);
	while (t.iov_count) {
		ssize_t done = transfer_step(s->fd, &t, true);

		if (done <= 0) {
			admit_growth(s);
			return done ? done : -ENOSPC;
		}
		transfer_advance(&t, done);
	}
	return 0;
}

/*
 * A file system lets one buffered write at a time into a file, and the kernel
 * spins while it waits: with two threads that copy a disk into one file a fifth
 * of all cycles went into rwsem_spin_on_owner. So large writes wait asleep.
 * Small ones do not: waking up costs more than they do.
 *
 * Space that ext4 has reserved in one go spares it the work for every block
 * that is written: a copy of a disk takes a third less CPU. If it cannot, the
 * write says why.
 */
int file_writev(struct storage *s, const struct iovec *iov, int iov_count,
		uint64_t off)
{
	struct file *f = to_file(s);
	size_t len = 0;
	int ret;

	for (int i = 0; i < iov_count; i++)
		len += iov[i].iov_len;
	if (f->direct || len < LARGE_WRITE)
		return write_all(s, iov, iov_count, off);
	pthread_mutex_lock(&f->write_turn);
	if (f->reserve_first)
		file_reserve(f, off, len);
	ret = write_all(s, iov, iov_count, off);
	pthread_mutex_unlock(&f->write_turn);
	return ret;
}

/* Suits O_DIRECT if `off` and `len` do. */
int file_write_zeros(struct file *f, uint64_t off, uint64_t len)
{
	struct iovec iov = {.iov_base = zeros};
	int ret = 0;

	while (len && !ret) {
		iov.iov_len = min_u64(len, ZERO_SIZE);
		ret = file_writev(&f->base, &iov, 1, off);
		off += iov.iov_len;
		len -= iov.iov_len;
	}
	return ret;
}

/*
 * Never with the WAIT flags of sync_file_range(): these collect the error of a
 * lost page from the descriptor, and the sync that follows would not see it.
 */
void file_write_behind(struct storage *s, uint64_t off, uint64_t len)
{
	if (!to_file(s)->direct)
		sync_file_range(s->fd, off, len, SYNC_FILE_RANGE_WRITE);
}

int file_sync(struct storage *s)
{
	int ret;

	do {
		ret = fdatasync(s->fd);
	} while (ret && errno == EINTR);
	return ret ? -errno : 0;
}

/* No data at or behind `off`, says the file system: unless the file was cut. */
static bool is_trailing_hole(const struct storage *s, uint64_t end)
{
	struct stat st;

	return fstat(s->fd, &st) == 0 && (uint64_t)st.st_size >= end;
}

/*
 * Only a clear and sane answer makes a hole; whatever is in doubt is data
 * (spec: raw-and-probing 2). FIEMAP is never asked: it does not know of pages
 * that have no place on disk yet.
 */
int file_extent(struct storage *s, uint64_t off, uint64_t len,
		struct storage_extent *out)
{
	off_t data;
	off_t hole;

	out->hole = false;
	out->len = len;
	if (s->is_device || to_file(s)->distrust_holes)
		return 0;
	data = lseek(s->fd, off, SEEK_DATA);
	if (data < 0) {
		out->hole = errno == ENXIO && is_trailing_hole(s, off + len);
		return 0;
	}
	/* Data behind the end of the file makes no sense: it is in doubt. */
	if ((uint64_t)data >= storage_size(s))
		return 0;
	if ((uint64_t)data > off) {
		out->hole = true;
		out->len = min_u64(len, data - off);
		return 0;
	}
	if ((uint64_t)data < off)
		return 0;
	hole = lseek(s->fd, off, SEEK_HOLE);
	if (hole > 0 && (uint64_t)hole > off)
		out->len = min_u64(len, hole - off);
	return 0;
}
