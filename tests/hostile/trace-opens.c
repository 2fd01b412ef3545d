/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A library to preload: tells of every file that a program opens, every socket
 * that it connects and every program that it starts, one line each, on the
 * descriptor that TRACE_OPENS_FD names. Calls go on to the C library.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void tell(const char *call, const char *name)
{
	const char *fd = getenv("TRACE_OPENS_FD");
	char line[8192];
	int len = snprintf(line, sizeof(line), "%s %s\n", call, name);

	if (!fd || len < 0 || (size_t)len >= sizeof(line) ||
	    write((int)strtol(fd, NULL, 10), line, (size_t)len) != len)
		abort();
}

/* ISO C has no conversion from data to function pointers; POSIX does. */
#define NEXT(function)                                    \
	union {                                           \
		void *object;                             \
		__typeof__(&function) call;               \
	} next = {.object = dlsym(RTLD_NEXT, #function)}; \
	if (!next.call)                                   \
	abort()

#define TAKE_MODE(last, flags, mode)                   \
	do {                                           \
		va_list ap;                            \
                                                       \
		va_start(ap, last);                    \
		if ((flags) & (O_CREAT | __O_TMPFILE)) \
			(mode) = va_arg(ap, mode_t);   \
		va_end(ap);                            \
	} while (0)

int open(const char *path, int flags, ...)
{
	NEXT(open);
	mode_t mode = 0;

	TAKE_MODE(flags, flags, mode);
	tell("open", path);
	return next.call(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	NEXT(open64);
	mode_t mode = 0;

	TAKE_MODE(flags, flags, mode);
	tell("open", path);
	return next.call(path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
	NEXT(openat);
	mode_t mode = 0;

	TAKE_MODE(flags, flags, mode);
	tell("openat", path);
	return next.call(dir, path, flags, mode);
}

int openat64(int dir, const char *path, int flags, ...)
{
	NEXT(openat64);
	mode_t mode = 0;

	TAKE_MODE(flags, flags, mode);
	tell("openat", path);
	return next.call(dir, path, flags, mode);
}

int creat(const char *path, mode_t mode)
{
	NEXT(creat);

	tell("creat", path);
	return next.call(path, mode);
}

FILE *fopen(const char *path, const char *mode)
{
	NEXT(fopen);

	tell("fopen", path);
	return next.call(path, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
	NEXT(fopen64);

	tell("fopen", path);
	return next.call(path, mode);
}

int connect(int fd, const struct sockaddr *address, socklen_t len)
{
	NEXT(connect);

	tell("connect", "");
	return next.call(fd, address, len);
}

int execve(const char *path, char *const argv[], char *const envp[])
{
	NEXT(execve);

	tell("execve", path);
	return next.call(path, argv, envp);
}
