/* SPDX-License-Identifier: BSD-3-Clause */
/* Opening images for commands, with the messages that go with it. */
#include "cli/open.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/image-spec.h"
#include "cli/command.h"
#include "cli/guard.h"
#include "cli/message.h"
#include "cli/word.h"

void open_warn_of_guess(const char *name)
{
	fflush(stdout);
	fprintf(stderr,
		"WARNING: Image format was not specified for '%s' and probing "
		"guessed raw.\n"
		"         Automatically detecting the format is dangerous for "
		"raw images, write operations on block 0 will be restricted.\n"
		"         Specify the 'raw' format explicitly to remove the "
		"restrictions.\n",
		name);
}

/* Only the raw driver has such a window, and a guess at it is none. */
static int add_offset(struct image_spec *spec, const char *offset,
		      struct error *err)
{
	if (!spec->format || strcmp(spec->format, "raw"))
		return error_set(err, ENOTSUP,
				 "An offset into the image is supported only "
				 "with the format raw, given explicitly");
	if (options_get(&spec->options, "offset"))
		return error_set(err, EINVAL, "The offset is given twice");
	if (options_set(&spec->options, "offset", offset))
		return error_set_errno(err, ENOMEM, "reading options");
	return 0;
}

bool open_spec(struct image_spec *out, const struct open_request *request)
{
	struct error err = {0};
	int rc;

	if (request->image_opts && request->format) {
		message_error("--image-opts and --format are mutually "
			      "exclusive");
		return false;
	}
	rc = request->image_opts
		     ? image_spec_parse_opts(out, request->name, &err)
		     : image_spec_parse(out, request->name, request->format,
					&err);
	if (rc == 0 && request->offset) {
		rc = add_offset(out, request->offset, &err);
		if (rc < 0)
			image_spec_release(out);
	}
	if (rc < 0)
		message_error("%s", err.message);
	return rc == 0;
}

/* `opener` and `spec` are borrowed. */
static struct image_open_args args_of(const struct command_context *ctx,
				      const struct open_request *request,
				      const struct opener *opener,
				      const struct image_spec *spec)
{
	struct image_open_args args = {
		.spec = spec,
		.flags = request->flags | ctx->open_flags,
		.cache = request->cache,
		.opener = opener,
	};

	if (request->force_share)
		args.flags |= IMAGE_FORCE_SHARE;
	return args;
}

bool open_admit(const struct command_context *ctx,
		const struct open_request *request)
{
	struct image_spec spec = {0};
	struct image_open_args args = args_of(ctx, request, NULL, &spec);
	struct error err = {0};
	int rc;

	if (!ctx->guard->active)
		return true;
	if (!open_spec(&spec, request))
		return false;
	rc = guard_admit(ctx->guard, &args, &err);
	if (rc < 0)
		message_error("%s", err.message);
	image_spec_release(&spec);
	return rc == 0;
}

bool open_enter(const struct command_context *ctx)
{
	struct error err = {0};

	if (!ctx->guard->active || guard_enter(ctx->guard, &err) == 0)
		return true;
	message_error("%s", err.message);
	return false;
}

bool open_admit_target(const struct command_context *ctx, const char *name,
		       bool direct)
{
	struct error err = {0};
	char *path = NULL;
	int rc;

	if (!ctx->guard->active)
		return true;
	rc = image_path_parse(name, &path, &err);
	if (rc == 0)
		rc = guard_admit_target(ctx->guard, path, direct, &err);
	if (rc < 0)
		message_error("%s", err.message);
	free(path);
	return rc == 0;
}

struct image *open_image(const struct command_context *ctx,
			 const struct open_request *request)
{
	struct opener opener = ctx->trust;
	struct image_spec spec = {0};
	struct image_open_args args = args_of(ctx, request, &opener, &spec);
	struct error err = {0};
	struct image *img = NULL;

	if (!open_spec(&spec, request))
		return NULL;
	opener.force_share = request->force_share;
	if (guard_image_open(ctx->guard, &img, &args, &spec, &err) < 0) {
		message_error("%s", err.message);
		img = NULL;
	} else if ((args.flags & IMAGE_WRITE) && img->format_guessed) {
		open_warn_of_guess(request->name);
	}
	image_spec_release(&spec);
	return img;
}

bool open_cache_mode(const char *word, const char *what, enum cache_mode *out)
{
	if (!word || cache_mode_parse(word, out) == 0)
		return true;
	message_error("Invalid %s: %s", what, word);
	return false;
}

bool open_prealloc_mode(const char *word, enum prealloc_mode *out)
{
	static const char *const words[] = {
		[PREALLOC_OFF] = "off",
		[PREALLOC_METADATA] = "metadata",
		[PREALLOC_FALLOC] = "falloc",
		[PREALLOC_FULL] = "full",
	};
	int found = word ? WORD_FIND(word, words) : PREALLOC_OFF;

	if (found < 0) {
		message_error("Invalid preallocation mode '%s'", word);
		return false;
	}
	*out = (enum prealloc_mode)found;
	return true;
}

bool open_close(struct image *img)
{
	int rc = image_close(img);

	if (rc < 0)
		message_error("Could not write the image back: %s",
			      strerror(-rc));
	return rc == 0;
}
