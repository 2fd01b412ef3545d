/* SPDX-License-Identifier: BSD-3-Clause */
/* How the judge reads: how much, in which order, and what if it cannot. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/inspect-rule.h"
#include "block/inspect.h"
#include "block/storage.h"
#include "block/storage/memory.h"
#include "tests/support/fault-storage.h"

static const struct inspect_limits no_limits;

/* Zeros behind `head`, `size` bytes of all; fails with `failure` at its end. */
struct source {
	const void *head;
	size_t head_len;
	uint64_t size, pos;
	int failure;
};

static int64_t read_source(void *opaque, void *buf, size_t len)
{
	struct source *s = opaque;
	size_t got = (size_t)min_u64(len, s->size - s->pos);

	if (got < len && s->failure)
		return s->failure;
	memset(buf, 0, got);
	if (s->pos < s->head_len)
		memcpy(buf, (const uint8_t *)s->head + s->pos,
		       min_u64(got, s->head_len - s->pos));
	s->pos += got;
	return (int64_t)got;
}

static void a_claim_at_the_head_ends_the_reading(void **state)
{
	/* Of an unknown version: nothing more has to be seen. */
	struct source source = {"QFI\xfb\0\0\0\x09", 8, 1ull << 40, 0, 0};
	struct inspect_report report;

	(void)state;
	assert_int_equal(
		inspect_stream(read_source, &source, &no_limits, &report, NULL),
		0);
	assert_int_equal(report.verdict, INSPECT_UNSAFE);
	assert_int_equal(source.pos, INSPECT_HEAD_BYTES);
	assert_int_equal(report.bytes_read, INSPECT_HEAD_BYTES);
	assert_false(report.has_file_size);
}

static void a_raw_stream_is_read_to_its_end(void **state)
{
	struct source source = {"", 0, (5 << 20) + 7, 0, 0};
	struct inspect_report report;

	(void)state;
	assert_int_equal(
		inspect_stream(read_source, &source, &no_limits, &report, NULL),
		0);
	assert_int_equal(report.verdict, INSPECT_SAFE);
	assert_string_equal(report.format, "raw");
	assert_true(report.has_file_size);
	assert_int_equal(report.virtual_size, (5 << 20) + 7);
}

static void what_cannot_be_read_has_no_verdict(void **state)
{
	struct source at_once = {"", 0, 0, 0, -EIO};
	struct source later = {"", 0, 1 << 20, 0, -EIO};
	struct inspect_report report;
	struct error err = {0};

	(void)state;
	assert_int_equal(inspect_stream(read_source, &at_once, &no_limits,
					&report, NULL),
			 -EIO);
	assert_int_equal(
		inspect_stream(read_source, &later, &no_limits, &report, &err),
		-EIO);
	assert_non_null(strstr(err.message, "stream"));
}

/* A header, a descriptor behind the head, and the end: three reads. */
static void a_file_that_cannot_be_read_has_no_verdict(void **state)
{
	static uint8_t disk[2 << 20];
	le64_t grain = le64_make(128), one = le64_make(1);
	le64_t sectors = le64_make(256), at_end = le64_make(UINT64_MAX);
	unsigned failed = 0;
	int ret = -1;

	(void)state;
	memcpy(disk, "KDMV\1\0\0\0", 8);
	memcpy(disk + 20, &grain, sizeof(grain));
	memcpy(disk + 28, &one, sizeof(one));
	memcpy(disk + 36, &sectors, sizeof(sectors));
	memcpy(disk + 56, &at_end, sizeof(at_end));
	for (uint64_t nth = 1; ret < 0; nth++) {
		struct fault_plan plan = {.nth = nth, .code = EIO};
		struct inspect_report report;
		struct error err = {0};
		struct storage *file;

		assert_int_equal(
			storage_memory_from(&file, "x", disk, sizeof(disk)), 0);
		assert_int_equal(storage_fault_new(&file, file, &plan), 0);
		ret = inspect_storage(file, &no_limits, &report, &err);
		if (ret < 0) {
			assert_int_equal(ret, -EIO);
			assert_non_null(
				strstr(err.message, "reading the file"));
			failed++;
		}
		storage_close(file);
	}
	assert_int_equal(failed, 3);
}

static void a_ratio_needs_the_size_of_a_stream(void **state)
{
	const struct inspect_limits limits = {.max_ratio = 1};
	struct source source = {"QFI\xfb\0\0\0\x09", 8, 1 << 20, 0, 0};
	struct inspect_report report;

	(void)state;
	assert_int_equal(
		inspect_stream(read_source, &source, &limits, &report, NULL),
		0);
	assert_int_equal(report.file_size, 1 << 20);
}

static void reasons_are_bounded_and_the_worst_is_kept(void **state)
{
	static uint8_t disk[1024];
	struct inspect_report report;
	struct storage *file;
	/* A KDMV header, and a descriptor of nonsense lines. */
	le64_t one = le64_make(1);

	(void)state;
	memcpy(disk, "KDMV\1\0\0\0", 8);
	memcpy(disk + 28, &one, sizeof(one));
	memcpy(disk + 36, &one, sizeof(one));
	memset(disk + 512, 'x', 512);
	for (size_t i = 513; i < 1024; i += 2)
		disk[i] = '\n';
	assert_int_equal(storage_memory_from(&file, "x", disk, sizeof(disk)),
			 0);
	assert_int_equal(inspect_storage(file, &no_limits, &report, NULL), 0);
	assert_int_equal(report.reason_count, INSPECT_REASONS_MAX);
	assert_int_equal(report.verdict, INSPECT_UNSAFE);
	storage_close(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_claim_at_the_head_ends_the_reading),
		cmocka_unit_test(a_raw_stream_is_read_to_its_end),
		cmocka_unit_test(what_cannot_be_read_has_no_verdict),
		cmocka_unit_test(a_file_that_cannot_be_read_has_no_verdict),
		cmocka_unit_test(a_ratio_needs_the_size_of_a_stream),
		cmocka_unit_test(reasons_are_bounded_and_the_worst_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
