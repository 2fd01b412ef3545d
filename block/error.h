/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Errors with a text for people.
 *
 * Control paths (open, create, check, the commands) take a caller-owned
 * `struct error *` as their last argument; it may be NULL. Data paths return a
 * negative errno only. Success leaves the error untouched, and no callee ever
 * looks into one that it was given.
 *
 * A message names the object, the field, the value and the allowed range, and
 * where there is one the way out. It holds no newline at its end.
 *
 * All functions: any thread; one error belongs to one thread at a time.
 */
#ifndef PLATTER_BLOCK_ERROR_H
#define PLATTER_BLOCK_ERROR_H

#include <errno.h>

/* The image contradicts its own format: nothing that a retry would mend. */
#define ERROR_CORRUPT EUCLEAN

#define ERROR_MESSAGE_MAX 2048

struct error {
	int code;	  /* positive errno, 0 while unset */
	const char *file; /* where it was set: source file and line */
	int line;
	char message[ERROR_MESSAGE_MAX]; /* cut at its end if too long */
};

/*
 * Sets code and text, and returns -code, so that a failed check is one line:
 *	return error_set(err, EINVAL, "cluster size %u ...", size);
 * `code` is a positive errno.
 */
#define error_set(err, code, ...) \
	error_set_at((err), (code), __FILE__, __LINE__, __VA_ARGS__)

/* The same, and ": " with the system's text of `code` behind the message. */
#define error_set_errno(err, code, ...) \
	error_set_errno_at((err), (code), __FILE__, __LINE__, __VA_ARGS__)

int error_set_at(struct error *err, int code, const char *file, int line,
		 const char *fmt, ...) __attribute__((format(printf, 5, 6)));
int error_set_errno_at(struct error *err, int code, const char *file, int line,
		       const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* Puts context in front of a message on its way up. No-op for NULL. */
void error_prefix(struct error *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Sets `err` only if it was not set yet, from a bare negative errno. */
int error_default(struct error *err, int negative_errno, const char *what);

#endif
