/* SPDX-License-Identifier: BSD-3-Clause */
/* Zeros are found at every length and alignment, by every routine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "block/zero.h"

#define LEN_MAX 1100

/* An allocation of exactly this size: a sanitizer sees reads beyond it. */
static uint8_t *zeros(size_t len)
{
	uint8_t *buf = calloc(len + !len, 1);

	assert_non_null(buf);
	return buf;
}

static void zeros_of_every_length_are_zero(void **state)
{
	(void)state;
	for (size_t len = 0; len <= LEN_MAX; len++) {
		uint8_t *buf = zeros(len);

		assert_true(is_zero(buf, len));
		assert_true(is_zero_portable(buf, len));
		free(buf);
	}
}

static void any_single_byte_is_seen(void **state)
{
	static const size_t lens[] = {1,   7,	8,   9,	  15,  16,  31,
				      32,  33,	63,  64,  65,  95,  127,
				      128, 255, 256, 257, 300, 511, 512,
				      513, 767, 768, 800, 1024};

	(void)state;
	for (size_t l = 0; l < sizeof(lens) / sizeof(lens[0]); l++) {
		uint8_t *buf = zeros(lens[l]);

		for (size_t i = 0; i < lens[l]; i++) {
			buf[i] = (uint8_t)(1u << i % 8);
			assert_false(is_zero(buf, lens[l]));
			assert_false(is_zero_portable(buf, lens[l]));
			buf[i] = 0;
		}
		free(buf);
	}
}

/* What lies just outside does not count, at any alignment. */
static void bytes_outside_are_not_looked_at(void **state)
{
	static uint8_t buf[64 + LEN_MAX + 1];

	(void)state;
	for (size_t at = 1; at < 64; at++) {
		for (size_t len = 0; len <= 600; len += 1 + len / 16) {
			memset(buf, 0xff, sizeof(buf));
			memset(buf + at, 0, len);
			assert_true(is_zero(buf + at, len));
			assert_true(is_zero_portable(buf + at, len));
			assert_false(is_zero(buf + at - 1, len + 1));
			assert_false(is_zero(buf + at, len + 1));
		}
	}
}

static void runs_end_where_the_kind_changes(void **state)
{
	uint8_t *buf = zeros(4096 + 100);
	bool zero;

	(void)state;
	buf[1024] = 1;
	buf[2047] = 1;
	assert_int_equal(zero_run(buf, 4196, 512, &zero), 1024);
	assert_true(zero);
	assert_int_equal(zero_run(buf + 1024, 3172, 512, &zero), 1024);
	assert_false(zero);
	assert_int_equal(zero_run(buf + 2048, 2148, 512, &zero), 2148);
	assert_true(zero);
	/* A unit is data if any byte of it is. */
	assert_int_equal(zero_run(buf, 4196, 4096, &zero), 4096);
	assert_false(zero);
	free(buf);
}

static void short_last_units_count(void **state)
{
	uint8_t *buf = zeros(1000);
	bool zero = false;

	(void)state;
	assert_int_equal(zero_run(buf, 1000, 512, &zero), 1000);
	assert_true(zero);
	buf[999] = 1;
	assert_int_equal(zero_run(buf, 1000, 512, &zero), 512);
	assert_true(zero);
	assert_int_equal(zero_run(buf, 1000, 4096, &zero), 1000);
	assert_false(zero);
	assert_int_equal(zero_run(buf, 0, 512, &zero), 0);
	assert_true(zero);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zeros_of_every_length_are_zero),
		cmocka_unit_test(any_single_byte_is_seen),
		cmocka_unit_test(bytes_outside_are_not_looked_at),
		cmocka_unit_test(runs_end_where_the_kind_changes),
		cmocka_unit_test(short_last_units_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
