/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who waits for whom. A hold is in the lock's list before its owner sleeps, so
 * the tests wait until it shows up there, and never for time to pass.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>

#include "block/range-lock.h"

/* A thread that takes one hold, and drops it when told to. */
struct waiter {
	struct range_lock *lock;
	struct range_hold hold;
	uint64_t off, len;
	enum range_hold_kind kind;
	pthread_t thread;
};

static void *waiter_run(void *arg)
{
	struct waiter *w = arg;

	range_hold_take(w->lock, &w->hold, w->off, w->len, w->kind);
	return NULL;
}

static bool is_queued(struct range_lock *lock, const struct range_hold *hold)
{
	const struct range_hold *h;

	pthread_mutex_lock(&lock->mutex);
	for (h = lock->first; h && h != hold; h = h->next)
		;
	pthread_mutex_unlock(&lock->mutex);
	return h != NULL;
}

static bool is_granted(struct range_lock *lock, const struct range_hold *hold)
{
	bool granted;

	pthread_mutex_lock(&lock->mutex);
	granted = hold->granted;
	pthread_mutex_unlock(&lock->mutex);
	return granted;
}

/* On return the hold is queued, granted or not. */
static void waiter_start(struct waiter *w, struct range_lock *lock,
			 uint64_t off, uint64_t len, enum range_hold_kind kind)
{
	*w = (struct waiter){
		.lock = lock, .off = off, .len = len, .kind = kind};
	assert_int_equal(pthread_create(&w->thread, NULL, waiter_run, w), 0);
	while (!is_queued(lock, &w->hold))
		sched_yield();
}

/* Returns once the hold is granted; hangs if it never is. */
static void waiter_join(struct waiter *w)
{
	assert_int_equal(pthread_join(w->thread, NULL), 0);
	assert_true(w->hold.granted);
}

static void readers_share_and_writers_exclude(void **state)
{
	struct range_hold a, b, c;
	struct range_lock lock;

	(void)state;
	range_lock_init(&lock);
	assert_true(range_hold_try(&lock, &a, 0, 10, RANGE_SHARED));
	assert_true(range_hold_try(&lock, &b, 5, 10, RANGE_SHARED));
	assert_false(range_hold_try(&lock, &c, 14, 1, RANGE_EXCLUSIVE));
	range_hold_drop(&lock, &b);
	assert_true(range_hold_try(&lock, &c, 14, 1, RANGE_EXCLUSIVE));
	assert_false(range_hold_try(&lock, &b, 14, 1, RANGE_SHARED));
	assert_false(range_hold_try(&lock, &b, 14, 1, RANGE_EXCLUSIVE));
	range_hold_drop(&lock, &a);
	range_hold_drop(&lock, &c);
	range_lock_release(&lock);
}

static void only_overlapping_ranges_conflict(void **state)
{
	struct range_hold a, b, c, last;
	struct range_lock lock;

	(void)state;
	range_lock_init(&lock);
	assert_true(range_hold_try(&lock, &a, 100, 100, RANGE_EXCLUSIVE));
	assert_true(range_hold_try(&lock, &b, 0, 100, RANGE_EXCLUSIVE));
	assert_true(range_hold_try(&lock, &c, 200, 100, RANGE_EXCLUSIVE));
	range_hold_drop(&lock, &b);
	range_hold_drop(&lock, &c);
	assert_false(range_hold_try(&lock, &b, 0, 101, RANGE_EXCLUSIVE));
	assert_false(range_hold_try(&lock, &b, 199, 1, RANGE_SHARED));
	assert_false(range_hold_try(&lock, &b, 120, 10, RANGE_SHARED));
	assert_false(range_hold_try(&lock, &b, 0, 1000, RANGE_SHARED));
	assert_true(range_hold_try(&lock, &last, 1000, UINT64_MAX - 1000,
				   RANGE_EXCLUSIVE));
	assert_false(
		range_hold_try(&lock, &b, UINT64_MAX - 1, 1, RANGE_SHARED));
	range_hold_drop(&lock, &last);
	range_hold_drop(&lock, &a);
	range_lock_release(&lock);
}

static void failed_tries_leave_nothing_behind(void **state)
{
	struct range_hold reader, writer, other;
	struct range_lock lock;

	(void)state;
	range_lock_init(&lock);
	assert_true(range_hold_try(&lock, &reader, 0, 10, RANGE_SHARED));
	assert_false(range_hold_try(&lock, &writer, 0, 10, RANGE_EXCLUSIVE));
	/* A writer that is not waiting stands in nobody's way. */
	assert_true(range_hold_try(&lock, &other, 0, 10, RANGE_SHARED));
	range_hold_drop(&lock, &other);
	range_hold_drop(&lock, &reader);
	range_lock_release(&lock);
}

