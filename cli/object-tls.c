/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tls-creds-x509 and tls-creds-psk: see object-tls.h. What cannot be done is
 * refused, rather than left out: a user who asks for it relies on it.
 */
#include "cli/object-tls.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/options.h"
#include "block/tls-creds.h"
#include "cli/message.h"

/* Whom a client is if it does not say. */
#define DEFAULT_USERNAME "qemu"
#define KEYS_FILE	 "keys.psk"

static const char *const x509_keys[] = {
	"dir",	    "endpoint",	    "id",	   "passwordid", "priority",
	"qom-type", "sanity-check", "verify-peer", NULL,
};

static const char *const psk_keys[] = {
	"dir",	    "endpoint", "id",	       "priority",
	"qom-type", "username", "verify-peer", NULL,
};

static const char *const anon_keys[] = {
	"dir", "endpoint", "id", "priority", "qom-type", "verify-peer", NULL,
};

static const struct kind {
	const char *type;
	enum tls_creds_kind kind;
	const char *const *keys;
	/* NULL-ended: those without which there are no credentials */
	const char *client_files[2], *server_files[4];
} kinds[] = {
	{"tls-creds-x509",
	 TLS_CREDS_X509,
	 x509_keys,
	 {"ca-cert.pem", NULL},
	 {"ca-cert.pem", "server-cert.pem", "server-key.pem", NULL}},
	{"tls-creds-psk",
	 TLS_CREDS_PSK,
	 psk_keys,
	 {KEYS_FILE, NULL},
	 {KEYS_FILE, NULL}},
	{"tls-creds-anon", TLS_CREDS_OTHER, anon_keys, {NULL}, {NULL}},
};

static const struct kind *find_kind(const char *type)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(kinds[i].type, type))
			return &kinds[i];
	return NULL;
}

bool object_is_tls(const char *type)
{
	return find_kind(type) != NULL;
}

/* ---- words ---- */

static bool listed(const char *const *names, const char *name)
{
	for (; *names; names++)
		if (!strcmp(*names, name))
			return true;
	return false;
}

static bool check_keys(const struct options *opts, const struct kind *kind)
{
	for (size_t i = 0; i < opts->count; i++) {
		if (!listed(kind->keys, opts->items[i].name)) {
			message_error("Parameter '%s' is unexpected",
				      opts->items[i].name);
			return false;
		}
	}
	return true;
}

static bool read_endpoint(const struct options *opts, struct tls_creds *out)
{
	const char *text = options_get(opts, "endpoint");

	out->is_server = text && !strcmp(text, "server");
	if (!text || out->is_server || !strcmp(text, "client"))
		return true;
	message_error("Parameter 'endpoint' does not accept value '%s'", text);
	return false;
}

static bool read_bool(const struct options *opts, const char *name, bool *out)
{
	static const char *const on[] = {"on", "yes", "true", "y", NULL};
	static const char *const off[] = {"off", "no", "false", "n", NULL};
	const char *text = options_get(opts, name);

	if (!text)
		return true;
	*out = listed(on, text);
	if (*out || listed(off, text))
		return true;
	message_error("Parameter '%s' expects 'on' or 'off'", name);
	return false;
}

static bool refuse(const struct options *opts, const char *name)
{
	if (!options_get(opts, name))
		return true;
	message_error("'%s' is not supported for TLS credentials", name);
	return false;
}

/* ---- files ---- */

static bool check_file(const char *dir, const char *name)
{
	char *path;
	bool good;

	if (asprintf(&path, "%s/%s", dir, name) < 0) {
		message_error("Out of memory");
		return false;
	}
	good = access(path, R_OK) == 0;
	if (!good)
		message_error("Unable to access credentials %s: %s", path,
			      strerror(errno));
	free(path);
	return good;
}

/* Lines of NAME:KEY. */
static bool has_user(FILE *file, const char *username)
{
	size_t len = strlen(username), size = 0;
	char *line = NULL;
	bool found = false;

	while (!found && getline(&line, &size, file) >= 0)
		found = !strncmp(line, username, len) && line[len] == ':';
	free(line);
	return found;
}

static bool check_user(const char *dir, const char *username)
{
	char *path;
	FILE *file;
	bool found;

	if (asprintf(&path, "%s/" KEYS_FILE, dir) < 0) {
		message_error("Out of memory");
		return false;
	}
	file = fopen(path, "re");
	found = file && has_user(file, username);
	if (!found)
		message_error("Username %s not found in PSK file %s", username,
			      path);
	if (file)
		fclose(file);
	free(path);
	return found;
}

static bool check_files(const struct kind *kind, const struct tls_creds *creds)
{
	const char *const *file =
		creds->is_server ? kind->server_files : kind->client_files;

	if (*file && !creds->dir) {
		message_error("Missing 'dir' property value");
		return false;
	}
	for (; *file; file++)
		if (!check_file(creds->dir, *file))
			return false;
	return kind->kind != TLS_CREDS_PSK || creds->is_server ||
	       check_user(creds->dir, creds->username);
}

/* ---- all of it ---- */

static bool read_username(const struct options *opts, const struct kind *kind,
			  struct tls_creds *out)
{
	const char *text = options_get(opts, "username");

	if (kind->kind != TLS_CREDS_PSK)
		return true;
	if (text && out->is_server) {
		message_error("username should not be set when "
			      "endpoint=server");
		return false;
	}
	if (!out->is_server)
		out->username = text ? text : DEFAULT_USERNAME;
	return true;
}

bool object_read_tls(const char *type, const struct options *opts,
		     struct tls_creds *out)
{
	const struct kind *kind = find_kind(type);
	bool checks = true;

	assert(kind);
	out->kind = kind->kind;
	out->verify_peer = true;
	out->dir = options_get(opts, "dir");
	if (!check_keys(opts, kind) || !read_endpoint(opts, out) ||
	    !read_bool(opts, "verify-peer", &out->verify_peer) ||
	    !read_bool(opts, "sanity-check", &checks) ||
	    !refuse(opts, "passwordid") || !refuse(opts, "priority"))
		return false;
	if (kind->kind == TLS_CREDS_OTHER) {
		message_error("Anonymous TLS credentials are not supported: "
			      "anybody could be at the other end");
		return false;
	}
	return read_username(opts, kind, out) && check_files(kind, out);
}
