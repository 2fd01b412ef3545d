/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Errors with a text for people.
 *
 * Every text is first put together in a buffer of its own, so a message may
 * quote the error that it replaces. errno is left as it was: these functions
 * are called between a failed system call and the look at its errno.
 */
#include "block/error.h"

#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static void store(struct error *err, int code, const char *file, int line,
		  const char *text)
{
	size_t len = strnlen(text, ERROR_MESSAGE_MAX - 1);

	err->code = code;
	err->file = file;
	err->line = line;
	memcpy(err->message, text, len);
	err->message[len] = '\0';
}

/* Appends ": " and the system's text for `code`, as far as there is room. */
static void append_errno(char *text, size_t size, int code)
{
	char scratch[128];
	size_t used = strnlen(text, size);

	if (used < size)
		snprintf(text + used, size - used, ": %s",
			 strerror_r(code, scratch, sizeof(scratch)));
}

/* For clang: `fmt` is checked where it comes from. */
static void fill(struct error *err, int code, const char *file, int line,
		 bool with_errno, const char *fmt, va_list args)
	__attribute__((format(printf, 6, 0)));

static void fill(struct error *err, int code, const char *file, int line,
		 bool with_errno, const char *fmt, va_list args)
{
	char text[ERROR_MESSAGE_MAX];
	int saved_errno = errno;

	vsnprintf(text, sizeof(text), fmt, args);
	if (with_errno)
		append_errno(text, sizeof(text), code);
	store(err, code, file, line, text);
	errno = saved_errno;
}

int error_set_at(struct error *err, int code, const char *file, int line,
		 const char *fmt, ...)
{
	va_list args;

	assert(code > 0);
	va_start(args, fmt);
	if (err)
		fill(err, code, file, line, false, fmt, args);
	va_end(args);
	return -code;
}

int error_set_errno_at(struct error *err, int code, const char *file, int line,
		       const char *fmt, ...)
{
	va_list args;

	assert(code > 0);
	va_start(args, fmt);
	if (err)
		fill(err, code, file, line, true, fmt, args);
	va_end(args);
	return -code;
}

void error_prefix(struct error *err, const char *fmt, ...)
{
	char text[ERROR_MESSAGE_MAX];
	int saved_errno = errno;
	size_t used;
	va_list args;

	if (!err)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	used = strnlen(text, sizeof(text));
	snprintf(text + used, sizeof(text) - used, "%s", err->message);
	memcpy(err->message, text, sizeof(text));
	errno = saved_errno;
}

int error_default(struct error *err, int negative_errno, const char *what)
{
	assert(negative_errno < 0);
	if (err && !err->code)
		error_set_errno(err, -negative_errno, "%s", what);
	return negative_errno;
}
