/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Many threads on one image. Each owns every nth sector, so that all of them
 * write into every cluster: whoever loses another's write, or shows it torn,
 * is found by reading back. Meant for TSan as much as for its own checks.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "block/image.h"
#include "block/storage/memory.h"
#include "tests/support/workload.h"

#define THREADS	     4
#define OPS	     600
#define SECTOR	     512
#define DISK_SECTORS 1024

struct worker {
	pthread_t thread;
	struct image *img;
	unsigned id;
	uint64_t tags[DISK_SECTORS]; /* of own sectors; 0: zeros */
	int error;
};

static void fill(uint8_t *buf, uint64_t tag)
{
	for (size_t at = 0; at < SECTOR; at += sizeof(tag))
		memcpy(buf + at, &tag, sizeof(tag));
}

static int check_own(struct worker *w, uint64_t sector)
{
	uint8_t expect[SECTOR], found[SECTOR];
	int ret = image_read(w->img, found, SECTOR, sector * SECTOR);

	if (ret < 0)
		return ret;
	fill(expect, w->tags[sector]);
	return memcmp(expect, found, SECTOR) ? -1 : 0;
}

static int one_op(struct worker *w, uint64_t *random)
{
	uint64_t sector =
		workload_random(random) % (DISK_SECTORS / THREADS) * THREADS +
		w->id;
	uint8_t buf[SECTOR];

	switch (workload_random(random) % 8) {
	case 0:
		w->tags[sector] = 0;
		return image_zero(w->img, sector * SECTOR, SECTOR,
				  FORMAT_ZERO_MAY_UNMAP);
	case 1:
		return workload_random(random) % 8 ? 0 : image_flush(w->img);
	case 2:
	case 3:
		return check_own(w, sector);
	default:
		w->tags[sector] = workload_random(random) | 1;
		fill(buf, w->tags[sector]);
		return image_write(w->img, buf, SECTOR, sector * SECTOR);
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;
	uint64_t random = 0x1234567 + w->id;

	for (unsigned i = 0; i < OPS && !w->error; i++)
		w->error = one_op(w, &random);
	return NULL;
}

static void writers_of_one_cluster_lose_nothing(void **state)
{
	const struct workload_geometry *geometry = *state;
	struct workload_geometry sized = *geometry;
	struct worker *workers = calloc(THREADS, sizeof(*workers));
	struct storage *s;
	struct image *img;

	assert_non_null(workers);
	sized.size_bytes = sized.size_max = DISK_SECTORS * SECTOR;
	assert_int_equal(storage_memory_new(&s, "threads", 0), 0);
	assert_int_equal(workload_create(s, &sized), 0);
	assert_int_equal(workload_open(&img, s, &sized, true), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i].img = img;
		workers[i].id = i;
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work,
						&workers[i]),
				 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		assert_int_equal(workers[i].error, 0);
	}
	for (uint64_t sector = 0; sector < DISK_SECTORS; sector++)
		assert_int_equal(check_own(&workers[sector % THREADS], sector),
				 0);
	assert_int_equal(image_close(img), 0);
	free(workers);
}

int main(void)
{
	struct CMUnitTest tests[] = {
		{"512-byte clusters", writers_of_one_cluster_lose_nothing, NULL,
		 NULL, (void *)(uintptr_t)&workload_geometries[0]},
		{"4 KiB clusters", writers_of_one_cluster_lose_nothing, NULL,
		 NULL, (void *)(uintptr_t)&workload_geometries[1]},
		{"64 KiB clusters", writers_of_one_cluster_lose_nothing, NULL,
		 NULL, (void *)(uintptr_t)&workload_geometries[2]},
		{"lazy refcounts", writers_of_one_cluster_lose_nothing, NULL,
		 NULL, (void *)(uintptr_t)&workload_geometries[4]},
		{"a refcount table that grows",
		 writers_of_one_cluster_lose_nothing, NULL, NULL,
		 (void *)(uintptr_t)&workload_geometries[12]},
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
