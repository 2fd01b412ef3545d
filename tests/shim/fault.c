/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Preloaded into the program as it ships: the nth call of one kind fails, or
 * is cut short, once or from then on. For tests only. Which call and how is
 * said in the environment, see fault-plan.h; here is what stands in front of
 * the C library's functions.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <seccomp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "tests/shim/fault-plan.h"

static int fail(void)
{
	errno = fault_code();
	return -1;
}

/* The function that the shim stands in front of; looked up once. */
#define REAL(name)                                                  \
	({                                                          \
		static _Atomic(typeof(&name)) real;                 \
		typeof(&name) found = atomic_load(&real);           \
		if (!found) {                                       \
			*(void **)&found = dlsym(RTLD_NEXT, #name); \
			atomic_store(&real, found);                 \
		}                                                   \
		found;                                              \
	})

/* ---- transfers ---- */

ssize_t read(int fd, void *buf, size_t len)
{
	enum fault_verdict v = fault_judge(FAULT_read);

	if (v == FAULT_FAIL)
		return fail();
	return REAL(read)(fd, buf,
			  v == FAULT_SHORTEN ? fault_shortened(len) : len);
}

ssize_t pread(int fd, void *buf, size_t len, off_t off)
{
	enum fault_verdict v = fault_judge(FAULT_read);

	if (v == FAULT_FAIL)
		return fail();
	return REAL(pread)(
		fd, buf, v == FAULT_SHORTEN ? fault_shortened(len) : len, off);
}

ssize_t preadv(int fd, const struct iovec *iov, int count, off_t off)
{
	enum fault_verdict v = fault_judge(FAULT_read);

	if (v == FAULT_FAIL)
		return fail();
	if (v == FAULT_SHORTEN && count)
		return REAL(pread)(fd, iov->iov_base,
				   fault_shortened(iov->iov_len), off);
	return REAL(preadv)(fd, iov, count, off);
}

ssize_t write(int fd, const void *buf, size_t len)
{
	enum fault_verdict v = fault_judge(FAULT_write);

	if (v == FAULT_FAIL)
		return fail();
	return REAL(write)(fd, buf,
			   v == FAULT_SHORTEN ? fault_shortened(len) : len);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t off)
{
	enum fault_verdict v = fault_judge(FAULT_write);

	if (v == FAULT_FAIL)
		return fail();
	return REAL(pwrite)(
		fd, buf, v == FAULT_SHORTEN ? fault_shortened(len) : len, off);
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t off)
{
	enum fault_verdict v = fault_judge(FAULT_write);

	if (v == FAULT_FAIL)
		return fail();
	if (v == FAULT_SHORTEN && count)
		return REAL(pwrite)(fd, iov->iov_base,
				    fault_shortened(iov->iov_len), off);
	return REAL(pwritev)(fd, iov, count, off);
}

/* ---- files ---- */

int fsync(int fd)
{
	return fault_judge(FAULT_sync) ? fail() : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
	return fault_judge(FAULT_sync) ? fail() : REAL(fdatasync)(fd);
}

int ftruncate(int fd, off_t len)
{
	return fault_judge(FAULT_truncate) ? fail() : REAL(ftruncate)(fd, len);
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
	return fault_judge(FAULT_fallocate)
		       ? fail()
		       : REAL(fallocate)(fd, mode, off, len);
}

off_t lseek(int fd, off_t off, int whence)
{
	return fault_judge(FAULT_seek) ? fail() : REAL(lseek)(fd, off, whence);
}

int rename(const char *from, const char *to)
{
	return fault_judge(FAULT_rename) ? fail() : REAL(rename)(from, to);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to,
	      unsigned flags)
{
	return fault_judge(FAULT_rename)
		       ? fail()
		       : REAL(renameat2)(from_fd, from, to_fd, to, flags);
}

int open(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list args;

	if (flags & (O_CREAT | O_TMPFILE)) {
		va_start(args, flags);
		mode = va_arg(args, mode_t);
		va_end(args);
	}
	return fault_judge(FAULT_open) ? fail() : REAL(open)(path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list args;

	if (flags & (O_CREAT | O_TMPFILE)) {
		va_start(args, flags);
		mode = va_arg(args, mode_t);
		va_end(args);
	}
	return fault_judge(FAULT_open)
		       ? fail()
		       : REAL(openat)(folder, path, flags, mode);
}

/* Every third argument fits into a pointer; the kernel looks at what it is. */
int fcntl(int fd, int command, ...)
{
	va_list args;
	void *arg;

	va_start(args, command);
	arg = va_arg(args, void *);
	va_end(args);
	if (fault_judge(command == F_OFD_SETLK || command == F_OFD_GETLK
				? FAULT_lock
				: FAULT_flags))
		return fail();
	return REAL(fcntl)(fd, command, arg);
}

/* What is closed is closed, also if it fails: the kernel does it so too. */
int close(int fd)
{
	int ret = REAL(close)(fd);

	return fault_judge(FAULT_close) ? fail() : ret;
}

int unlink(const char *path)
{
	return fault_judge(FAULT_unlink) ? fail() : REAL(unlink)(path);
}

FILE *fopen(const char *path, const char *mode)
{
	if (!fault_judge(FAULT_open))
		return REAL(fopen)(path, mode);
	fail();
	return NULL;
}

int mkostemp(char *path, int flags)
{
	return fault_judge(FAULT_open) ? fail() : REAL(mkostemp)(path, flags);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	return fault_judge(FAULT_ioctl) ? fail()
					: REAL(ioctl)(fd, request, arg);
}

int fchown(int fd, uid_t user, gid_t group)
{
	return fault_judge(FAULT_owner) ? fail()
					: REAL(fchown)(fd, user, group);
}

int fchmod(int fd, mode_t mode)
{
	return fault_judge(FAULT_owner) ? fail() : REAL(fchmod)(fd, mode);
}

/* ---- asking ---- */

int stat(const char *path, struct stat *st)
{
	return fault_judge(FAULT_stat) ? fail() : REAL(stat)(path, st);
}

int fstat(int fd, struct stat *st)
{
	return fault_judge(FAULT_stat) ? fail() : REAL(fstat)(fd, st);
}

int fstatat(int folder, const char *path, struct stat *st, int flags)
{
	return fault_judge(FAULT_stat) ? fail()
				       : REAL(fstatat)(folder, path, st, flags);
}

int statx(int folder, const char *path, int flags, unsigned mask,
	  struct statx *st)
{
	return fault_judge(FAULT_stat)
		       ? fail()
		       : REAL(statx)(folder, path, flags, mask, st);
}

int statfs(const char *path, struct statfs *fs)
{
	return fault_judge(FAULT_stat) ? fail() : REAL(statfs)(path, fs);
}

int fstatfs(int fd, struct statfs *fs)
{
	return fault_judge(FAULT_stat) ? fail() : REAL(fstatfs)(fd, fs);
}

ssize_t readlink(const char *path, char *out, size_t len)
{
	return fault_judge(FAULT_stat) ? fail()
				       : REAL(readlink)(path, out, len);
}

char *realpath(const char *path, char *out)
{
	if (!fault_judge(FAULT_stat))
		return REAL(realpath)(path, out);
	fail();
	return NULL;
}

ssize_t getrandom(void *out, size_t len, unsigned flags)
{
	return fault_judge(FAULT_random) ? fail()
					 : REAL(getrandom)(out, len, flags);
}

/* ---- locking oneself up ---- */

int prctl(int option, ...)
{
	unsigned long a[4];
	va_list args;

	va_start(args, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(args, unsigned long);
	va_end(args);
	return fault_judge(FAULT_sandbox)
		       ? fail()
		       : REAL(prctl)(option, a[0], a[1], a[2], a[3]);
}

/* Landlock has no functions of its own. */
long syscall(long number, ...)
{
	long a[6];
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	return fault_judge(FAULT_sandbox)
		       ? fail()
		       : REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4],
				       a[5]);
}

int getrlimit(__rlimit_resource_t resource, struct rlimit *limit)
{
	return fault_judge(FAULT_sandbox) ? fail()
					  : REAL(getrlimit)(resource, limit);
}

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
	return fault_judge(FAULT_sandbox) ? fail()
					  : REAL(setrlimit)(resource, limit);
}