static void readers_queue_behind_a_waiting_writer(void **state)
{
	struct waiter writer, reader;
	struct range_hold first, apart, try;
	struct range_lock lock;

	(void)state;
	range_lock_init(&lock);
	range_hold_take(&lock, &first, 0, 10, RANGE_SHARED);
	waiter_start(&writer, &lock, 5, 10, RANGE_EXCLUSIVE);
	waiter_start(&reader, &lock, 8, 10, RANGE_SHARED);
	assert_false(is_granted(&lock, &writer.hold));
	assert_false(is_granted(&lock, &reader.hold));
	assert_false(range_hold_try(&lock, &try, 5, 1, RANGE_SHARED));
	/* What overlaps no writer passes at once. */
	assert_true(range_hold_try(&lock, &apart, 0, 5, RANGE_SHARED));
	range_hold_drop(&lock, &apart);

	range_hold_drop(&lock, &first);
	waiter_join(&writer);
	assert_false(is_granted(&lock, &reader.hold));
	range_hold_drop(&lock, &writer.hold);
	waiter_join(&reader);
	range_hold_drop(&lock, &reader.hold);
	range_lock_release(&lock);
}

static void a_drop_lets_all_who_can_go_on(void **state)
{
	struct waiter readers[3], writer;
	struct range_hold first;
	struct range_lock lock;

	(void)state;
	range_lock_init(&lock);
	range_hold_take(&lock, &first, 0, 100, RANGE_EXCLUSIVE);
	for (unsigned i = 0; i < 3; i++)
		waiter_start(&readers[i], &lock, i * 10, 20, RANGE_SHARED);
	waiter_start(&writer, &lock, 60, 10, RANGE_EXCLUSIVE);
	range_hold_drop(&lock, &first);
	for (unsigned i = 0; i < 3; i++)
		waiter_join(&readers[i]);
	waiter_join(&writer);
	for (unsigned i = 0; i < 3; i++)
		range_hold_drop(&lock, &readers[i].hold);
	range_hold_drop(&lock, &writer.hold);
	range_lock_release(&lock);
}

static void writers_go_in_order_of_arrival(void **state)
{
	struct waiter writers[4];
	struct range_hold first;
	struct range_lock lock;

	(void)state;
	range_lock_init(&lock);
	range_hold_take(&lock, &first, 0, 1, RANGE_EXCLUSIVE);
	for (unsigned i = 0; i < 4; i++)
		waiter_start(&writers[i], &lock, 0, 1 + i, RANGE_EXCLUSIVE);
	range_hold_drop(&lock, &first);
	for (unsigned i = 0; i < 4; i++) {
		waiter_join(&writers[i]);
		for (unsigned k = i + 1; k < 4; k++)
			assert_false(is_granted(&lock, &writers[k].hold));
		range_hold_drop(&lock, &writers[i].hold);
	}
	range_lock_release(&lock);
}

/*
 * Many threads on plain, unguarded numbers: a thread sanitizer sees it if the
 * lock lets two in, and a lost update shows in the sum.
 */
#define CELLS	   16
#define THREADS	   6
#define ROUNDS	   2000
#define WRITE_STEP 3

struct storm {
	struct range_lock lock;
	uint64_t cells[CELLS];
};

struct storm_thread {
	struct storm *storm;
	unsigned seed;
	uint64_t added;
	bool torn;
	pthread_t thread;
};

static void storm_write(struct storm_thread *t, unsigned at, unsigned len)
{
	for (unsigned i = at; i < at + len; i++)
		t->storm->cells[i] += WRITE_STEP;
	t->added += (uint64_t)len * WRITE_STEP;
}

static void storm_read(struct storm_thread *t, unsigned at, unsigned len)
{
	for (unsigned i = at; i < at + len; i++)
		if (t->storm->cells[i] % WRITE_STEP)
			t->torn = true;
}

static void *storm_run(void *arg)
{
	struct storm_thread *t = arg;

	for (unsigned round = 0; round < ROUNDS; round++) {
		unsigned at = (unsigned)rand_r(&t->seed) % CELLS;
		unsigned len = 1 + (unsigned)rand_r(&t->seed) % (CELLS - at);
		bool write = rand_r(&t->seed) % 3 == 0;
		struct range_hold hold;

		range_hold_take(&t->storm->lock, &hold, at, len,
				write ? RANGE_EXCLUSIVE : RANGE_SHARED);
		if (write)
			storm_write(t, at, len);
		else
			storm_read(t, at, len);
		range_hold_drop(&t->storm->lock, &hold);
	}
	return NULL;
}

static void no_update_is_lost_in_a_storm(void **state)
{
	static struct storm storm;
	struct storm_thread threads[THREADS];
	uint64_t sum = 0, added = 0;

	(void)state;
	range_lock_init(&storm.lock);
	for (unsigned i = 0; i < THREADS; i++) {
		threads[i] = (struct storm_thread){.storm = &storm, .seed = i};
		assert_int_equal(pthread_create(&threads[i].thread, NULL,
						storm_run, &threads[i]),
				 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i].thread, NULL);
		assert_false(threads[i].torn);
		added += threads[i].added;
	}
	for (unsigned i = 0; i < CELLS; i++)
		sum += storm.cells[i];
	assert_int_equal(sum, added);
	assert_true(sum > 0);
	range_lock_release(&storm.lock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(readers_share_and_writers_exclude),
		cmocka_unit_test(only_overlapping_ranges_conflict),
		cmocka_unit_test(failed_tries_leave_nothing_behind),
		cmocka_unit_test(readers_queue_behind_a_waiting_writer),
		cmocka_unit_test(a_drop_lets_all_who_can_go_on),
		cmocka_unit_test(writers_go_in_order_of_arrival),
		cmocka_unit_test(no_update_is_lost_in_a_storm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
