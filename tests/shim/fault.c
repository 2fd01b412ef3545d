/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Preloaded into the program as it ships: the nth call of one kind fails, or
 * is cut short, once or from then on. For tests only.
 *
 *	PLATTER_FAULT=KIND:NTH:HOW:LASTING LD_PRELOAD=fault.so platter ...
 *
 * KIND is a name of `kind_names`. HOW is an errno in decimal, or "short": the
 * transfer moves half of what was asked. LASTING is 1 if all later calls of the
 * kind fail as well. NTH 0 fails none and counts all.
 *
 * PLATTER_FAULT_REPORT names a file that gets, when the program ends, a line
 * for each kind: its name, the number of calls, the number that failed, and
 * where the first that failed was called from, as offset in the program.
 *
 * Only calls of the program itself count, and of the libraries it uses for
 * packing; what goes on inside the C library does not pass here. Any thread.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind {
	KIND_READ,
	KIND_WRITE,
	KIND_SYNC,
	KIND_TRUNCATE,
	KIND_FALLOCATE,
	KIND_LOCK,
	KIND_OPEN,
	KIND_RENAME,
	KIND_SEEK,
	KIND_MALLOC,
	KIND_COUNT,
};

static const char *const kind_names[KIND_COUNT] = {
	"read", "write", "sync",   "truncate", "fallocate",
	"lock", "open",	 "rename", "seek",     "malloc",
};

enum verdict { PASS, FAIL, SHORTEN };

/* Set before main() and constant from then on. */
static struct {
	int kind; /* -1: none */
	uint64_t nth;
	int code; /* 0: shorten */
	bool lasting;
	int report_fd; /* -1: none */
} plan = {.kind = -1, .report_fd = -1};

static _Atomic uint64_t calls[KIND_COUNT];
static _Atomic uint64_t failed[KIND_COUNT];
static _Atomic uintptr_t first_caller;
/* The C library's start and end allocate as well: no business of ours. */
static _Atomic bool active;

static enum verdict judge(enum kind kind, void *caller)
{
	uintptr_t none = 0;
	uint64_t call;

	if (!atomic_load(&active))
		return PASS;
	call = atomic_fetch_add(&calls[kind], 1) + 1;
	if ((int)kind != plan.kind || !plan.nth || call < plan.nth ||
	    (call > plan.nth && !plan.lasting))
		return PASS;
	atomic_fetch_add(&failed[kind], 1);
	atomic_compare_exchange_strong(&first_caller, &none, (uintptr_t)caller);
	return plan.code ? FAIL : SHORTEN;
}

static int fail(void)
{
	errno = plan.code;
	return -1;
}

#define CALLER __builtin_return_address(0)

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

static size_t half(size_t len)
{
	return len > 1 ? len / 2 : len;
}

ssize_t read(int fd, void *buf, size_t len)
{
	enum verdict v = judge(KIND_READ, CALLER);

	if (v == FAIL)
		return fail();
	return REAL(read)(fd, buf, v == SHORTEN ? half(len) : len);
}

ssize_t pread(int fd, void *buf, size_t len, off_t off)
{
	enum verdict v = judge(KIND_READ, CALLER);

	if (v == FAIL)
		return fail();
	return REAL(pread)(fd, buf, v == SHORTEN ? half(len) : len, off);
}

ssize_t preadv(int fd, const struct iovec *iov, int count, off_t off)
{
	enum verdict v = judge(KIND_READ, CALLER);

	if (v == FAIL)
		return fail();
	if (v == SHORTEN && count)
		return REAL(pread)(fd, iov->iov_base, half(iov->iov_len), off);
	return REAL(preadv)(fd, iov, count, off);
}

ssize_t write(int fd, const void *buf, size_t len)
{
	enum verdict v = judge(KIND_WRITE, CALLER);

	if (v == FAIL)
		return fail();
	return REAL(write)(fd, buf, v == SHORTEN ? half(len) : len);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t off)
{
	enum verdict v = judge(KIND_WRITE, CALLER);

	if (v == FAIL)
		return fail();
	return REAL(pwrite)(fd, buf, v == SHORTEN ? half(len) : len, off);
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t off)
{
	enum verdict v = judge(KIND_WRITE, CALLER);

	if (v == FAIL)
		return fail();
	if (v == SHORTEN && count)
		return REAL(pwrite)(fd, iov->iov_base, half(iov->iov_len), off);
	return REAL(pwritev)(fd, iov, count, off);
}

/* ---- files ---- */

