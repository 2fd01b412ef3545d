/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Crash test of repairs: images with wrong counts, wrong COPIED flags, a lost
 * refcount block, zero clusters with impossible offsets or the dirty bit are
 * repaired while the log runs. Whatever part of a repair reached the disk, the
 * guest reads the same as before, and repairing again leaves nothing to find.
 * The same holds of a repair of which the first, the second, ... storage call
 * fails, once or from then on; and one whose changes were lost has to return an
 * error, not only to find the damage again.
 *
 *	crash_repair [--short] [--seed N] [--geometry NAME]
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/image.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/qcow2.h"
#include "tests/support/borrowed-storage.h"
#include "tests/support/crash-states.h"
#include "tests/support/fault-storage.h"
#include "tests/support/workload.h"

#define STEPS	 60
#define REFTABLE 48 /* of the header: where the refcount table is */

/*
 * For zero clusters only: beside a base it shows whether one that was repaired
 * still reads as zeros.
 */
static const struct workload_geometry based = {
	.name = "4k-base",
	.create = "cluster_size=4096,backing_file=base,backing_fmt=raw",
	.open = "l2-cache-size=4096,refcount-cache-size=4096",
	.size_bytes = 128 * 1024,
	.size_max = 256 * 1024,
	.base_bytes = 160 * 1024,
};

enum damage {
	DAMAGE_LOW,   /* counts below the number of references */
	DAMAGE_HIGH,  /* leaks */
	DAMAGE_FLAGS, /* COPIED the other way round */
	DAMAGE_BLOCK, /* a refcount block that nothing points to */
	DAMAGE_ZEROS, /* offsets of zero clusters are no multiple of a cluster
		       */
	DAMAGE_DIRTY, /* counts as a crash leaves them with the dirty bit */
	DAMAGE_COUNT,
};

struct run {
	const struct workload_geometry *geometry;
	uint64_t seed, random;
	enum damage damage;
	unsigned code_count;	/* how many kinds of errors to inject */
	struct flat_disk start; /* damaged */
	struct disk_oracle oracle;
	uint64_t states, injections, failures;
	bool damaged; /* a little used image may give nothing to damage */
	bool zeros_moved;
};

static void fail(struct run *run, const char *what, const char *why)
{
	if (run->failures++ < 3)
		fprintf(stderr,
			"geometry %s seed %" PRIu64 " damage %d: %s %s\n",
			run->geometry->name, run->seed, run->damage, what, why);
}

/* ---- making damaged images ---- */

/* Some operations; closed, or left as a crash right after a flush leaves it. */
static void make_used(struct run *run)
{
	struct flat_disk empty = {0};
	struct storage_log log = {0};
	struct workload_op op;
	struct storage *s;
	struct image *img;
	size_t count;

	if (storage_log_new(&s, &log, &empty) < 0 ||
	    workload_create(s, run->geometry) < 0 ||
	    workload_open(&img, s, run->geometry, true) < 0)
		abort();
	workload_oracle_init(&run->oracle, run->geometry);
	for (unsigned i = 0; i < STEPS; i++) {
		workload_next(&op, &run->random, &run->oracle, img,
			      run->geometry);
		workload_begun(&run->oracle, &op);
		if (workload_do(img, &op) < 0)
			fail(run, "operation failed", "");
		if (op.kind == WORK_FLUSH)
			disk_oracle_flushed(&run->oracle);
	}
	if (image_flush(img) < 0)
		fail(run, "flush failed", "");
	disk_oracle_flushed(&run->oracle);
	count = log.count;
	if (image_close(img) < 0)
		fail(run, "close failed", "");
	if (run->damage != DAMAGE_DIRTY)
		count = log.count;
	for (size_t i = 0; i < count; i++)
		flat_disk_apply(&run->start, &log.entries[i]);
	storage_log_release(&log);
	flat_disk_release(&empty);
}

/* Adds to every third count or so, within the width's limits. */
static void damage_counts(struct run *run, struct qcow2 *q, int delta)
{
	uint64_t end = storage_size(q->file) >> q->cluster_bits;

	for (uint64_t i = 1; i < end; i++) {
		uint64_t count;

		if (workload_random(&run->random) % 3 ||
		    qcow2_refcount_read(q, i, &count) < 0 ||
		    (delta < 0 && !count))
			continue;
		qcow2_refcount_change(q, (struct qcow2_run){i, 1, false},
				      delta);
	}
}

