/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A library to preload: records every call by which a program changes one file
 * or makes it durable (the log: tests/support/record.h). Which descriptors are
 * that file's is asked of the kernel at each call, so it does not matter by
 * what name it was opened or how often it was duplicated.
 *
 * One lock is held over the call and its record: calls of several threads are
 * logged in the order in which they took effect, and a sync covers exactly what
 * is logged before it. io_uring and native AIO are refused, as on a kernel that
 * lacks them. What changes the file in yet other ways (mapped memory, cloned
 * extents) is not seen here; the reader finds that the log does not lead to
 * what the file holds.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/support/record.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1; /* -1: nothing is recorded */
static dev_t file_dev;
static ino_t file_ino;
static uint64_t last_seq; /* under the lock */

/* ---- the functions behind ours ---- */

static void *next_symbol(void **slot, const char *name)
{
	void *symbol = __atomic_load_n(slot, __ATOMIC_RELAXED);

	if (!symbol) {
		symbol = dlsym(RTLD_NEXT, name);
		if (!symbol)
			abort();
		/* Who comes second stores the same. */
		__atomic_store_n(slot, symbol, __ATOMIC_RELAXED);
	}
	return symbol;
}

#define NEXT(name)                                            \
	({                                                    \
		static void *slot;                            \
		(__typeof__(&name))next_symbol(&slot, #name); \
	})

/* ---- records ---- */

static void die(const char *what)
{
	fprintf(stderr, "recorder: %s: %s\n", what, strerror(errno));
	abort();
}

__attribute__((constructor)) static void start(void)
{
	const char *file = getenv(RECORD_FILE_VARIABLE);
	const char *log = getenv(RECORD_LOG_VARIABLE);
	struct stat st;

	if (!file || !log)
		return;
	if (stat(file, &st) < 0)
		die(file);
	file_dev = st.st_dev;
	file_ino = st.st_ino;
	log_fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (log_fd < 0)
		die(log);
}

static bool is_recorded(int fd)
{
	int saved = errno;
	struct stat st;
	bool is_it = log_fd >= 0 && fstat(fd, &st) == 0 &&
		     st.st_dev == file_dev && st.st_ino == file_ino;

	errno = saved;
	return is_it;
}

/* Begins a recorded call. */
static void enter(void)
{
	pthread_mutex_lock(&lock);
}

static void append(struct record *r, const struct iovec *iov)
{
	size_t size = sizeof(*r) + r->data_len;
	uint8_t *buf = malloc(size);
	size_t at = sizeof(*r);

	if (!buf)
		die("no memory");
	r->magic = RECORD_MAGIC;
	r->seq = ++last_seq;
	memcpy(buf, r, sizeof(*r));
	for (; at < size; iov++) {
		size_t n = iov->iov_len < size - at ? iov->iov_len : size - at;

		memcpy(buf + at, iov->iov_base, n);
		at += n;
	}
	/* One call, so that a record is whole whoever appends beside us. */
	if (NEXT(write)(log_fd, buf, size) != (ssize_t)size)
		die("writing the log");
	free(buf);
}

/* Ends a recorded call; `ret` and errno are what it answered. */
static void leave(struct record r, ssize_t ret, const struct iovec *iov)
{
	int saved = errno;

	r.result = ret < 0 ? -saved : ret;
	if (r.kind == RECORD_WRITE && ret > 0)
		r.data_len = ret;
	append(&r, iov);
	pthread_mutex_unlock(&lock);
	errno = saved;
}

/* With the lock held. */
static void note_unsupported(const char *what)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)what,
			    .iov_len = strlen(what)};
	struct record r = {.kind = RECORD_UNSUPPORTED, .data_len = iov.iov_len};

	append(&r, &iov);
}

/* Writes that are durable one by one are more than the log can say. */
static void check_flags(int fd)
{
	if (fcntl(fd, F_GETFL) & (O_DSYNC | O_SYNC))
		note_unsupported("a descriptor with O_SYNC or O_DSYNC");
}

/* ---- writing ---- */

static struct record write_record(uint64_t off)
{
	return (struct record){.kind = RECORD_WRITE, .off = off};
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t off)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
	ssize_t ret;

	if (!is_recorded(fd))
		return NEXT(pwrite64)(fd, buf, len, off);
	enter();
	check_flags(fd);
	ret = NEXT(pwrite64)(fd, buf, len, off);
	leave(write_record(off), ret, &iov);
	return ret;
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t off)
{
	return pwrite64(fd, buf, len, off);
}

ssize_t pwritev64v2(int fd, const struct iovec *iov, int count, off64_t off,
		    int flags)
{
	ssize_t ret;

	if (!is_recorded(fd))
		return NEXT(pwritev64v2)(fd, iov, count, off, flags);
	enter();
	check_flags(fd);
	if (off == -1 || flags & (RWF_APPEND | RWF_SYNC | RWF_DSYNC))
		note_unsupported("pwritev2 with flags, or at the cursor");
	ret = NEXT(pwritev64v2)(fd, iov, count, off, flags);
	leave(write_record(off), ret, iov);
	return ret;
}

ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t off,
		 int flags)
{
	return pwritev64v2(fd, iov, count, off, flags);
}

