/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * JSON in and out. The input is what follows `json:` in the name of an image;
 * and the same bytes stand for a name inside an image that is printed: what
 * comes out is JSON, and means the same after another round.
 */
#include <assert.h>
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/image-spec.h"
#include "cli/json.h"

#define INPUT_MAX 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_spec(const char *text)
{
	struct image_spec spec;
	struct error err = {0};

	if (image_spec_parse(&spec, text, NULL, &err)) {
		assert(err.code && err.message[0]);
		assert(!spec.path && !spec.text && !spec.options.items);
		return;
	}
	assert(!err.code && spec.path && *spec.path);
	assert(!options_get(&spec.options, "driver"));
	assert(!options_get(&spec.options, "file.filename"));
	image_spec_release(&spec);
}

/* What a name of an image becomes in an answer that programs read. */
static void check_printed(const char *bytes)
{
	json_t *value = json_text(bytes), *object = json_object(), *back;
	char *text;

	assert(value && object);
	json_object_set_new(object, "name", value);
	text = json_dumps(object, JSON_INDENT(4) | JSON_ENSURE_ASCII);
	assert(text);
	for (const char *c = text; *c; c++) /* ASCII only */
		assert(*c >= 0x20 || *c == '\n');
	back = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	assert(back && json_equal(back, object));
	json_decref(back);
	json_decref(object);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[sizeof("json:") + INPUT_MAX];

	if (size > INPUT_MAX)
		return 0;
	memcpy(text, "json:", 5);
	memcpy(text + 5, data, size);
	text[5 + size] = '\0';
	check_spec(text);
	check_printed(text + 5);
	return 0;
}
