/* SPDX-License-Identifier: BSD-3-Clause */
/* Lines about clients, within a budget: see log.h. */
#include "nbd-server/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "block/clock.h"
#include "block/error.h"

/* A peer, a text as long as an error's, and what is between them. */
#define LINE_MAX (ERROR_MESSAGE_MAX + 128)

void nbd_log_init(struct nbd_log *log, bool (*print)(const char *line))
{
	*log = (struct nbd_log){
		.print = print,
		.burst = NBD_LOG_LINES_PER_SECOND,
		.more = {"", " more such lines left out"},
		.second_ms = clock_now_ms(),
	};
	pthread_mutex_init(&log->lock, NULL);
}

static void tell_left_out_locked(struct nbd_log *log)
{
	char line[128];

	if (!log->left_out)
		return;
	snprintf(line, sizeof(line), "%s%" PRIu64 "%s", log->more[0],
		 log->left_out, log->more[1]);
	if (log->print(line))
		log->left_out = 0;
}

void nbd_log_release(struct nbd_log *log)
{
	tell_left_out_locked(log);
	pthread_mutex_destroy(&log->lock);
}

/* What time has given back to the budget. */
static void refill_locked(struct nbd_log *log)
{
	int64_t now_ms = clock_now_ms();
	int64_t seconds = (now_ms - log->second_ms) / 1000;
	int64_t lines = seconds > log->burst
				? log->burst
				: seconds * NBD_LOG_LINES_PER_SECOND;

	if (seconds <= 0)
		return;
	log->second_ms = now_ms;
	log->lines -= lines < log->lines ? (unsigned)lines : log->lines;
	tell_left_out_locked(log);
}

static void print_locked(struct nbd_log *log, const char *line)
{
	refill_locked(log);
	if (log->lines < log->burst && log->print(line))
		log->lines++;
	else
		log->left_out++;
}

void nbd_log_client(struct nbd_log *log, const char *peer, const char *fmt, ...)
{
	char line[LINE_MAX];
	va_list args;
	int len;

	len = snprintf(line, sizeof(line), "client %s: ", peer);
	va_start(args, fmt);
	vsnprintf(line + len, sizeof(line) - (size_t)len, fmt, args);
	va_end(args);
	nbd_log_line(log, line);
}

void nbd_log_line(struct nbd_log *log, const char *line)
{
	pthread_mutex_lock(&log->lock);
	print_locked(log, line);
	pthread_mutex_unlock(&log->lock);
}
