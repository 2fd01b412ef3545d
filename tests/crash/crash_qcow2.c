/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Crash test of the qcow2 driver: random guest operations are logged at the
 * storage; for every stretch between two syncs crash states are made (subsets,
 * torn writes), and each must open, check without corruption, and hold in every
 * sector what the oracle allows. Some are opened for writing and used on, which
 * finds damage that shows late.
 *
 *	crash_qcow2 [--short] [--seed N] [--states N] [--geometry NAME]
 *
 * A failure prints the geometry and seed that show it again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/image.h"
#include "block/storage/memory.h"
#include "tests/support/crash-states.h"
#include "tests/support/log-storage.h"
#include "tests/support/workload.h"

#define STEPS_PER_RUN 120
#define DEEP_EVERY    16 /* states that are written to as well */

enum event_kind { EVENT_BEGUN, EVENT_FLUSHED };

struct event {
	size_t log_pos; /* it happened before this entry of the log */
	enum event_kind kind;
	struct workload_op op;
};

struct run {
	const struct workload_geometry *geometry;
	uint64_t seed, random;
	struct flat_disk start; /* the fresh image */
	struct storage_log log;
	struct event events[STEPS_PER_RUN * 2 + 8];
	size_t event_count;

	/* replay */
	struct disk_oracle oracle;
	size_t next_event;
	const struct flat_disk *state;
	uint64_t states, failures;
};

static void fail(struct run *run, const char *what, const char *why)
{
	run->failures++;
	if (run->failures <= 3)
		fprintf(stderr, "geometry %s seed %" PRIu64 ": %s: %s\n",
			run->geometry->name, run->seed, what, why);
}

static void add_event(struct run *run, enum event_kind kind,
		      const struct workload_op *op)
{
	run->events[run->event_count++] =
		(struct event){run->log.count, kind, *op};
}

/* ---- recording ---- */

static void make_start(struct run *run)
{
	struct flat_disk empty = {0};
	struct storage_log log = {0};
	struct storage *s;

	if (storage_log_new(&s, &log, &empty) < 0 ||
	    workload_create(s, run->geometry) < 0)
		abort();
	storage_close(s);
	for (size_t i = 0; i < log.count; i++)
		flat_disk_apply(&run->start, &log.entries[i]);
	storage_log_release(&log);
	flat_disk_release(&empty);
}

static void record(struct run *run)
{
	struct disk_oracle oracle;
	struct storage *s;
	struct image *img;
	struct workload_op op;

	if (storage_log_new(&s, &run->log, &run->start) < 0 ||
	    workload_open(&img, s, run->geometry, true) < 0)
		abort();
	workload_oracle_init(&oracle, run->geometry);
	for (unsigned i = 0; i < STEPS_PER_RUN; i++) {
		workload_next(&op, &run->random, &oracle, img, run->geometry);
		add_event(run, EVENT_BEGUN, &op);
		workload_begun(&oracle, &op);
		int ret = workload_do(img, &op);

		if (ret < 0)
			fail(run, "operation failed without a fault",
			     strerror(-ret));
		if (op.kind == WORK_FLUSH) {
			add_event(run, EVENT_FLUSHED, &op);
			disk_oracle_flushed(&oracle);
		}
	}
	if (image_close(img) < 0)
		fail(run, "close failed without a fault", "");
	add_event(run, EVENT_FLUSHED, &op);
	disk_oracle_release(&oracle);
}

/* ---- judging one state ---- */

static struct storage *state_storage(const struct run *run)
{
	struct storage *s;

	if (storage_memory_from(&s, "state", run->state->data,
				run->state->size) < 0)
		abort();
	return s;
}

static bool counts_may_lag(const struct run *run)
{
	/* The dirty bit: counts are made good when it is opened for writing */
	return strstr(run->geometry->create, "lazy") &&
	       (run->state->data[79] & 1);
}

