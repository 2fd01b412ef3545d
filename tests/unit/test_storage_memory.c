/* SPDX-License-Identifier: BSD-3-Clause */
/* Storage in memory: sparse, of any size, and the checked front around it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "block/error.h"
#include "block/storage/memory.h"
#include "tests/support/storage-model.h"

#define PAGE 65536u

static struct storage *new_memory(uint64_t size_bytes)
{
	struct storage *s = NULL;

	assert_int_equal(storage_memory_new(&s, "mem", size_bytes), 0);
	return s;
}

static void starts_as_zeros_without_space(void **state)
{
	struct storage *s = new_memory(3 * PAGE + 17);
	uint8_t buf[PAGE + 17];
	uint8_t zeros[PAGE + 17] = {0};

	(void)state;
	memset(buf, 0xff, sizeof(buf));
	assert_int_equal(storage_read(s, buf, sizeof(buf), 2 * PAGE), 0);
	assert_memory_equal(buf, zeros, sizeof(buf));
	assert_int_equal(storage_allocated_bytes(s), 0);
	storage_close(s);
}

static void starts_with_a_copy(void **state)
{
	char text[] = "some bytes";
	char buf[sizeof(text)];
	struct storage *s = NULL;

	(void)state;
	assert_int_equal(storage_memory_from(&s, "m", text, sizeof(text)), 0);
	text[0] = 'X';
	assert_int_equal(storage_size(s), sizeof(text));
	assert_int_equal(storage_read(s, buf, sizeof(buf), 0), 0);
	assert_string_equal(buf, "some bytes");
	storage_close(s);
	assert_int_equal(storage_memory_from(&s, "m", NULL, 0), 0);
	assert_int_equal(storage_size(s), 0);
	storage_close(s);
}

static void the_largest_size_costs_nothing(void **state)
{
	struct storage *s = new_memory(INT64_MAX);
	struct storage_extent extent;
	char got = 0;

	(void)state;
	assert_int_equal(storage_write(s, "x", 1, INT64_MAX - 1), 0);
	assert_int_equal(storage_write(s, "y", 1, 1ull << 40), 0);
	assert_int_equal(storage_allocated_bytes(s), 2 * PAGE);
	assert_int_equal(storage_read(s, &got, 1, INT64_MAX - 1), 0);
	assert_int_equal(got, 'x');

	/* Each hole is one answer, however long it is. */
	assert_int_equal(storage_extent_at(s, 0, INT64_MAX, &extent), 0);
	assert_true(extent.hole && extent.len == 1ull << 40);
	assert_int_equal(storage_extent_at(s, 1ull << 40, 1ull << 41, &extent),
			 0);
	assert_true(!extent.hole && extent.len == PAGE);

	assert_int_equal(storage_zero(s, 0, INT64_MAX, 0), 0);
	assert_int_equal(storage_read(s, &got, 1, 1ull << 40), 0);
	assert_int_equal(got, 0);
	assert_true(storage_allocated_bytes(s) <= PAGE);

	assert_int_equal(storage_write(s, "x", 1, INT64_MAX), -EFBIG);
	assert_int_equal(storage_write(s, "x", 1, UINT64_MAX), -EFBIG);
	storage_close(s);
	assert_int_equal(storage_memory_new(&s, "m", 1ull << 63), -EFBIG);
}

static void zeroing_gives_whole_pages_back(void **state)
{
	struct storage *s = new_memory(0);
	uint8_t buf[4 * PAGE];

	(void)state;
	memset(buf, 0x11, sizeof(buf));
	assert_int_equal(storage_write(s, buf, sizeof(buf), 0), 0);
	assert_int_equal(storage_allocated_bytes(s), 4 * PAGE);
	assert_int_equal(storage_zero(s, 100, 3 * PAGE, 0), 0);
	assert_int_equal(storage_allocated_bytes(s), 2 * PAGE);
	memset(buf + 100, 0, 3 * PAGE);
	uint8_t got[4 * PAGE];
	assert_int_equal(storage_read(s, got, sizeof(got), 0), 0);
	assert_memory_equal(got, buf, sizeof(got));
	storage_close(s);
}

static void what_a_shrink_cuts_off_stays_away(void **state)
{
	struct storage *s = new_memory(0);
	uint8_t buf[2 * PAGE];
	uint8_t zeros[2 * PAGE] = {0};

	(void)state;
	memset(buf, 0x22, sizeof(buf));
	assert_int_equal(storage_write(s, buf, sizeof(buf), 0), 0);
	assert_int_equal(storage_resize(s, 10, PREALLOC_OFF, NULL), 0);
	assert_int_equal(storage_read(s, buf, 11, 0), -EIO);
	assert_int_equal(storage_resize(s, sizeof(buf), PREALLOC_OFF, NULL), 0);
	assert_int_equal(storage_read(s, buf, sizeof(buf), 0), 0);
	assert_int_equal(buf[9], 0x22);
	assert_memory_equal(buf + 10, zeros, sizeof(buf) - 10);
	storage_close(s);
}

static void random_operations_match_a_byte_array(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 8; seed++) {
		struct storage *s = new_memory(seed * 1000);

		storage_model_run(s, (struct storage_model_params){
					     .seed = seed,
					     .step_count = 400,
					     .max_size = 5 * PAGE + 33,
					     .keep_size = seed == 8,
				     });
		storage_close(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(starts_as_zeros_without_space),
		cmocka_unit_test(starts_with_a_copy),
		cmocka_unit_test(the_largest_size_costs_nothing),
		cmocka_unit_test(zeroing_gives_whole_pages_back),
		cmocka_unit_test(what_a_shrink_cuts_off_stays_away),
		cmocka_unit_test(random_operations_match_a_byte_array),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
