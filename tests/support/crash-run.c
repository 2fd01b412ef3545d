/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. */
#include "tests/support/crash-run.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/image.h"
#include "formats/qcow2/breaks.h"
#include "formats/qcow2/layout.h"
#include "tests/support/borrowed-storage.h"
#include "tests/support/crash-states.h"
#include "tests/support/log-storage.h"
#include "tests/support/op-sequences.h"
#include "tests/support/op-trace.h"
#include "tests/support/workload.h"

#define DEEP_EVERY 64 /* states that are written to as well */
#define DEEP_STEPS 100
#define SHOWN_MAX  3 /* violations of a case */

#define LEAKS_PER_CLUSTER 3
#define LEAKS_OF_TABLES	  4

enum event_kind { EVENT_BEGUN, EVENT_FLUSHED };

struct event {
	size_t log_pos; /* it happened before this entry of the log */
	enum event_kind kind;
	struct workload_op op;
};

struct run {
	const struct crash_case *c;
	const struct workload_geometry *geometry; /* of the case */
	uint64_t random;
	struct flat_disk start; /* the fresh image */
	struct storage_log log;
	struct event events[CRASH_STEPS_MAX * 2 + 8];
	size_t event_count;

	/* replay */
	struct disk_oracle oracle;
	/*
	 * Clusters that a crash may leak: of operations since the last flush,
	 * and of those between it and the one before, whose released clusters
	 * are still counted until the next.
	 */
	uint64_t leaks_now, leaks_before;
	uint64_t cluster_size;
	size_t next_event;
	const struct flat_disk *state;
	uint64_t states, failures;
};

bool crash_break_rule(uint64_t rule)
{
#ifdef PLATTER_BREAKABLE
	qcow2_broken_rule = (unsigned)rule;
	return true;
#else
	(void)rule;
	return false;
#endif
}

static void print_way(const struct crash_case *c)
{
	if (c->trace)
		fprintf(stderr, " --trace %s --sparse %u", c->trace->path,
			c->sparse);
	else if (c->sequence >= 0)
		fprintf(stderr, " --sequence %" PRId64, c->sequence);
	else
		fprintf(stderr, " --steps %u", c->steps);
#ifdef PLATTER_BREAKABLE
	if (qcow2_broken_rule)
		fprintf(stderr, " --break %u", qcow2_broken_rule);
#endif
}

void crash_case_print(const struct crash_case *c)
{
	fprintf(stderr, "  again: %s --geometry %s --seed %" PRIu64,
		c->trace ? "crash_traces" : "crash_qcow2", c->geometry->name,
		c->seed);
	print_way(c);
	fprintf(stderr, "\n");
}

