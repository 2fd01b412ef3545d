/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What an export's clients have asked for: how much of each kind, how often in
 * vain, and how long it took. A connection counts for itself, and adds what it
 * has counted to the export's once for each batch of replies.
 */
#ifndef PLATTER_NBD_SERVER_STATS_H
#define PLATTER_NBD_SERVER_STATS_H

#include <pthread.h>
#include <stdint.h>

#include "nbd-server/wire.h"

#define NBD_STATS_OPS (NBD_CMD_RESIZE + 1)
/* Of latency: bucket n holds what took less than 2^n microseconds. */
#define NBD_STATS_BUCKETS 24

struct nbd_counts {
	struct nbd_op_counts {
		uint64_t requests, errors, bytes;
	} ops[NBD_STATS_OPS];
	uint64_t latency[NBD_STATS_BUCKETS]; /* the last: that or longer */
	uint64_t depth_max; /* requests of one client at once */
};

struct nbd_stats {
	pthread_mutex_t lock; /* a leaf */
	struct nbd_counts counts;
	uint64_t clients; /* that have chosen the export, ever */
};

void nbd_stats_init(struct nbd_stats *stats);
void nbd_stats_release(struct nbd_stats *stats);

/* One request that took from `start_ns` (clock.h) until now; `type` < OPS. */
void nbd_counts_add(struct nbd_counts *counts, unsigned type, uint64_t bytes,
		    bool failed, uint64_t start_ns);
/* Any thread; empties `counts`. */
void nbd_stats_add(struct nbd_stats *stats, struct nbd_counts *counts);
void nbd_stats_add_client(struct nbd_stats *stats);
/* Any thread: as it is at this moment. */
void nbd_stats_read(struct nbd_stats *stats, struct nbd_counts *counts,
		    uint64_t *clients);

/* "read", "write", ... for messages. */
const char *nbd_stats_op_name(unsigned type);

#endif
