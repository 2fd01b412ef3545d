/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * convert: copies disks into a new image, or into one that exists.
 *
 * This file takes the command line apart and refuses what cannot be meant,
 * before any file is touched; convert-run.c does the work.
 */
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/format.h"
#include "cli/command.h"
#include "cli/convert-request.h"
#include "cli/create-options.h"
#include "cli/message.h"
#include "formats/registry.h"

/* The words of the command line, before they are understood. */
struct words {
	const char *source_cache, *target_cache, *target_format;
	const char *snapshot, *backing, *backing_format;
	const char *sparse, *parallel, *level, *window, *hash;
	struct arg_size rate;
	char *option_text;
	bool bitmaps, skip_broken_bitmaps;
	bool offload, out_of_order;
};

/* ---- numbers ---- */

static bool parse_sparse(const struct words *words,
			 struct convert_request *request)
{
	uint64_t value = CONVERT_SPARSE_DEFAULT;

	if (words->sparse &&
	    !args_size(words->sparse, "sparse size", 0, INT64_MAX, &value))
		return false;
	if (value % 512 || value > CONVERT_SPARSE_MAX) {
		message_error("Invalid buffer size for sparse output "
			      "specified. Valid sizes are multiples of 512 up "
			      "to %u. Select 0 to disable sparse detection "
			      "(fully allocates output).",
			      CONVERT_SPARSE_MAX);
		return false;
	}
	request->args.sparse_size = (uint32_t)value;
	return true;
}

/* A plain number between the two, or the message. */
static bool parse_number(const char *text, unsigned long min, unsigned long max,
			 const char *message, unsigned long *out)
{
	char *end;

	if (!text)
		return true;
	*out = strtoul(text, &end, 10);
	if (end != text && !*end && !strchr(text, '-') && *out >= min &&
	    *out <= max)
		return true;
	message_error("%s", message);
	return false;
}

static bool parse_window(const char *text, int *bits)
{
	uint64_t size;

	if (!text)
		return true;
	if (!args_size(text, "compression window", 4096, 32768, &size))
		return false;
	for (*bits = 12; *bits <= 15; (*bits)++)
		if (size == 1ull << *bits)
			return true;
	message_error("Invalid compression window: %s. It has to be 4k, 8k, "
		      "16k or 32k",
		      text);
	return false;
}

static bool parse_hash(const char *text, enum content_hash_kind *kind)
{
	if (!text)
		return true;
	if (!*text || !strcmp(text, "sha256")) {
		*kind = CONTENT_HASH_WHOLE;
	} else if (!strcmp(text, "tree")) {
		*kind = CONTENT_HASH_TREE;
	} else {
		message_error("Invalid hash '%s'. It has to be sha256 or tree",
			      text);
		return false;
	}
	return true;
}

static bool parse_numbers(const struct words *words,
			  struct convert_request *request)
{
	unsigned long threads = 0, level = 0;

	if (!parse_sparse(words, request) ||
	    !parse_number(words->parallel, 1, 16,
			  "Invalid number of coroutines. Allowed number of "
			  "coroutines is between 1 and 16",
			  &threads) ||
	    !parse_number(words->level, 1, 22,
			  "Invalid compression level. It has to be between 1 "
			  "and 9, with zstd up to 22",
			  &level) ||
	    !parse_window(words->window, &request->args.pack_window_bits) ||
	    !parse_hash(words->hash, &request->hash) ||
	    !open_cache_mode(words->target_cache, "cache option",
			     &request->target_cache) ||
	    !open_cache_mode(words->source_cache, "source cache option",
			     &request->source.cache))
		return false;
	request->args.threads = (unsigned)threads;
	request->args.pack_level = (int)level;
	request->args.rate = words->rate.bytes;
	return true;
}

/* ---- what goes together ---- */

static const char *conflict(const struct words *words,
			    const struct convert_request *request)
{
	const struct convert_args *args = &request->args;

	if (words->skip_broken_bitmaps && !words->bitmaps)
		return "Use of --skip-broken-bitmaps requires --bitmaps";
	if (words->offload && words->sparse)
		return "Cannot enable copy offloading when -S is used";
	if (words->offload && args->pack)
		return "Cannot enable copy offloading when -c is used";
	if (words->offload && args->salvage)
		return "Cannot use copy offloading in salvaging mode";
	if (request->target_image_opts && !request->no_create)
		return "--target-image-opts requires use of -n flag";
	if (request->target_is_zero && !request->no_create)
		return "--target-is-zero requires use of -n flag";
	if (request->target_is_zero && words->backing)
		return "Cannot use --target-is-zero when the destination "
		       "image has a backing file";
	if (words->option_text && request->no_create)
		return "-o has no effect when skipping image creation";
	if (words->snapshot && request->source_count > 1)
		return "No support for concatenating multiple snapshot";
	if (words->snapshot)
		return "Converting internal snapshots is not supported yet";
	if (words->bitmaps && request->source_count > 1)
		return "Copying bitmaps only possible with single source";
	if (words->bitmaps)
		return "Copying bitmaps is not supported yet";
	return NULL;
}

/* -o, -b and -F as the options of the new image. */
static int gather_options(const struct words *words,
			  struct convert_request *request, struct error *err)
{
	struct options *options = &request->options;
	int rc = 0;

	if (words->option_text)
		rc = options_parse(options, words->option_text, err);
	if (rc == 0 && !request->no_create)
		rc = options_check(options, request->driver->create_options,
				   err);
	if (rc < 0)
		return rc;
	if (words->backing)
		rc = options_set(options, "backing_file", words->backing);
	if (rc == 0 && words->backing_format)
		rc = options_set(options, "backing_fmt", words->backing_format);
	return rc;
}