static void fail(struct run *run, const char *what, const char *why)
{
	run->failures++;
	if (run->failures > SHOWN_MAX)
		return;
	fprintf(stderr, "%s: %s\n", what, why);
	crash_case_print(run->c);
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

static void do_op(struct run *run, struct image *img,
		  struct disk_oracle *oracle, const struct workload_op *op)
{
	int ret;

	add_event(run, EVENT_BEGUN, op);
	workload_begun(oracle, op);
	ret = workload_do(img, op);
	if (ret < 0)
		fail(run, "operation failed without a fault", strerror(-ret));
	if (op->kind == WORK_FLUSH) {
		add_event(run, EVENT_FLUSHED, op);
		disk_oracle_flushed(oracle);
	}
}

static void do_random(struct run *run, struct image *img,
		      struct disk_oracle *oracle)
{
	struct workload_op op;

	for (unsigned i = 0; i < run->c->steps; i++) {
		workload_next(&op, &run->random, oracle, img, run->geometry);
		do_op(run, img, oracle, &op);
	}
}

static void do_sequence(struct run *run, struct image *img,
			struct disk_oracle *oracle)
{
	const struct workload_op flush = {.kind = WORK_FLUSH};
	struct op_sequence seq = op_sequence_get((uint64_t)run->c->sequence);
	struct workload_op op;

	for (unsigned i = 0; i < seq.count; i++) {
		bool flushes = op_sequence_make(&op, seq.ops[i], oracle, img,
						run->geometry);

		do_op(run, img, oracle, &op);
		if (flushes)
			do_op(run, img, oracle, &flush);
	}
}

/* Flushes more often than the guest did where the oracle needs it. */
static void do_trace(struct run *run, struct image *img,
		     struct disk_oracle *oracle)
{
	const struct workload_op flush = {.kind = WORK_FLUSH};
	const struct op_trace *trace = run->c->trace;

	for (size_t i = 0; i < trace->count; i++) {
		struct workload_op op = trace->ops[i];

		if (op.kind == WORK_WRITE)
			op.tag = disk_oracle_new_tag(oracle);
		if (disk_oracle_spread(oracle) == ORACLE_VALUES_MAX)
			do_op(run, img, oracle, &flush);
		do_op(run, img, oracle, &op);
	}
}

static void record(struct run *run)
{
	const struct workload_op flush = {.kind = WORK_FLUSH};
	struct disk_oracle oracle;
	struct storage *s;
	struct image *img;

	if (storage_log_new(&s, &run->log, &run->start) < 0 ||
	    workload_open(&img, s, run->geometry, true) < 0)
		abort();
	run->cluster_size = img->cluster_size;
	workload_oracle_init(&oracle, run->geometry);
	if (run->c->trace)
		do_trace(run, img, &oracle);
	else if (run->c->sequence >= 0)
		do_sequence(run, img, &oracle);
	else
		do_random(run, img, &oracle);
	if (image_close(img) < 0)
		fail(run, "close failed without a fault", "");
	add_event(run, EVENT_FLUSHED, &flush);
	disk_oracle_release(&oracle);
}

/* ---- judging one state ---- */

/* Of the incompatible features: no test has more than the lowest byte. */
static unsigned features(const struct run *run)
{
	const struct flat_disk *state = run->state;

	/* The last byte of the version, and of the features. */
	return state->size > 79 && state->data[7] >= 3 ? state->data[79] : 0;
}

/* The dirty bit: counts are made good when it is opened for writing. */
static bool counts_may_lag(const struct run *run)
{
	return features(run) & QCOW2_INCOMPAT_DIRTY;
}

static void judge_features(struct run *run)
{
	if (features(run) & QCOW2_INCOMPAT_CORRUPT)
		fail(run, "state", "is marked corrupt");
	if (counts_may_lag(run) && !strstr(run->geometry->create, "lazy"))
		fail(run, "state", "is marked dirty, without lazy refcounts");
}

static void judge_counts(struct run *run)
{
	uint64_t leaks = 0, allowed = run->geometry->wasted_clusters +
				      run->leaks_now + run->leaks_before;
	char why[300] = "";

	if (counts_may_lag(run))
		return;
	if (workload_check(storage_borrow(run->state), &leaks, why,
			   sizeof(why)) < 0) {
		fail(run, "state", why);
	} else if (leaks > allowed) {
		snprintf(why, sizeof(why),
			 "leaks %" PRIu64 " clusters, at most %" PRIu64
			 " can be under way",
			 leaks, allowed);
		fail(run, "state", why);
	}
}

/* What the image reads as now is what it is from here on. */
static void adopt(struct run *run, struct image *img,
		  struct disk_oracle *oracle)
{
	uint8_t *disk = calloc(1, run->geometry->size_max);
	char why[300] = "";

	if (!disk)
		abort();
	disk_oracle_copy(oracle, &run->oracle);
	/* No tag that was there before, so that stale data shows. */
	oracle->next_tag += CRASH_STEPS_MAX;
	if (workload_judge(img, oracle, disk, why, sizeof(why)) < 0)
		fail(run, "reopened state", why);
	disk_oracle_adopt(oracle, disk, img->size_bytes);
	free(disk);
}

/* Opens the state for writing and goes on working. */
static void work_on(struct run *run, struct image *img)
{
	struct disk_oracle oracle;
	char why[300] = "";

	adopt(run, img, &oracle);
	for (unsigned i = 0; i < DEEP_STEPS; i++) {
		struct workload_op op;

		do {
			workload_next(&op, &run->random, &oracle, img,
				      run->geometry);
		} while (op.kind == WORK_RESIZE);
		workload_begun(&oracle, &op);
		if (workload_do(img, &op) < 0)
			fail(run, "operation after the crash failed", "");
		if (op.kind == WORK_FLUSH)
			disk_oracle_flushed(&oracle);
	}
	if (image_flush(img) < 0)
		fail(run, "flush after the crash failed", "");
	if (workload_judge(img, &oracle, NULL, why, sizeof(why)) < 0)
		fail(run, "after more operations", why);
	disk_oracle_release(&oracle);
}

/* What a writer after the crash leaves behind. */
static void judge_deep(struct run *run)
{
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
	work_on(run, img);
	if (image_close(img) < 0)
		fail(run, "close after the crash failed", "");
	flat_disk_copy(&after, run->state);
	for (size_t i = 0; i < log.count; i++)
		flat_disk_apply(&after, &log.entries[i]);
	if (workload_check(storage_borrow(&after), NULL, why, sizeof(why)) < 0)
		fail(run, "after more operations", why);
	if (run->geometry->snapshot &&
	    workload_judge_snapshot(storage_borrow(&after), run->geometry, why,
				    sizeof(why)) < 0)
		fail(run, "the snapshot, after more operations", why);
	flat_disk_release(&after);
	storage_log_release(&log);
}

static void judge(void *opaque, const struct flat_disk *state)
{
	struct run *run = opaque;
	char why[300] = "";
	struct image *img;

	run->state = state;
	run->states++;
	if (workload_open(&img, storage_borrow(run->state), run->geometry,
			  false) < 0) {
		fail(run, "state does not open", "");
		return;
	}
	if (workload_judge(img, &run->oracle, NULL, why, sizeof(why)) < 0)
		fail(run, "state", why);
	image_close(img);
	judge_features(run);
	judge_counts(run);
	if (run->geometry->snapshot &&
	    workload_judge_snapshot(storage_borrow(run->state), run->geometry,
				    why, sizeof(why)) < 0)
		fail(run, "the snapshot", why);
	if (run->states % DEEP_EVERY == 0)
		judge_deep(run);
}

/* ---- making states ---- */

/*
 * Each cluster that an operation touches may get a new place and let go of an
 * old one, which packed may be two. Besides them come tables on the way.
 */
static uint64_t leaks_of(const struct run *run, const struct workload_op *op)
{
	uint64_t len =
		op->kind == WORK_RESIZE ? run->geometry->size_max : op->len;

	if (op->kind == WORK_FLUSH)
		return 0;
	return LEAKS_PER_CLUSTER * (len / run->cluster_size + 2) +
	       LEAKS_OF_TABLES;
}

static void replay_event(struct run *run, const struct event *e)
{
	if (e->kind == EVENT_FLUSHED) {
		disk_oracle_flushed(&run->oracle);
		run->leaks_before = run->leaks_now;
		run->leaks_now = 0;
	} else {
		workload_begun(&run->oracle, &e->op);
		run->leaks_now += leaks_of(run, &e->op);
	}
}

static void reach(void *opaque, size_t log_pos)
{
	struct run *run = opaque;

	while (run->next_event < run->event_count &&
	       run->events[run->next_event].log_pos <= log_pos)
		replay_event(run, &run->events[run->next_event++]);
	/* Closed, with all of it on the disk. */
	if (log_pos == run->log.count)
		run->leaks_now = run->leaks_before = 0;
}

static void replay(struct run *run)
{
	const struct crash_states crash = {
		.log = &run->log,
		.start = &run->start,
		.random = &run->random,
		.sparse = run->c->sparse,
		.reach = reach,
		.judge = judge,
		.opaque = run,
	};

	workload_oracle_init(&run->oracle, run->geometry);
	crash_states_run(&crash);
	disk_oracle_release(&run->oracle);
}

void crash_run(const struct crash_case *c, struct crash_totals *totals)
{
	struct run *run = calloc(1, sizeof(*run));

	if (!run)
		abort();
	assert(c->steps <= CRASH_STEPS_MAX);
	assert(!c->trace || c->trace->count <= CRASH_STEPS_MAX);
	run->c = c;
	run->geometry = c->geometry;
	run->random = c->seed * 0x9e3779b97f4a7c15ull | 1;
	make_start(run);
	record(run);
	replay(run);
	totals->states += run->states;
	totals->violations += run->failures;
	storage_log_release(&run->log);
	flat_disk_release(&run->start);
	free(run);
}