static void damage_flags(struct run *run, struct qcow2 *q)
{
	size_t count = q->cluster_size / sizeof(be64_t);

	for (uint32_t i = 0; i < q->l1_entries; i++) {
		uint64_t l2_off = q->l1[i] & QCOW2_OFFSET_MASK;

		for (size_t k = 0; l2_off && k < count; k++) {
			uint64_t at = l2_off + k * sizeof(be64_t), e;
			be64_t disk;

			storage_read_padded(q->file, &disk, sizeof(disk), at);
			e = be64_get(disk);
			if (!(e & QCOW2_OFFSET_MASK) ||
			    (e & QCOW2_L2_COMPRESSED) ||
			    workload_random(&run->random) % 3)
				continue;
			disk = be64_make(e ^ QCOW2_COPIED);
			if (storage_write(q->file, &disk, sizeof(disk), at) < 0)
				abort();
		}
	}
}

/*
 * Such a cluster cannot be read until it is repaired, but what it then reads as
 * is known. Clusters of 512 bytes have no offset between two of them.
 */
static void damage_zeros(struct run *run, struct qcow2 *q)
{
	size_t count = q->cluster_size / sizeof(be64_t);

	if (q->header.version < 3 || q->cluster_size == ORACLE_SECTOR)
		return;
	for (uint32_t i = 0; i < q->l1_entries; i++) {
		uint64_t l2_off = q->l1[i] & QCOW2_OFFSET_MASK;

		for (size_t k = 0; l2_off && k < count; k++) {
			uint64_t at = l2_off + k * sizeof(be64_t), e;
			be64_t disk;

			storage_read_padded(q->file, &disk, sizeof(disk), at);
			e = be64_get(disk);
			if (!(e & QCOW2_L2_ZERO) || (e & QCOW2_L2_COMPRESSED) ||
			    workload_random(&run->random) % 3 == 0)
				continue;
			disk = be64_make(e + ORACLE_SECTOR);
			if (storage_write(q->file, &disk, sizeof(disk), at) < 0)
				abort();
			run->zeros_moved = true;
		}
	}
}

/* The first one: that of the header and all tables. */
static void lose_block(struct flat_disk *disk)
{
	be64_t reftable_off;

	memcpy(&reftable_off, disk->data + REFTABLE, sizeof(reftable_off));
	memset(disk->data + be64_get(reftable_off), 0, sizeof(be64_t));
}

static void make_damage(struct run *run)
{
	struct storage_log log = {0};
	struct storage *s;
	struct image *img;
	struct qcow2 *q;

	make_used(run);
	if (run->damage == DAMAGE_DIRTY)
		return;
	if (storage_log_new(&s, &log, &run->start) < 0 ||
	    workload_open(&img, s, run->geometry, true) < 0)
		abort();
	q = img->state;
	if (run->damage == DAMAGE_LOW)
		damage_counts(run, q, -1);
	if (run->damage == DAMAGE_HIGH)
		damage_counts(run, q, +1);
	if (run->damage == DAMAGE_FLAGS)
		damage_flags(run, q);
	if (run->damage == DAMAGE_ZEROS)
		damage_zeros(run, q);
	image_close(img);
	for (size_t i = 0; i < log.count; i++)
		flat_disk_apply(&run->start, &log.entries[i]);
	storage_log_release(&log);
	/* After closing, which would write it again. */
	if (run->damage == DAMAGE_BLOCK)
		lose_block(&run->start);
}

/* ---- repairing ---- */

enum verdict {
	CLEAN,
	DIRTY,	/* something is left */
	FAILED, /* an error was returned */
};

/* Takes the storage; repairs it, or only looks. */
static enum verdict check(struct storage *s, bool fix, char *why, size_t len)
{
	const struct check_args args = {.fix_leaks = fix, .fix_errors = fix};
	struct check_result result;
	struct error err = {0};
	struct image *img;
	int ret;

	if (image_open_storage(&img, s, &qcow2_driver, NULL,
			       (fix ? IMAGE_WRITE : 0) | IMAGE_FOR_CHECK,
			       &err) < 0) {
		snprintf(why, len, "opening: %.150s", err.message);
		return FAILED;
	}
	ret = image_check(img, &args, &result, &err);
	if (image_close(img) < 0 || ret < 0) {
		snprintf(why, len, "repair: %.150s", err.message);
		return FAILED;
	}
	snprintf(why, len,
		 "%" PRIu64 " corruptions, %" PRIu64 " leaks, %" PRIu64
		 " errors are left",
		 result.corruptions, result.leaks, result.check_errors);
	return result.corruptions || result.leaks || result.check_errors
		       ? DIRTY
		       : CLEAN;
}

static void judge_contents(struct run *run, const struct flat_disk *state,
			   const char *when)
{
	char why[300] = "";
	struct image *img;

	if (workload_open(&img, storage_borrow(state), run->geometry, false) <
	    0) {
		fail(run, when, "does not open");
		return;
	}
	if (workload_judge(img, &run->oracle, NULL, why, sizeof(why)) < 0)
		fail(run, when, why);
	image_close(img);
}

