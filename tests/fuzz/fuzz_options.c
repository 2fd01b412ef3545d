/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Option lists and sizes, as scripts and services hand them through from their
 * own users. What is accepted means the same when it is written out again.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/options.h"
#include "formats/qcow2/driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The list as text again, commas doubled. */
static char *write_out(const struct options *opts)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		abort();
	for (size_t i = 0; i < opts->count; i++) {
		fprintf(f, "%s%s=", i ? "," : "", opts->items[i].name);
		for (const char *c = opts->items[i].value; *c; c++)
			fprintf(f, *c == ',' ? ",," : "%c", *c);
	}
	fclose(f);
	return text;
}

static void check_written_out(const struct options *opts)
{
	struct options again = {0};
	char *text = write_out(opts);

	assert(!opts->count || !options_parse(&again, text, NULL));
	assert(again.count == opts->count);
	for (size_t i = 0; i < opts->count; i++) {
		assert(!strcmp(again.items[i].name, opts->items[i].name));
		assert(!strcmp(again.items[i].value, opts->items[i].value));
	}
	options_release(&again);
	free(text);
}

static void check_list(const char *text)
{
	struct options opts = {0};
	struct error err = {0};
	uint64_t bytes;

	if (options_parse(&opts, text, &err) < 0) {
		assert(err.code && !opts.count);
		options_release(&opts);
		return;
	}
	check_written_out(&opts);
	if (!options_check(&opts, qcow2_driver.create_options, &err))
		options_get_size(&opts, qcow2_driver.create_options, "size",
				 &bytes, NULL, &err);
	options_release(&opts);
}

static void check_size(const char *text)
{
	uint64_t bytes, again;
	char plain[32];

	if (size_parse(text, &bytes) < 0)
		return;
	assert(bytes <= INT64_MAX);
	snprintf(plain, sizeof(plain), "%llu", (unsigned long long)bytes);
	assert(!size_parse(plain, &again) && again == bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size);

	if (!text)
		abort();
	check_list(text);
	check_size(text);
	free(text);
	return 0;
}
