/* SPDX-License-Identifier: BSD-3-Clause */
/* Byte orders, and arithmetic at the edges of 64 bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "block/bytes.h"

/* A struct as it lies on disk: odd offsets, no padding. */
struct sample {
	uint8_t tag;
	be16_t b16;
	be32_t b32;
	be64_t b64;
	le16_t l16;
	le32_t l32;
	le64_t l64;
};

_Static_assert(sizeof(struct sample) == 29, "no padding");
_Static_assert(_Alignof(struct sample) == 1, "any address will do");

static const uint8_t sample_bytes[] = {
	0x7f, 0x01, 0x02, 0x01, 0x02, 0x03, 0x04, 0x01, 0x02, 0x03,
	0x04, 0x05, 0x06, 0x07, 0x08, 0x02, 0x01, 0x04, 0x03, 0x02,
	0x01, 0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01,
};

static void fields_are_read_in_their_byte_order(void **state)
{
	struct sample s;

	(void)state;
	memcpy(&s, sample_bytes, sizeof(s));
	assert_int_equal(be16_get(s.b16), 0x0102);
	assert_int_equal(be32_get(s.b32), 0x01020304);
	assert_true(be64_get(s.b64) == 0x0102030405060708u);
	assert_int_equal(le16_get(s.l16), 0x0102);
	assert_int_equal(le32_get(s.l32), 0x01020304);
	assert_true(le64_get(s.l64) == 0x0102030405060708u);
}

static void fields_are_made_in_their_byte_order(void **state)
{
	struct sample s = {
		.tag = 0x7f,
		.b16 = be16_make(0x0102),
		.b32 = be32_make(0x01020304),
		.b64 = be64_make(0x0102030405060708u),
		.l16 = le16_make(0x0102),
		.l32 = le32_make(0x01020304),
		.l64 = le64_make(0x0102030405060708u),
	};

	(void)state;
	assert_memory_equal(&s, sample_bytes, sizeof(s));
}

static void sums_that_wrap_are_noticed(void **state)
{
	uint64_t out;

	(void)state;
	assert_false(add_overflows(UINT64_MAX, 0, &out));
	assert_true(out == UINT64_MAX);
	assert_true(add_overflows(UINT64_MAX, 1, &out));
	assert_true(add_overflows(1ull << 63, 1ull << 63, &out));
	assert_false(add_overflows(1ull << 63, (1ull << 63) - 1, &out));
	assert_true(out == UINT64_MAX);
}

static void products_that_wrap_are_noticed(void **state)
{
	uint64_t out;

	(void)state;
	assert_true(mul_overflows(1ull << 32, 1ull << 32, &out));
	assert_false(mul_overflows(1ull << 32, (1ull << 32) - 1, &out));
	assert_true(out == 0xffffffff00000000u);
	assert_false(mul_overflows(UINT64_MAX, 0, &out));
	assert_int_equal(out, 0);
}

static void ranges_never_wrap(void **state)
{
	(void)state;
	assert_true(range_inside(0, 0, 0));
	assert_true(range_inside(10, 0, 10));
	assert_false(range_inside(11, 0, 10));
	assert_true(range_inside(4, 6, 10));
	assert_false(range_inside(4, 7, 10));
	assert_false(range_inside(UINT64_MAX, 2, 10));
	assert_false(range_inside(4, UINT64_MAX - 2, 10));
	assert_true(range_inside(0, UINT64_MAX, UINT64_MAX));
	assert_false(range_inside(1, UINT64_MAX, UINT64_MAX));
}

static void alignment_rounds_as_named(void **state)
{
	(void)state;
	for (uint64_t v = 0; v < 2048; v++) {
		assert_int_equal(align_down(v, 512), v / 512 * 512);
		assert_int_equal(align_up(v, 512), (v + 511) / 512 * 512);
		assert_int_equal(is_aligned(v, 512), v % 512 == 0);
		assert_int_equal(div_round_up(v, 7), (v + 6) / 7);
		assert_true(is_aligned(v, 1));
	}
	assert_true(div_round_up(UINT64_MAX, 2) == 1ull << 63);
	assert_true(div_round_up(UINT64_MAX, 1) == UINT64_MAX);
}

static void powers_of_two_have_one_bit(void **state)
{
	(void)state;
	assert_false(is_power_of_2(0));
	for (unsigned bit = 0; bit < 64; bit++) {
		assert_true(is_power_of_2(1ull << bit));
		assert_int_equal(is_power_of_2((1ull << bit) + 1), bit == 0);
	}
	assert_false(is_power_of_2(UINT64_MAX));
}

static void min_and_max_are_unsigned(void **state)
{
	(void)state;
	assert_true(min_u64(UINT64_MAX, 1) == 1);
	assert_true(max_u64(UINT64_MAX, 1) == UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_are_read_in_their_byte_order),
		cmocka_unit_test(fields_are_made_in_their_byte_order),
		cmocka_unit_test(sums_that_wrap_are_noticed),
		cmocka_unit_test(products_that_wrap_are_noticed),
		cmocka_unit_test(ranges_never_wrap),
		cmocka_unit_test(alignment_rounds_as_named),
		cmocka_unit_test(powers_of_two_have_one_bit),
		cmocka_unit_test(min_and_max_are_unsigned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
