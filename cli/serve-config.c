/* SPDX-License-Identifier: BSD-3-Clause */
/* Plans to serve out of configuration files: see serve-config.h. */
#include "cli/serve-config.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/quote.h"
#include "cli/config.h"

/* Many times what SERVE_EXPORTS_MAX exports take. */
#define FILE_MAX (16u * 1024 * 1024)

/* ---- exports ---- */

struct export_words {
	struct serve_export export;
	const char *file, *image_opts; /* one of them */
};

static int parse_cache(const char *word, void *field)
{
	return cache_mode_parse(word, field);
}

static int parse_backing(const char *word, void *field)
{
	return serve_backing_word(word, field);
}

static int parse_discard(const char *word, void *field)
{
	return serve_discard_parse(word, field);
}

static int parse_zeroes(const char *word, void *field)
{
	return serve_zeroes_parse(word, field);
}

#define EXPORT(field) offsetof(struct export_words, export.field)

static const struct config_key export_keys[] = {
	CONFIG_KEY("name", CONFIG_TEXT, EXPORT(name)),
	CONFIG_KEY("file", CONFIG_TEXT, offsetof(struct export_words, file)),
	CONFIG_KEY("image-opts", CONFIG_TEXT,
		   offsetof(struct export_words, image_opts)),
	CONFIG_KEY("format", CONFIG_TEXT, EXPORT(image.format)),
	CONFIG_KEY("read-only", CONFIG_BOOL, EXPORT(read_only)),
	CONFIG_KEY("backing", CONFIG_WORD, EXPORT(backing),
		   .parse = parse_backing, .words = "any, beneath or none"),
	CONFIG_KEY("snapshot", CONFIG_BOOL, EXPORT(snapshot)),
	CONFIG_KEY("force-share", CONFIG_BOOL, EXPORT(image.force_share)),
	CONFIG_KEY(
		"cache", CONFIG_WORD, EXPORT(image.cache), .parse = parse_cache,
		.words = "none, writeback, writethrough, directsync or unsafe"),
	CONFIG_KEY("description", CONFIG_TEXT, EXPORT(description)),
	CONFIG_KEY("allocation-depth", CONFIG_BOOL, EXPORT(offers_depth)),
	CONFIG_KEY("discard", CONFIG_WORD, EXPORT(discard),
		   .parse = parse_discard, .words = "unmap or ignore"),
	CONFIG_KEY("detect-zeroes", CONFIG_WORD, EXPORT(zeroes),
		   .parse = parse_zeroes, .words = "off, on or unmap"),
	CONFIG_KEY("resize", CONFIG_BOOL, EXPORT(resize)),
	CONFIG_KEY("shared", CONFIG_COUNT, EXPORT(max_clients),
		   .max = SERVE_CLIENTS_MAX),
	CONFIG_LAST,
};

static int add_export(struct serve_plan *plan, json_t *object,
		      const struct serve_export *common,
		      const struct config_path *path, struct error *err)
{
	struct export_words words = {.export = *common};
	int ret = config_apply(&words, object, export_keys, path, err);

	if (ret < 0)
		return ret;
	if (!words.file == !words.image_opts)
		return config_refuse(path, object,
				     "one of the keys file and image-opts",
				     err);
	words.export.image.name = words.file ? words.file : words.image_opts;
	if (words.image_opts)
		words.export.image.image_opts = true;
	return serve_plan_add_export(plan, &words.export, err);
}

static int each_export(void *target, json_t *item,
		       const struct config_path *path, struct error *err)
{
	return add_export(target, item, &serve_export_default, path, err);
}

/* ---- where to listen ---- */

struct listen_words {
	const char *socket, *bind;
	unsigned port, vsock;
};

#define LISTEN(field) offsetof(struct listen_words, field)
#define NO_PORT	      UINT32_MAX

static const struct config_key listen_keys[] = {
	CONFIG_KEY("socket", CONFIG_TEXT, LISTEN(socket)),
	CONFIG_KEY("bind", CONFIG_TEXT, LISTEN(bind)),
	CONFIG_KEY("port", CONFIG_COUNT, LISTEN(port), .max = UINT16_MAX),
	CONFIG_KEY("vsock", CONFIG_COUNT, LISTEN(vsock), .max = UINT32_MAX - 1),
	CONFIG_LAST,
};

static int each_address(void *target, json_t *item,
			const struct config_path *path, struct error *err)
{
	struct listen_words words = {.port = NO_PORT, .vsock = NO_PORT};
	struct listen_address address = {.kind = LISTEN_TCP};
	int ret = config_apply(&words, item, listen_keys, path, err);
	bool tcp = words.bind || words.port != NO_PORT;

	if (ret < 0)
		return ret;
	if (tcp + !!words.socket + (words.vsock != NO_PORT) != 1)
		return config_refuse(path, item,
				     "socket, or bind and port, or vsock", err);
	address.name = tcp ? words.bind : words.socket;
	address.number =
		words.port != NO_PORT ? words.port : SERVE_DEFAULT_PORT;
	if (words.socket)
		address.kind = LISTEN_UNIX;
	if (words.vsock != NO_PORT) {
		address.kind = LISTEN_VSOCK;
		address.number = words.vsock;
	}
	return serve_plan_add_address(target, &address, err);
}

/* ---- the whole ---- */

static int each_name(void *target, json_t *item, const struct config_path *path,
		     struct error *err)
{
	struct serve_plan *plan = target;

	if (!json_is_string(item))
		return config_refuse(path, item, "a text", err);
	if (serve_tls_add_name(&plan->tls_words, json_string_value(item)))
		return 0;
	return error_set_errno(err, ENOMEM, "No memory for names");
}

