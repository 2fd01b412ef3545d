/* SPDX-License-Identifier: BSD-3-Clause */
/* JSON as the commands print it. */
#include "cli/json.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/message.h"

/*
 * Jansson leaves out what it finds no memory for, even from the text that it
 * writes. Nothing of it may be printed then. Relaxed: it is read by the thread
 * that has built the value.
 */
static atomic_bool memory_was_short;

static void *json_allocate(size_t len)
{
	void *out = malloc(len);

	if (!out)
		atomic_store_explicit(&memory_was_short, true,
				      memory_order_relaxed);
	return out;
}

void json_init(void)
{
	json_set_alloc_funcs(json_allocate, free);
}

bool json_is_whole(void)
{
	if (!atomic_load_explicit(&memory_was_short, memory_order_relaxed))
		return true;
	message_error("Could not describe all of it: out of memory");
	return false;
}

/* Length of the UTF-8 sequence at `s` if a JSON string may hold it, else 0. */
static size_t valid_sequence(const char *s, size_t left)
{
	for (size_t len = 1; len <= 4 && len <= left; len++) {
		json_t *probe = json_stringn(s, len);

		if (probe) {
			json_decref(probe);
			return len;
		}
	}
	return 0;
}

static json_t *replace_invalid(const char *bytes)
{
	static const char replacement[] = "\xef\xbf\xbd";
	size_t left = strlen(bytes), used = 0;
	char *text = malloc(3 * left + 1);
	json_t *out;

	if (!text)
		return NULL;
	while (left > 0) {
		size_t len = valid_sequence(bytes, left);
		const char *from = len ? bytes : replacement;
		size_t step = len ? len : 1;

		memcpy(text + used, from, len ? len : 3);
		used += len ? len : 3;
		bytes += step;
		left -= step;
	}
	out = json_stringn(text, used);
	free(text);
	return out;
}

json_t *json_text(const char *bytes)
{
	json_t *out = json_string(bytes);

	return out ? out : replace_invalid(bytes);
}

/*
 * Written as it is made: as one text it may be larger than what it tells of. If
 * memory runs out on the way the text has gaps, which is told behind it.
 */
bool json_print(json_t *value)
{
	int rc = -1;

	if (value && !json_is_whole()) {
		json_decref(value);
		return false;
	}
	if (value)
		rc = json_dumpf(value, stdout,
				JSON_INDENT(4) | JSON_ENSURE_ASCII);
	json_decref(value);
	if (rc < 0)
		message_error("Could not print JSON");
	else
		putchar('\n');
	return rc == 0 && json_is_whole();
}
