/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What `info` says of a qcow2 image with a few fields changed. Input: number of
 * the image to start from, then patches (qcow2-patch.h).
 *
 * The answer as JSON is JSON; the one for people holds no control byte that an
 * image could have put there; the image stays as it was.
 */
#include <assert.h>
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/image-info.h"
#include "block/image.h"
#include "block/storage/memory.h"
#include "cli/info-print.h"
#include "formats/qcow2/driver.h"
#include "tests/support/qcow2-judge.h"
#include "tests/support/qcow2-patch.h"

#define PATCHES_MAX 12u
#define TEXT_MAX    (1u << 20)

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char printed[TEXT_MAX];

/* The fuzzer speaks on stderr. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	stdout = fmemopen(printed, sizeof(printed), "w");
	if (!stdout)
		abort();
	return 0;
}

static void check_human(const struct image_info *info)
{
	long len;

	rewind(stdout);
	info_print_human(info, false);
	fflush(stdout);
	len = ftell(stdout);
	for (long i = 0; i < len; i++)
		assert(((unsigned char)printed[i] >= 0x20 &&
			printed[i] != 0x7f) ||
		       printed[i] == '\n');
}

static void check_json(const struct image_info *info)
{
	json_t *value = info_to_json(info), *back;
	char *text;

	assert(value);
	text = json_dumps(value, JSON_INDENT(4) | JSON_ENSURE_ASCII);
	assert(text);
	back = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	assert(back && json_equal(back, value));
	json_decref(back);
	json_decref(value);
	free(text);
}

static void check_info(const struct qcow2_bytes *b)
{
	struct image_info info = {0};
	struct error err = {0};
	struct qcow2_bytes after;
	struct image *img = qcow2_judge_open(b, IMAGE_INFO_ONLY);

	if (!img)
		return;
	if (image_info_get(img, &info, &err)) {
		assert(err.code && err.message[0]);
	} else {
		check_human(&info);
		check_json(&info);
		image_info_release(&info);
	}
	after = qcow2_judge_copy(img->file);
	assert(after.len == b->len && !memcmp(after.data, b->data, b->len));
	free(after.data);
	image_close(img);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qcow2_bytes b;

	if (size < 1 || (size - 1) / sizeof(struct qcow2_patch) > PATCHES_MAX)
		return 0;
	b = qcow2_patched(data[0], (const struct qcow2_patch *)(data + 1),
			  (size - 1) / sizeof(struct qcow2_patch));
	check_info(&b);
	free(b.data);
	return 0;
}
