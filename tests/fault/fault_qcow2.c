/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fault test of the qcow2 driver: the same operations again and again, with the
 * first, the second, ... storage call failing, once or from then on, until none
 * is left to fail. Whatever failed must have been reported; the image must
 * check without corruption; every sector must hold an allowed value; and after
 * a failed sync no flush may claim success. Opened anew, without faults, the
 * image takes more operations as if nothing had been.
 *
 *	fault_qcow2 [--short] [--seed N] [--geometry NAME]
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/image.h"
#include "block/storage/memory.h"
#include "tests/support/fault-storage.h"
#include "tests/support/log-storage.h"
#include "tests/support/workload.h"

/* Without faults, on the image opened anew. */
#define STEPS_AFTER 8u

struct trial {
	const struct workload_geometry *geometry;
	uint64_t seed;
	unsigned steps;
	struct fault_plan plan;
	struct flat_disk start;
	struct storage_log log;
	struct disk_oracle oracle;
	bool reported; /* some call returned an error */
	uint64_t failures;
};

static void fail(struct trial *t, const char *what, const char *why)
{
	t->failures++;
	fprintf(stderr,
		"geometry %s seed %" PRIu64 " call %" PRIu64 "%s code %d: "
		"%s %s\n",
		t->geometry->name, t->seed, t->plan.nth,
		t->plan.for_ever ? " and all after it" : "", t->plan.code, what,
		why);
}

static void do_steps(struct trial *t, struct image *img)
{
	uint64_t random = t->seed;
	bool uncertain = false;

	for (unsigned i = 0; i < t->steps; i++) {
		struct workload_op op;
		int ret;

		workload_next_of(&op, &random, &t->oracle, img, t->geometry,
				 t->steps - i);
		workload_begun(&t->oracle, &op);
		ret = workload_do(img, &op);
		if (ret < 0) {
			t->reported = true;
			uncertain = true;
			disk_oracle_uncertain(&t->oracle);
		} else if (op.kind == WORK_FLUSH && !uncertain) {
			disk_oracle_flushed(&t->oracle);
		}
	}
	if (image_close(img) < 0)
		t->reported = true;
	else if (!uncertain)
		disk_oracle_flushed(&t->oracle);
}

static struct storage *result_storage(struct trial *t)
{
	struct flat_disk disk = {0};
	struct storage *s;

	flat_disk_copy(&disk, &t->start);
	for (size_t i = 0; i < t->log.count; i++)
		flat_disk_apply(&disk, &t->log.entries[i]);
	if (storage_memory_from(&s, "result", disk.data, disk.size) < 0)
		abort();
	flat_disk_release(&disk);
	return s;
}

static bool left_dirty(struct trial *t)
{
	struct storage *s = result_storage(t);
	uint8_t low = 0;

	if (strstr(t->geometry->create, "lazy"))
		storage_read(s, &low, 1, 79);
	storage_close(s);
	return low & 1;
}

static void look_at_result(struct trial *t)
{
	char why[300] = "";
	struct image *img;

	/*
	 * Of a failed read that would have freed clusters, or of a failed cut
	 * of the file, nobody needs to hear: what is left is only a leak.
	 */
	if (!t->reported &&
	    (t->plan.lost ||
	     (t->plan.fired && t->plan.code == EIO && t->plan.for_ever)))
		fail(t, "no error was reported", "");
	if (workload_open(&img, result_storage(t), t->geometry, false) < 0) {
		fail(t, "the image does not open", "");
		return;
	}
	if (workload_judge(img, &t->oracle, NULL, why, sizeof(why)) < 0)
		fail(t, "contents:", why);
	image_close(img);
	if (t->geometry->snapshot &&
	    workload_judge_snapshot(result_storage(t), t->geometry, why,
				    sizeof(why)) < 0)
		fail(t, "the snapshot:", why);
	if (!left_dirty(t) &&
	    workload_check(result_storage(t), NULL, why, sizeof(why)) < 0)
		fail(t, "", why);
}

