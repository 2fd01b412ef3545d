/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads by io_uring: single runs of plain bytes, into the request's own buffer.
 * For what is not in memory, or goes past it; data in memory gains nothing
 * (spec: performance 4). The range is held until the transfer ends. Writes go
 * through the storage, whose locks keep them apart from its own rewriting of
 * partial blocks.
 *
 * Whatever does not end as it should, short or failed, is done once more by a
 * worker, whose plain call finds the true error.
 */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

#include "block/bytes.h"
#include "block/queue-private.h"
#include "block/storage.h"

#define ENTRIES 64

struct queue_ring {
	struct io_uring uring;
	unsigned in_flight;
};

static struct queue_ring *ring_new(int event_fd)
{
	struct queue_ring *ring = calloc(1, sizeof(*ring));

	if (!ring)
		return NULL;
	if (io_uring_queue_init(ENTRIES, &ring->uring, 0) < 0) {
		free(ring);
		return NULL;
	}
	if (io_uring_register_eventfd(&ring->uring, event_fd) < 0) {
		queue_ring_free(ring);
		return NULL;
	}
	return ring;
}

void queue_ring_free(struct queue_ring *ring)
{
	if (!ring)
		return;
	io_uring_queue_exit(&ring->uring);
	free(ring);
}

/* In files the kernel moves bytes as they are, if the alignment suits it. */
static bool suits(const struct request *r)
{
	const struct storage *s = r->run.storage;

	return s->fd >= 0 && is_aligned(r->run.host_off, s->align) &&
	       is_aligned(r->len, s->align) &&
	       is_aligned((uintptr_t)r->buf, s->mem_align) &&
	       r->len <= INT32_MAX;
}

static bool may_use_ring(struct queue *q, const struct request *r)
{
	if (r->op != REQUEST_READ || q->no_ring)
		return false;
	if (!q->ring) {
		q->ring = ring_new(q->event_fd);
		q->no_ring = !q->ring;
	}
	return q->ring && q->ring->in_flight < ENTRIES;
}

/*
 * One by one: what is started here goes to a disk, beside which the call is
 * nothing. What the kernel does not take at once becomes an entry that does
 * nothing and goes along with a later one: nobody would wait for it.
 */
static bool submit(struct queue_ring *ring, struct request *r)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

	if (!sqe)
		return false;
	io_uring_prep_read(sqe, r->run.storage->fd, r->buf, r->len,
			   r->run.host_off);
	io_uring_sqe_set_data(sqe, r);
	if (io_uring_submit(&ring->uring) < 1 ||
	    io_uring_sq_ready(&ring->uring)) {
		io_uring_prep_nop(sqe);
		io_uring_sqe_set_data(sqe, NULL);
		return false;
	}
	ring->in_flight++;
	return true;
}

bool queue_ring_start(struct queue *q, struct request *r)
{
	if (!may_use_ring(q, r) ||
	    !image_run_take(q->img, &r->run, r->guest_off, r->len))
		return false;
	if (suits(r) && submit(q->ring, r))
		return true;
	image_run_drop(&r->run);
	return false;
}

struct request *queue_ring_reap(struct queue *q)
{
	struct queue_ring *ring = q->ring;
	struct io_uring_cqe *cqe;

	if (!ring || !ring->in_flight)
		return NULL;
	while (!io_uring_peek_cqe(&ring->uring, &cqe)) {
		struct request *r = io_uring_cqe_get_data(cqe);
		int64_t done = cqe->res;
		bool whole;

		io_uring_cqe_seen(&ring->uring, cqe);
		if (!r)
			continue;
		whole = done >= 0 && (uint64_t)done == r->len;
		ring->in_flight--;
		image_run_drop(&r->run);
		if (whole) {
			r->status = 0;
			return r;
		}
		queue_hand_over(q, r);
	}
	return NULL;
}
