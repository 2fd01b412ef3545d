/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Crash test of the qcow2 driver (tests/support/crash-run.h): random operations
 * and every short sequence of fixed ones, on images of all geometries.
 *
 *	crash_qcow2 [--short] [--seed N] [--states N] [--jobs N] [--steps N]
 *	            [--geometry NAME [--sequence N]] [--break N]
 *
 * Work goes in rounds: one for each geometry, with a seed of its own, and in
 * each a share of the sequences. At least --states are judged, and at least one
 * round, which has fewer steps and sequences where few states are wanted. The
 * same --states, --steps and seed judge the same states, whatever the number of
 * jobs.
 * With a geometry one case is shown again. --break is there in VARIANT=broken
 * only: the driver then breaks rule WN (formats/qcow2/breaks.h), and this has
 * to be found.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "formats/qcow2/breaks.h"
#include "tests/support/crash-geometries.h"
#include "tests/support/crash-jobs.h"
#include "tests/support/op-sequences.h"

#define STEPS	     300
#define STEPS_MIN    10
#define STEP_STATES  25	    /* of a step, and not less */
#define ROUND_STATES 240000 /* with so many steps, roughly */

struct plan {
	uint64_t seed, states;
	unsigned jobs;
	unsigned steps;	 /* 0: as the round says */
	unsigned sparse; /* one sequence of so many, in all geometries */
	const char *geometry;
	int64_t sequence;
};

/* Round after round each sequence meets each geometry. */
static void run_share(struct crash_worker *w, struct crash_case c,
		      unsigned sparse, uint64_t share)
{
	for (uint64_t n = share % sparse; n < op_sequence_count();
	     n += sparse) {
		c.sequence = (int64_t)n;
		crash_worker_run(w, &c);
	}
}

/* `left`: how many states the lane still needs. */
static unsigned steps_of(const struct plan *plan, uint64_t round,
			 unsigned price, uint64_t left)
{
	static const unsigned steps[] = {STEPS, 1000, STEPS, CRASH_STEPS_MAX};
	uint64_t enough = max_u64(left / STEP_STATES, STEPS);
	unsigned all = plan->steps ? plan->steps : steps[round % 4];

	/* The log of a large image would not fit. */
	if (price > 1)
		return (unsigned)min_u64(all, STEPS) / price;
	return plan->steps ? all : (unsigned)min_u64(all, enough);
}

static void run_unit(const struct plan *plan, uint64_t unit, uint64_t left,
		     struct crash_worker *w)
{
	unsigned g = (unsigned)(unit % crash_geometry_count());
	uint64_t round = unit / crash_geometry_count();
	struct crash_geometry geometry = crash_geometry_get(g);
	const struct crash_case c = {
		.geometry = geometry.image,
		.seed = plan->seed + round,
		.sequence = -1,
		.steps = steps_of(plan, round, geometry.price, left),
	};

	crash_worker_run(w, &c);
	run_share(w, c, plan->sparse * geometry.price, g + c.seed);
}

/* A round that is no larger than what is asked for. */
static void fit_round(struct plan *plan)
{
	uint64_t part = ROUND_STATES / max_u64(plan->states, 1);

	if (part <= 1 || plan->steps)
		return;
	plan->steps = (unsigned)max_u64(STEPS / part, STEPS_MIN);
	plan->sparse *= (unsigned)part;
}

/* Every so many-th unit: a geometry in a round. */
static void run_lane(const void *opaque, unsigned lane, struct crash_worker *w)
{
	const struct plan *plan = opaque;
	uint64_t quota = plan->states * (lane + 1) / CRASH_LANES -
			 plan->states * lane / CRASH_LANES;
	uint64_t end = w->totals.states + quota;

	for (uint64_t unit = lane;
	     unit < crash_geometry_count() || w->totals.states < end;
	     unit += CRASH_LANES)
		run_unit(plan, unit, end - min_u64(end, w->totals.states), w);
}

/* One case, in this process, where a debugger finds it. */
static struct crash_totals work_one(const struct plan *plan)
{
	struct crash_totals sum = {0};
	const struct crash_case c = {
		.geometry = crash_geometry_named(plan->geometry),
		.seed = plan->seed,
		.sequence = plan->sequence,
		.steps = plan->steps ? plan->steps : STEPS,
	};

	if (c.geometry)
		crash_run(&c, &sum);
	return sum;
}

static int usage(void)
{
	fprintf(stderr, "usage: crash_qcow2 [--short] [--seed N] [--states N]\n"
			"       [--jobs N] [--steps N]\n"
			"       [--geometry NAME [--sequence N]]\n");
	return 2;
}

static bool parse(struct plan *plan, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";
		uint64_t number = strtoull(value, NULL, 0);

		if (!strcmp(argv[i], "--short")) {
			/* Every geometry, little of each. */
			plan->states = 1;
			plan->steps = 40;
			plan->sparse = 400;
			continue;
		}
		if (!strcmp(argv[i], "--seed"))
			plan->seed = number;
		else if (!strcmp(argv[i], "--states"))
			plan->states = number;
		else if (!strcmp(argv[i], "--jobs"))
			plan->jobs = (unsigned)number;
		else if (!strcmp(argv[i], "--steps"))
			plan->steps = (unsigned)number;
		else if (!strcmp(argv[i], "--geometry"))
			plan->geometry = value;
		else if (!strcmp(argv[i], "--sequence"))
			plan->sequence = (int64_t)number;
		else if (strcmp(argv[i], "--break") != 0 ||
			 !crash_break_rule(number))
			return false;
		i++;
	}
	return plan->seed && plan->jobs && plan->jobs <= CRASH_JOBS_MAX &&
	       plan->steps <= CRASH_STEPS_MAX &&
	       plan->sequence < (int64_t)op_sequence_count();
}

int main(int argc, char **argv)
{
	struct plan plan = {
		.seed = 1,
		.states = 1000000,
		.jobs = crash_jobs_default(),
		.sparse = crash_geometry_count(),
		.sequence = -1,
	};
	struct crash_totals sum;

	if (!parse(&plan, argc, argv))
		return usage();
	printf("crash_qcow2: seed %" PRIu64 ", %u jobs\n", plan.seed,
	       plan.jobs);
	fflush(stdout);
	if (!plan.geometry)
		fit_round(&plan);
	sum = plan.geometry ? work_one(&plan)
			    : crash_jobs_run(plan.jobs, run_lane, &plan);
	printf("%" PRIu64 " states, %" PRIu64 " violations\n", sum.states,
	       sum.violations);
	return sum.violations || !sum.states;
}
