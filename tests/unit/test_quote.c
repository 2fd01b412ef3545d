/* SPDX-License-Identifier: BSD-3-Clause */
/* Names out of images are printable before they are printed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "block/quote.h"

static void expect(const char *name, const char *quoted)
{
	struct quoted_name buf;

	assert_string_equal(quote_name(&buf, name), quoted);
}

static void plain_names_stay(void **state)
{
	(void)state;
	expect("", "");
	expect("/a/b c.qcow2", "/a/b c.qcow2");
	expect("%n%s'\"`", "%n%s'\"`");
	expect("\xc3\xa4\xe2\x82\xac\xf0\x9f\x92\xbe\xef\xbf\xbd",
	       "\xc3\xa4\xe2\x82\xac\xf0\x9f\x92\xbe\xef\xbf\xbd");
}

static void control_characters_are_escaped(void **state)
{
	(void)state;
	expect("\x1b[2J\x07", "\\x1b[2J\\x07");
	expect("a\nb\rc\td\x7f", "a\\nb\\x0dc\\x09d\\x7f");
	/* The escape sign itself, so that two names never look the same. */
	expect("\\x1b", "\\x5cx1b");
	/* U+009B starts a terminal sequence as well; U+00A0 does not. */
	expect("\xc2\x9b", "\\xc2\\x9b");
	expect("\xc2\xa0", "\xc2\xa0");
}

static void bytes_that_are_no_text_are_escaped(void **state)
{
	(void)state;
	expect("\xff", "\\xff");
	expect("\xc3", "\\xc3");
	expect("\xe2\x82", "\\xe2\\x82");
	expect("\xf0\x9f\x92", "\\xf0\\x9f\\x92");
	expect("\xc3(", "\\xc3(");
	expect("\xc0\xaf", "\\xc0\\xaf");
	expect("\xe0\x80\xaf", "\\xe0\\x80\\xaf");
	expect("\xed\xa0\x80", "\\xed\\xa0\\x80");
	expect("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80");
	expect("\x80x", "\\x80x");
}

static void long_names_are_cut_between_units(void **state)
{
	struct quoted_name buf;
	char name[QUOTED_NAME_MAX + 100];

	(void)state;
	for (size_t lead = 0; lead < 8; lead++) {
		size_t len;

		memset(name, 0xff, sizeof(name) - 1);
		memset(name, 'a', lead);
		name[sizeof(name) - 1] = '\0';
		quote_name(&buf, name);
		len = strlen(buf.text);
		assert_true(len < sizeof(buf.text));
		assert_string_equal(buf.text + len - 3, "...");
		assert_int_equal((len - 3 - lead) % 4, 0);
		assert_memory_equal(buf.text + len - 7, "\\xff", 4);
	}
	memset(name, 'a', sizeof(name));
	name[QUOTED_NAME_MAX - 4] = '\0';
	assert_string_equal(quote_name(&buf, name), name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_names_stay),
		cmocka_unit_test(control_characters_are_escaped),
		cmocka_unit_test(bytes_that_are_no_text_are_escaped),
		cmocka_unit_test(long_names_are_cut_between_units),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
