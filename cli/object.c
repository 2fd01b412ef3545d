/* SPDX-License-Identifier: BSD-3-Clause */
/* --object: a misspelt one is not ignored. See object.h. */
#include "cli/object.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/options.h"
#include "block/tls-creds.h"
#include "cli/message.h"
#include "cli/object-tls.h"

/* A list of objects is as deep as it gets. */
#define DEPTH_MAX 4

/* What a type may have beside its id; lists are of dotted names. */
static const struct {
	const char *type;
	const char *keys[8];
	const char *list;
} types[] = {
	{"authz-list", {"policy"}, "rules."},
	{"authz-listfile", {"filename", "refresh"}, NULL},
	{"authz-pam", {"service"}, NULL},
	{"authz-simple", {"identity"}, NULL},
	{"secret", {"data", "file", "format", "iv", "keyid"}, NULL},
	{"secret_keyring", {"serial", "format", "iv", "keyid"}, NULL},
};

#define TYPE_COUNT (sizeof(types) / sizeof(types[0]))

static bool listed(const char *const *names, const char *name)
{
	for (; *names; names++)
		if (!strcmp(*names, name))
			return true;
	return false;
}

static bool add_json(struct options *opts, const char *name, json_t *value,
		     unsigned depth);

/* With the name in front of the key, if there is one. */
static bool add_member(struct options *opts, const char *name, const char *key,
		       json_t *value, unsigned depth)
{
	char *path;
	bool good;

	if (asprintf(&path, "%s%s%s", name, *name ? "." : "", key) < 0)
		return false;
	good = add_json(opts, path, value, depth + 1);
	free(path);
	return good;
}

static bool add_json(struct options *opts, const char *name, json_t *value,
		     unsigned depth)
{
	char number[24];
	const char *key;
	json_t *member;
	size_t i;

	if (depth > DEPTH_MAX)
		return false;
	if (json_is_object(value)) {
		json_object_foreach(
			value, key,
			member) if (!add_member(opts, name, key, member,
						depth)) return false;
		return true;
	}
	if (json_is_array(value)) {
		json_array_foreach(value, i, member)
		{
			snprintf(number, sizeof(number), "%zu", i);
			if (!add_member(opts, name, number, member, depth))
				return false;
		}
		return true;
	}
	if (json_is_boolean(value))
		return !options_set(opts, name,
				    json_is_true(value) ? "on" : "off");
	return json_is_string(value) &&
	       !options_set(opts, name, json_string_value(value));
}

static bool read_json(struct options *opts, const char *text)
{
	json_error_t where;
	json_t *object = json_loads(text, 0, &where);
	bool good = json_is_object(object);

	if (!good) {
		message_error("--object: not a JSON object: %s", where.text);
	} else if (!add_json(opts, "", object, 0)) {
		message_error("--object: not a description of an object");
		good = false;
	}
	json_decref(object);
	return good;
}

/* The first word may leave its name out: it is the type. */
static bool read_words(struct options *opts, const char *text)
{
	size_t first = strcspn(text, ",");
	struct error err = {0};

	if (!memchr(text, '=', first)) {
		char type[64];

		if (first >= sizeof(type))
			first = sizeof(type) - 1;
		memcpy(type, text, first);
		type[first] = '\0';
		options_set(opts, "qom-type", type);
		text += strcspn(text, ",");
		text += *text == ',';
	}
	if (*text && options_parse(opts, text, &err) < 0) {
		message_error("%s", err.message);
		return false;
	}
	return true;
}

static bool check_secret(const struct options *opts)
{
	if (options_get(opts, "data") && options_get(opts, "file")) {
		message_error("'file' and 'data' are mutually exclusive");
		return false;
	}
	if (!options_get(opts, "data") && !options_get(opts, "file")) {
		message_error("Either 'file' or 'data' must be provided");
		return false;
	}
	return true;
}

static bool is_key_of(size_t type, const char *name)
{
	const char *list = types[type].list;

	return !strcmp(name, "id") || !strcmp(name, "qom-type") ||
	       listed(types[type].keys, name) ||
	       (list && !strncmp(name, list, strlen(list)));
}

static bool check_keys(const struct options *opts, size_t type)
{
	for (size_t i = 0; i < opts->count; i++) {
		if (!is_key_of(type, opts->items[i].name)) {
			message_error("Parameter '%s' is unexpected",
				      opts->items[i].name);
			return false;
		}
	}
	return true;
}

static bool is_identifier(const char *id)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "abcdefghijklmnopqrstuvwxyz";
	static const char others[] = "0123456789-._";

	if (!*id || !strchr(letters, *id))
		return false;
	for (; *id; id++)
		if (!strchr(letters, *id) && !strchr(others, *id))
			return false;
	return true;
}

static bool check_id(const struct options *opts)
{
	const char *id = options_get(opts, "id");

	if (!id) {
		message_error("Parameter 'id' is missing");
		return false;
	}
	if (is_identifier(id))
		return true;
	message_error("Parameter 'id' expects an identifier\n"
		      "Identifiers consist of letters, digits, '-', '.', '_', "
		      "starting with a letter.");
	return false;
}

static bool check_object(const struct options *opts)
{
	const char *type = object_type(opts);
	size_t i = 0;

	if (!type) {
		message_error("Parameter 'qom-type' is missing");
		return false;
	}
	while (i < TYPE_COUNT && strcmp(types[i].type, type))
		i++;
	if (i == TYPE_COUNT && !object_is_tls(type)) {
		message_error("Parameter 'qom-type' does not accept value '%s'",
			      type);
		return false;
	}
	return check_id(opts) && (i == TYPE_COUNT || check_keys(opts, i)) &&
	       (strcmp(type, "secret") || check_secret(opts));
}

/* For images and servers, which name credentials by an id. */
static bool remember(const struct options *opts)
{
	const char *type = object_type(opts);
	struct tls_creds creds = {.id = options_get(opts, "id")};
	int ret;

	if (object_is_tls(type) && !object_read_tls(type, opts, &creds))
		return false;
	ret = tls_creds_add(&creds);
	if (ret == -EEXIST)
		message_error("attempt to add duplicate property '%s' to "
			      "object (type 'container')",
			      creds.id);
	else if (ret < 0)
		message_error("Out of memory");
	return ret == 0;
}

static bool append(struct object_list *objects, const struct options *object)
{
	struct options *longer = reallocarray(
		objects->items, objects->count + 1, sizeof(*longer));

	if (!longer) {
		message_error("Out of memory");
		return false;
	}
	objects->items = longer;
	longer[objects->count++] = *object;
	return true;
}

bool object_accept(struct object_list *objects, const char *text)
{
	struct options opts = {0};
	bool good = text[0] == '{' ? read_json(&opts, text)
				   : read_words(&opts, text);

	good = good && check_object(&opts) && remember(&opts) &&
	       append(objects, &opts);
	if (!good)
		options_release(&opts);
	return good;
}

void objects_release(struct object_list *objects)
{
	while (objects->count)
		options_release(&objects->items[--objects->count]);
	free(objects->items);
	objects->items = NULL;
}

const struct options *object_find(const struct object_list *objects,
				  const char *id)
{
	for (size_t i = 0; i < objects->count; i++)
		if (!strcmp(options_get(&objects->items[i], "id"), id))
			return &objects->items[i];
	return NULL;
}

const char *object_type(const struct options *object)
{
	return options_get(object, "qom-type");
}
