/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages: composed, cut, prefixed, and free of side effects. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "block/error.h"

static void set_returns_the_negative_code(void **state)
{
	struct error err = {0};
	int before = __LINE__;
	int ret =
		error_set(&err, EINVAL, "field %s is %d, not 1..%d", "x", 9, 5);

	(void)state;
	assert_int_equal(ret, -EINVAL);
	assert_int_equal(err.code, EINVAL);
	assert_string_equal(err.message, "field x is 9, not 1..5");
	assert_in_range(err.line, before, __LINE__);
	assert_non_null(strstr(err.file, "test_error.c"));
}

static void null_error_is_accepted(void **state)
{
	(void)state;
	assert_int_equal(error_set(NULL, EIO, "nobody reads this"), -EIO);
	assert_int_equal(error_set_errno(NULL, EIO, "nor this"), -EIO);
	assert_int_equal(error_default(NULL, -ENOENT, "nor that"), -ENOENT);
	error_prefix(NULL, "nothing: ");
}

static void errno_text_is_appended(void **state)
{
	struct error err = {0};

	(void)state;
	error_set_errno(&err, ENOENT, "Could not open '%s'", "a.img");
	assert_string_equal(
		err.message,
		"Could not open 'a.img': No such file or directory");
}

static void errno_survives(void **state)
{
	struct error err = {0};

	(void)state;
	errno = ENOTTY;
	error_set_errno(&err, 99999, "odd code");
	error_prefix(&err, "here: ");
	assert_int_equal(errno, ENOTTY);
	assert_int_equal(err.code, 99999);
}

static void prefix_goes_in_front(void **state)
{
	struct error err = {0};

	(void)state;
	error_set(&err, ERROR_CORRUPT, "offset 0x%x past the end", 0x200);
	error_prefix(&err, "L1 table: ");
	error_prefix(&err, "%s: ", "a.qcow2");
	assert_string_equal(err.message,
			    "a.qcow2: L1 table: offset 0x200 past the end");
	assert_int_equal(err.code, EUCLEAN);
}

static void a_message_may_quote_itself(void **state)
{
	struct error err = {0};

	(void)state;
	error_set(&err, EIO, "inner");
	error_set(&err, EINVAL, "outer (%s)", err.message);
	assert_string_equal(err.message, "outer (inner)");
	error_prefix(&err, "%s, again ", err.message);
	assert_string_equal(err.message, "outer (inner), again outer (inner)");
}

static void long_texts_are_cut_at_their_end(void **state)
{
	char text[ERROR_MESSAGE_MAX + 100];
	struct error err = {0};

	(void)state;
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	error_set_errno(&err, EIO, "%s", text);
	assert_int_equal(strlen(err.message), ERROR_MESSAGE_MAX - 1);
	error_prefix(&err, "front: ");
	assert_int_equal(strlen(err.message), ERROR_MESSAGE_MAX - 1);
	assert_memory_equal(err.message, "front: aaa", 10);
	error_prefix(&err, "%s", text);
	assert_int_equal(strlen(err.message), ERROR_MESSAGE_MAX - 1);
	assert_null(strchr(err.message, 'f'));
}

static void errno_text_is_cut_like_the_rest(void **state)
{
	char text[ERROR_MESSAGE_MAX - 4];
	struct error err = {0};

	(void)state;
	memset(text, 'b', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	error_set_errno(&err, ENOENT, "%s", text);
	assert_int_equal(strlen(err.message), ERROR_MESSAGE_MAX - 1);
	assert_string_equal(err.message + sizeof(text) - 1, ": No");
}

static void default_does_not_replace(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal(error_default(&err, -ENOSPC, "growing a.img"),
			 -ENOSPC);
	assert_string_equal(err.message,
			    "growing a.img: No space left on device");
	assert_int_equal(error_default(&err, -EIO, "later"), -EIO);
	assert_int_equal(err.code, ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_returns_the_negative_code),
		cmocka_unit_test(null_error_is_accepted),
		cmocka_unit_test(errno_text_is_appended),
		cmocka_unit_test(errno_survives),
		cmocka_unit_test(prefix_goes_in_front),
		cmocka_unit_test(a_message_may_quote_itself),
		cmocka_unit_test(long_texts_are_cut_at_their_end),
		cmocka_unit_test(errno_text_is_cut_like_the_rest),
		cmocka_unit_test(default_does_not_replace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
