/* SPDX-License-Identifier: BSD-3-Clause */
/* The threads of a job: see workers.h. */
#include "block/jobs/workers.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

struct call {
	void (*work)(void *arg);
	void *arg;
};

static void *thread_main(void *opaque)
{
	const struct call *call = opaque;

	call->work(call->arg);
	return NULL;
}

void workers_run(unsigned count, void (*work)(void *arg), void *arg)
{
	struct call call = {.work = work, .arg = arg};
	pthread_t threads[WORKERS_MAX];
	unsigned started = 0;
	sigset_t all, before;

	assert(count >= 1 && count <= WORKERS_MAX);
	/* Started threads inherit the mask. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (started < count - 1 &&
	       !pthread_create(&threads[started], NULL, thread_main, &call))
		started++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);

	work(arg);
	while (started > 0)
		pthread_join(threads[--started], NULL);
}

unsigned workers_cpu_count(void)
{
	cpu_set_t set;
	int count;

	if (sched_getaffinity(0, sizeof(set), &set))
		return 1;
	count = CPU_COUNT(&set);
	if (count < 1)
		return 1;
	return count < (int)WORKERS_MAX ? (unsigned)count : WORKERS_MAX;
}
