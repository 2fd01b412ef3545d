/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options as users write them: lists of name=value (spec: cli-contract 1).
 *
 *	list = [item *("," item)]
 *	item = name "=" value | name
 *
 * A comma inside a value is doubled; names hold neither comma nor equals sign.
 * Every function that adds items adds all of them or, on failure, none.
 */
#include "block/options.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"

static int options_reserve(struct options *opts, size_t more)
{
	struct option *items;

	if (!more)
		return 0;
	items = reallocarray(opts->items, opts->count + more, sizeof(*items));
	if (!items)
		return -ENOMEM;
	opts->items = items;
	return 0;
}

/* Takes over both strings, also on failure; either may be NULL (no memory). */
static int options_append(struct options *opts, char *name, char *value)
{
	if (!name || !value || options_reserve(opts, 1)) {
		free(name);
		free(value);
		return -ENOMEM;
	}
	opts->items[opts->count++] = (struct option){name, value};
	return 0;
}

static void options_truncate(struct options *opts, size_t count)
{
	while (opts->count > count) {
		struct option *item = &opts->items[--opts->count];

		free(item->name);
		free(item->value);
	}
}

/* Copies a value up to its single comma; *text ends on that comma or NUL. */
static char *take_value(const char **text)
{
	const char *p = *text;
	char *value = malloc(strlen(p) + 1), *to = value;

	if (!value)
		return NULL;
	for (; *p; p++) {
		if (*p == ',') {
			if (p[1] != ',')
				break;
			p++;
		}
		*to++ = *p;
	}
	*to = '\0';
	*text = p;
	return value;
}

/* A name alone: "on", or "off" if it starts with "no". */
static int append_flag(struct options *opts, const char *name, size_t len)
{
	bool off = len > 2 && !memcmp(name, "no", 2);

	if (off) {
		name += 2;
		len -= 2;
	}
	return options_append(opts, strndup(name, len),
			      strdup(off ? "off" : "on"));
}

static int parse_item(struct options *opts, const char **text)
{
	const char *name = *text;
	size_t len = strcspn(name, "=,");
	char *value;

	*text += len;
	if (name[len] != '=')
		return append_flag(opts, name, len);
	*text += 1;
	value = take_value(text);
	return options_append(opts, strndup(name, len), value);
}

static int parse_list(struct options *opts, const char *list, struct error *err)
{
	const char *p = list;

	while (*p) {
		if (*p == ',' || *p == '=')
			return error_set(err, EINVAL,
					 "Invalid option list: %s (no name "
					 "before '%s')",
					 list, p);
		if (parse_item(opts, &p))
			return error_set(err, ENOMEM, "no memory for options");
		if (*p == ',' && !*++p)
			return error_set(err, EINVAL,
					 "Invalid option list: %s (ends with a "
					 "comma)",
					 list);
	}
	return 0;
}

int options_parse(struct options *opts, const char *text, struct error *err)
{
	const size_t count = opts->count;
	int ret = parse_list(opts, text, err);

	if (ret)
		options_truncate(opts, count);
	return ret;
}

int options_set(struct options *opts, const char *name, const char *value)
{
	return options_append(opts, strdup(name), strdup(value));
}

int options_copy(struct options *dst, const struct options *src)
{
	const size_t count = dst->count;

	assert(dst != src);
	for (size_t i = 0; i < src->count; i++) {
		if (options_set(dst, src->items[i].name, src->items[i].value)) {
			options_truncate(dst, count);
			return -ENOMEM;
		}
	}
	return 0;
}

const char *options_get(const struct options *opts, const char *name)
{
	for (size_t i = opts->count; i-- > 0;)
		if (!strcmp(opts->items[i].name, name))
			return opts->items[i].value;
	return NULL;
}

void options_remove(struct options *opts, const char *name)
{
	size_t kept = 0;

	for (size_t i = 0; i < opts->count; i++) {
		struct option item = opts->items[i];

		if (strcmp(item.name, name)) {
			opts->items[kept++] = item;
			continue;
		}
		free(item.name);
		free(item.value);
	}
	opts->count = kept;
}

/* What follows "prefix." in a name, or NULL. */
static char *name_below(char *name, const char *prefix)
{
	size_t len = strlen(prefix);

	if (strncmp(name, prefix, len) || name[len] != '.')
		return NULL;
	return name + len + 1;
}

