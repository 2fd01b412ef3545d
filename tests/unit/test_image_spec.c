/* SPDX-License-Identifier: BSD-3-Clause */
/* The names that users give to images, and what is refused in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "block/error.h"
#include "block/image-spec.h"
#include "block/storage/nbd-address.h"

static int parse(struct image_spec *spec, const char *text, struct error *err)
{
	*err = (struct error){0};
	return image_spec_parse(spec, text, NULL, err);
}

static int parse_opts(struct image_spec *spec, const char *text,
		      struct error *err)
{
	*err = (struct error){0};
	return image_spec_parse_opts(spec, text, err);
}

typedef int parse_fn(struct image_spec *spec, const char *text,
		     struct error *err);

static void expect(parse_fn *fn, const char *text, const char *path,
		   const char *format)
{
	struct image_spec spec;
	struct error err;

	if (fn(&spec, text, &err))
		fail_msg("%s: %s", text, err.message);
	assert_string_equal(spec.text, text);
	assert_string_equal(spec.path, path);
	if (format)
		assert_string_equal(spec.format, format);
	else
		assert_null(spec.format);
	image_spec_release(&spec);
}

static void expect_error(parse_fn *fn, const char *text, int code,
			 const char *part)
{
	struct image_spec spec;
	struct error err;
	char start[300];

	assert_int_equal(fn(&spec, text, &err), -code);
	snprintf(start, sizeof(start), "Could not open '%s': ", text);
	if (strncmp(err.message, start, strlen(start)))
		fail_msg("%s does not start with: %s", err.message, start);
	if (!strstr(err.message + strlen(start), part))
		fail_msg("%s: no '%s' in it", err.message, part);
	assert_null(spec.text);
	assert_null(spec.path);
	assert_null(spec.format);
	assert_int_equal(spec.options.count, 0);
}

static void paths_are_taken_as_they_are(void **state)
{
	static const char *const paths[] = {
		"a",	   "/a/b.qcow2", "./a:b",      "a/b:c", "/:",
		"..",	   "a,b=c",	 "with blank", "-x",	"%n%s",
		"jsonx{}", "\xc3\xa4",	 "\xff\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		expect(parse, paths[i], paths[i], NULL);
}

static void file_prefix_is_taken_off_once(void **state)
{
	(void)state;
	expect(parse, "file:a:b", "a:b", NULL);
	expect(parse, "file:/x", "/x", NULL);
	expect(parse, "file:json:{}", "json:{}", NULL);
	expect(parse, "file:file:x", "file:x", NULL);
	expect_error(parse, "file:", EINVAL, "requires a file name");
	expect_error(parse, "", EINVAL, "requires a file name");
}

static void protocols_are_refused_by_name(void **state)
{
	(void)state;
	expect_error(parse, "a:b", EINVAL, "Unknown protocol 'a'");
	expect_error(parse, "foo+bar.baz-q:r", EINVAL,
		     "Unknown protocol 'foo+bar.baz-q'");
	expect_error(parse, ":x", EINVAL, "Unknown protocol ''");
	expect_error(parse, "C:x", EINVAL, "Unknown protocol 'C'");
	expect_error(parse, "fat:rw:x", EINVAL, "Unknown protocol 'fat'");
	expect_error(parse, "nbd+ssh://2", ENOTSUP, "'nbd+ssh'");
	expect_error(parse, "https://host/a", ENOTSUP, "'https'");
	expect_error(parse, "ssh://host/a", ENOTSUP, "'ssh'");
	expect_error(parse, "rbd:pool/a", ENOTSUP, "'rbd'");
}

static void expect_export(parse_fn *fn, const char *text, const char *name,
			  const char *format)
{
	struct image_spec spec;
	struct error err;

	expect(fn, text, name, format);
	assert_int_equal(fn(&spec, text, &err), 0);
	assert_non_null(spec.nbd);
	assert_string_equal(spec.nbd->name, name);
	image_spec_release(&spec);
	assert_null(spec.nbd);
}

static void exports_are_named_in_all_forms(void **state)
{
	static const char name[] = "nbd+unix:///x?socket=/s";

	(void)state;
	expect_export(parse, name, name, NULL);
	expect_export(parse, "nbd:unix:/s:exportname=x", name, NULL);
	expect_export(parse,
		      "json:{\"driver\":\"nbd\",\"export\":\"x\","
		      "\"server\":{\"type\":\"unix\",\"path\":\"/s\"}}",
		      name, "raw");
	expect_export(parse_opts,
		      "driver=nbd,server.type=unix,server.path=/s,export=x",
		      name, "raw");
	expect_export(parse_opts,
		      "driver=qcow2,file.driver=nbd,file.server.type=unix,"
		      "file.server.path=/s,file.export=x",
		      name, "qcow2");
	expect_export(parse_opts,
		      "driver=raw,file.driver=nbd,"
		      "file.filename=nbd:unix:/s:exportname=x",
		      name, "raw");
}

/* Or what is done with the path would reach for a server. */
static void files_never_look_like_exports(void **state)
{
	(void)state;
	expect(parse, "./nbd:x", "./nbd:x", NULL);
	expect(parse, "file:nbd:x", "./nbd:x", NULL);
	expect(parse_opts, "file.filename=nbd://h/x", "./nbd://h/x", NULL);
	expect(parse_opts, "driver=file,filename=nbds:x", "./nbds:x", "raw");
}

