/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Comparing images: what is found, whichever thread finds it; and that no error
 * is ever taken for an answer.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "block/error.h"
#include "block/image.h"
#include "block/jobs/compare.h"
#include "block/progress.h"
#include "block/storage/memory.h"
#include "formats/raw/raw.h"
#include "tests/support/fault-storage.h"

#define SIZE (12u << 20)

/* A disk of one value, with another byte at each of the offsets. */
static struct image *disk(uint8_t byte, uint64_t size, const uint64_t *odd,
			  size_t odd_count, struct fault_plan *plan)
{
	uint8_t *bytes = malloc(size);
	struct storage *s;
	struct image *img;

	assert_non_null(bytes);
	memset(bytes, byte, size);
	for (size_t i = 0; i < odd_count; i++)
		bytes[odd[i]] ^= 0xff;
	assert_int_equal(storage_memory_from(&s, "disk", bytes, size), 0);
	free(bytes);
	if (plan)
		assert_int_equal(storage_fault_new(&s, s, plan), 0);
	assert_int_equal(
		image_open_storage(&img, s, &raw_driver, NULL, 0, NULL), 0);
	return img;
}

static void the_first_difference_is_told_by_any_number_of_threads(void **state)
{
	static const uint64_t odd[] = {2 * 512 + 3, (3u << 20) + 512 * 7,
				       SIZE - 1};
	struct compare_result result;

	(void)state;
	for (unsigned threads = 0; threads <= 8; threads++) {
		for (size_t first = 0; first < 3; first++) {
			const struct compare_args args = {
				.a = disk(1, SIZE, NULL, 0, NULL),
				.b = disk(1, SIZE, odd + first, 3 - first,
					  NULL),
				.threads = threads,
			};

			assert_int_equal(compare_images(&args, &result, NULL),
					 0);
			assert_int_equal(result.kind, COMPARE_CONTENT);
			assert_int_equal(result.offset, odd[first] / 512 * 512);
			image_close(args.a);
			image_close(args.b);
		}
	}
}

static void a_longer_disk_differs_only_where_it_is_not_zero(void **state)
{
	static const uint64_t last = SIZE - 1;

	(void)state;
	for (size_t odd = 0; odd < 2; odd++) {
		for (int swap = 0; swap < 2; swap++) {
			struct image *longer = disk(0, SIZE, &last, odd, NULL);
			struct image *shorter = disk(0, 4096, NULL, 0, NULL);
			const struct compare_args args = {
				.a = swap ? longer : shorter,
				.b = swap ? shorter : longer,
			};
			struct compare_result result;

			assert_int_equal(compare_images(&args, &result, NULL),
					 0);
			assert_int_equal(result.kind, odd ? COMPARE_CONTENT
							  : COMPARE_IDENTICAL);
			assert_true(result.size_differs);
			image_close(longer);
			image_close(shorter);
		}
	}
}

/* Each read of either side, once and from then on. */
static void a_disk_that_cannot_be_read_is_not_compared(void **state)
{
	unsigned failed = 0;

	(void)state;
	for (int side = 0; side < 2; side++) {
		struct fault_plan plan = {.code = EIO, .nth = 1};
		int ret = -1;

		for (; ret < 0; plan.nth++) {
			struct image *bad = disk(1, SIZE, NULL, 0, &plan);
			struct image *good = disk(1, SIZE, NULL, 0, NULL);
			const struct compare_args args = {
				.a = side ? good : bad,
				.b = side ? bad : good,
			};
			struct compare_result result;

			plan.calls = 0;
			ret = compare_images(&args, &result, NULL);
			if (ret < 0) {
				assert_int_equal(ret, -EIO);
				assert_int_equal(result.failure,
						 COMPARE_FAILED_READ);
				assert_ptr_equal(result.failed, bad);
				failed++;
			} else {
				assert_int_equal(result.kind,
						 COMPARE_IDENTICAL);
			}
			image_close(bad);
			image_close(good);
		}
	}
	assert_true(failed >= 4);
}

static void a_cancelled_comparison_has_no_answer(void **state)
{
	struct progress progress = {.cancelled = true};
	const struct compare_args args = {
		.a = disk(1, SIZE, NULL, 0, NULL),
		.b = disk(2, SIZE, NULL, 0, NULL),
		.progress = &progress,
	};
	struct compare_result result;
	struct error err = {0};

	(void)state;
	assert_int_equal(compare_images(&args, &result, &err), -ECANCELED);
	assert_int_equal(result.failure, COMPARE_FAILED_OTHER);
	image_close(args.a);
	image_close(args.b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			the_first_difference_is_told_by_any_number_of_threads),
		cmocka_unit_test(
			a_longer_disk_differs_only_where_it_is_not_zero),
		cmocka_unit_test(a_disk_that_cannot_be_read_is_not_compared),
		cmocka_unit_test(a_cancelled_comparison_has_no_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