int options_split(struct options *opts, const char *prefix, struct options *out)
{
	size_t kept = 0;

	assert(out != opts);
	if (options_reserve(out, opts->count))
		return -ENOMEM;
	for (size_t i = 0; i < opts->count; i++) {
		struct option item = opts->items[i];
		char *below = name_below(item.name, prefix);

		if (!below) {
			opts->items[kept++] = item;
			continue;
		}
		memmove(item.name, below, strlen(below) + 1);
		out->items[out->count++] = item;
	}
	opts->count = kept;
	return 0;
}

void options_release(struct options *opts)
{
	options_truncate(opts, 0);
	free(opts->items);
	*opts = (struct options){0};
}

static const struct option_def *find_def(const struct option_def *defs,
					 const char *name)
{
	for (; defs->name; defs++)
		if (!strcmp(defs->name, name))
			return defs;
	return NULL;
}

static int parse_bool(const char *name, const char *text, bool *out,
		      struct error *err)
{
	static const char *const words[][2] = {
		{"off", "on"},
		{"no", "yes"},
		{"false", "true"},
		{"n", "y"},
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		for (int value = 0; value < 2; value++) {
			if (!strcmp(words[i][value], text)) {
				*out = value;
				return 0;
			}
		}
	}
	return error_set(err, EINVAL,
			 "Parameter '%s' expects 'on' or 'off', not '%s'", name,
			 text);
}

static int parse_size(const char *name, const char *text, uint64_t *out,
		      struct error *err)
{
	int ret = size_parse(text, out);

	if (ret == -ERANGE)
		return error_set(err, ERANGE,
				 "Parameter '%s' is out of range: '%s' is not "
				 "between 0 and 9223372036854775807",
				 name, text);
	if (ret)
		return error_set(err, EINVAL,
				 "Parameter '%s' expects a size: a number of "
				 "bytes, or one with a suffix k, M, G, T, P "
				 "or E, not '%s'",
				 name, text);
	return 0;
}

/* A size without suffix, fraction or blanks. */
static int parse_number(const char *name, const char *text, uint64_t *out,
			struct error *err)
{
	bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');

	if (!hex && (!*text || text[strspn(text, "0123456789")]))
		return error_set(err, EINVAL,
				 "Parameter '%s' expects a number, not '%s'",
				 name, text);
	return parse_size(name, text, out, err);
}

static int check_value(const struct option_def *def, const char *text,
		       struct error *err)
{
	uint64_t number;
	bool on;

	switch (def->type) {
	case OPTION_STRING:
		return 0;
	case OPTION_NUMBER:
		return parse_number(def->name, text, &number, err);
	case OPTION_SIZE:
		return parse_size(def->name, text, &number, err);
	case OPTION_BOOL:
		return parse_bool(def->name, text, &on, err);
	}
	assert(!"option type outside its enum");
	return -EINVAL;
}

int options_check(const struct options *opts, const struct option_def *defs,
		  struct error *err)
{
	for (size_t i = 0; i < opts->count; i++) {
		const struct option *item = &opts->items[i];
		const struct option_def *def = find_def(defs, item->name);
		int ret;

		if (!def)
			return error_set(err, EINVAL, "Invalid parameter '%s'",
					 item->name);
		ret = check_value(def, item->value, err);
		if (ret)
			return ret;
	}
	return 0;
}

const char *options_get_text(const struct options *opts,
			     const struct option_def *defs, const char *name)
{
	const struct option_def *def = find_def(defs, name);
	const char *text = options_get(opts, name);

	assert(def);
	return text ? text : def->default_text;
}

int options_get_size(const struct options *opts, const struct option_def *defs,
		     const char *name, uint64_t *out, bool *present,
		     struct error *err)
{
	const struct option_def *def = find_def(defs, name);
	const char *text = options_get_text(opts, defs, name);

	assert(def && (def->type == OPTION_SIZE || def->type == OPTION_NUMBER));
	if (present)
		*present = text != NULL;
	*out = 0;
	if (!text)
		return 0;
	if (def->type == OPTION_NUMBER)
		return parse_number(name, text, out, err);
	return parse_size(name, text, out, err);
}

int options_get_bool(const struct options *opts, const struct option_def *defs,
		     const char *name, bool *out, struct error *err)
{
	const char *text = options_get_text(opts, defs, name);

	*out = false;
	return text ? parse_bool(name, text, out, err) : 0;
}
