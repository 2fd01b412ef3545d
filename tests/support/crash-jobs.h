/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Crash runs in several processes. Work is cut into lanes, which whoever is
 * free takes; what a lane does depends on its number alone, so that the number
 * of processes changes nothing of the result.
 */
#ifndef PLATTER_TESTS_SUPPORT_CRASH_JOBS_H
#define PLATTER_TESTS_SUPPORT_CRASH_JOBS_H

#include "tests/support/crash-run.h"

#define CRASH_JOBS_MAX 256
#define CRASH_LANES    16 /* so many processes can be busy */

/* Shared with the parent: one that dies leaves word of where. */
struct crash_worker {
	struct crash_totals totals;
	struct crash_case now;
};

/* What the case points to was there before the processes. */
void crash_worker_run(struct crash_worker *w, const struct crash_case *c);

typedef void crash_lane_fn(const void *plan, unsigned lane,
			   struct crash_worker *w);

/* A process that died is one violation more. Aborts if there can be none. */
struct crash_totals crash_jobs_run(unsigned jobs, crash_lane_fn *lane_fn,
				   const void *plan);
/* As many as there are processors. */
unsigned crash_jobs_default(void);

#endif
