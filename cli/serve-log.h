/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lines on stderr about the clients of a server: failures alone, or with --log
 * each one's coming, its export and its end. Within a budget: a client that
 * connects in a loop fills no disk, and one that nobody reads of waits for
 * nobody.
 */
#ifndef PLATTER_CLI_SERVE_LOG_H
#define PLATTER_CLI_SERVE_LOG_H

#include <stdbool.h>

#include "nbd-server/events.h"
#include "nbd-server/log.h"

enum serve_log { SERVE_LOG_NONE, SERVE_LOG_TEXT, SERVE_LOG_JSON };

/* The word of --log: "" and "text", or "json". 0 or -EINVAL. */
int serve_log_word(const char *word, enum serve_log *out);

struct serve_logger {
	struct nbd_log log;
	struct nbd_observer observer; /* tells `log` */
};

void serve_logger_init(struct serve_logger *logger, enum serve_log how);
void serve_logger_release(struct serve_logger *logger);

#endif
