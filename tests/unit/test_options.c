/* SPDX-License-Identifier: BSD-3-Clause */
/* Option lists and sizes, as scripts write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "block/error.h"
#include "block/options.h"

static const struct option_def defs[] = {
	{"size", OPTION_SIZE, "virtual size", NULL},
	{"cluster_size", OPTION_SIZE, "bytes of a cluster", "64k"},
	{"refcount_bits", OPTION_NUMBER, "width", "16"},
	{"lazy_refcounts", OPTION_BOOL, "later", "off"},
	{"backing_file", OPTION_STRING, "what lies below", NULL},
	{0},
};

static struct options parsed(const char *text)
{
	struct options opts = {0};

	assert_int_equal(options_parse(&opts, text, NULL), 0);
	return opts;
}

static void assert_item(const struct options *opts, size_t i, const char *name,
			const char *value)
{
	assert_true(i < opts->count);
	assert_string_equal(opts->items[i].name, name);
	assert_string_equal(opts->items[i].value, value);
}

static void items_keep_their_order(void **state)
{
	struct options opts = parsed("a=1,b=2,a=3");

	(void)state;
	assert_int_equal(opts.count, 3);
	assert_item(&opts, 0, "a", "1");
	assert_item(&opts, 1, "b", "2");
	assert_item(&opts, 2, "a", "3");
	assert_string_equal(options_get(&opts, "a"), "3");
	assert_null(options_get(&opts, "c"));
	options_release(&opts);
	assert_int_equal(opts.count, 0);
}

static void values_hold_doubled_commas_and_equals_signs(void **state)
{
	struct options opts = parsed("f=a,,b,g=,,,h=x=y,i=,j=,,");

	(void)state;
	assert_int_equal(opts.count, 5);
	assert_item(&opts, 0, "f", "a,b");
	assert_item(&opts, 1, "g", ",");
	assert_item(&opts, 2, "h", "x=y");
	assert_item(&opts, 3, "i", "");
	assert_item(&opts, 4, "j", ",");
	options_release(&opts);
}

static void names_alone_are_switches(void **state)
{
	struct options opts = parsed("lazy,nolazy,no,n");

	(void)state;
	assert_int_equal(opts.count, 4);
	assert_item(&opts, 0, "lazy", "on");
	assert_item(&opts, 1, "lazy", "off");
	assert_item(&opts, 2, "no", "on");
	assert_item(&opts, 3, "n", "on");
	options_release(&opts);
}

static void broken_lists_add_nothing(void **state)
{
	static const char *const texts[] = {
		",a=1", "a=1,",	 "b=1,,,", "a=1,=2", "=1",
		",",	",a,,b", "a,,b",   "a,",
	};
	struct options opts = parsed("x=1");

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct error err = {0};

		assert_int_equal(options_parse(&opts, texts[i], &err), -EINVAL);
		assert_non_null(strstr(err.message, texts[i]));
		assert_int_equal(opts.count, 1);
	}
	assert_int_equal(options_parse(&opts, "", NULL), 0);
	assert_int_equal(opts.count, 1);
	options_release(&opts);
}

static void split_moves_dotted_names(void **state)
{
	struct options opts = parsed("file.driver=file,fileX=1,file=2,"
				     "file.a.b=3,driver=qcow2");
	struct options file = {0};

	(void)state;
	assert_int_equal(options_split(&opts, "file", &file), 0);
	assert_int_equal(file.count, 2);
	assert_item(&file, 0, "driver", "file");
	assert_item(&file, 1, "a.b", "3");
	assert_int_equal(opts.count, 3);
	assert_item(&opts, 0, "fileX", "1");
	assert_item(&opts, 1, "file", "2");
	assert_item(&opts, 2, "driver", "qcow2");
	options_release(&opts);
	options_release(&file);
}

static void copies_live_on_their_own(void **state)
{
	struct options opts = parsed("a=1,b=2,a=3"), copy = {0};

	(void)state;
	assert_int_equal(options_set(&copy, "z", "0"), 0);
	assert_int_equal(options_copy(&copy, &opts), 0);
	options_remove(&opts, "a");
	assert_int_equal(opts.count, 1);
	assert_item(&opts, 0, "b", "2");
	options_release(&opts);
	assert_int_equal(copy.count, 4);
	assert_item(&copy, 0, "z", "0");
	assert_string_equal(options_get(&copy, "a"), "3");
	options_release(&copy);
}

static void assert_refused(const char *text, const char *message)
{
	struct options opts = parsed(text);
	struct error err = {0};

	assert_true(options_check(&opts, defs, &err) < 0);
	assert_non_null(strstr(err.message, message));
	options_release(&opts);
}

static void check_names_what_is_wrong(void **state)
{
	struct options opts = parsed("size=1.5G,cluster_size=0x10000,"
				     "refcount_bits=0x10,lazy_refcounts=yes,"
				     "backing_file=");

	(void)state;
	assert_int_equal(options_check(&opts, defs, NULL), 0);
	options_release(&opts);
	assert_refused("foo=1", "Invalid parameter 'foo'");
	assert_refused("size=1,nocow", "Invalid parameter 'cow'");
	assert_refused("lazy_refcounts=maybe",
		       "Parameter 'lazy_refcounts' expects 'on' or 'off'");
	assert_refused("refcount_bits=16k",
		       "Parameter 'refcount_bits' expects a number");
	assert_refused("refcount_bits= 16", "expects a number");
	assert_refused("refcount_bits=", "expects a number");
	assert_refused("size=1KiB", "Parameter 'size' expects a size");
	assert_refused("size=8E", "Parameter 'size' is out of range");
	assert_refused("refcount_bits=9223372036854775808", "out of range");
}

static void look_ups_fall_back_to_the_default(void **state)
{
	struct options opts = parsed("size=1,size=2k");
	uint64_t value;
	bool present, on = true;

	(void)state;
	assert_int_equal(
		options_get_size(&opts, defs, "size", &value, &present, NULL),
		0);
	assert_true(present);
	assert_int_equal(value, 2048);
	assert_int_equal(options_get_size(&opts, defs, "cluster_size", &value,
					  NULL, NULL),
			 0);
	assert_int_equal(value, 65536);
	assert_int_equal(options_get_size(&opts, defs, "refcount_bits", &value,
					  &present, NULL),
			 0);
	assert_true(present);
	assert_int_equal(value, 16);
	assert_int_equal(
		options_get_bool(&opts, defs, "lazy_refcounts", &on, NULL), 0);
	assert_false(on);
	assert_null(options_get_text(&opts, defs, "backing_file"));
	options_remove(&opts, "size");
	assert_int_equal(
		options_get_size(&opts, defs, "size", &value, &present, NULL),
		0);
	assert_false(present);
	options_release(&opts);
}

static void assert_size(const char *text, uint64_t expected)
{
	uint64_t size = 12345;

	if (size_parse(text, &size) || size != expected)
		fail_msg("'%s' gave %llu", text, (unsigned long long)size);
}

static void sizes_are_exact(void **state)
{
	(void)state;
	assert_size("0", 0);
	assert_size("010", 10);
	assert_size("5b", 5);
	assert_size("5B", 5);
	assert_size("1k", 1024);
	assert_size("1K", 1024);
	assert_size("3m", 3 << 20);
	assert_size("1.5G", 3ull << 29);
	assert_size("2T", 2ull << 40);
	assert_size("1p", 1ull << 50);
	assert_size("7E", 7ull << 60);
	assert_size("+1M", 1 << 20);
	assert_size("  \t512", 512);
	assert_size("0x10", 16);
	assert_size("0X1f", 31);
	/* The b is a digit here. */
	assert_size("0x1b", 27);
	assert_size("9223372036854775807", INT64_MAX);
	assert_size("0x7fffffffffffffff", INT64_MAX);
	assert_size("1.0", 1);
	assert_size("5.K", 5120);
	assert_size("0.1K", 102);
	assert_size("0.00048K", 0);
	assert_size("0.00049K", 1);
	assert_size("7.9999E", 9223256744704315123);
	/* Digits beyond those that can matter. */
	assert_size("1.50000000000000000000000000000009K", 1536);
}