static void format_word_is_kept(void **state)
{
	struct image_spec spec;

	(void)state;
	assert_int_equal(image_spec_parse(&spec, "a", "qcow2", NULL), 0);
	assert_string_equal(spec.format, "qcow2");
	image_spec_release(&spec);
	image_spec_release(&spec);
}

static void json_names_a_file_nested_or_dotted(void **state)
{
	(void)state;
	expect(parse,
	       "json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\","
	       "\"filename\":\"a:b\"}}",
	       "a:b", "qcow2");
	expect(parse,
	       "json:{\"driver\":\"raw\",\"file\":{\"driver\":\"host_device\","
	       "\"filename\":\"/dev/x\"}}",
	       "/dev/x", "raw");
	expect(parse, "json:{\"driver\":\"raw\",\"file.filename\":\"r\"}", "r",
	       "raw");
	expect(parse, "json: { \"file.filename\" : \"json:{}\" } ", "json:{}",
	       NULL);
	expect(parse, "json:{\"driver\":\"file\",\"filename\":\"r\"}", "r",
	       "raw");
}

static void null_backing_leaves_the_chain_closed(void **state)
{
	struct image_spec spec;
	struct error err;

	(void)state;
	assert_int_equal(parse(&spec,
			       "json:{\"driver\":\"qcow2\",\"backing\":null,"
			       "\"file\":{\"filename\":\"r\"}}",
			       &err),
			 0);
	assert_true(spec.no_backing);
	assert_int_equal(spec.options.count, 0);
	image_spec_release(&spec);
	assert_int_equal(parse(&spec, "json:{\"file.filename\":\"r\"}", &err),
			 0);
	assert_false(spec.no_backing);
	image_spec_release(&spec);
	expect_error(parse, "json:{\"file.filename\":\"r\",\"backing\":\"b\"}",
		     ENOTSUP, "'backing' can only be null");
}

static void what_is_left_is_for_the_driver(void **state)
{
	struct image_spec spec;
	struct error err;

	(void)state;
	assert_int_equal(parse(&spec,
			       "json:{\"driver\":\"raw\",\"offset\":1048576,"
			       "\"size\":\"1M\",\"lazy\":true,\"cold\":false,"
			       "\"a\":{\"b\":{\"c\":-5}},"
			       "\"file\":{\"filename\":\"r\"}}",
			       &err),
			 0);
	assert_int_equal(spec.options.count, 5);
	assert_string_equal(options_get(&spec.options, "offset"), "1048576");
	assert_string_equal(options_get(&spec.options, "size"), "1M");
	assert_string_equal(options_get(&spec.options, "lazy"), "on");
	assert_string_equal(options_get(&spec.options, "cold"), "off");
	assert_string_equal(options_get(&spec.options, "a.b.c"), "-5");
	image_spec_release(&spec);
}