int fsync(int fd)
{
	return judge(KIND_SYNC, CALLER) ? fail() : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
	return judge(KIND_SYNC, CALLER) ? fail() : REAL(fdatasync)(fd);
}

int ftruncate(int fd, off_t len)
{
	return judge(KIND_TRUNCATE, CALLER) ? fail() : REAL(ftruncate)(fd, len);
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
	return judge(KIND_FALLOCATE, CALLER)
		       ? fail()
		       : REAL(fallocate)(fd, mode, off, len);
}

off_t lseek(int fd, off_t off, int whence)
{
	return judge(KIND_SEEK, CALLER) ? fail() : REAL(lseek)(fd, off, whence);
}

int rename(const char *from, const char *to)
{
	return judge(KIND_RENAME, CALLER) ? fail() : REAL(rename)(from, to);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to,
	      unsigned flags)
{
	return judge(KIND_RENAME, CALLER)
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
	return judge(KIND_OPEN, CALLER) ? fail()
					: REAL(open)(path, flags, mode);
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
	return judge(KIND_OPEN, CALLER)
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
	if ((command == F_OFD_SETLK || command == F_OFD_GETLK) &&
	    judge(KIND_LOCK, CALLER))
		return fail();
	return REAL(fcntl)(fd, command, arg);
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
	return judge(KIND_MALLOC, CALLER) ? no_memory() : __libc_malloc(len);
}

void *calloc(size_t count, size_t len)
{
	return judge(KIND_MALLOC, CALLER) ? no_memory()
					  : __libc_calloc(count, len);
}

void *realloc(void *old, size_t len)
{
	return judge(KIND_MALLOC, CALLER) ? no_memory()
					  : __libc_realloc(old, len);
}

void *aligned_alloc(size_t align, size_t len)
{
	return judge(KIND_MALLOC, CALLER) ? no_memory()
					  : __libc_memalign(align, len);
}

int posix_memalign(void **out, size_t align, size_t len)
{
	if (judge(KIND_MALLOC, CALLER))
		return ENOMEM;
	*out = __libc_memalign(align, len);
	return *out ? 0 : ENOMEM;
}

/* ---- start and end ---- */

static int kind_of(const char *name)
{
	for (int i = 0; i < KIND_COUNT; i++)
		if (!strcmp(name, kind_names[i]))
			return i;
	return -1;
}

static void read_plan(const char *text)
{
	char name[16], how[16];
	unsigned long long nth;
	int lasting;

	if (sscanf(text, "%15[^:]:%llu:%15[^:]:%d", name, &nth, how,
		   &lasting) != 4 ||
	    (plan.kind = kind_of(name)) < 0) {
		fprintf(stderr, "fault.so: PLATTER_FAULT=%s\n", text);
		_exit(125);
	}
	plan.nth = nth;
	plan.code = strcmp(how, "short") ? (int)strtoull(how, NULL, 10) : 0;
	plan.lasting = lasting;
}

__attribute__((constructor)) static void start(void)
{
	const char *text = getenv("PLATTER_FAULT");
	const char *report = getenv("PLATTER_FAULT_REPORT");

	if (report)
		plan.report_fd = REAL(open)(
			report, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (text)
		read_plan(text);
	atomic_store(&active, text != NULL);
}

typedef int main_function(int argc, char **argv, char **environment);
typedef int start_function(main_function *function, int argc, char **argv,
			   void (*init)(void), void (*fini)(void),
			   void (*rtld_fini)(void), void *stack_end);

static main_function *program_main;

/* What runs behind it is the runtime's: of coverage, for example. */
static int main_and_no_more(int argc, char **argv, char **environment)
{
	int status = program_main(argc, argv, environment);

	atomic_store(&active, false);
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

/* Where in its file the code is, so that addr2line can name it. */
static uintptr_t file_offset(uintptr_t address)
{
	Dl_info info;

	if (!address || !dladdr((void *)address, &info))
		return 0;
	return address - (uintptr_t)info.dli_fbase;
}

__attribute__((destructor)) static void end(void)
{
	uintptr_t caller;

	atomic_store(&active, false);
	if (plan.report_fd < 0)
		return;
	caller = file_offset(atomic_load(&first_caller));
	for (int i = 0; i < KIND_COUNT; i++)
		dprintf(plan.report_fd, "%s %llu %llu %#lx\n", kind_names[i],
			(unsigned long long)calls[i],
			(unsigned long long)failed[i],
			i == plan.kind ? (unsigned long)caller : 0ul);
}
