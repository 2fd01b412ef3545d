/* SPDX-License-Identifier: BSD-3-Clause */
/* Work is done in order, by no more threads than allowed, or taken back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pthread.h>
#include <semaphore.h>

#include "block/worker-pool.h"

#define COUNT 50

struct job {
	struct work work; /* first */
	struct record *record;
	int number;
};

/* Who did what, and a gate that holds work up until it is opened. */
struct record {
	pthread_mutex_t lock;
	int order[COUNT];
	int count;
	int now, most; /* at once */
	sem_t gate, begun, done;
};

static void record_init(struct record *record)
{
	*record = (struct record){.lock = PTHREAD_MUTEX_INITIALIZER};
	sem_init(&record->gate, 0, 0);
	sem_init(&record->begun, 0, 0);
	sem_init(&record->done, 0, 0);
}

static void run(struct work *work)
{
	struct job *job = (struct job *)work;
	struct record *record = job->record;

	sem_post(&record->begun);
	pthread_mutex_lock(&record->lock);
	record->now++;
	if (record->now > record->most)
		record->most = record->now;
	pthread_mutex_unlock(&record->lock);
	sem_wait(&record->gate);
	pthread_mutex_lock(&record->lock);
	record->now--;
	record->order[record->count++] = job->number;
	pthread_mutex_unlock(&record->lock);
	sem_post(&record->done);
}

static void add(struct worker_pool *pool, struct record *record,
		struct job *job, int number)
{
	*job = (struct job){
		.work = {.run = run, .owner = record},
		.record = record,
		.number = number,
	};
	assert_true(worker_pool_add(pool, &job->work));
}

static void wait_times(sem_t *sem, int times)
{
	while (times-- > 0)
		sem_wait(sem);
}

static void post_times(sem_t *sem, int times)
{
	while (times-- > 0)
		sem_post(sem);
}

static void one_thread_keeps_the_order(void **state)
{
	struct job jobs[COUNT];
	struct worker_pool *pool;
	struct record record;

	(void)state;
	record_init(&record);
	assert_int_equal(worker_pool_new(&pool, 1), 0);
	for (int i = 0; i < COUNT; i++)
		add(pool, &record, &jobs[i], i);
	post_times(&record.gate, COUNT);
	wait_times(&record.done, COUNT);
	worker_pool_free(pool);
	for (int i = 0; i < COUNT; i++)
		assert_int_equal(record.order[i], i);
	assert_int_equal(record.most, 1);
}

static void no_more_threads_than_allowed(void **state)
{
	struct job jobs[COUNT];
	struct worker_pool *pool;
	struct record record;

	(void)state;
	record_init(&record);
	assert_int_equal(worker_pool_new(&pool, 3), 0);
	for (int i = 0; i < COUNT; i++)
		add(pool, &record, &jobs[i], i);
	/* All three have begun, so all three are held up at once. */
	wait_times(&record.begun, 3);
	post_times(&record.gate, COUNT);
	wait_times(&record.done, COUNT);
	worker_pool_free(pool);
	assert_int_equal(record.count, COUNT);
	assert_in_range(record.most, 1, 3);
}

static void waiting_work_can_be_taken_back(void **state)
{
	struct record record, other;
	struct worker_pool *pool;
	struct job jobs[6];
	struct work *back;

	(void)state;
	record_init(&record);
	record_init(&other);
	assert_int_equal(worker_pool_new(&pool, 1), 0);
	add(pool, &record, &jobs[0], 0);
	wait_times(&record.begun, 1);
	for (int i = 1; i < 6; i++)
		add(pool, i % 2 ? &record : &other, &jobs[i], i);

	back = worker_pool_revoke(pool, &record);
	for (int i = 1; i < 6; i += 2) {
		assert_ptr_equal(back, &jobs[i].work);
		back = back->next;
	}
	assert_null(back);
	/* What was left, and what comes after, is done. */
	add(pool, &other, &jobs[1], 6);
	post_times(&record.gate, 1);
	post_times(&other.gate, 3);
	wait_times(&record.done, 1);
	wait_times(&other.done, 3);
	worker_pool_free(pool);
	assert_int_equal(record.count, 1);
	assert_int_equal(other.order[0], 2);
	assert_int_equal(other.order[1], 4);
	assert_int_equal(other.order[2], 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_thread_keeps_the_order),
		cmocka_unit_test(no_more_threads_than_allowed),
		cmocka_unit_test(waiting_work_can_be_taken_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