static void broken_json_is_refused(void **state)
{
	(void)state;
	expect_error(parse, "json:", EINVAL, "Could not parse");
	expect_error(parse, "json:{", EINVAL, "Could not parse");
	expect_error(parse, "json:{} x", EINVAL, "Could not parse");
	expect_error(parse, "json:{\"driver\":\"raw\",\"driver\":\"raw\"}",
		     EINVAL, "duplicate");
	expect_error(parse, "json:{\"file.filename\":\"a\\u0000b\"}", EINVAL,
		     "Could not parse");
	expect_error(parse, "json:[1]", EINVAL, "Invalid JSON object");
	expect_error(parse, "json:{}", EINVAL,
		     "Must specify either driver or file");
}

static void wrong_types_are_refused(void **state)
{
	(void)state;
	expect_error(parse, "json:{\"file\":{\"filename\":5}}", EINVAL,
		     "'file.filename' has to be a string");
	expect_error(parse, "json:{\"driver\":true,\"file.filename\":\"a\"}",
		     EINVAL, "'driver' has to be a string");
	expect_error(parse, "json:{\"file\":\"node\"}", EINVAL,
		     "'file' has to be an object");
	expect_error(parse, "json:{\"file\":null}", EINVAL, "'file' has");
	expect_error(parse, "json:{\"file\":[]}", EINVAL, "'file' has");
	expect_error(parse, "json:{\"offset\":1.5,\"file.filename\":\"a\"}",
		     EINVAL, "'offset' has to be");
	expect_error(parse, "json:{\"x\":null,\"file.filename\":\"a\"}", EINVAL,
		     "'x' has to be");
	expect_error(parse,
		     "json:{\"file\":{\"filename\":\"a\"},"
		     "\"file.filename\":\"b\"}",
		     EINVAL, "'file.filename' is given twice");
}

static void deep_json_is_refused(void **state)
{
	char text[200] = "json:";
	struct image_spec spec;
	struct error err;

	(void)state;
	for (int i = 0; i < 20; i++)
		strncat(text, "{\"a\":", sizeof(text) - strlen(text) - 1);
	strncat(text, "1", sizeof(text) - strlen(text) - 1);
	for (int i = 0; i < 20; i++)
		strncat(text, "}", sizeof(text) - strlen(text) - 1);
	assert_int_equal(parse(&spec, text, &err), -EINVAL);
	assert_non_null(strstr(err.message, "more than 16 deep"));
}

static void words_of_options_name_a_file(void **state)
{
	(void)state;
	expect(parse_opts, "driver=raw,file.driver=file,file.filename=r", "r",
	       "raw");
	expect(parse_opts, "file.filename=a,,b", "a,b", NULL);
	expect(parse_opts, "driver=qcow2,file.filename=file:r", "file:r",
	       "qcow2");
	expect(parse_opts, "driver=file,filename=r", "r", "raw");
	expect(parse_opts, "driver=host_device,filename=/dev/x", "/dev/x",
	       "raw");
	/* As in all lists of options the last one wins. */
	expect(parse_opts, "file.filename=a,file.filename=b", "b", NULL);
}

