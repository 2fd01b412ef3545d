/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Crash test of a layer and its base, two qcow2 files that are both written
 * (tests/support/layer-pair.h). A crash may leave any part of the changes of
 * either file: the disk as the layer shows it and the base alone hold what they
 * may, and both check without corruption. Some states are used on.
 *
 *	crash_layers [--short] [--seed N] [--seeds N] [--steps N]
 *
 * One more run of each kind gives clusters up before the base is flushed. It
 * must be found wrong, or the test sees nothing.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/image.h"
#include "formats/qcow2/layout.h"
#include "tests/support/borrowed-storage.h"
#include "tests/support/crash-states.h"
#include "tests/support/layer-pair.h"

#define STEPS	   120
#define SHORT	   40
#define DEEP_EVERY 64 /* states that are written to as well */
#define DEEP_STEPS 40
#define SHOWN_MAX  3 /* violations of a run */

struct run {
	const struct pair_kind *kind;
	uint64_t seed, random;
	unsigned steps;
	bool careless; /* its violations are expected */
	struct flat_disk start[PAIR_FILES];
	struct storage_log log;
	struct pair_history history;

	/* replay */
	struct layer_pair known; /* without images */
	size_t next_event;
	uint64_t states, failures;
};

static void fail(struct run *run, const char *what, const char *why)
{
	if (run->failures++ >= SHOWN_MAX || run->careless)
		return;
	fprintf(stderr, "%s: %s: %s\n", run->kind->name, what, why);
	fprintf(stderr,
		"  again: crash_layers --seed %" PRIu64
		" --seeds 1 --steps %u\n",
		run->seed, run->steps);
}

/* ---- recording ---- */

static void record(struct run *run)
{
	struct layer_pair p;

	layer_pair_init(&p, run->kind);
	p.careless = run->careless;
	p.log = &run->log;
	p.history = &run->history;
	if (layer_pair_open_logged(&p, &run->log, run->start) < 0)
		abort();
	if (layer_pair_work(&p, &run->random, run->steps) < 0)
		fail(run, "recording", "an operation failed without a fault");
	if (layer_pair_close(&p) < 0)
		fail(run, "recording", "close failed without a fault");
	layer_pair_release(&p);
}

/* ---- judging one state ---- */

/* The dirty bit: counts are made good when it is opened for writing. */
static bool counts_may_lag(const struct run *run, const struct flat_disk *file,
			   unsigned f)
{
	return strstr(run->kind->files[f].create, "lazy") &&
	       (file->data[79] & QCOW2_INCOMPAT_DIRTY);
}

static void check_files(struct run *run, const struct flat_disk *files,
			const char *when)
{
	char why[300] = "";

	for (unsigned f = 0; f < PAIR_FILES; f++) {
		if (counts_may_lag(run, &files[f], f))
			continue;
		if (workload_check(storage_borrow(&files[f]), NULL, why,
				   sizeof(why)) < 0)
			fail(run, when, why);
	}
}

/* Closes the images. */
static void work_on(struct run *run, struct layer_pair *p)
{
	char why[400] = "";

	layer_pair_adopt(p);
	if (layer_pair_work(p, &run->random, DEEP_STEPS) < 0)
		fail(run, "after the crash", "an operation failed");
	if (layer_pair_judge(p, why, sizeof(why)) < 0)
		fail(run, "after more operations", why);
	if (layer_pair_close(p) < 0)
		fail(run, "after the crash", "close failed");
}

static void judge_deep(struct run *run, const struct flat_disk *files)
{
	struct flat_disk after[PAIR_FILES] = {{0}};
	struct storage_log log = {0};
	struct layer_pair p;

	layer_pair_init(&p, run->kind);
	p.disk.next_tag += run->steps; /* none that was there before */
	if (layer_pair_open_logged(&p, &log, files) < 0)
		fail(run, "a state", "does not open for writing");
	else
		work_on(run, &p);
	for (unsigned f = 0; f < PAIR_FILES; f++)
		flat_disk_copy(&after[f], &files[f]);
	for (size_t i = 0; i < log.count; i++)
		flat_disk_apply(&after[log.entries[i].file], &log.entries[i]);
	check_files(run, after, "after more operations");
	for (unsigned f = 0; f < PAIR_FILES; f++)
		flat_disk_release(&after[f]);
	layer_pair_release(&p);
	storage_log_release(&log);
}

