/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Crash test of making qcow2 images where no other name protects them, as on a
 * block device: a state with a header must be the whole image. It opens, checks
 * without any finding, and reads as zeros, whatever was on the device before.
 *
 *	crash_create [--short]
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/image.h"
#include "tests/support/borrowed-storage.h"
#include "tests/support/crash-states.h"
#include "tests/support/workload.h"

#define DEVICE_BYTES (512u * 1024)
#define MAGIC	     "QFI\xfb"

static const struct workload_geometry kinds[] = {
	{.name = "off", .create = "cluster_size=512"},
	{.name = "64k", .create = "cluster_size=65536"},
	{.name = "v2", .create = "cluster_size=1024,compat=0.10"},
	{.name = "metadata",
	 .create = "cluster_size=512,preallocation=metadata"},
	{.name = "falloc", .create = "cluster_size=4096,preallocation=falloc"},
	{.name = "full", .create = "cluster_size=512,preallocation=full"},
	{.name = "backing",
	 .create = "cluster_size=512,backing_file=base,backing_fmt=raw"},
};

struct run {
	struct workload_geometry geometry;
	uint64_t states, whole, failures;
};

static void fail(struct run *run, const char *what, const char *why)
{
	if (run->failures++ < 3)
		fprintf(stderr, "%s: %s %s\n", run->geometry.name, what, why);
}

static void judge(void *opaque, const struct flat_disk *state)
{
	struct run *run = opaque;
	struct disk_oracle zeros;
	char why[300] = "";
	struct image *img;

	run->states++;
	if (state->size < 4 || memcmp(state->data, MAGIC, 4) != 0)
		return;
	run->whole++;
	if (workload_check(storage_borrow(state), NULL, why, sizeof(why)) < 0)
		fail(run, "", why);
	if (workload_open(&img, storage_borrow(state), &run->geometry, false) <
	    0) {
		fail(run, "does not open", "");
		return;
	}
	workload_oracle_init(&zeros, &run->geometry);
	if (workload_judge(img, &zeros, NULL, why, sizeof(why)) < 0)
		fail(run, "", why);
	disk_oracle_release(&zeros);
	image_close(img);
}

/* A file that is made, or a device full of old bytes. */
static void run_one(struct run *run, bool is_device)
{
	uint64_t random = 1;
	struct flat_disk start = {0};
	struct storage_log log = {0};
	const struct crash_states crash = {
		.log = &log,
		.start = &start,
		.random = &random,
		.judge = judge,
		.opaque = run,
	};
	struct storage *s;

	if (is_device) {
		start.data = malloc(DEVICE_BYTES);
		if (!start.data)
			abort();
		memset(start.data, 0xa5, DEVICE_BYTES);
		start.size = start.capacity = DEVICE_BYTES;
	}
	if (storage_log_new(&s, &log, &start) < 0)
		abort();
	s->can_grow = !is_device;
	if (workload_create(s, &run->geometry) < 0)
		fail(run, "cannot be made", "");
	storage_close(s);
	crash_states_run(&crash);
	storage_log_release(&log);
	flat_disk_release(&start);
}

int main(void)
{
	uint64_t states = 0, whole = 0, passed = 0, failed = 0;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct run run = {.geometry = kinds[i]};

		run.geometry.open = "";
		run.geometry.size_bytes = run.geometry.size_max = 128 * 1024;
		run_one(&run, false);
		run_one(&run, true);
		if (!run.whole)
			fail(&run, "no state has a header", "");
		states += run.states;
		whole += run.whole;
		passed += !run.failures;
		failed += run.failures != 0;
	}
	printf("crash_create: %" PRIu64 " crash states, %" PRIu64
	       " with a header\n",
	       states, whole);
	printf("%" PRIu64 " passed, %" PRIu64 " failed\n", passed, failed);
	return failed ? 1 : 0;
}
