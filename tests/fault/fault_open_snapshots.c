/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening an image that has a snapshot, in every way, with the first, the
 * second, ... storage call failing. Whatever failed is reported, nothing is
 * leaked, and no error path uses what was not read yet. A check reads again,
 * smaller pieces, what it could not read, and a repair may replace it: of them
 * only the latter two are asked.
 *
 *	fault_open_snapshots
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/image-info.h"
#include "block/image.h"
#include "block/storage/memory.h"
#include "formats/registry.h"
#include "tests/support/fault-storage.h"
#include "tests/support/workload.h"

struct way {
	const char *name;
	unsigned flags;
};

static const struct way ways[] = {
	{"info", IMAGE_INFO_ONLY},
	{"read", 0},
	{"write", IMAGE_WRITE},
	{"check", IMAGE_FOR_CHECK},
	{"repair", IMAGE_FOR_CHECK | IMAGE_WRITE},
};

#define WAYS (sizeof(ways) / sizeof(ways[0]))

static int use(struct image *img, const struct way *way)
{
	struct check_args args = {
		.fix_leaks = way->flags & IMAGE_WRITE,
		.fix_errors = way->flags & IMAGE_WRITE,
	};
	struct check_result result = {0};
	struct image_info info = {0};
	uint8_t sector[512];
	int ret;

	if (way->flags & IMAGE_FOR_CHECK) {
		ret = image_check(img, &args, &result, NULL);
		return ret ? ret : result.check_errors ? -EIO : 0;
	}
	ret = image_info_get(img, &info, NULL);
	if (!ret && info.snapshot_count != 1)
		abort();
	image_info_release(&info);
	if (!ret && !(way->flags & IMAGE_INFO_ONLY))
		ret = image_read(img, sector, sizeof(sector), 0);
	if (!ret && way->flags & IMAGE_WRITE)
		ret = image_write(img, sector, sizeof(sector), 0);
	return ret;
}

/* Copies the storage, so that each trial starts from the same image. */
static struct storage *copy_of(struct storage *image)
{
	size_t len = (size_t)storage_size(image);
	uint8_t *data = malloc(len);
	struct storage *copy;

	if (!data || storage_read(image, data, len, 0) < 0 ||
	    storage_memory_from(&copy, "copy", data, len) < 0)
		abort();
	free(data);
	return copy;
}

/* Whether anybody was told of an error. */
static bool trial(struct storage *image, const struct way *way,
		  struct fault_plan *plan)
{
	struct storage *s = copy_of(image);
	struct image *img;
	bool told;

	plan->calls = 0;
	plan->fired = plan->mattered = false;
	if (storage_fault_new(&s, s, plan) < 0)
		abort();
	if (image_open_storage(&img, s, format_find("qcow2"), NULL, way->flags,
			       NULL) < 0)
		return true;
	told = use(img, way) < 0;
	if (image_close(img) < 0)
		told = true;
	return told;
}

/* Returns the number of faults that nobody was told of. */
static unsigned run_way(struct storage *image, const struct way *way,
			uint64_t *injections)
{
	static const int codes[] = {EIO, ENOMEM};
	unsigned silent = 0;

	for (unsigned c = 0; c < 4; c++) {
		struct fault_plan plan = {.code = codes[c / 2],
					  .for_ever = c % 2};

		for (plan.nth = 1;; plan.nth++) {
			bool told = trial(image, way, &plan);

			if (!plan.fired)
				break;
			++*injections;
			if (told || !plan.mattered ||
			    way->flags & IMAGE_FOR_CHECK)
				continue;
			fprintf(stderr,
				"%s: call %" PRIu64 "%s code %d: silent\n",
				way->name, plan.nth,
				plan.for_ever ? " and on" : "", plan.code);
			silent++;
		}
	}
	return silent;
}

int main(void)
{
	uint64_t injections = 0;
	unsigned failed = 0, passed = 0;

	for (unsigned g = 0; g < workload_geometry_count; g++) {
		const struct workload_geometry *geometry =
			&workload_geometries[g];
		struct storage *image;

		if (!geometry->snapshot)
			continue;
		if (storage_memory_new(&image, "image", 0) < 0 ||
		    workload_create(image, geometry) < 0)
			abort();
		for (unsigned w = 0; w < WAYS; w++)
			if (run_way(image, &ways[w], &injections))
				failed++;
			else
				passed++;
		storage_close(image);
	}
	printf("fault_open_snapshots: %" PRIu64 " injections\n", injections);
	printf("%u passed, %u failed\n", passed, failed);
	return failed || injections < 20 ? 1 : 0;
}
