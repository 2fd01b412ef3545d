/* SPDX-License-Identifier: BSD-3-Clause */
/* Traces of a guest's disk are read whole, or refused with the line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/op-trace.h"

static char path[] = "/tmp/platter-trace-XXXXXX";
static char why[400];

static int make_file(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	return fd < 0 || close(fd);
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

static int read_text(struct op_trace *trace, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
	return op_trace_read(trace, path, why, sizeof(why));
}

static void test_requests_are_read(void **state)
{
	struct op_trace t;

	(void)state;
	assert_int_equal(read_text(&t, "# by hand\ndisk 10\nw 2 8\nd 0 3\nf\n"),
			 0);
	assert_int_equal(t.disk_bytes, 10 * 512);
	assert_int_equal(t.count, 3);
	assert_int_equal(t.ops[0].kind, WORK_WRITE);
	assert_int_equal(t.ops[0].guest_off, 1024);
	assert_int_equal(t.ops[0].len, 4096);
	assert_int_equal(t.ops[1].kind, WORK_DISCARD);
	assert_int_equal(t.ops[1].len, 1536);
	assert_int_equal(t.ops[2].kind, WORK_FLUSH);
	op_trace_release(&t);
}

static void test_what_is_no_trace_is_refused(void **state)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{"", "no trace"},
		{"disk 10\n", "no trace"},
		{"disk 0\nf\n", "line 1"},
		{"disk 99999999\nf\n", "line 1"},
		{"f\ndisk 10\n", "line 1"},
		{"w 0 1\n", "line 1"},
		{"disk 10\nw 9 2\n", "line 2"},
		{"disk 10\nw 0 0\n", "line 2"},
		{"disk 10\nw 18446744073709551615 2\n", "line 2"},
		{"disk 10\nw 0\n", "line 2"},
		{"disk 10\nf\nx 0 1\n", "line 3"},
		{"disk 10\nf\ndisk 20\n", "line 3"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct op_trace t;

		assert_int_equal(read_text(&t, bad[i].text), -1);
		assert_non_null(strstr(why, bad[i].why));
		op_trace_release(&t);
	}
}

static void test_a_missing_file_is_refused(void **state)
{
	struct op_trace t;

	(void)state;
	assert_int_equal(op_trace_read(&t, "/nonexistent", why, sizeof(why)),
			 -1);
	op_trace_release(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests_are_read),
		cmocka_unit_test(test_what_is_no_trace_is_refused),
		cmocka_unit_test(test_a_missing_file_is_refused),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
