/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The descriptor of a VMDK image (spec: vmdk 2, 3). Each line has to be of a
 * kind that is known; keys are compared without regard to case.
 */
#include "formats/vmdk-descriptor.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "block/inspect-rule.h"

#define VALUE_MAX 64

/* A piece of the text, not terminated. */
struct span {
	const char *p;
	size_t len;
};

struct descriptor {
	unsigned extents;
	bool typed; /* createType was seen */
};

static struct span trim(struct span s)
{
	while (s.len && strchr(" \t\r", s.p[0])) {
		s.p++;
		s.len--;
	}
	while (s.len && strchr(" \t\r", s.p[s.len - 1]))
		s.len--;
	return s;
}

/* Cuts the first line off `rest`; false at the end. */
static bool next_line(struct span *rest, struct span *line)
{
	const char *end;

	if (!rest->len)
		return false;
	end = memchr(rest->p, '\n', rest->len);
	line->p = rest->p;
	line->len = end ? (size_t)(end - rest->p) : rest->len;
	rest->p += line->len + (end != NULL);
	rest->len -= line->len + (end != NULL);
	*line = trim(*line);
	return true;
}

/* The word up to one of `stops`, or all of it. */
static struct span first_word(struct span s, const char *stops)
{
	struct span word = {s.p, 0};

	while (word.len < s.len && !strchr(stops, s.p[word.len]))
		word.len++;
	return word;
}

static bool is_word(struct span s, const char *word)
{
	return s.len == strlen(word) && !strncasecmp(s.p, word, s.len);
}

static struct span unquote(struct span s)
{
	s = trim(s);
	if (s.len >= 2 && s.p[0] == '"' && s.p[s.len - 1] == '"') {
		s.p++;
		s.len -= 2;
	}
	return s;
}

static void check_extent(struct inspection *in, struct span line)
{
	if (memchr(line.p, '/', line.len) || memchr(line.p, '\\', line.len))
		inspect_unsafe(in, "foreign-extents",
			       "its descriptor names a path: %.*s",
			       (int)line.len, line.p);
}

static void check_create_type(struct inspection *in, struct span value)
{
	if (!is_word(value, "monolithicSparse") &&
	    !is_word(value, "streamOptimized"))
		inspect_unsafe(
			in, "foreign-extents",
			"its type is %.*s, not monolithicSparse or "
			"streamOptimized",
			(int)(value.len < VALUE_MAX ? value.len : VALUE_MAX),
			value.p);
}

static void check_key(struct inspection *in, struct descriptor *d,
		      struct span key, struct span value)
{
	if (is_word(key, "createType")) {
		check_create_type(in, value);
		d->typed = true;
	} else if (is_word(key, "parentFileNameHint") ||
		   (is_word(key, "parentCID") && !is_word(value, "ffffffff"))) {
		inspect_unsafe(in, "backing-file",
			       "it is a difference to another image: %.*s",
			       (int)value.len, value.p);
	} else if (is_word(key, "changeTrackPath")) {
		inspect_unsafe(in, "foreign-extents",
			       "it names a file of changes: %.*s",
			       (int)value.len, value.p);
	}
}

static bool is_access(struct span word)
{
	return is_word(word, "RW") || is_word(word, "RDONLY") ||
	       is_word(word, "NOACCESS");
}

static void check_line(struct inspection *in, struct descriptor *d,
		       struct span line)
{
	struct span word = first_word(line, " \t=");
	struct span rest = {line.p + word.len, line.len - word.len};

	if (!line.len || line.p[0] == '#')
		return;
	if (is_access(word)) {
		d->extents++;
		check_extent(in, line);
		return;
	}
	rest = trim(rest);
	if (word.len && rest.len && rest.p[0] == '=') {
		rest.p++;
		rest.len--;
		check_key(in, d, word, unquote(rest));
		return;
	}
	inspect_unsafe(in, "descriptor",
		       "its descriptor has a line that is not understood: %.*s",
		       (int)line.len, line.p);
}

static bool is_ascii(struct span text)
{
	for (size_t i = 0; i < text.len; i++)
		if ((uint8_t)text.p[i] > 0x7f)
			return false;
	return true;
}

void vmdk_descriptor_inspect(struct inspection *in, const char *text,
			     size_t len)
{
	struct span rest = {text, strnlen(text, len)}, line;
	struct descriptor d = {0};

	if (!is_ascii(rest))
		inspect_unsafe(in, "descriptor",
			       "its descriptor is not plain ASCII");
	while (next_line(&rest, &line))
		check_line(in, &d, line);
	if (!d.typed)
		inspect_unsafe(in, "descriptor",
			       "its descriptor has no createType");
	if (d.extents != 1)
		inspect_unsafe(in, "foreign-extents",
			       "its descriptor names %u extents, not one",
			       d.extents);
}

bool vmdk_descriptor_starts(const char *text, size_t len)
{
	struct span rest = {text, strnlen(text, len)}, line;

	while (next_line(&rest, &line)) {
		struct span key = first_word(line, "=");

		if (!line.len || line.p[0] == '#')
			continue;
		return is_word(key, "version") && line.len > key.len + 1 &&
		       line.p[key.len + 1] >= '1' && line.p[key.len + 1] <= '3';
	}
	return false;
}