ssize_t pwritev64(int fd, const struct iovec *iov, int count, off64_t off)
{
	ssize_t ret;

	if (!is_recorded(fd))
		return NEXT(pwritev64)(fd, iov, count, off);
	enter();
	check_flags(fd);
	ret = NEXT(pwritev64)(fd, iov, count, off);
	leave(write_record(off), ret, iov);
	return ret;
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t off)
{
	return pwritev64(fd, iov, count, off);
}

/* Where the next write() on this descriptor goes. */
static off_t cursor(int fd)
{
	struct stat st;

	if (!(fcntl(fd, F_GETFL) & O_APPEND))
		return lseek(fd, 0, SEEK_CUR);
	return fstat(fd, &st) == 0 ? st.st_size : -1;
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
	ssize_t ret;
	off_t off;

	if (!is_recorded(fd))
		return NEXT(writev)(fd, iov, count);
	enter();
	check_flags(fd);
	off = cursor(fd);
	ret = NEXT(writev)(fd, iov, count);
	leave(write_record(off), ret, iov);
	return ret;
}

ssize_t write(int fd, const void *buf, size_t len)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};

	/* Not by way of writev(), whose errors differ. */
	if (!is_recorded(fd))
		return NEXT(write)(fd, buf, len);
	return writev(fd, &iov, 1);
}

/* ---- space and size ---- */

int fallocate64(int fd, int mode, off64_t off, off64_t len)
{
	struct record r = {
		.kind = RECORD_FALLOCATE, .mode = mode, .off = off, .len = len};
	int ret;

	if (!is_recorded(fd))
		return NEXT(fallocate64)(fd, mode, off, len);
	enter();
	ret = NEXT(fallocate64)(fd, mode, off, len);
	leave(r, ret, NULL);
	return ret;
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
	return fallocate64(fd, mode, off, len);
}

/* Answers with an errno. Without the fallback of libc, which writes. */
int posix_fallocate64(int fd, off64_t off, off64_t len)
{
	if (!is_recorded(fd))
		return NEXT(posix_fallocate64)(fd, off, len);
	return fallocate64(fd, 0, off, len) < 0 ? errno : 0;
}

int posix_fallocate(int fd, off_t off, off_t len)
{
	return posix_fallocate64(fd, off, len);
}

int ftruncate64(int fd, off64_t len)
{
	struct record r = {.kind = RECORD_TRUNCATE, .len = len};
	int ret;

	if (!is_recorded(fd))
		return NEXT(ftruncate64)(fd, len);
	enter();
	ret = NEXT(ftruncate64)(fd, len);
	leave(r, ret, NULL);
	return ret;
}

int ftruncate(int fd, off_t len)
{
	return ftruncate64(fd, len);
}

/* BLKZEROOUT and the like are for devices; a clone of extents is not. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (is_recorded(fd) && _IOC_DIR(request) & _IOC_WRITE) {
		enter();
		note_unsupported("ioctl");
		pthread_mutex_unlock(&lock);
	}
	return NEXT(ioctl)(fd, request, arg);
}

/* ---- making durable ---- */

static int record_sync(int fd, int (*sync)(int fd))
{
	struct record r = {.kind = RECORD_SYNC};
	int ret;

	if (!is_recorded(fd))
		return sync(fd);
	enter();
	ret = sync(fd);
	leave(r, ret, NULL);
	return ret;
}

int fsync(int fd)
{
	return record_sync(fd, NEXT(fsync));
}

int fdatasync(int fd)
{
	return record_sync(fd, NEXT(fdatasync));
}

int sync_file_range(int fd, off64_t off, off64_t len, unsigned flags)
{
	struct record r = {
		.kind = RECORD_HINT, .mode = flags, .off = off, .len = len};
	int ret;

	if (!is_recorded(fd))
		return NEXT(sync_file_range)(fd, off, len, flags);
	enter();
	ret = NEXT(sync_file_range)(fd, off, len, flags);
	leave(r, ret, NULL);
	return ret;
}

/* ---- what is refused: liburing and libaio, whose headers are not needed ----
 */

int io_uring_queue_init(unsigned entries, void *ring, unsigned flags);
int io_uring_queue_init_params(unsigned entries, void *ring, void *params);
int io_setup(int events, void *context);

int io_uring_queue_init(unsigned entries, void *ring, unsigned flags)
{
	(void)entries;
	(void)ring;
	(void)flags;
	return -ENOSYS;
}

int io_uring_queue_init_params(unsigned entries, void *ring, void *params)
{
	(void)entries;
	(void)ring;
	(void)params;
	return -ENOSYS;
}

int io_setup(int events, void *context)
{
	(void)events;
	(void)context;
	return -ENOSYS;
}
