/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Threads for what would keep a server's thread waiting. One pool serves all
 * queues of a process: work is done in the order it came.
 *
 * Threads are started when work finds none idle, up to the pool's limit, and
 * stay. Signals are left to the other threads of the program. Any thread.
 */
#ifndef PLATTER_BLOCK_WORKER_POOL_H
#define PLATTER_BLOCK_WORKER_POOL_H

#include <stdbool.h>

struct worker_pool;

/* Embedded in what is to be done. */
struct work {
	struct work *next;
	void (*run)(struct work *work);
	const void *owner; /* for worker_pool_revoke() */
};

/* At most `thread_limit` (>= 1) threads; -ENOMEM. */
int worker_pool_new(struct worker_pool **out, unsigned thread_limit);
/*
 * False: no thread runs, and none can be started; nothing was taken. `work` is
 * the pool's until its run() begins.
 */
bool worker_pool_add(struct worker_pool *pool, struct work *work);
/* Takes back what nobody has begun; a list over `next`, in order. */
struct work *worker_pool_revoke(struct worker_pool *pool, const void *owner);
/* No work may be left. NULL is fine. */
void worker_pool_free(struct worker_pool *pool);

#endif
