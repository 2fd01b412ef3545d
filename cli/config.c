/* SPDX-License-Identifier: BSD-3-Clause */
/* Settings in JSON: see config.h. */
#include "cli/config.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/options.h"
#include "block/quote.h"

#define PATH_TEXT_MAX	512
#define KNOWN_TEXT_MAX	512
#define VALUE_SHOWN_MAX 64

/* ---- messages ---- */

static void add_text(char *text, size_t size, const char *more)
{
	size_t len = strlen(text);

	snprintf(text + len, size - len, "%s", more);
}

/* Returns `text`: "exports[2].read-only". */
static const char *path_text(char *text, size_t size,
			     const struct config_path *path)
{
	struct quoted_name quoted;
	char item[32];

	if (!path) {
		*text = '\0';
		return text;
	}
	path_text(text, size, path->up);
	if (path->key) {
		add_text(text, size, *text ? "." : "");
		add_text(text, size, quote_name(&quoted, path->key));
	} else {
		snprintf(item, sizeof(item), "[%zu]", path->index);
		add_text(text, size, item);
	}
	return text;
}

int config_refuse(const struct config_path *path, const json_t *value,
		  const char *allowed, struct error *err)
{
	char where[PATH_TEXT_MAX];
	char *shown = json_dumps(value, JSON_ENCODE_ANY | JSON_ENSURE_ASCII |
						JSON_COMPACT);
	int ret;

	path_text(where, sizeof(where), path);
	ret = error_set(
		err, EINVAL, "%s%s%.*s%s is not allowed, expecting %s", where,
		*where ? ": " : "", VALUE_SHOWN_MAX, shown ? shown : "this",
		shown && strlen(shown) > VALUE_SHOWN_MAX ? "..." : "", allowed);
	free(shown);
	return ret;
}

static int refuse_key(const struct config_path *path, const char *key,
		      const struct config_key *keys, struct error *err)
{
	char where[PATH_TEXT_MAX], known[KNOWN_TEXT_MAX] = "";
	struct quoted_name quoted;

	for (size_t i = 0; keys[i].name; i++) {
		add_text(known, sizeof(known), i ? ", " : "");
		add_text(known, sizeof(known), keys[i].name);
	}
	path_text(where, sizeof(where), path);
	return error_set(err, EINVAL,
			 "%s%sthe key '%s' is not known; known are %s", where,
			 *where ? ": " : "", quote_name(&quoted, key), known);
}

/* ---- values ---- */

static int set_bool(bool *field, const json_t *value,
		    const struct config_path *path, struct error *err)
{
	if (!json_is_boolean(value))
		return config_refuse(path, value, "true or false", err);
	*field = json_is_true(value);
	return 0;
}

static int set_count(unsigned *field, const json_t *value,
		     const struct config_key *key,
		     const struct config_path *path, struct error *err)
{
	json_int_t count = json_integer_value(value);
	char allowed[64];

	if (json_is_integer(value) && count >= key->min && count <= key->max) {
		*field = (unsigned)count * (key->scale ? key->scale : 1);
		return 0;
	}
	snprintf(allowed, sizeof(allowed), "a number from %u to %u", key->min,
		 key->max);
	return config_refuse(path, value, allowed, err);
}

static int set_word(void *field, const json_t *value,
		    const struct config_key *key,
		    const struct config_path *path, struct error *err)
{
	const char *word = json_string_value(value);

	if (word && key->parse(word, field) == 0)
		return 0;
	return config_refuse(path, value, key->words, err);
}

static int set_each(void *target, json_t *value, const struct config_key *key,
		    const struct config_path *path, struct error *err)
{
	int ret = 0;

	if (!json_is_array(value))
		return config_refuse(path, value, "a list", err);
	for (size_t i = 0; i < json_array_size(value) && !ret; i++) {
		const struct config_path item = {path, NULL, i};

		ret = key->each(target, json_array_get(value, i), &item, err);
	}
	return ret;
}

static int set_value(void *target, json_t *value, const struct config_key *key,
		     const struct config_path *path, struct error *err)
{
	void *field = (char *)target + key->offset;

	switch (key->kind) {
	case CONFIG_BOOL:
		return set_bool(field, value, path, err);
	case CONFIG_COUNT:
		return set_count(field, value, key, path, err);
	case CONFIG_TEXT:
		if (!json_is_string(value))
			return config_refuse(path, value, "a text", err);
		*(const char **)field = json_string_value(value);
		return 0;
	case CONFIG_WORD:
		return set_word(field, value, key, path, err);
	case CONFIG_EACH:
		return set_each(target, value, key, path, err);
	}
	return -EINVAL;
}

static const struct config_key *find_key(const struct config_key *keys,
					 const char *name)
{
	while (keys->name && strcmp(keys->name, name))
		keys++;
	return keys->name ? keys : NULL;
}

int config_apply(void *target, json_t *object, const struct config_key *keys,
		 const struct config_path *path, struct error *err)
{
	const char *name;
	json_t *value;

	if (!json_is_object(object))
		return path ? config_refuse(path, object, "an object", err)
			    : error_set(err, EINVAL,
					"the whole has to be one object");
	json_object_foreach(object, name, value)
	{
		const struct config_path at = {path, name, 0};
		const struct config_key *key = find_key(keys, name);
		int ret;

		ret = key ? set_value(target, value, key, &at, err)
			  : refuse_key(path, name, keys, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* ---- words ---- */

static bool is_number(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	return digits && digits < 10 && !text[digits];
}

/* A word that does not fit its kind stays a text, which is refused later. */
static json_t *word_value(const struct config_key *key, const char *text)
{
	if (key->kind == CONFIG_BOOL &&
	    (!strcmp(text, "on") || !strcmp(text, "off")))
		return json_boolean(text[1] == 'n');
	if (key->kind == CONFIG_COUNT && is_number(text))
		return json_integer(strtoll(text, NULL, 10));
	/* Names of files need not be UTF-8. */
	return json_string_nocheck(text);
}

static int add_word(json_t *object, const struct option *word,
		    const struct config_key *keys, struct error *err)
{
	const struct config_key *key = find_key(keys, word->name);
	struct quoted_name quoted;

	if (!key || key->kind == CONFIG_EACH)
		return refuse_key(NULL, word->name, keys, err);
	if (json_object_get(object, word->name))
		return error_set(err, EINVAL, "'%s' is given twice",
				 quote_name(&quoted, word->name));
	if (json_object_set_new_nocheck(object, word->name,
					word_value(key, word->value)))
		return error_set_errno(err, ENOMEM, "reading options");
	return 0;
}

int config_add_words(json_t *object, const char *words,
		     const struct config_key *keys, struct error *err)
{
	struct options options = {0};
	int ret = options_parse(&options, words, err);

	for (size_t i = 0; i < options.count && !ret; i++)
		ret = add_word(object, &options.items[i], keys, err);
	options_release(&options);
	return ret;
}