/* What is on the disk is the truth now, and more can be done with it. */
static void use_again(struct trial *t)
{
	/* What is behind the end now has to read as zeros later. */
	uint8_t *disk = calloc(1, t->geometry->size_max);
	struct storage_log log = {0};
	struct flat_disk left = {0};
	uint64_t random = t->seed + 1;
	char why[300] = "";
	struct storage *s = result_storage(t);
	struct image *img;

	if (!disk)
		abort();
	flat_disk_read(&left, s);
	storage_close(s);
	if (storage_log_new(&s, &log, &left) < 0)
		abort();
	if (workload_open(&img, s, t->geometry, true) < 0) {
		fail(t, "the image does not open for writing", "");
		goto out;
	}
	if (image_read(img, disk, img->size_bytes, 0) < 0)
		fail(t, "the image cannot be read", "");
	disk_oracle_adopt(&t->oracle, disk, t->geometry->size_max);
	for (unsigned i = 0; i < STEPS_AFTER; i++) {
		struct workload_op op;
		int ret;

		workload_next(&op, &random, &t->oracle, img, t->geometry);
		workload_begun(&t->oracle, &op);
		ret = workload_do(img, &op);
		if (ret < 0)
			fail(t, "an operation after it:", strerror(-ret));
		else if (op.kind == WORK_FLUSH)
			disk_oracle_flushed(&t->oracle);
	}
	if (image_flush(img) < 0)
		fail(t, "a flush after it fails", "");
	disk_oracle_flushed(&t->oracle);
	if (workload_judge(img, &t->oracle, NULL, why, sizeof(why)) < 0)
		fail(t, "contents after more operations:", why);
	if (image_close(img) < 0)
		fail(t, "the close after it fails", "");
	for (size_t i = 0; i < log.count; i++)
		flat_disk_apply(&left, &log.entries[i]);
	if (storage_memory_from(&s, "after", left.data, left.size) < 0)
		abort();
	if (workload_check(s, NULL, why, sizeof(why)) < 0)
		fail(t, "after more operations", why);
out:
	storage_log_release(&log);
	flat_disk_release(&left);
	free(disk);
}

/* False when the fault did not come: there was no nth call. */
static bool run_trial(struct trial *t)
{
	struct storage *s;
	struct image *img;
	bool fired;

	t->log = (struct storage_log){0};
	t->plan.calls = 0;
	t->plan.fired = t->plan.lost = t->reported = false;
	workload_oracle_init(&t->oracle, t->geometry);
	if (storage_log_new(&s, &t->log, &t->start) < 0 ||
	    storage_fault_new(&s, s, &t->plan) < 0)
		abort();
	if (workload_open(&img, s, t->geometry, true) < 0)
		t->reported = true;
	else
		do_steps(t, img);
	look_at_result(t);
	use_again(t);
	fired = t->plan.fired;
	disk_oracle_release(&t->oracle);
	storage_log_release(&t->log);
	return fired;
}

static void make_start(struct trial *t)
{
	struct flat_disk empty = {0};
	struct storage_log log = {0};
	struct storage *s;

	if (storage_log_new(&s, &log, &empty) < 0 ||
	    workload_create(s, t->geometry) < 0)
		abort();
	storage_close(s);
	for (size_t i = 0; i < log.count; i++)
		flat_disk_apply(&t->start, &log.entries[i]);
	storage_log_release(&log);
}

static uint64_t run_geometry(const struct workload_geometry *geometry,
			     uint64_t seed, unsigned steps, uint64_t stride,
			     uint64_t *injections)
{
	static const int codes[] = {EIO, ENOSPC, EDQUOT};
	struct trial t = {.geometry = geometry, .seed = seed, .steps = steps};

	make_start(&t);
	for (unsigned c = 0; c < 6; c++) {
		t.plan.code = codes[c / 2];
		t.plan.for_ever = c % 2;
		for (t.plan.nth = 1; run_trial(&t); t.plan.nth += stride) {
			(*injections)++;
			if (t.failures > 5)
				break;
		}
	}
	flat_disk_release(&t.start);
	return t.failures;
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, injections = 0, passed = 0, failed = 0;
	unsigned rounds = 8, steps = 60;
	const char *only = NULL;
	uint64_t stride = 1;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--short")) {
			rounds = 1;
			steps = 30;
		} else if (!strcmp(argv[i], "--seed") && i + 1 < argc) {
			seed = strtoull(argv[++i], NULL, 0);
		} else if (!strcmp(argv[i], "--geometry") && i + 1 < argc) {
			only = argv[++i];
		}
	}
	for (unsigned round = 0; round < rounds; round++, seed++) {
		for (unsigned g = 0; g < workload_geometry_count; g++) {
			const struct workload_geometry *geometry =
				&workload_geometries[g];

			if (only && strcmp(only, geometry->name) != 0)
				continue;
			if (run_geometry(geometry, seed, steps, stride,
					 &injections))
				failed++;
			else
				passed++;
		}
	}
	printf("fault_qcow2: %" PRIu64 " injections\n", injections);
	printf("%" PRIu64 " passed, %" PRIu64 " failed\n", passed, failed);
	return failed ? 1 : 0;
}
