/* SPDX-License-Identifier: BSD-3-Clause */
/* Tells what an errno cannot: see notice.h. */
#include "block/notice.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "block/error.h"

static notice_function *tell;

void notice_set(notice_function *function)
{
	tell = function;
}

void notice(const char *fmt, ...)
{
	char text[ERROR_MESSAGE_MAX];
	va_list args;

	if (!tell)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	tell(text);
}
