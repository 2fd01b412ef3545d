/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One I/O of a disk in flight: what servers of every kind make of what their
 * clients ask, and what queue.h carries out.
 */
#ifndef PLATTER_BLOCK_REQUEST_H
#define PLATTER_BLOCK_REQUEST_H

#include <stdint.h>

#include "block/image.h"
#include "block/worker-pool.h"

enum request_op {
	REQUEST_READ,
	REQUEST_WRITE,
	REQUEST_ZERO,
	REQUEST_DISCARD,
	REQUEST_FLUSH,
	REQUEST_CALL, /* `call` does it: what may read metadata for long */
};

/* Durable when it is finished: of a write, a zero or a discard. */
#define REQUEST_FUA 1u
/* Of a zero: may give the space back; fails rather than writes zeros. */
#define REQUEST_MAY_UNMAP   2u
#define REQUEST_NO_FALLBACK 4u

/*
 * Belongs to the server from queue_reap() on, or until queue_start(). The range
 * has been checked against the size of the disk.
 */
struct request {
	enum request_op op;
	unsigned flags;
	uint64_t guest_off, len;
	void *buf; /* len bytes to read into or to write */
	int (*call)(struct request *r);

	int status; /* when finished: 0 or a negative errno */

	/* The queue's. */
	struct queue *queue;
	struct request *next;
	struct work work;
	struct image_run run;
};

#endif
