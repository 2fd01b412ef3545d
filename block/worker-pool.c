/* SPDX-License-Identifier: BSD-3-Clause */
/* Threads for what waits: see worker-pool.h. The lock is a leaf. */
#include "block/worker-pool.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct worker_pool {
	pthread_mutex_t lock; /* of everything below */
	pthread_cond_t came;
	struct work *first, **last; /* waiting, in order */
	unsigned idle_count, thread_count, thread_limit;
	unsigned waiting_count;
	bool stop;
	pthread_t threads[];
};

static struct work *next_locked(struct worker_pool *pool)
{
	struct work *work;

	while (!pool->first && !pool->stop) {
		pool->idle_count++;
		pthread_cond_wait(&pool->came, &pool->lock);
		pool->idle_count--;
	}
	work = pool->first;
	if (!work)
		return NULL;
	pool->first = work->next;
	if (!pool->first)
		pool->last = &pool->first;
	pool->waiting_count--;
	return work;
}

static void *thread_main(void *opaque)
{
	struct worker_pool *pool = opaque;
	struct work *work;

	pthread_mutex_lock(&pool->lock);
	while ((work = next_locked(pool))) {
		pthread_mutex_unlock(&pool->lock);
		work->run(work);
		pthread_mutex_lock(&pool->lock);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

int worker_pool_new(struct worker_pool **out, unsigned thread_limit)
{
	struct worker_pool *pool;

	assert(thread_limit >= 1);
	pool = calloc(1, sizeof(*pool) + thread_limit * sizeof(pthread_t));
	if (!pool)
		return -ENOMEM;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->came, NULL);
	pool->last = &pool->first;
	pool->thread_limit = thread_limit;
	*out = pool;
	return 0;
}

/* One more thread; its signal mask is inherited from here. */
static bool start_locked(struct worker_pool *pool)
{
	sigset_t all, before;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = pthread_create(&pool->threads[pool->thread_count], NULL,
			     thread_main, pool);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (ret)
		return false;
	pool->thread_count++;
	return true;
}

bool worker_pool_add(struct worker_pool *pool, struct work *work)
{
	bool taken = true;

	pthread_mutex_lock(&pool->lock);
	if (pool->idle_count <= pool->waiting_count &&
	    pool->thread_count < pool->thread_limit)
		taken = start_locked(pool) || pool->thread_count > 0;
	if (taken) {
		work->next = NULL;
		*pool->last = work;
		pool->last = &work->next;
		pool->waiting_count++;
		pthread_cond_signal(&pool->came);
	}
	pthread_mutex_unlock(&pool->lock);
	return taken;
}

struct work *worker_pool_revoke(struct worker_pool *pool, const void *owner)
{
	struct work *revoked = NULL, **end = &revoked, **at;

	pthread_mutex_lock(&pool->lock);
	for (at = &pool->first; *at;) {
		struct work *work = *at;

		if (work->owner != owner) {
			at = &work->next;
			continue;
		}
		*at = work->next;
		work->next = NULL;
		*end = work;
		end = &work->next;
		pool->waiting_count--;
	}
	pool->last = at;
	pthread_mutex_unlock(&pool->lock);
	return revoked;
}

void worker_pool_free(struct worker_pool *pool)
{
	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	assert(!pool->first);
	pool->stop = true;
	pthread_cond_broadcast(&pool->came);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->thread_count; i++)
		pthread_join(pool->threads[i], NULL);
	pthread_cond_destroy(&pool->came);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}