/*
 * libseccomp returns what others put into errno. It crashes when memory runs
 * out while it makes its program, or loads one without some of the calls: that
 * ends in a signal, before anything of an image was read, and is not ours.
 */
int seccomp_load(const scmp_filter_ctx filter)
{
	int ret;

	if (fault_judge(FAULT_sandbox))
		return -fault_code();
	fault_spare(true);
	ret = REAL(seccomp_load)(filter);
	fault_spare(false);
	if (!ret)
		fault_locked_up();
	return ret;
}

/* ---- threads ---- */

int pthread_create(pthread_t *out, const pthread_attr_t *attr,
		   void *(*start)(void *), void *arg)
{
	return fault_judge(FAULT_thread)
		       ? fault_code()
		       : REAL(pthread_create)(out, attr, start, arg);
}

/* ---- memory ---- */

/* The allocator's own names: dlsym() itself would allocate. */
extern void *__libc_malloc(size_t len);
extern void *__libc_calloc(size_t count, size_t len);
extern void *__libc_realloc(void *old, size_t len);
extern void *__libc_memalign(size_t align, size_t len);

static void *no_memory(void)
{
	errno = ENOMEM;
	return NULL;
}

void *malloc(size_t len)
{
	return fault_judge(FAULT_malloc) ? no_memory() : __libc_malloc(len);
}

void *calloc(size_t count, size_t len)
{
	return fault_judge(FAULT_malloc) ? no_memory()
					 : __libc_calloc(count, len);
}

void *realloc(void *old, size_t len)
{
	return fault_judge(FAULT_malloc) ? no_memory()
					 : __libc_realloc(old, len);
}

void *aligned_alloc(size_t align, size_t len)
{
	return fault_judge(FAULT_malloc) ? no_memory()
					 : __libc_memalign(align, len);
}

int posix_memalign(void **out, size_t align, size_t len)
{
	if (fault_judge(FAULT_malloc))
		return ENOMEM;
	*out = __libc_memalign(align, len);
	return *out ? 0 : ENOMEM;
}

void *mmap(void *at, size_t len, int access, int flags, int fd, off_t off)
{
	if (!fault_judge(FAULT_map))
		return REAL(mmap)(at, len, access, flags, fd, off);
	fail();
	return MAP_FAILED;
}

/* ---- end ---- */

typedef int main_function(int argc, char **argv, char **environment);
typedef int start_function(main_function *function, int argc, char **argv,
			   void (*init)(void), void (*fini)(void),
			   void (*rtld_fini)(void), void *stack_end);

static main_function *program_main;

/* What runs behind it is the runtime's: of coverage, for example. */
static int main_and_no_more(int argc, char **argv, char **environment)
{
	int status = program_main(argc, argv, environment);

	fault_stop();
	return status;
}

/* Not in a header: the program's first instructions call it with main(). */
start_function __libc_start_main;

int __libc_start_main(main_function *function, int argc, char **argv,
		      void (*init)(void), void (*fini)(void),
		      void (*rtld_fini)(void), void *stack_end)
{
	program_main = function;
	return REAL(__libc_start_main)(main_and_no_more, argc, argv, init, fini,
				       rtld_fini, stack_end);
}
