/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The path that every server's requests take. A server's thread owns a queue
 * per client (or ring); it finishes on the spot what needs no waiting, and
 * starts the rest:
 *
 *	if (queue_try(q, r, more_follow))
 *		answer(r);
 *	else
 *		queue_start(q, r);	(r->buf has to stay from here on)
 *	...
 *	poll queue_fd(q) beside the client
 *	while ((r = queue_reap(q)))
 *		answer(r);
 *
 * What is started goes to the kernel's ring if it is one run of plain bytes in
 * a file that are not in memory, or that bypass it; and to a worker otherwise.
 * A wake-up across processors costs more than most requests, so little is
 * started (spec: performance 0).
 *
 * Order: none among requests in flight, except that a flush covers whatever was
 * finished before it was tried or started.
 *
 * Threads: every function wants the owner's thread.
 */
#ifndef PLATTER_BLOCK_QUEUE_H
#define PLATTER_BLOCK_QUEUE_H

#include <stdbool.h>

#include "block/request.h"

struct queue;
struct worker_pool;

/*
 * `img` and `pool` outlive the queue. No pool: a serial queue, on which every
 * request finishes in queue_try(); for tests, and for finding bugs.
 */
int queue_new(struct queue **out, struct image *img, struct worker_pool *pool);
/* Nothing may be pending. NULL is fine. */
void queue_free(struct queue *q);

/*
 * True: finished, r->status says how. `more`: others wait for this thread, so
 * it does nothing that takes long; else, with nothing pending, it may.
 */
bool queue_try(struct queue *q, struct request *r, bool more);
/*
 * A read without a copy: r->buf leads to bytes for system calls to read from
 * (storage_lend() says what else not to do with them), and the range stays
 * held, until queue_return(). False: they are not at hand, use queue_try().
 * `whole`: no lending of ranges that have holes, which zeros would be sent for.
 */
bool queue_lend(struct queue *q, struct request *r, bool whole);
void queue_return(struct queue *q, struct request *r);
/* Once queue_try() has said no. Comes back through queue_reap(). */
void queue_start(struct queue *q, struct request *r);
/* Started and not yet reaped. */
unsigned queue_pending(const struct queue *q);

/* Readable once there is something to reap. */
int queue_fd(const struct queue *q);
/* A request that is finished, or NULL. */
struct request *queue_reap(struct queue *q);
/* Waits for one; NULL only if nothing is pending. */
struct request *queue_wait(struct queue *q);
/* What nobody has begun comes back with -ECANCELED. */
void queue_cancel(struct queue *q);

#endif
