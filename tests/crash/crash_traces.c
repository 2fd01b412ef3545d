/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Crash test of the qcow2 driver (tests/support/crash-run.h) with what file
 * systems of a real kernel did to their disks: every trace of the folder traces
 * is done to images of several kinds.
 *
 *	crash_traces [--short] [--seed N] [--jobs N] [--sparse N]
 *	             [--trace PATH] [--geometry NAME] [--break N]
 *
 * All traces and geometries, unless one is named. Of the states one of --sparse
 * (1) is judged. --break as in crash_qcow2. Runs where the source is.
 */
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/qcow2/breaks.h"
#include "tests/support/crash-jobs.h"
#include "tests/support/op-trace.h"
#include "tests/support/workload.h"

#define TRACES	     "tests/crash/traces/*.trace"
#define TRACES_MAX   32
#define SHORT	     150
#define TINY_CACHES  "l2-cache-size=4096,refcount-cache-size=4096"
#define LIKE_DEFAULT "l2-cache-size=1048576"

/* Of what is added to an image the amount is that of the trace's disk. */
static const struct workload_geometry geometries[] = {
	{.name = "64k", .create = "cluster_size=65536", .open = LIKE_DEFAULT},
	{.name = "64k-v2",
	 .create = "cluster_size=65536,compat=0.10",
	 .open = LIKE_DEFAULT},
	{.name = "4k", .create = "cluster_size=4096", .open = TINY_CACHES},
	{.name = "4k-lazy",
	 .create = "cluster_size=4096,lazy_refcounts=on",
	 .open = TINY_CACHES},
	{.name = "4k-base",
	 .create = "cluster_size=4096,backing_file=base,backing_fmt=raw",
	 .open = TINY_CACHES,
	 .base_bytes = 1},
	{.name = "4k-snapshot",
	 .create = "cluster_size=4096",
	 .open = TINY_CACHES,
	 .snapshot = true},
	{.name = "512", .create = "cluster_size=512", .open = TINY_CACHES},
};
#define GEOMETRIES (sizeof(geometries) / sizeof(geometries[0]))
#define UNITS_MAX  (TRACES_MAX * GEOMETRIES)

struct plan {
	uint64_t seed;
	unsigned jobs, sparse;
	const char *trace, *geometry; /* the only one, or NULL */

	struct op_trace traces[TRACES_MAX];
	size_t trace_count;
	/* A trace on an image, each with the image's size. */
	struct workload_geometry images[UNITS_MAX];
	struct crash_case cases[UNITS_MAX];
	unsigned case_count;
};

static int add_trace(struct plan *plan, const char *path)
{
	struct op_trace *trace = &plan->traces[plan->trace_count];
	char why[400];

	if (plan->trace_count == TRACES_MAX ||
	    op_trace_read(trace, path, why, sizeof(why)) < 0 ||
	    trace->count > CRASH_STEPS_MAX) {
		fprintf(stderr, "crash_traces: %s\n",
			plan->trace_count == TRACES_MAX ? "too many" : why);
		return -1;
	}
	plan->trace_count++;
	return 0;
}

static int add_traces(struct plan *plan)
{
	glob_t found;
	int ret = glob(plan->trace ? plan->trace : TRACES, 0, NULL, &found);

	if (ret) {
		fprintf(stderr, "crash_traces: no traces\n");
		return -1;
	}
	for (size_t i = 0; !ret && i < found.gl_pathc; i++)
		ret = add_trace(plan, found.gl_pathv[i]);
	globfree(&found);
	return ret;
}

static void add_case(struct plan *plan, const struct op_trace *trace,
		     const struct workload_geometry *geometry)
{
	struct workload_geometry *image = &plan->images[plan->case_count];

	*image = *geometry;
	image->size_bytes = image->size_max = trace->disk_bytes;
	if (image->base_bytes)
		image->base_bytes = trace->disk_bytes;
	plan->cases[plan->case_count++] = (struct crash_case){
		.geometry = image,
		.seed = plan->seed,
		.trace = trace,
		.sparse = plan->sparse,
	};
}

static void add_cases(struct plan *plan)
{
	for (size_t t = 0; t < plan->trace_count; t++) {
		for (size_t g = 0; g < GEOMETRIES; g++) {
			if (!plan->geometry ||
			    !strcmp(plan->geometry, geometries[g].name))
				add_case(plan, &plan->traces[t],
					 &geometries[g]);
		}
	}
}

static void run_lane(const void *opaque, unsigned lane, struct crash_worker *w)
{
	const struct plan *plan = opaque;

	for (unsigned i = lane; i < plan->case_count; i += CRASH_LANES)
		crash_worker_run(w, &plan->cases[i]);
}

static bool parse(struct plan *plan, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";
		uint64_t number = strtoull(value, NULL, 0);

		if (!strcmp(argv[i], "--short")) {
			plan->sparse = SHORT;
			continue;
		}
		if (!strcmp(argv[i], "--seed"))
			plan->seed = number;
		else if (!strcmp(argv[i], "--jobs"))
			plan->jobs = (unsigned)number;
		else if (!strcmp(argv[i], "--sparse"))
			plan->sparse = (unsigned)number;
		else if (!strcmp(argv[i], "--trace"))
			plan->trace = value;
		else if (!strcmp(argv[i], "--geometry"))
			plan->geometry = value;
		else if (strcmp(argv[i], "--break") != 0 ||
			 !crash_break_rule(number))
			return false;
		i++;
	}
	return plan->seed && plan->jobs && plan->jobs <= CRASH_JOBS_MAX;
}

int main(int argc, char **argv)
{
	static struct plan plan = {.seed = 1, .sparse = 1};
	struct crash_totals sum;

	plan.jobs = crash_jobs_default();
	if (!parse(&plan, argc, argv)) {
		fprintf(stderr,
			"usage: crash_traces [--short] [--seed N] [--jobs N]\n"
			"       [--sparse N] [--trace PATH] "
			"[--geometry NAME]\n");
		return 2;
	}
	if (add_traces(&plan) < 0)
		return 2;
	add_cases(&plan);
	printf("crash_traces: seed %" PRIu64 ", %zu traces, %u runs\n",
	       plan.seed, plan.trace_count, plan.case_count);
	fflush(stdout);
	sum = crash_jobs_run(plan.jobs, run_lane, &plan);
	printf("%" PRIu64 " states, %" PRIu64 " violations\n", sum.states,
	       sum.violations);
	for (size_t i = 0; i < plan.trace_count; i++)
		op_trace_release(&plan.traces[i]);
	return sum.violations || !sum.states;
}
