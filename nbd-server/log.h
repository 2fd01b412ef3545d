/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a server has to say of its clients, a line each. A client can cause as
 * many as it likes: a log has a budget of lines for each second, and counts
 * what goes beyond. Two kinds of lines that must not silence each other take
 * two logs.
 */
#ifndef PLATTER_NBD_SERVER_LOG_H
#define PLATTER_NBD_SERVER_LOG_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define NBD_LOG_LINES_PER_SECOND 10u
/* What a log may be given for many clients that come at once. */
#define NBD_LOG_BURST 300u

struct nbd_log {
	/*
	 * Takes a line, without its end, from any thread but one at a time.
	 * Must not wait; false: it could not, and the line is counted instead.
	 */
	bool (*print)(const char *line);
	unsigned burst;	      /* lines at once; above, those of a second */
	const char *more[2];  /* around the number of those left out */
	pthread_mutex_t lock; /* a leaf */
	int64_t second_ms;    /* when this second began */
	unsigned lines;	      /* of the budget, spent and not back yet */
	uint64_t left_out;    /* not told of yet */
};

/* `burst` and `more` may be changed before the first line. */
void nbd_log_init(struct nbd_log *log, bool (*print)(const char *line));
/* Tells how many lines were left out at last. */
void nbd_log_release(struct nbd_log *log);

/*
 * "client PEER: " and the text, which quotes what strangers wrote
 * (block/quote.h). Any thread.
 */
void nbd_log_client(struct nbd_log *log, const char *peer, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* A line as it is; has no line feed. */
void nbd_log_line(struct nbd_log *log, const char *line);

#endif
