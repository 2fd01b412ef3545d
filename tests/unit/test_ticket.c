/* SPDX-License-Identifier: BSD-3-Clause */
/* Turns come in the order of tickets, whatever the threads do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "block/ticket.h"

#define THREADS 8
#define TICKETS 4000

struct job {
	struct ticket_order order;
	_Atomic uint64_t next;
	uint64_t placed[TICKETS]; /* written in turns only */
	size_t placed_count;
	unsigned inside; /* threads in their turn; not atomic on purpose */
	unsigned most_inside;
};

static void *work(void *opaque)
{
	struct job *job = opaque;

	for (;;) {
		uint64_t ticket = atomic_fetch_add(&job->next, 1);

		if (ticket >= TICKETS)
			return NULL;
		/* Some are late: their turn must be waited for. */
		for (volatile unsigned i = 0; i < (ticket * 37) % 500; i++)
			continue;
		ticket_wait(&job->order, ticket);
		if (++job->inside > job->most_inside)
			job->most_inside = job->inside;
		job->placed[job->placed_count++] = ticket;
		job->inside--;
		ticket_pass(&job->order, ticket);
	}
}

static void turns_come_in_order(void **state)
{
	static struct job job;
	pthread_t threads[THREADS];

	(void)state;
	ticket_order_init(&job.order);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, work, &job),
				 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(job.placed_count, TICKETS);
	for (uint64_t i = 0; i < TICKETS; i++)
		assert_int_equal(job.placed[i], i);
	assert_int_equal(job.most_inside, 1);
	ticket_order_release(&job.order);
}

static void one_thread_passes_turns_alone(void **state)
{
	struct ticket_order order;

	(void)state;
	ticket_order_init(&order);
	for (uint64_t ticket = 0; ticket < 10; ticket++) {
		assert_int_equal(order.now, ticket);
		ticket_wait(&order, ticket);
		ticket_pass(&order, ticket);
	}
	assert_int_equal(order.now, 10);
	ticket_order_release(&order);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_thread_passes_turns_alone),
		cmocka_unit_test(turns_come_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
