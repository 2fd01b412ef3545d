/* SPDX-License-Identifier: BSD-3-Clause */
/* JSON as the commands print it. */
#include "cli/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/message.h"

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

/* Written as it is made: as one text it may be larger than what it tells of. */
bool json_print(json_t *value)
{
	int rc = value ? json_dumpf(value, stdout,
				    JSON_INDENT(4) | JSON_ENSURE_ASCII)
		       : -1;

	json_decref(value);
	if (rc < 0) {
		message_error("Could not print JSON");
		return false;
	}
	putchar('\n');
	return true;
}
