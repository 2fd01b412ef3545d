/* SPDX-License-Identifier: BSD-3-Clause */
/* Counting requests: see stats.h. */
#include "nbd-server/stats.h"

#include <string.h>

#include "block/clock.h"

#define MICROSECOND 1000u

void nbd_stats_init(struct nbd_stats *stats)
{
	memset(stats, 0, sizeof(*stats));
	pthread_mutex_init(&stats->lock, NULL);
}

void nbd_stats_release(struct nbd_stats *stats)
{
	pthread_mutex_destroy(&stats->lock);
}

static unsigned bucket_of(uint64_t ns)
{
	uint64_t us = ns / MICROSECOND;
	unsigned bucket = us ? 64 - (unsigned)__builtin_clzll(us) : 0;

	return bucket < NBD_STATS_BUCKETS ? bucket : NBD_STATS_BUCKETS - 1;
}

void nbd_counts_add(struct nbd_counts *counts, unsigned type, uint64_t bytes,
		    bool failed, uint64_t start_ns)
{
	struct nbd_op_counts *op = &counts->ops[type];

	assert(type < NBD_STATS_OPS);
	op->requests++;
	if (failed)
		op->errors++;
	else
		op->bytes += bytes;
	counts->latency[bucket_of(clock_now_ns() - start_ns)]++;
}

void nbd_stats_add(struct nbd_stats *stats, struct nbd_counts *counts)
{
	struct nbd_counts *sum = &stats->counts;

	pthread_mutex_lock(&stats->lock);
	for (unsigned i = 0; i < NBD_STATS_OPS; i++) {
		sum->ops[i].requests += counts->ops[i].requests;
		sum->ops[i].errors += counts->ops[i].errors;
		sum->ops[i].bytes += counts->ops[i].bytes;
	}
	for (unsigned i = 0; i < NBD_STATS_BUCKETS; i++)
		sum->latency[i] += counts->latency[i];
	sum->depth_max = max_u64(sum->depth_max, counts->depth_max);
	pthread_mutex_unlock(&stats->lock);
	memset(counts, 0, sizeof(*counts));
}

void nbd_stats_add_client(struct nbd_stats *stats)
{
	pthread_mutex_lock(&stats->lock);
	stats->clients++;
	pthread_mutex_unlock(&stats->lock);
}

void nbd_stats_read(struct nbd_stats *stats, struct nbd_counts *counts,
		    uint64_t *clients)
{
	pthread_mutex_lock(&stats->lock);
	*counts = stats->counts;
	*clients = stats->clients;
	pthread_mutex_unlock(&stats->lock);
}

const char *nbd_stats_op_name(unsigned type)
{
	static const char *const names[NBD_STATS_OPS] = {
		"read",	 "write", "disconnect", "flush", "trim",
		"cache", "zero",  "status",	"resize"};

	return names[type];
}
