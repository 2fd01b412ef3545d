/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dd: copies a part of a disk, in the words of dd(1), into a new image. Every
 * byte is written; convert is the command that leaves zeros out.
 *
 * As in qemu-img, count= is counted from the start of the input, not from where
 * skip= leads.
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/format.h"
#include "block/image.h"
#include "block/jobs/convert.h"
#include "block/options.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/guard.h"
#include "cli/message.h"
#include "cli/open.h"
#include "cli/progress-view.h"
#include "cli/target.h"
#include "formats/registry.h"

#define BLOCK_DEFAULT 512u

struct dd_request {
	struct open_request input;
	const char *output, *output_format;
	uint64_t block, count, skip;
	bool has_count;
};

/* ---- operands ---- */

static bool set_operand(struct dd_request *request, const char *name,
			size_t name_len, const char *value)
{
	static const char *const names[] = {"if", "of", "bs", "count", "skip"};
	size_t i = 0, known = sizeof(names) / sizeof(*names);

	while (i < known && (strlen(names[i]) != name_len ||
			     strncmp(names[i], name, name_len)))
		i++;
	switch (i) {
	case 0:
		request->input.name = value;
		return true;
	case 1:
		request->output = value;
		return true;
	case 2:
		return args_size(value, "bs", 1, INT_MAX, &request->block);
	case 3:
		request->has_count = true;
		return args_size(value, "count", 0, INT64_MAX, &request->count);
	case 4:
		return args_size(value, "skip", 0, INT64_MAX, &request->skip);
	default:
		message_error("unrecognized operand %.*s", (int)name_len, name);
		return false;
	}
}

static bool set_operands(struct dd_request *request, const struct args *args)
{
	for (int i = 0; i < args->count; i++) {
		const char *name = args->operands[i];
		const char *equals = strchr(name, '=');

		if (!equals) {
			message_error("unrecognized operand %s", name);
			return false;
		}
		if (!set_operand(request, name, (size_t)(equals - name),
				 equals + 1))
			return false;
	}
	if (request->input.name && request->output)
		return true;
	message_error("Must specify both input and output files");
	return false;
}

/* ---- copying ---- */

/* The part of the input that is copied. */
static struct convert_source choose_part(struct image *img,
					 const struct dd_request *request)
{
	uint64_t end = img->size_bytes, off, limit;

	if (request->has_count &&
	    !mul_overflows(request->count, request->block, &limit))
		end = min_u64(end, limit);
	if (mul_overflows(request->skip, request->block, &off) || off > end) {
		message_error("%s: cannot skip to specified offset",
			      request->input.name);
		off = end;
	}
	return (struct convert_source){
		.img = img,
		.off = off,
		.len = end - off,
	};
}

static int copy(const struct command_context *ctx,
		const struct dd_request *request,
		const struct format_driver *driver,
		const struct convert_source *source, struct progress *progress,
		struct error *err)
{
	struct options options = {0};
	struct target target = {0};
	struct target_request wanted = {
		.name = request->output,
		.driver = driver,
		.options = &options,
		.size_bytes = source->len,
		.cache = CACHE_WRITEBACK,
		.ctx = ctx,
	};
	struct convert_args args = {
		.sources = source,
		.source_count = 1,
		.progress = progress,
		.write_behind = true,
	};
	char digits[32];
	int rc;

	snprintf(digits, sizeof(digits), "%llu",
		 (unsigned long long)source->len);
	rc = options_set(&options, "size", digits);
	if (rc == 0)
		rc = target_create(&target, &wanted, err);
	options_release(&options);
	if (rc < 0)
		return rc;
	args.target = target.img;
	rc = convert_images(&args, err);
	if (rc == 0)
		return target_finish(&target, err);
	target_abandon(&target);
	return rc;
}

static int run_open(const struct command_context *ctx,
		    const struct dd_request *request, struct image *img)
{
	static const struct progress_wish no_wish;
	const char *format =
		request->output_format ? request->output_format : "raw";
	const struct format_driver *driver = format_find(format);
	struct convert_source source = choose_part(img, request);
	struct progress_view view;
	struct error err = {0};
	int rc;

	if (!driver) {
		message_error("Unknown file format '%s'", format);
		return 1;
	}
	/* The guard has looked already, and nobody may now. */
	if (!ctx->guard->active &&
	    target_is_source(request->output, &source, 1)) {
		message_error("'%s' is the input, so it cannot be the output",
			      request->output);
		return 1;
	}
	progress_view_start(&view, &no_wish, true, 1.0);
	rc = copy(ctx, request, driver, &source, &view.progress, &err);
	progress_view_stop(&view, rc == 0);
	if (rc < 0) {
		error_default(&err, rc, "dd");
		message_error("%s", err.message);
	}
	return rc < 0 ? 1 : 0;
}

int command_dd(struct command_context *ctx, int argc, char **argv)
{
	struct dd_request request = {
		.input = {.cache = CACHE_WRITEBACK},
		.block = BLOCK_DEFAULT,
	};
	struct open_request *input = &request.input;
	const struct arg_def defs[] = {
		{'f', "format", ARG_TEXT, &input->format, NULL},
		{0, "image-opts", ARG_FLAG, &input->image_opts, NULL},
		{'O', "output-format", ARG_TEXT, &request.output_format, NULL},
		{'U', "force-share", ARG_FLAG, &input->force_share, NULL},
		ARGS_END,
	};
	struct image *img;
	struct args args;
	int status;

	if (!args_parse(&args, ctx, argc, argv, defs))
		return args.status;
	if (!set_operands(&request, &args))
		return 1;
	if (!open_admit(ctx, input) ||
	    !open_admit_target(ctx, request.output, false) || !open_enter(ctx))
		return 1;
	img = open_image(ctx, input);
	if (!img)
		return 1;
	status = run_open(ctx, &request, img);
	image_close(img);
	return status;
}