/* Opens the state for writing, goes on working, and looks again. */
static void judge_deep(struct run *run)
{
	struct disk_oracle oracle;
	struct storage_log log = {0};
	struct flat_disk after = {0};
	struct storage *s;
	struct image *img;
	char why[300] = "";

	if (storage_log_new(&s, &log, run->state) < 0)
		abort();
	if (workload_open(&img, s, run->geometry, true) < 0) {
		fail(run, "state does not open for writing", "");
		storage_log_release(&log);
		return;
	}
	disk_oracle_copy(&oracle, &run->oracle);
	/* What it reads as now is what it is from here on. */
	uint8_t *disk = calloc(1, run->geometry->size_max);
	uint64_t size = img->size_bytes;

	if (!disk)
		abort();
	if (workload_judge(img, &oracle, disk, why, sizeof(why)) < 0)
		fail(run, "reopened state", why);
	disk_oracle_adopt(&oracle, disk, size);
	free(disk);
	for (unsigned i = 0; i < 20; i++) {
		struct workload_op op;

		do {
			workload_next(&op, &run->random, &oracle, img,
				      run->geometry);
		} while (op.kind == WORK_RESIZE);
		workload_begun(&oracle, &op);
		if (workload_do(img, &op) < 0)
			fail(run, "operation after the crash failed", "");
	}
	if (workload_judge(img, &oracle, NULL, why, sizeof(why)) < 0)
		fail(run, "after 20 operations", why);
	if (image_close(img) < 0)
		fail(run, "close after the crash failed", "");
	flat_disk_copy(&after, run->state);
	for (size_t i = 0; i < log.count; i++)
		flat_disk_apply(&after, &log.entries[i]);
	if (storage_memory_from(&s, "after", after.data, after.size) < 0)
		abort();
	if (workload_check(s, why, sizeof(why)) < 0)
		fail(run, "after 20 operations", why);
	if (storage_memory_from(&s, "after", after.data, after.size) < 0)
		abort();
	if (!run->geometry->snapshot)
		storage_close(s);
	else if (workload_judge_snapshot(s, run->geometry, why, sizeof(why)) <
		 0)
		fail(run, "the snapshot, after 20 operations", why);
	flat_disk_release(&after);
	storage_log_release(&log);
	disk_oracle_release(&oracle);
}

static void judge(void *opaque, const struct flat_disk *state)
{
	struct run *run = opaque;
	char why[300] = "";
	struct image *img;

	run->state = state;
	run->states++;
	if (workload_open(&img, state_storage(run), run->geometry, false) < 0) {
		fail(run, "state does not open", "");
		return;
	}
	if (workload_judge(img, &run->oracle, NULL, why, sizeof(why)) < 0)
		fail(run, "state", why);
	image_close(img);
	if (!counts_may_lag(run) &&
	    workload_check(state_storage(run), why, sizeof(why)) < 0)
		fail(run, "state", why);
	if (run->geometry->snapshot &&
	    workload_judge_snapshot(state_storage(run), run->geometry, why,
				    sizeof(why)) < 0)
		fail(run, "the snapshot", why);
	if (run->states % DEEP_EVERY == 0)
		judge_deep(run);
}

/* ---- making states ---- */

static void reach(void *opaque, size_t log_pos)
{
	struct run *run = opaque;

	while (run->next_event < run->event_count &&
	       run->events[run->next_event].log_pos <= log_pos) {
		const struct event *e = &run->events[run->next_event++];

		if (e->kind == EVENT_FLUSHED)
			disk_oracle_flushed(&run->oracle);
		else
			workload_begun(&run->oracle, &e->op);
	}
}

static void replay(struct run *run)
{
	const struct crash_states crash = {
		.log = &run->log,
		.start = &run->start,
		.random = &run->random,
		.reach = reach,
		.judge = judge,
		.opaque = run,
	};

	workload_oracle_init(&run->oracle, run->geometry);
	crash_states_run(&crash);
	disk_oracle_release(&run->oracle);
}

static void run_one(const struct workload_geometry *geometry, uint64_t seed,
		    uint64_t *states, uint64_t *failures)
{
	struct run *run = calloc(1, sizeof(*run));

	if (!run)
		abort();
	run->geometry = geometry;
	run->seed = run->random = seed;
	make_start(run);
	record(run);
	replay(run);
	*states += run->states;
	*failures += run->failures;
	storage_log_release(&run->log);
	flat_disk_release(&run->start);
	free(run);
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, states = 0, failures = 0, passed = 0, failed = 0;
	uint64_t want = 200000;
	const char *only = NULL;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--short"))
			want = 8000;
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--states") && i + 1 < argc)
			want = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--geometry") && i + 1 < argc)
			only = argv[++i];
	}
	for (; states < want; seed++) {
		for (unsigned g = 0; g < workload_geometry_count; g++) {
			const struct workload_geometry *geometry =
				&workload_geometries[g];
			uint64_t before = failures;

			if (only && strcmp(only, geometry->name) != 0)
				continue;
			run_one(geometry, seed, &states, &failures);
			if (failures == before)
				passed++;
			else
				failed++;
		}
	}
	printf("crash_qcow2: %" PRIu64 " crash states, %" PRIu64
	       " violations\n",
	       states, failures);
	printf("%" PRIu64 " passed, %" PRIu64 " failed\n", passed, failed);
	return failed ? 1 : 0;
}
