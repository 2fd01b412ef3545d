/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * --object: checked, so that a misspelt one is not ignored, and remembered
 * where something can use it.
 */
#include "cli/object.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "block/error.h"
#include "block/options.h"
#include "block/tls-creds.h"
#include "cli/message.h"
#include "cli/object-tls.h"

static const char *const known_types[] = {
	"authz-list",	  "authz-listfile",
	"authz-pam",	  "authz-simple",
	"secret",	  "secret_keyring",
	"tls-creds-anon", "tls-creds-psk",
	"tls-creds-x509", NULL,
};

static const char *const secret_keys[] = {
	"data", "file", "format", "id", "iv", "keyid", "qom-type", NULL,
};

static bool listed(const char *const *names, const char *name)
{
	for (; *names; names++)
		if (!strcmp(*names, name))
			return true;
	return false;
}

static const char *text_of(const json_t *value)
{
	if (json_is_boolean(value))
		return json_is_true(value) ? "on" : "off";
	return json_is_string(value) ? json_string_value(value) : "";
}

static bool read_json(struct options *opts, const char *text)
{
	json_error_t where;
	json_t *object = json_loads(text, 0, &where);
	const char *key;
	json_t *value;

	if (!json_is_object(object)) {
		message_error("--object: not a JSON object: %s", where.text);
		json_decref(object);
		return false;
	}
	json_object_foreach(object, key, value)
		options_set(opts, key, text_of(value));
	json_decref(object);
	return true;
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
	for (size_t i = 0; i < opts->count; i++) {
		if (!listed(secret_keys, opts->items[i].name)) {
			message_error("Parameter '%s' is unexpected",
				      opts->items[i].name);
			return false;
		}
	}
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

static bool check_object(const struct options *opts)
{
	const char *type = options_get(opts, "qom-type");

	if (!type) {
		message_error("Parameter 'qom-type' is missing");
		return false;
	}
	if (!listed(known_types, type)) {
		message_error("Parameter 'qom-type' does not accept value '%s'",
			      type);
		return false;
	}
	if (!options_get(opts, "id")) {
		message_error("Parameter 'id' is missing");
		return false;
	}
	if (!is_identifier(options_get(opts, "id"))) {
		message_error("Parameter 'id' expects an identifier\n"
			      "Identifiers consist of letters, digits, '-', "
			      "'.', '_', starting with a letter.");
		return false;
	}
	return strcmp(type, "secret") || check_secret(opts);
}

static bool remember(const struct options *opts)
{
	const char *type = options_get(opts, "qom-type");
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

bool object_accept(const char *text)
{
	struct options opts = {0};
	bool good = text[0] == '{' ? read_json(&opts, text)
				   : read_words(&opts, text);

	good = good && check_object(&opts) && remember(&opts);
	options_release(&opts);
	return good;
}
