/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. */
#include "tests/support/crash-jobs.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/bytes.h"

struct shared {
	atomic_uint next_lane; /* nothing else is read after it */
	struct crash_worker workers[CRASH_JOBS_MAX];
};

void crash_worker_run(struct crash_worker *w, const struct crash_case *c)
{
	w->now = *c;
	crash_run(c, &w->totals);
}

static void work(struct shared *shared, struct crash_worker *w,
		 crash_lane_fn *lane_fn, const void *plan)
{
	unsigned lane;

	while ((lane = atomic_fetch_add(&shared->next_lane, 1)) < CRASH_LANES)
		lane_fn(plan, lane, w);
}

static void await(pid_t pid, struct crash_worker *w)
{
	int status;

	if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	    !WEXITSTATUS(status))
		return;
	fprintf(stderr, "the program died (status %#x)\n", (unsigned)status);
	if (w->now.geometry)
		crash_case_print(&w->now);
	w->totals.violations++;
}

struct crash_totals crash_jobs_run(unsigned jobs, crash_lane_fn *lane_fn,
				   const void *plan)
{
	struct crash_totals sum = {0};
	pid_t pids[CRASH_JOBS_MAX];
	struct shared *shared =
		mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert(jobs && jobs <= CRASH_JOBS_MAX);
	if (shared == MAP_FAILED)
		abort();
	for (unsigned i = 0; i < jobs; i++) {
		pids[i] = fork();
		if (pids[i] < 0)
			abort();
		if (!pids[i]) {
			work(shared, &shared->workers[i], lane_fn, plan);
			exit(0);
		}
	}
	for (unsigned i = 0; i < jobs; i++) {
		await(pids[i], &shared->workers[i]);
		sum.states += shared->workers[i].totals.states;
		sum.violations += shared->workers[i].totals.violations;
	}
	munmap(shared, sizeof(*shared));
	return sum;
}

unsigned crash_jobs_default(void)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);

	return processors > 0
		       ? (unsigned)min_u64((uint64_t)processors, CRASH_JOBS_MAX)
		       : 1;
}