static const char *option_conflict(const struct convert_request *request)
{
	const struct options *options = &request->options;
	const char *prealloc = options_get(options, "preallocation");
	const char *base = options_get(options, "backing_file");
	const char *base_format = options_get(options, "backing_fmt");

	if (request->args.pack && !request->driver->pack)
		return "Compression not supported for this file format";
	if (request->args.pack && prealloc && strcmp(prealloc, "off"))
		return "Compression and preallocation not supported at the "
		       "same time";
	if (base && request->source_count > 1)
		return "Having a backing file for the target makes no sense "
		       "when concatenating multiple input images";
	if (base && !base_format)
		return "Use of backing file requires explicit backing format";
	if (!base && base_format)
		return "Backing format cannot be used without backing file";
	return NULL;
}

static bool refuse(const char *why)
{
	if (why)
		message_error("%s", why);
	return why != NULL;
}

static bool understand(const struct words *words,
		       struct convert_request *request)
{
	const char *format =
		words->target_format ? words->target_format : "raw";
	struct error err = {0};
	int rc;

	if (!parse_numbers(words, request) || refuse(conflict(words, request)))
		return false;
	request->driver = format_find(format);
	if (!request->driver) {
		message_error("Unknown file format '%s'", format);
		return false;
	}
	rc = gather_options(words, request, &err);
	if (rc < 0) {
		error_default(&err, rc, "options");
		message_error("%s", err.message);
		return false;
	}
	if (refuse(option_conflict(request)))
		return false;
	if (options_get(&request->options, "backing_file") &&
	    !request->no_create && !(request->driver->caps & FORMAT_BACKING)) {
		message_error("Backing file not supported for file format '%s'",
			      format);
		return false;
	}
	/* A search for zeros was asked for: shared extents get none. */
	request->args.share = !words->sparse && !request->args.salvage;
	return true;
}

/* ---- the command ---- */

static int show_help(const struct words *words, int operands)
{
	const char *format =
		words->target_format ? words->target_format : "raw";
	const struct format_driver *driver = format_find(format);

	if (!driver) {
		message_error("Unknown file format '%s'", format);
		return 1;
	}
	create_options_help(driver, operands > 0);
	return 0;
}

static int run_parsed(const struct command_context *ctx,
		      const struct words *words,
		      struct convert_request *request, const struct args *args)
{
	int status = 1;

	if (args_options_ask_help(words->option_text))
		return show_help(words, args->count);
	if (args->count < 1)
		return message_usage("Must specify image file name");
	request->source_names = args->operands;
	request->source_count = (size_t)args->count - 1;
	request->target_name = args->operands[args->count - 1];
	if (request->source_count < 1)
		return message_usage("Must specify image file name");
	if (understand(words, request))
		status = convert_run(ctx, request);
	options_release(&request->options);
	return status;
}

int command_convert(struct command_context *ctx, int argc, char **argv)
{
	struct convert_request request = {
		.source = {.cache = CACHE_WRITEBACK},
		.target_cache = CACHE_WRITEBACK,
	};
	struct words words = {0};
	struct open_request *source = &request.source;
	const struct arg_def defs[] = {
		{'f', "source-format", ARG_TEXT, &source->format, NULL},
		{0, "image-opts", ARG_FLAG, &source->image_opts, NULL},
		{'T', "source-cache", ARG_TEXT, &words.source_cache, NULL},
		{'U', "force-share", ARG_FLAG, &source->force_share, NULL},
		{'l', "snapshot", ARG_TEXT, &words.snapshot, NULL},
		{0, "bitmaps", ARG_FLAG, &words.bitmaps, NULL},
		{0, "skip-broken-bitmaps", ARG_FLAG, &words.skip_broken_bitmaps,
		 NULL},
		{0, "salvage", ARG_FLAG, &request.args.salvage, NULL},
		{0, "source-size", ARG_SIZE, &request.source_size,
		 "source size"},
		{'O', "target-format", ARG_TEXT, &words.target_format, NULL},
		{0, "target-image-opts", ARG_FLAG, &request.target_image_opts,
		 NULL},
		{'o', "target-format-options", ARG_OPTIONS, &words.option_text,
		 NULL},
		{'t', "target-cache", ARG_TEXT, &words.target_cache, NULL},
		{'b', "backing", ARG_TEXT, &words.backing, NULL},
		{'B', NULL, ARG_TEXT, &words.backing, NULL},
		{'F', "backing-format", ARG_TEXT, &words.backing_format, NULL},
		{'S', "sparse-size", ARG_TEXT, &words.sparse, NULL},
		{'n', "no-create", ARG_FLAG, &request.no_create, NULL},
		{0, "target-is-zero", ARG_FLAG, &request.target_is_zero, NULL},
		{'c', "compress", ARG_FLAG, &request.args.pack, NULL},
		{0, "compression-level", ARG_TEXT, &words.level, NULL},
		{0, "compression-window", ARG_TEXT, &words.window, NULL},
		{'r', "rate-limit", ARG_SIZE, &words.rate, "rate limit"},
		{'m', "parallel", ARG_TEXT, &words.parallel, NULL},
		{'W', "oob-writes", ARG_FLAG, &words.out_of_order, NULL},
		{'C', "copy-range-offloading", ARG_FLAG, &words.offload, NULL},
		{0, "hash", ARG_OPTIONAL, &words.hash, NULL},
		{'q', "quiet", ARG_FLAG, &request.quiet, NULL},
		ARGS_PROGRESS(&request.progress),
		ARGS_END,
	};
	struct args args;
	int status;

	if (args_parse(&args, ctx, argc, argv, defs))
		status = run_parsed(ctx, &words, &request, &args);
	else
		status = args.status;
	free(words.option_text);
	return status;
}
