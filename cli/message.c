/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages on stderr, and sizes for people. */
#include "cli/message.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

__attribute__((format(printf, 2, 0))) static void print_line(const char *label,
							     const char *fmt,
							     va_list args)
{
	/* Whatever a command has printed so far comes first. */
	fflush(stdout);
	flockfile(stderr);
	fprintf(stderr, "%s: %s", program_invocation_short_name, label);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	funlockfile(stderr);
}

void message_error(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	print_line("", fmt, args);
	va_end(args);
}

void message_warning(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	print_line("warning: ", fmt, args);
	va_end(args);
}

int message_usage(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	print_line("", fmt, args);
	va_end(args);
	fprintf(stderr, "Try '%s --help' for more information\n",
		program_invocation_short_name);
	return 1;
}

const char *size_text(char buf[SIZE_TEXT_MAX], uint64_t bytes)
{
	static const char *const units[] = {"B",   "KiB", "MiB", "GiB",
					    "TiB", "PiB", "EiB"};
	double value = (double)bytes;
	size_t unit = 0;

	/* A unit ends where three digits end, not at 1024 of it. */
	while (value >= 1000 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		value /= 1024;
		unit++;
	}
	snprintf(buf, SIZE_TEXT_MAX, "%0.3g %s", value, units[unit]);
	return buf;
}
