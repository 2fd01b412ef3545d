/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Making names printable. UTF-8 passes only in its shortest form, without
 * surrogates and without the control characters behind ASCII (U+0080 to
 * U+009F), which terminals obey like the ones in it.
 */
#include "block/quote.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* The longest form of one unit: a sequence of four bytes, or \xHH. */
#define UNIT_MAX 4

/* Lead bytes of sequences, and what the second byte may be after them. */
struct lead {
	uint8_t first, last, len, second_min, second_max;
};

static const struct lead leads[] = {
	{0xc2, 0xc2, 2, 0xa0, 0xbf}, {0xc3, 0xdf, 2, 0x80, 0xbf},
	{0xe0, 0xe0, 3, 0xa0, 0xbf}, {0xe1, 0xec, 3, 0x80, 0xbf},
	{0xed, 0xed, 3, 0x80, 0x9f}, {0xee, 0xef, 3, 0x80, 0xbf},
	{0xf0, 0xf0, 4, 0x90, 0xbf}, {0xf1, 0xf3, 4, 0x80, 0xbf},
	{0xf4, 0xf4, 4, 0x80, 0x8f},
};

static bool continues(const uint8_t *p, const struct lead *lead)
{
	if (p[1] < lead->second_min || p[1] > lead->second_max)
		return false;
	/* Stops at the text's NUL, which continues nothing. */
	for (size_t i = 2; i < lead->len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return false;
	return true;
}

/* Length of the printable character at `p`, or 0 if its byte needs escaping. */
static size_t printable_len(const uint8_t *p)
{
	if (*p >= 0x20 && *p < 0x7f)
		return *p != '\\';
	for (size_t i = 0; i < sizeof(leads) / sizeof(leads[0]); i++)
		if (*p >= leads[i].first && *p <= leads[i].last)
			return continues(p, &leads[i]) ? leads[i].len : 0;
	return 0;
}

/* Puts the unit at `p` into `unit`, and returns how many bytes of p it took. */
static size_t quote_unit(char unit[UNIT_MAX + 1], const uint8_t *p)
{
	size_t len = printable_len(p);

	if (len) {
		memcpy(unit, p, len);
		unit[len] = '\0';
		return len;
	}
	if (*p == '\n')
		snprintf(unit, UNIT_MAX + 1, "\\n");
	else
		snprintf(unit, UNIT_MAX + 1, "\\x%02x", *p);
	return 1;
}

const char *quote_name(struct quoted_name *buf, const char *name)
{
	static const char cut[] = "...";
	const uint8_t *p = (const uint8_t *)name;
	size_t used = 0, room = sizeof(buf->text) - sizeof(cut);

	while (*p) {
		char unit[UNIT_MAX + 1];
		size_t taken = quote_unit(unit, p), len = strlen(unit);

		if (len > room - used) {
			memcpy(buf->text + used, cut, sizeof(cut));
			return buf->text;
		}
		memcpy(buf->text + used, unit, len);
		used += len;
		p += taken;
	}
	buf->text[used] = '\0';
	return buf->text;
}