static void judge(void *opaque, const struct flat_disk *files)
{
	struct run *run = opaque;
	struct storage *borrowed[PAIR_FILES];
	uint64_t failures = run->failures;
	struct layer_pair p = run->known;
	char why[400] = "";

	/* Found, as it has to be. */
	if (run->careless && run->failures)
		return;
	run->states++;
	for (unsigned f = 0; f < PAIR_FILES; f++)
		borrowed[f] = storage_borrow(&files[f]);
	if (layer_pair_open(&p, borrowed, false) < 0) {
		fail(run, "a state", "does not open");
		return;
	}
	if (layer_pair_judge(&p, why, sizeof(why)) < 0)
		fail(run, "a state", why);
	layer_pair_close(&p);
	check_files(run, files, "a state");
	if (run->states % DEEP_EVERY == 0 && run->failures == failures)
		judge_deep(run, files);
}

/* ---- making states ---- */

/* Closing makes all of it durable. */
static void flushed(struct run *run)
{
	const struct pair_event layer = {.kind = PAIR_FLUSHED};
	const struct pair_event base = {.kind = PAIR_BASE_FLUSHED};

	layer_pair_replay(&run->known, &layer);
	layer_pair_replay(&run->known, &base);
}

static void reach(void *opaque, size_t log_pos)
{
	struct run *run = opaque;
	const struct pair_history *h = &run->history;

	for (; run->next_event < h->count; run->next_event++) {
		if (h->events[run->next_event].log_pos > log_pos)
			return;
		layer_pair_replay(&run->known, &h->events[run->next_event]);
	}
	if (log_pos == run->log.count)
		flushed(run);
}

static void run_one(struct run *run)
{
	const struct crash_states crash = {
		.log = &run->log,
		.start = run->start,
		.file_count = PAIR_FILES,
		.random = &run->random,
		.reach = reach,
		.judge = judge,
		.opaque = run,
	};

	layer_pair_create(run->kind, run->start);
	record(run);
	layer_pair_init(&run->known, run->kind);
	crash_states_run(&crash);
	layer_pair_release(&run->known);
	pair_history_release(&run->history);
	storage_log_release(&run->log);
	for (unsigned f = 0; f < PAIR_FILES; f++)
		flat_disk_release(&run->start[f]);
}

/* True if the run ended as it has to. */
static bool run_case(struct run run, uint64_t *states)
{
	run.random = run.seed * 0x9e3779b97f4a7c15ull | 1;
	run_one(&run);
	*states += run.states;
	if (run.careless && !run.failures)
		fprintf(stderr,
			"%s: not noticed: given up before the base is "
			"flushed\n",
			run.kind->name);
	return run.states && !run.failures == !run.careless;
}

/* How many runs ended wrong. */
static uint64_t run_kinds(struct run run, uint64_t *states)
{
	uint64_t failed = 0;

	for (unsigned k = 0; k < pair_kind_count; k++) {
		run.kind = &pair_kinds[k];
		failed += !run_case(run, states);
	}
	return failed;
}

static bool parse(struct run *run, uint64_t *seeds, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		uint64_t number =
			i + 1 < argc ? strtoull(argv[i + 1], NULL, 0) : 0;

		if (!strcmp(argv[i], "--short")) {
			*seeds = 1;
			run->steps = SHORT;
			continue;
		}
		if (!strcmp(argv[i], "--seed"))
			run->seed = number;
		else if (!strcmp(argv[i], "--seeds"))
			*seeds = number;
		else if (!strcmp(argv[i], "--steps"))
			run->steps = (unsigned)number;
		else
			return false;
		i++;
	}
	return run->seed && *seeds && run->steps;
}

int main(int argc, char **argv)
{
	struct run run = {.seed = 1, .steps = STEPS};
	uint64_t seeds = 20, states = 0, before_found = 0, failed = 0;

	if (!parse(&run, &seeds, argc, argv)) {
		fprintf(stderr, "usage: crash_layers [--short] [--seed N] "
				"[--seeds N] [--steps N]\n");
		return 2;
	}
	run.careless = true;
	failed = run_kinds(run, &before_found);
	run.careless = false;
	for (uint64_t n = 0; n < seeds; n++, run.seed++)
		failed += run_kinds(run, &states);
	printf("%" PRIu64 " states of two files\n", states);
	printf("%" PRIu64 " passed, %" PRIu64 " failed\n",
	       (seeds + 1) * pair_kind_count - failed, failed);
	return failed ? 1 : 0;
}
