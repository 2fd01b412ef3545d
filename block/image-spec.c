/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading the names that users give to images.
 *
 * All forms that carry options become one flat list of dotted names first, and
 * one function makes a spec of that:
 *
 *	json:{"driver": "raw", "file": {"driver": "file", "filename": "a"}}
 *	driver=raw,file.driver=file,file.filename=a
 *
 * What this layer understands is taken out of the list; the rest is for the
 * format driver, whose table of options accepts or refuses it.
 */
#include "block/image-spec.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/storage/nbd-address.h"

/* Objects within objects; two are in use today. */
#define JSON_DEPTH_MAX 16

/* Drivers of plain local files. The storage finds out which of them it is. */
static const char *const local_protocols[] = {"file", "host_device", NULL};

/* Known, so that the message is not that they are unknown. */
static const char *const remote_protocols[] = {
	"nbd", "nbds", "http",	"https", "ftp",	 "ftps",    "ssh", "sftp",
	"rbd", "iser", "iscsi", "nfs",	 "vxhs", "gluster", NULL,
};

#define SUPPORTED "only local files and NBD are"

static bool is_in(const char *const *list, const char *word)
{
	for (; *list; list++)
		if (!strcmp(*list, word))
			return true;
	return false;
}

/* "nbd+unix" is nbd by another transport. */
static bool is_remote(const char *protocol)
{
	size_t len = strcspn(protocol, "+");

	for (const char *const *p = remote_protocols; *p; p++)
		if (strlen(*p) == len && !memcmp(*p, protocol, len))
			return true;
	return false;
}

/* ---- paths ---- */

static int refuse_protocol(const char *text, size_t len, struct error *err)
{
	char *word = strndup(text, len);
	int ret;

	if (!word)
		return error_set_errno(err, ENOMEM, "reading a file name");
	if (is_remote(word))
		ret = error_set(err, ENOTSUP,
				"Protocol '%s' is not supported, " SUPPORTED,
				word);
	else
		ret = error_set(err, EINVAL, "Unknown protocol '%s'", word);
	free(word);
	return ret;
}

static int needs_name(const char *protocol, struct error *err)
{
	return error_set(err, EINVAL,
			 "The '%s' block driver requires a file name",
			 protocol);
}

/* A file whose name looks like an NBD export's gets one that does not. */
static int copy_path(char **out, const char *path, struct error *err)
{
	int len = asprintf(out, "%s%s", nbd_address_is(path) ? "./" : "", path);

	return len < 0 ? error_set_errno(err, ENOMEM, "reading a file name")
		       : 0;
}

int image_path_parse(const char *text, char **out, struct error *err)
{
	static const char prefix[] = "file:";
	size_t len = strcspn(text, ":/");

	if (!strncmp(text, prefix, sizeof(prefix) - 1))
		text += sizeof(prefix) - 1;
	else if (nbd_address_is(text))
		return error_set(err, ENOTSUP,
				 "An NBD export cannot be created, only "
				 "filled: see 'convert -n'");
	else if (text[len] == ':')
		return refuse_protocol(text, len, err);
	if (!*text)
		return needs_name("file", err);
	return copy_path(out, text, err);
}

/* Takes the path's place: there is none. */
static int set_nbd(struct image_spec *spec, const struct nbd_address *address,
		   struct error *err)
{
	spec->nbd = malloc(sizeof(*spec->nbd));
	if (spec->nbd && nbd_address_copy(spec->nbd, address) < 0) {
		free(spec->nbd);
		spec->nbd = NULL;
	}
	free(spec->path);
	spec->path = strdup(address->name);
	return spec->nbd && spec->path
		       ? 0
		       : error_set_errno(err, ENOMEM, "reading an address");
}

static int parse_nbd(struct image_spec *spec, const char *text,
		     struct error *err)
{
	struct nbd_address address;
	int ret = nbd_address_parse(&address, text, err);

	if (ret)
		return ret;
	ret = set_nbd(spec, &address, err);
	nbd_address_release(&address);
	return ret;
}

/* ---- JSON to a flat list ---- */

static int flatten(struct options *out, const char *prefix, json_t *object,
		   int depth, struct error *err);

/* These are texts; "filename": 5 would be no file of that name. */
static bool wants_text(const char *name)
{
	const char *dot = strrchr(name, '.');
	const char *last = dot ? dot + 1 : name;

	return !strcmp(last, "driver") || !strcmp(last, "filename") ||
	       !strcmp(last, "file");
}

static int put(struct options *out, const char *name, const char *value,
	       struct error *err)
{
	if (options_get(out, name))
		return error_set(err, EINVAL, "'%s' is given twice", name);
	if (options_set(out, name, value))
		return error_set_errno(err, ENOMEM, "reading JSON");
	return 0;
}

