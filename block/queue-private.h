/* SPDX-License-Identifier: BSD-3-Clause */
/* Shared by queue*.c only. */
#ifndef PLATTER_BLOCK_QUEUE_PRIVATE_H
#define PLATTER_BLOCK_QUEUE_PRIVATE_H

#include <pthread.h>

#include "block/queue.h"

struct queue_ring;

struct queue {
	struct image *img;
	struct worker_pool *pool;
	int event_fd;
	unsigned pending_count;

	struct queue_ring *ring; /* made when it is first needed */
	bool no_ring;		 /* the kernel has none for us */

	pthread_mutex_t lock; /* of what workers finish; a leaf */
	struct request *done, **done_last;
};

/* A worker does it, as a plain call. */
void queue_hand_over(struct queue *q, struct request *r);

/* ---- queue-ring.c ---- */

/* False: the ring cannot take it, and nothing is held. */
bool queue_ring_start(struct queue *q, struct request *r);
/* A request whose transfer has ended; hands over what it could not do. */
struct request *queue_ring_reap(struct queue *q);
void queue_ring_free(struct queue_ring *ring);

#endif
