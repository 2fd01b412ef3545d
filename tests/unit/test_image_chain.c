/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening chains of files: what an image names is opened only if the caller
 * allows it, in a format that somebody has recorded, and never in a circle.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "block/error.h"
#include "block/format.h"
#include "block/image-spec.h"
#include "block/image.h"
#include "block/opener.h"
#include "block/options.h"
#include "formats/qcow2/driver.h"
#include "tests/support/file-fixture.h"

#define SIZE (1u << 20)

static const struct opener any = {
	.policy = OPENER_ANY,
	.allow_probing = true,
};

/* A qcow2 file; `backing` are the options that name its backing file. */
static void make(const char *path, const char *backing)
{
	struct options opts = {0};
	struct create_args args = {
		.storage = file_fixture_create(path),
		.filename = path,
		.size_bytes = SIZE,
		.options = &opts,
	};

	assert_int_equal(options_parse(&opts, backing, NULL), 0);
	assert_int_equal(qcow2_driver.create(&args, NULL), 0);
	options_release(&opts);
	storage_close(args.storage);
}

static int open_path(struct image **out, const char *path, unsigned flags,
		     const struct opener *opener, struct error *err)
{
	struct image_spec spec = {0};
	struct image_open_args args = {
		.spec = &spec,
		.flags = flags,
		.opener = opener,
	};
	int ret;

	assert_int_equal(image_spec_from_path(&spec, path, "qcow2", err), 0);
	ret = image_open(out, &args, err);
	image_spec_release(&spec);
	return ret;
}

static void expect_refused(const char *path, const struct opener *opener,
			   const char *words)
{
	struct error err = {0};
	struct image *img;

	assert_true(open_path(&img, path, 0, opener, &err) < 0);
	if (!strstr(err.message, words))
		fail_msg("\"%s\" does not say \"%s\"", err.message, words);
	assert_non_null(strstr(err.message, "Could not open '"));
	/* Nothing is left open: a lock would be in the way. */
	assert_int_equal(open_path(&img, path, IMAGE_WRITE | IMAGE_NO_BACKING,
				   NULL, NULL),
			 0);
	assert_int_equal(image_close(img), 0);
}

static void a_chain_is_opened_layer_by_layer(void **state)
{
	struct image *img;
	uint8_t buf[512];

	(void)state;
	file_fixture_make("raw", SIZE, 7);
	make("mid", "backing_file=raw,backing_fmt=raw");
	make("top", "backing_file=mid");
	assert_int_equal(open_path(&img, "top", IMAGE_WRITE, &any, NULL), 0);
	assert_non_null(img->backing->backing);
	assert_null(img->backing->backing->backing);
	assert_false(img->backing->writable);
	assert_int_equal(image_read(img, buf, sizeof(buf), SIZE - 512), 0);
	assert_int_equal(buf[0], 7);
	assert_int_equal(image_close(img), 0);
}

static void nothing_is_opened_without_leave(void **state)
{
	const struct opener no_probing = {.policy = OPENER_ANY};

	(void)state;
	make("base", "");
	make("top", "backing_file=base");
	expect_refused("top", NULL, "Could not open backing file: ");
	expect_refused("top", &no_probing, "No format is recorded");
	make("other", "backing_file=base,backing_fmt=qcow2");
	expect_refused("other", NULL, "Could not open backing file: ");
}

static void an_unknown_format_is_not_guessed(void **state)
{
	(void)state;
	make("base", "");
	make("top", "backing_file=base,backing_fmt=qcow9");
	expect_refused("top", &any, "Unknown driver 'qcow9'");
	make("missing", "backing_file=nowhere,backing_fmt=raw");
	expect_refused("missing", &any, "nowhere");
	make("broken", "backing_file=junk,backing_fmt=qcow2");
	file_fixture_make("junk", 4096, 1);
	expect_refused("broken", &any, "Could not open 'junk'");
}

static void a_circle_is_seen(void **state)
{
	struct error err = {0};
	struct image *img;

	(void)state;
	make("a", "backing_file=b,backing_fmt=qcow2");
	make("b", "backing_file=a,backing_fmt=qcow2");
	make("self", "backing_file=self,backing_fmt=qcow2");
	expect_refused("a", &any, "infinite loop");
	expect_refused("self", &any, "infinite loop");
	/* For writing our own lock keeps us from opening it again. */
	assert_int_equal(open_path(&img, "b", IMAGE_WRITE, &any, &err), -ELOOP);
	assert_non_null(strstr(err.message, "infinite loop"));
	assert_int_equal(link("a", "other-name"), 0);
	expect_refused("other-name", &any, "infinite loop");
}

#define TEST(name)                                                 \
	cmocka_unit_test_setup_teardown(name, file_fixture_set_up, \
					file_fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_chain_is_opened_layer_by_layer),
		TEST(nothing_is_opened_without_leave),
		TEST(an_unknown_format_is_not_guessed),
		TEST(a_circle_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