static int flatten_value(struct options *out, const char *name, json_t *value,
			 int depth, struct error *err)
{
	char number[32];

	if (json_is_object(value))
		return flatten(out, name, value, depth + 1, err);
	if (wants_text(name) && !json_is_string(value))
		return error_set(err, EINVAL, "'%s' has to be a string", name);
	if (json_is_string(value))
		return put(out, name, json_string_value(value), err);
	if (json_is_boolean(value))
		return put(out, name, json_is_true(value) ? "on" : "off", err);
	if (json_is_integer(value)) {
		snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT,
			 json_integer_value(value));
		return put(out, name, number, err);
	}
	return error_set(err, EINVAL,
			 "'%s' has to be a string, an integer, a boolean or an "
			 "object",
			 name);
}

static int flatten(struct options *out, const char *prefix, json_t *object,
		   int depth, struct error *err)
{
	const char *key;
	json_t *value;

	if (depth > JSON_DEPTH_MAX)
		return error_set(err, EINVAL,
				 "objects lie more than %d deep in each other",
				 JSON_DEPTH_MAX);
	json_object_foreach(object, key, value)
	{
		char *name = NULL;
		int ret;

		if (asprintf(&name, "%s%s%s", prefix, *prefix ? "." : "", key) <
		    0)
			return error_set_errno(err, ENOMEM, "reading JSON");
		ret = flatten_value(out, name, value, depth, err);
		free(name);
		if (ret)
			return ret;
	}
	return 0;
}

/* "backing": null is the one null that means something: leave it closed. */
static int take_backing(struct image_spec *spec, json_t *object,
			struct error *err)
{
	json_t *backing = json_object_get(object, "backing");

	if (!backing)
		return 0;
	if (!json_is_null(backing))
		return error_set(err, ENOTSUP,
				 "'backing' can only be null: another backing "
				 "file cannot be given here");
	spec->no_backing = true;
	json_object_del(object, "backing");
	return 0;
}

static int parse_json(struct image_spec *spec, const char *text,
		      struct error *err)
{
	json_error_t where;
	json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &where);
	int ret;

	if (!object)
		return error_set(err, EINVAL,
				 "Could not parse the JSON options: %s, at "
				 "character %d",
				 where.text, where.position);
	if (!json_is_object(object))
		ret = error_set(err, EINVAL, "Invalid JSON object given");
	else
		ret = take_backing(spec, object, err);
	if (!ret)
		ret = flatten(&spec->options, "", object, 0, err);
	json_decref(object);
	return ret;
}

/* ---- the flat list to a spec ---- */

/* Moves an option out of the list; *value is NULL if it is not there. */
static int take(struct options *opts, const char *name, char **value,
		struct error *err)
{
	const char *text = options_get(opts, name);

	*value = text ? strdup(text) : NULL;
	if (text && !*value)
		return error_set_errno(err, ENOMEM, "reading options");
	options_remove(opts, name);
	return 0;
}

static int check_protocol(const char *word, struct error *err)
{
	if (!word || is_in(local_protocols, word))
		return 0;
	if (is_remote(word))
		return error_set(err, ENOTSUP,
				 "Protocol '%s' is not supported, only 'file', "
				 "'host_device' and 'nbd' are",
				 word);
	return error_set(err, EINVAL,
			 "Driver '%s' cannot be used for a file, only 'file', "
			 "'host_device' and 'nbd' can",
			 word);
}

static int unknown_option(const char *protocol, const struct options *opts,
			  struct error *err)
{
	return error_set(err, EINVAL,
			 "Block protocol '%s' doesn't support the option "
			 "'%s'",
			 protocol, opts->items[0].name);
}

static bool is_nbd(const char *protocol)
{
	return protocol && !strcmp(protocol, "nbd");
}

/* The options of an export; its address may be one text among them. */
static int take_nbd(struct image_spec *spec, struct options *below,
		    struct error *err)
{
	const char *text = options_get(below, "filename");
	struct nbd_address address;
	int ret;

	if (text) {
		ret = parse_nbd(spec, text, err);
		options_remove(below, "filename");
	} else {
		ret = nbd_address_take(&address, below, err);
		if (ret)
			return ret;
		ret = set_nbd(spec, &address, err);
		nbd_address_release(&address);
	}
	return !ret && below->count ? unknown_option("nbd", below, err) : ret;
}

static int take_path(struct image_spec *spec, struct options *below,
		     const char *protocol, struct error *err)
{
	char *text;
	int ret = take(below, "filename", &text, err);

	if (!ret && text)
		ret = copy_path(&spec->path, text, err);
	free(text);
	if (!ret && below->count)
		ret = unknown_option("file", below, err);
	if (!ret && protocol && !spec->path)
		ret = needs_name(protocol, err);
	return ret;
}

