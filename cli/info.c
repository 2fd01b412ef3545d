/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * info: what an image says about itself.
 *
 * Opens the image alone. Files that it names are opened with --backing-chain
 * only, one after the other, each through the opener and its policy.
 */
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/image-info.h"
#include "block/image.h"
#include "block/opener.h"
#include "block/quote.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/info-print.h"
#include "cli/json.h"
#include "cli/message.h"
#include "cli/open.h"
#include "formats/registry.h"

struct info_request {
	struct open_request image;
	bool json, chain;
	bool limits; /* accepted: nothing here has limits to tell */
};

/* The images of a chain, top first, open as long as it is walked. */
struct chain {
	struct image *images[IMAGE_CHAIN_MAX];
	struct image_info infos[IMAGE_CHAIN_MAX];
	size_t count;
};

static void chain_release(struct chain *chain)
{
	for (size_t i = 0; i < chain->count; i++) {
		image_info_release(&chain->infos[i]);
		image_close(chain->images[i]);
	}
	free(chain);
}

static bool chain_holds(const struct chain *chain, const struct storage *file)
{
	for (size_t i = 0; i < chain->count; i++)
		if (storage_same(chain->images[i]->file, file))
			return true;
	return false;
}

/* Takes over `img`. False after a message. */
static bool chain_add(struct chain *chain, struct image *img)
{
	struct error err = {0};

	if (image_info_get(img, &chain->infos[chain->count], &err) < 0) {
		message_error("%s", err.message);
		image_close(img);
		return false;
	}
	chain->images[chain->count++] = img;
	return true;
}

/* The driver of a backing file: NULL with *err unset means "probe". */
static int backing_driver(const struct opener *opener,
			  const struct image_info *above,
			  const struct format_driver **out, struct error *err)
{
	struct quoted_name quoted;

	*out = NULL;
	if (above->backing_format) {
		*out = format_find(above->backing_format);
		if (!*out)
			return error_set(
				err, EINVAL, "Unknown driver '%s'",
				quote_name(&quoted, above->backing_format));
	} else if (!opener->allow_probing) {
		return error_set(err, EPERM,
				 "'%s' records no format for it, and "
				 "guessing is not allowed",
				 above->filename);
	}
	return 0;
}

static int open_below(const struct opener *opener, const struct chain *chain,
		      struct image **out, struct error *err)
{
	const struct image_info *above = &chain->infos[chain->count - 1];
	const char *path = above->full_backing_filename;
	const struct format_driver *driver;
	struct storage *file;
	int rc;

	if (chain->count == IMAGE_CHAIN_MAX)
		return error_set(err, ELOOP, "more than %d images in a chain",
				 IMAGE_CHAIN_MAX);
	rc = backing_driver(opener, above, &driver, err);
	if (rc < 0)
		return rc;
	rc = opener_open(opener, path, false, &file, err);
	if (rc < 0)
		return rc;
	if (chain_holds(chain, file)) {
		storage_close(file);
		return error_set(err, ELOOP,
				 "Backing file '%s' creates an infinite loop.",
				 path);
	}
	return image_open_storage(out, file, driver, NULL,
				  IMAGE_INFO_ONLY | IMAGE_NO_BACKING, err);
}

/* Follows the chain down from its only member. False after a message. */
static bool chain_follow(struct chain *chain, const struct opener *opener)
{
	for (;;) {
		const struct image_info *info = &chain->infos[chain->count - 1];
		struct error err = {0};
		struct image *img;

		if (!info->backing_filename)
			return true;
		if (!info->full_backing_filename) {
			message_error("Could not tell where backing file '%s' "
				      "of '%s' is",
				      info->backing_filename, info->filename);
			return false;
		}
		if (open_below(opener, chain, &img, &err) < 0) {
			if (err.code == ELOOP)
				message_error("%s", err.message);
			else
				message_error("Could not open '%s': %s",
					      info->full_backing_filename,
					      err.message);
			return false;
		}
		if (!chain_add(chain, img))
			return false;
	}
}

static bool print_chain(const struct chain *chain,
			const struct info_request *request)
{
	json_t *list;

	if (!json_is_whole())
		return false;
	if (!request->json) {
		for (size_t i = 0; i < chain->count; i++)
			info_print_human(&chain->infos[i], i > 0);
		return true;
	}
	if (!request->chain)
		return json_print(info_to_json(&chain->infos[0]));
	list = json_array();
	for (size_t i = 0; i < chain->count; i++)
		json_array_append_new(list, info_to_json(&chain->infos[i]));
	return json_print(list);
}

static bool collect(struct command_context *ctx,
		    const struct info_request *request, struct chain *chain)
{
	struct image *img = open_image(ctx, &request->image);
	struct opener opener = ctx->trust;

	if (!img || !chain_add(chain, img))
		return false;
	opener.force_share = request->image.force_share;
	return !request->chain || chain_follow(chain, &opener);
}

int command_info(struct command_context *ctx, int argc, char **argv)
{
	struct info_request request = {
		.image = {.flags = IMAGE_INFO_ONLY | IMAGE_NO_BACKING},
	};
	struct open_request *image = &request.image;
	const char *cache_word = NULL;
	const struct arg_def defs[] = {
		{'f', "format", ARG_TEXT, &image->format, NULL},
		{0, "image-opts", ARG_FLAG, &image->image_opts, NULL},
		{0, "backing-chain", ARG_FLAG, &request.chain, NULL},
		{0, "limits", ARG_FLAG, &request.limits, NULL},
		{'t', "cache", ARG_TEXT, &cache_word, NULL},
		{0, "output", ARG_OUTPUT, &request.json, NULL},
		{'U', "force-share", ARG_FLAG, &image->force_share, NULL},
		ARGS_END,
	};
	struct chain *chain;
	struct args args;
	bool good;

	if (!args_parse(&args, ctx, argc, argv, defs))
		return args.status;
	if (args.count != 1)
		return message_usage("Expecting one image file name");
	if (!open_cache_mode(cache_word, "cache option", &image->cache))
		return 1;
	image->name = args.operands[0];
	chain = calloc(1, sizeof(*chain));
	if (!chain) {
		message_error("Out of memory");
		return 1;
	}
	good = collect(ctx, &request, chain) && print_chain(chain, &request);
	chain_release(chain);
	return good ? 0 : 1;
}