static void assert_no_size(const char *text, int expected)
{
	uint64_t size = 12345;
	int ret = size_parse(text, &size);

	if (ret != expected)
		fail_msg("'%s' gave %d", text, ret);
	assert_int_equal(size, 12345);
}

static void what_is_no_size_is_refused(void **state)
{
	static const char *const texts[] = {
		"",	 " ",	"K",	 "1KiB",   "1kb",    "1e3",
		"-1",	 "-0",	"+",	 "+-1",	   "++1",    "5 ",
		"5 k",	 "1.5", "0.5b",	 ".5K",	   ".",	     "0x",
		"0x10K", "0xg", "0x1.8", "1.5.5K", "1,5K",   "1z",
		"1kk",	 "inf", "nan",	 "0x-1",   "1.5e1K",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_no_size(texts[i], -EINVAL);
	assert_no_size("8E", -ERANGE);
	assert_no_size("7.99999999999999999999E", -ERANGE);
	assert_no_size("9223372036854775808", -ERANGE);
	assert_no_size("18446744073709551616", -ERANGE);
	assert_no_size("99999999999999999999999999999E", -ERANGE);
	assert_no_size("0x8000000000000000", -ERANGE);
	assert_no_size("0x10000000000000000", -ERANGE);
	/* No size at all rather than too large a one. */
	assert_no_size("18446744073709551616x", -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(items_keep_their_order),
		cmocka_unit_test(values_hold_doubled_commas_and_equals_signs),
		cmocka_unit_test(names_alone_are_switches),
		cmocka_unit_test(broken_lists_add_nothing),
		cmocka_unit_test(split_moves_dotted_names),
		cmocka_unit_test(copies_live_on_their_own),
		cmocka_unit_test(check_names_what_is_wrong),
		cmocka_unit_test(look_ups_fall_back_to_the_default),
		cmocka_unit_test(sizes_are_exact),
		cmocka_unit_test(what_is_no_size_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
