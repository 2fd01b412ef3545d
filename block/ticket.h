/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Turns: work done by many threads in any order, but one step of it in the
 * order of tickets, so that the result does not depend on how many there are.
 *
 * Any thread. A ticket is taken by taking work; every ticket taken must pass
 * its turn, in success or failure, or those behind it wait for ever.
 */
#ifndef PLATTER_BLOCK_TICKET_H
#define PLATTER_BLOCK_TICKET_H

#include <pthread.h>
#include <stdint.h>

struct ticket_order {
	pthread_mutex_t mutex;
	pthread_cond_t moved;
	uint64_t now; /* whose turn it is; tickets count from 0 */
};

void ticket_order_init(struct ticket_order *order);
void ticket_order_release(struct ticket_order *order);
/* Blocks until it is `ticket`'s turn. */
void ticket_wait(struct ticket_order *order, uint64_t ticket);
/* It is ticket's turn, and over now. */
void ticket_pass(struct ticket_order *order, uint64_t ticket);

#endif
