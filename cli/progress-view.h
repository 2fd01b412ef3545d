/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shows how far a job is, and passes the user's wish to stop on to it.
 *
 * A thread of the view's own looks at the counters; the job never waits for a
 * terminal. What is shown where:
 *
 *	-p               percent on stdout, as qemu-img prints it
 *	--progress=json  one JSON object a line on a descriptor (stderr):
 *			 {"done": N, "total": N, "percent": P, "elapsed": S}
 *	nothing          a bar on stderr, if that is a terminal and the
 *	                 job takes longer than a second; not with -q
 *	SIGUSR1          one line with the percentage on stderr, any time
 *
 * While a view is active SIGINT, SIGTERM and SIGHUP cancel the job cleanly; the
 * second one ends the program at once. Those that were ignored stay so. A job
 * that still waits for a server a second later does so no longer.
 */
#ifndef PLATTER_CLI_PROGRESS_VIEW_H
#define PLATTER_CLI_PROGRESS_VIEW_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "block/progress.h"
#include "cli/args.h"

struct progress_view {
	struct progress progress; /* hand this to the job */
	/* the view's own */
	struct progress_wish wish;
	bool bar; /* draw one once a second has passed */
	bool bar_drawn;
	double step;	   /* least distance of two -p lines, in percent */
	double last_shown; /* percent */
	uint64_t start_ns, cancel_ns;
	pthread_t thread;
	bool running;
	_Atomic bool stopping;
	sigset_t old_mask;
};

/*
 * Starts showing. `step` is the least distance of two lines of -p in percent
 * points: 1 for most commands. Call it before the job makes threads.
 */
void progress_view_start(struct progress_view *view,
			 const struct progress_wish *wish, bool quiet,
			 double step);

/* The job is over; `success` shows the last hundred percent. */
void progress_view_stop(struct progress_view *view, bool success);

/* A signal asked the job to stop. */
bool progress_view_cancelled(const struct progress_view *view);

#endif