static void judge(void *opaque, const struct flat_disk *state)
{
	struct run *run = opaque;
	struct storage_log log = {0};
	struct flat_disk mended = {0};
	char why[300] = "";
	struct storage *s;

	run->states++;
	if (!run->zeros_moved)
		judge_contents(run, state, "a state:");
	if (storage_log_new(&s, &log, state) < 0)
		abort();
	if (check(s, true, why, sizeof(why)) != CLEAN)
		fail(run, "repaired again:", why);
	flat_disk_copy(&mended, state);
	for (size_t i = 0; i < log.count; i++)
		flat_disk_apply(&mended, &log.entries[i]);
	judge_contents(run, &mended, "repaired again:");
	flat_disk_release(&mended);
	storage_log_release(&log);
}

/* A repair with a fault. False when the fault did not come. */
static bool repair_with_fault(struct run *run, struct fault_plan *plan)
{
	struct storage_log log = {0};
	struct flat_disk left = {0};
	char why[300] = "";
	struct storage *s;
	enum verdict verdict;

	plan->calls = 0;
	plan->fired = plan->lost = false;
	if (storage_log_new(&s, &log, &run->start) < 0 ||
	    storage_fault_new(&s, s, plan) < 0)
		abort();
	verdict = check(s, true, why, sizeof(why));
	if (verdict != FAILED && plan->lost)
		fail(run, "a repair that failed returns none:", why);
	flat_disk_copy(&left, &run->start);
	for (size_t i = 0; i < log.count; i++)
		flat_disk_apply(&left, &log.entries[i]);
	judge(run, &left);
	run->states--; /* no crash */
	flat_disk_release(&left);
	storage_log_release(&log);
	return plan->fired;
}

static void inject_faults(struct run *run)
{
	static const int codes[] = {EIO, ENOSPC, EDQUOT};

	for (unsigned c = 0; c < 2 * run->code_count; c++) {
		struct fault_plan plan = {
			.code = codes[c / 2],
			.for_ever = c % 2,
		};

		for (plan.nth = 1; repair_with_fault(run, &plan); plan.nth++)
			run->injections++;
	}
}

static void run_one(struct run *run)
{
	struct storage_log log = {0};
	const struct crash_states crash = {
		.log = &log,
		.start = &run->start,
		.random = &run->random,
		.judge = judge,
		.opaque = run,
	};
	char why[300] = "";
	struct storage *s;

	make_damage(run);
	run->damaged = check(storage_borrow(&run->start), false, why,
			     sizeof(why)) != CLEAN;
	if (storage_log_new(&s, &log, &run->start) < 0)
		abort();
	if (check(s, true, why, sizeof(why)) != CLEAN)
		fail(run, "first repair:", why);
	else
		crash_states_run(&crash);
	inject_faults(run);
	storage_log_release(&log);
	flat_disk_release(&run->start);
	disk_oracle_release(&run->oracle);
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, seeds = 10;
	uint64_t states = 0, injections = 0, damaged = 0, passed = 0,
		 failed = 0;
	uint64_t zeros_moved = 0;
	const unsigned ordinary = workload_geometry_count * DAMAGE_COUNT;
	const char *only = NULL;
	unsigned code_count = 3;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--short"))
			seeds = code_count = 1;
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--geometry") && i + 1 < argc)
			only = argv[++i];
	}
	for (uint64_t end = seed + seeds; seed < end; seed++) {
		for (unsigned k = 0; k <= ordinary; k++) {
			struct run run = {
				.geometry = &based,
				.damage = DAMAGE_ZEROS,
				.code_count = code_count,
				.seed = seed,
				.random = seed,
			};

			if (k < ordinary) {
				run.geometry =
					&workload_geometries[k / DAMAGE_COUNT];
				run.damage = k % DAMAGE_COUNT;
			}
			if (only && strcmp(only, run.geometry->name) != 0)
				continue;
			run_one(&run);
			states += run.states;
			injections += run.injections;
			damaged += run.damaged;
			zeros_moved += run.zeros_moved;
			passed += !run.failures;
			failed += run.failures != 0;
		}
	}
	if (damaged * 2 < passed + failed || (!only && !zeros_moved)) {
		fprintf(stderr,
			"only %" PRIu64 " images were damaged, %" PRIu64
			" of them at zero clusters\n",
			damaged, zeros_moved);
		failed++;
	}
	printf("crash_repair: %" PRIu64 " crash states of %" PRIu64
	       " damaged images, %" PRIu64 " injections\n",
	       states, damaged, injections);
	printf("%" PRIu64 " passed, %" PRIu64 " failed\n", passed, failed);
	return failed ? 1 : 0;
}
