/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How the kernel schedules a client's thread.
 *
 * A client that sends several small requests would be interrupted after each,
 * if it shares our processor: we would wake up, answer one and sleep again. A
 * batch thread does not take the processor from whoever runs, so it finds all
 * of them at once; and a write with its payload, which many clients send apart.
 * With fio's client, 32 requests under way, it is half the CPU and twice the
 * rate, and no loss where others compete for the processors.
 *
 * Large transfers are the opposite: one of us sleeps whenever the socket is
 * full or empty, and every turn that we wait for is one in which nothing moves.
 * Copies into a disk lose a third of their rate to batch threads, and out of it
 * over TLS a quarter. In the clear, where the kernel moves a whole reply in one
 * call, they lose nothing and cost less.
 *
 * Whoever started us with a policy of his own meant it. Where a policy is
 * refused, all works as well.
 */
#ifndef PLATTER_NBD_SERVER_SCHEDULE_H
#define PLATTER_NBD_SERVER_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

/* Of the thread that calls these; zeroed: none of our business. */
struct nbd_schedule {
	bool ours;	/* no policy was chosen for us */
	bool batch;	/* the thread is a batch thread now */
	unsigned small; /* requests since the last large one */
};

/* A batch thread from here on. */
void nbd_schedule_start(struct nbd_schedule *s);

/* A request came that has so many bytes come, or go in many small steps. */
void nbd_schedule_note(struct nbd_schedule *s, uint64_t len);

#endif