/* The storage's part: everything below `file`. */
static int take_file(struct image_spec *spec, struct error *err)
{
	struct options below = {0};
	char *protocol = NULL;
	int ret;

	if (options_split(&spec->options, "file", &below))
		return error_set_errno(err, ENOMEM, "reading options");
	ret = take(&below, "driver", &protocol, err);
	if (!ret && is_nbd(protocol))
		ret = take_nbd(spec, &below, err);
	else if (!ret)
		ret = check_protocol(protocol, err);
	if (!ret && !spec->nbd)
		ret = take_path(spec, &below, protocol, err);
	free(protocol);
	options_release(&below);
	return ret;
}

static int take_format(struct image_spec *spec, const char *driver,
		       struct error *err)
{
	if (!driver)
		return 0;
	if (spec->format && strcmp(spec->format, driver))
		return error_set(err, EINVAL,
				 "The format is given twice, as '%s' and as "
				 "'%s'",
				 spec->format, driver);
	free(spec->format);
	spec->format = strdup(driver);
	return spec->format ? 0
			    : error_set_errno(err, ENOMEM, "reading options");
}

/* driver=file,filename=PATH, or nbd, has no format: that is raw. */
static int take_bare_file(struct image_spec *spec, const char *protocol,
			  struct error *err)
{
	int ret = is_nbd(protocol)
			  ? take_nbd(spec, &spec->options, err)
			  : take_path(spec, &spec->options, "file", err);

	return ret ? ret : take_format(spec, "raw", err);
}

static int check_path(const struct image_spec *spec, struct error *err)
{
	if (spec->path && *spec->path)
		return 0;
	if (spec->path)
		return needs_name("file", err);
	if (options_get(&spec->options, "file"))
		return error_set(err, EINVAL,
				 "'file' has to be an object that names a "
				 "file: file.filename=PATH");
	if (spec->format)
		return error_set(err, EINVAL,
				 "A block device must be specified for "
				 "\"file\"");
	return error_set(err, EINVAL, "Must specify either driver or file");
}

/* Makes the spec's list of options into the spec. */
static int interpret(struct image_spec *spec, struct error *err)
{
	char *driver = NULL;
	int ret = take(&spec->options, "driver", &driver, err);

	if (!ret && driver &&
	    (is_nbd(driver) || is_in(local_protocols, driver))) {
		ret = take_bare_file(spec, driver, err);
	} else if (!ret) {
		ret = take_format(spec, driver, err);
		if (!ret)
			ret = take_file(spec, err);
	}
	free(driver);
	return ret ? ret : check_path(spec, err);
}

/* ---- the public forms ---- */

static int finish(struct image_spec *out, int ret, const char *text,
		  struct error *err)
{
	if (ret) {
		error_prefix(err, "Could not open '%s': ", text);
		image_spec_release(out);
	}
	return ret;
}

/* The fields that every form has. */
static int begin(struct image_spec *out, const char *text, const char *format,
		 struct error *err)
{
	*out = (struct image_spec){0};
	out->text = strdup(text);
	if (format)
		out->format = strdup(format);
	if (!out->text || (format && !out->format))
		return error_set_errno(err, ENOMEM, "reading a file name");
	return 0;
}

int image_spec_parse(struct image_spec *out, const char *text,
		     const char *format, struct error *err)
{
	static const char prefix[] = "json:";
	int ret = begin(out, text, format, err);

	if (!ret && !strncmp(text, prefix, sizeof(prefix) - 1)) {
		ret = parse_json(out, text + sizeof(prefix) - 1, err);
		if (!ret)
			ret = interpret(out, err);
	} else if (!ret && nbd_address_is(text)) {
		ret = parse_nbd(out, text, err);
	} else if (!ret) {
		ret = image_path_parse(text, &out->path, err);
	}
	return finish(out, ret, text, err);
}

int image_spec_parse_opts(struct image_spec *out, const char *text,
			  struct error *err)
{
	int ret = begin(out, text, NULL, err);

	if (!ret)
		ret = options_parse(&out->options, text, err);
	if (!ret)
		ret = interpret(out, err);
	return finish(out, ret, text, err);
}

int image_spec_from_path(struct image_spec *out, const char *path,
			 const char *format, struct error *err)
{
	int ret = begin(out, path, format, err);

	if (!ret && nbd_address_is(path)) {
		ret = parse_nbd(out, path, err);
	} else if (!ret) {
		out->path = strdup(path);
		if (!out->path)
			ret = error_set_errno(err, ENOMEM,
					      "reading a file name");
	}
	return finish(out, ret, path, err);
}

void image_spec_release(struct image_spec *spec)
{
	free(spec->text);
	free(spec->path);
	if (spec->nbd)
		nbd_address_release(spec->nbd);
	free(spec->nbd);
	free(spec->format);
	options_release(&spec->options);
	*spec = (struct image_spec){0};
}