static void broken_words_of_options_are_refused(void **state)
{
	(void)state;
	expect_error(parse_opts, "", EINVAL,
		     "Must specify either driver or file");
	expect_error(parse_opts, "filename=r", EINVAL,
		     "Must specify either driver or file");
	expect_error(parse_opts, "driver=raw", EINVAL,
		     "A block device must be specified for \"file\"");
	expect_error(parse_opts, "file=r", EINVAL, "'file' has to be");
	expect_error(parse_opts, "driver=file", EINVAL, "requires a file name");
	expect_error(parse_opts, "driver=raw,file.filename=", EINVAL,
		     "requires a file name");
	expect_error(parse_opts, "driver=raw,file.driver=host_device", EINVAL,
		     "'host_device' block driver requires a file name");
	expect_error(parse_opts, "driver=file,filename=r,offset=512", EINVAL,
		     "doesn't support the option 'offset'");
	expect_error(parse_opts, "file.filename=r,file.zork=1", EINVAL,
		     "doesn't support the option 'zork'");
	expect_error(parse_opts, "file.driver=ssh,file.host=x", ENOTSUP,
		     "'ssh' is not supported");
	expect_error(parse_opts, "driver=nbd,server.path=s,offset=1", EINVAL,
		     "'nbd' doesn't support the option 'offset'");
	expect_error(parse_opts, "file.driver=nbd,file.filename=a", EINVAL,
		     "no name of an NBD export");
	expect_error(parse_opts, "file.driver=raw,file.file.filename=x", EINVAL,
		     "'raw' cannot be used for a file");
}

static void a_format_given_twice_has_to_agree(void **state)
{
	static const char text[] =
		"json:{\"driver\":\"raw\",\"file.filename\":\"r\"}";
	struct image_spec spec;
	struct error err = {0};

	(void)state;
	assert_int_equal(image_spec_parse(&spec, text, "raw", &err), 0);
	image_spec_release(&spec);
	assert_int_equal(image_spec_parse(&spec, text, "qcow2", &err), -EINVAL);
	assert_non_null(strstr(err.message, "given twice"));
}

static void names_out_of_images_are_no_specs(void **state)
{
	struct image_spec spec;

	(void)state;
	assert_int_equal(
		image_spec_from_path(&spec, "json:{\"a\":1}", "raw", NULL), 0);
	assert_string_equal(spec.path, "json:{\"a\":1}");
	assert_string_equal(spec.format, "raw");
	image_spec_release(&spec);
	assert_int_equal(image_spec_from_path(&spec, "nbd://h/x", "raw", NULL),
			 0);
	assert_non_null(spec.nbd);
	image_spec_release(&spec);
}

static void paths_of_new_files_follow_the_same_rules(void **state)
{
	struct error err = {0};
	char *path;

	(void)state;
	assert_int_equal(image_path_parse("file:a:b", &path, &err), 0);
	assert_string_equal(path, "a:b");
	free(path);
	assert_int_equal(image_path_parse("./a:b", &path, &err), 0);
	assert_string_equal(path, "./a:b");
	free(path);
	assert_int_equal(image_path_parse("a:b", &path, &err), -EINVAL);
	assert_string_equal(err.message, "Unknown protocol 'a'");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths_are_taken_as_they_are),
		cmocka_unit_test(file_prefix_is_taken_off_once),
		cmocka_unit_test(protocols_are_refused_by_name),
		cmocka_unit_test(exports_are_named_in_all_forms),
		cmocka_unit_test(files_never_look_like_exports),
		cmocka_unit_test(format_word_is_kept),
		cmocka_unit_test(json_names_a_file_nested_or_dotted),
		cmocka_unit_test(null_backing_leaves_the_chain_closed),
		cmocka_unit_test(what_is_left_is_for_the_driver),
		cmocka_unit_test(broken_json_is_refused),
		cmocka_unit_test(wrong_types_are_refused),
		cmocka_unit_test(deep_json_is_refused),
		cmocka_unit_test(words_of_options_name_a_file),
		cmocka_unit_test(broken_words_of_options_are_refused),
		cmocka_unit_test(a_format_given_twice_has_to_agree),
		cmocka_unit_test(names_out_of_images_are_no_specs),
		cmocka_unit_test(paths_of_new_files_follow_the_same_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
