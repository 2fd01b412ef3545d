/* SPDX-License-Identifier: BSD-3-Clause */
/* Showing what the clients of a server have asked for. */
#ifndef PLATTER_CLI_SERVE_STATS_H
#define PLATTER_CLI_SERVE_STATS_H

#include <stdbool.h>

struct nbd_exports;

enum serve_stats { SERVE_STATS_NONE, SERVE_STATS_HUMAN, SERVE_STATS_JSON };

/*
 * The word of --stats: "" and "human", or "json"; NULL keeps what `*out` holds.
 * False after a message.
 */
bool serve_stats_parse(const char *word, enum serve_stats *out);

/* The same without a message: 0 or -EINVAL. */
int serve_stats_word(const char *word, enum serve_stats *out);

/* On stderr; JSON is one line for each export. */
void serve_stats_print(const struct nbd_exports *exports, enum serve_stats how);

#endif
