/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Turns by a counter. All waiters are woken at each pass: there are about as
 * many as processors, and one of them is the next.
 */
#include "block/ticket.h"

#include <assert.h>

void ticket_order_init(struct ticket_order *order)
{
	pthread_mutex_init(&order->mutex, NULL);
	pthread_cond_init(&order->moved, NULL);
	order->now = 0;
}

void ticket_order_release(struct ticket_order *order)
{
	pthread_cond_destroy(&order->moved);
	pthread_mutex_destroy(&order->mutex);
}

void ticket_wait(struct ticket_order *order, uint64_t ticket)
{
	pthread_mutex_lock(&order->mutex);
	assert(order->now <= ticket);
	while (order->now != ticket)
		pthread_cond_wait(&order->moved, &order->mutex);
	pthread_mutex_unlock(&order->mutex);
}

void ticket_pass(struct ticket_order *order, uint64_t ticket)
{
	pthread_mutex_lock(&order->mutex);
	assert(order->now == ticket);
	order->now++;
	pthread_cond_broadcast(&order->moved);
	pthread_mutex_unlock(&order->mutex);
}
