/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the program says on stderr, and how sizes read. Lines start with the
 * name the program was called by, so that scripts which know qemu-img find what
 * they look for.
 */
#ifndef PLATTER_CLI_MESSAGE_H
#define PLATTER_CLI_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

/* "platter: TEXT" */
void message_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "platter: warning: TEXT" */
void message_warning(const char *fmt, ...)
	__attribute__((format(printf, 1, 2)));
/* message_error(), and a line that points to --help. Returns 1. */
int message_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define SIZE_TEXT_MAX 32

/* Three significant digits and a binary unit: "196 KiB". Returns `buf`. */
const char *size_text(char buf[SIZE_TEXT_MAX], uint64_t bytes);

#endif
