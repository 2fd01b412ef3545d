/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. */
#include "tests/support/check-fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/image.h"
#include "block/storage.h"
#include "formats/registry.h"
#include "tests/support/qcow2-builder.h"

static void note(void *opaque, const char *text)
{
	struct check_findings *f = opaque;

	if (f->count < CHECK_FIXTURE_FINDINGS)
		snprintf(f->text[f->count], sizeof(f->text[0]), "%s", text);
	f->count++;
}

bool check_fixture_found(const struct check_findings *f, const char *text)
{
	for (size_t i = 0; i < f->count && i < CHECK_FIXTURE_FINDINGS; i++)
		if (!strcmp(f->text[i], text))
			return true;
	return false;
}

struct check_result check_fixture_run(struct qcow2_builder *b, bool leaks,
				      bool errors, struct check_findings *f)
{
	struct check_args args = {
		.fix_leaks = leaks,
		.fix_errors = errors,
		.finding = f ? note : NULL,
		.opaque = f,
	};
	struct check_result result;
	struct error err = {0};
	struct image *img;
	int ret;

	if (f)
		f->count = 0;
	ret = image_open_storage(
		&img, b->file, format_find("qcow2"), NULL,
		IMAGE_FOR_CHECK | (leaks || errors ? IMAGE_WRITE : 0), &err);
	if (ret < 0)
		fail_msg("open: %s", err.message);
	ret = image_check(img, &args, &result, &err);
	if (ret < 0)
		fail_msg("check: %s", err.message);
	/* The image would close it, and the test wants to look at it. */
	img->file = NULL;
	assert_int_equal(image_close(img), 0);
	return result;
}

void check_fixture_clean(struct qcow2_builder *b)
{
	struct check_result r = check_fixture_run(b, false, false, NULL);

	assert_int_equal(r.corruptions, 0);
	assert_int_equal(r.leaks, 0);
	assert_int_equal(r.check_errors, 0);
}

void check_fixture_set_count(struct qcow2_builder *b, uint64_t host_off,
			     uint16_t value)
{
	be16_t count = be16_make(value);

	assert_int_equal(storage_write(b->file, &count, sizeof(count),
				       qcow2_builder_count_off(b, host_off)),
			 0);
}

uint16_t check_fixture_get_count(struct qcow2_builder *b, uint64_t host_off)
{
	be16_t count;

	assert_int_equal(storage_read(b->file, &count, sizeof(count),
				      qcow2_builder_count_off(b, host_off)),
			 0);
	return be16_get(count);
}