static int parse_log(const char *word, void *field)
{
	return serve_log_word(word, field);
}

static int parse_stats(const char *word, void *field)
{
	return serve_stats_word(word, field);
}

#define PLAN(field) offsetof(struct serve_plan, field)

static const struct config_key plan_keys[] = {
	CONFIG_KEY("listen", CONFIG_EACH, 0, .each = each_address),
	CONFIG_KEY("exports", CONFIG_EACH, 0, .each = each_export),
	CONFIG_KEY("max-clients", CONFIG_COUNT, PLAN(max_clients), .min = 1,
		   .max = SERVE_CLIENTS_MAX),
	CONFIG_KEY("threads", CONFIG_COUNT, PLAN(threads),
		   .max = SERVE_THREADS_MAX),
	CONFIG_KEY("handshake-timeout", CONFIG_COUNT, PLAN(limits.handshake_ms),
		   .min = 1, .max = SERVE_DEADLINE_MAX, .scale = 1000),
	CONFIG_KEY("stall-timeout", CONFIG_COUNT, PLAN(limits.stall_ms),
		   .min = 1, .max = SERVE_DEADLINE_MAX, .scale = 1000),
	CONFIG_KEY("stats", CONFIG_WORD, PLAN(stats), .parse = parse_stats,
		   .words = "human or json"),
	CONFIG_KEY("log", CONFIG_WORD, PLAN(log), .parse = parse_log,
		   .words = "text or json"),
	CONFIG_KEY("pid-file", CONFIG_TEXT, PLAN(pid_file)),
	CONFIG_KEY("tls", CONFIG_TEXT, PLAN(tls_words.mode)),
	CONFIG_KEY("tls-certificates", CONFIG_TEXT,
		   PLAN(tls_words.certificates)),
	CONFIG_KEY("tls-psk", CONFIG_TEXT, PLAN(tls_words.psk_file)),
	CONFIG_KEY("tls-verify-peer", CONFIG_BOOL, PLAN(tls_words.verify_peer)),
	CONFIG_KEY("tls-authz", CONFIG_EACH, 0, .each = each_name),
	CONFIG_LAST,
};

static int syntax_error(const json_error_t *error, struct error *err)
{
	struct quoted_name quoted;

	return error_set(err, EINVAL, "line %d, column %d: %s", error->line,
			 error->column, quote_name(&quoted, error->text));
}

int serve_config_parse(struct serve_plan *plan, const char *text, size_t len,
		       struct error *err)
{
	json_error_t error;
	json_t *whole = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	int ret;

	if (!whole)
		return syntax_error(&error, err);
	ret = serve_plan_keep(plan, whole, err);
	if (ret < 0)
		return ret;
	return config_apply(plan, whole, plan_keys, NULL, err);
}

/* ---- files ---- */

/* The caller frees `*text`. */
static int read_all(FILE *file, char **text, size_t *len, struct error *err)
{
	char *buf = malloc(FILE_MAX + 1);

	*text = buf;
	if (!buf)
		return error_set_errno(err, ENOMEM, "reading");
	*len = fread(buf, 1, FILE_MAX + 1, file);
	if (ferror(file))
		return error_set_errno(err, errno, "reading");
	if (*len > FILE_MAX)
		return error_set(err, EFBIG, "longer than %u bytes", FILE_MAX);
	return 0;
}

int serve_config_load(struct serve_plan *plan, const char *path,
		      struct error *err)
{
	FILE *file = fopen(path, "re");
	char *text = NULL;
	size_t len = 0;
	int ret;

	if (!file)
		return error_set_errno(err, errno, "Could not open '%s'", path);
	ret = read_all(file, &text, &len, err);
	if (!ret)
		ret = serve_config_parse(plan, text, len, err);
	if (ret < 0)
		error_prefix(err, "Configuration '%s': ", path);
	free(text);
	fclose(file);
	return ret;
}

/* ---- words ---- */

/* The object that says the same; NULL is an error. */
static json_t *export_object(const char *name, size_t name_len,
			     const char *file, bool whole, struct error *err)
{
	json_t *object = json_pack("{s:o}", "name",
				   json_stringn_nocheck(name, name_len));
	char *words = NULL;
	int ret = -ENOMEM;

	if (object && whole)
		ret = json_object_set_new_nocheck(object, "file",
						  json_string_nocheck(file));
	else if (object && asprintf(&words, "file=%s", file) >= 0)
		ret = config_add_words(object, words, export_keys, err);
	free(words);
	if (!ret)
		return object;
	error_default(err, -ENOMEM, "reading options");
	json_decref(object);
	return NULL;
}

int serve_config_add_export(struct serve_plan *plan,
			    const struct serve_export *common, const char *text,
			    struct error *err)
{
	const char *equals = strchr(text, '=');
	struct quoted_name quoted;
	json_t *object;
	bool whole;
	int ret;

	if (!equals || !equals[1] || equals[1] == ',')
		return error_set(err, EINVAL, "--export '%s' is not NAME=FILE",
				 quote_name(&quoted, text));
	whole = common->image.image_opts || !strncmp(equals + 1, "json:", 5);
	object = export_object(text, (size_t)(equals - text), equals + 1, whole,
			       err);
	ret = object ? serve_plan_keep(plan, object, err) : -EINVAL;
	if (!ret)
		ret = add_export(plan, object, common, NULL, err);
	if (ret < 0)
		error_prefix(err, "--export '%s': ", quote_name(&quoted, text));
	return ret;
}
