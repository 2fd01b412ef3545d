/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * create: makes a new image.
 *
 * The file appears under its name only once it is whole. A backing file is
 * opened before, to learn its size and to be sure that it is what -F says; -u
 * leaves that out.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/create.h"
#include "block/error.h"
#include "block/format.h"
#include "block/image-spec.h"
#include "block/image.h"
#include "block/opener.h"
#include "block/options.h"
#include "block/output.h"
#include "block/storage.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/create-options.h"
#include "cli/message.h"
#include "cli/open.h"
#include "cli/progress-view.h"
#include "formats/registry.h"

#define SIZE_UNKNOWN UINT64_MAX

struct create_request {
	const char *name; /* operand as typed */
	const char *format;
	const char *backing, *backing_format;
	char *option_text;
	bool unsafe_backing, quiet;
	uint64_t size; /* SIZE_UNKNOWN: not given as operand */
	struct progress_wish progress;
};

/* What is to be made, once everything is known. */
struct create_plan {
	const struct format_driver *driver;
	struct options options;
	uint64_t size;
};

static int find_driver(const char *name, const struct format_driver **out,
		       struct error *err)
{
	*out = format_find(name);
	if (!*out)
		return error_set(err, EINVAL, "Unknown file format '%s'", name);
	if (!(*out)->create_options)
		return error_set(
			err, ENOTSUP,
			"Format driver '%s' does not support image creation",
			name);
	return 0;
}

static int set_backing(struct create_plan *plan,
		       const struct create_request *request, struct error *err)
{
	const char *format = plan->driver->name;
	bool able = plan->driver->caps & FORMAT_BACKING;
	int rc = 0;

	if (request->backing && !able)
		return error_set(
			err, ENOTSUP,
			"Backing file not supported for file format '%s'",
			format);
	if (request->backing_format && !able)
		return error_set(err, ENOTSUP,
				 "Backing file format not supported for file "
				 "format '%s'",
				 format);
	if (request->backing)
		rc = options_set(&plan->options, "backing_file",
				 request->backing);
	if (rc == 0 && request->backing_format)
		rc = options_set(&plan->options, "backing_fmt",
				 request->backing_format);
	return rc;
}

static int set_options(struct create_plan *plan,
		       const struct create_request *request, struct error *err)
{
	const struct option_def *defs = plan->driver->create_options;
	bool given = false;
	int rc = 0;

	plan->size = request->size;
	if (request->option_text)
		rc = options_parse(&plan->options, request->option_text, err);
	if (rc == 0)
		rc = options_check(&plan->options, defs, err);
	if (rc == 0 && options_get(&plan->options, "size")) {
		if (request->size != SIZE_UNKNOWN)
			return error_set(err, EINVAL,
					 "The image size must be specified "
					 "only once");
		rc = options_get_size(&plan->options, defs, "size", &plan->size,
				      &given, err);
	}
	return rc < 0 ? rc : set_backing(plan, request, err);
}

/* Opens the backing file as the new image will. */
static int open_backing(const struct command_context *ctx, const char *image,
			const char *name, const char *format,
			struct image **out, struct error *err)
{
	struct opener opener = ctx->trust;
	struct image_spec spec = {0};
	struct error inner = {0};
	char *path = NULL;
	int rc;

	rc = opener_resolve(image, name, &path, &inner);
	if (rc == 0)
		rc = image_spec_from_path(&spec, path, format, &inner);
	if (rc == 0) {
		struct image_open_args args = {
			.spec = &spec,
			.flags = ctx->open_flags,
			.opener = &opener,
		};

		rc = image_open(out, &args, &inner);
	}
	if (rc < 0) {
		error_default(&inner, rc, "backing file");
		error_set(err, inner.code, "%s\nCould not open backing image.",
			  inner.message);
	}
	image_spec_release(&spec);
	free(path);
	return rc;
}

/* The size of the base, if no other was given; and that its format is known. */
static int look_at_backing(struct create_plan *plan,
			   const struct command_context *ctx, const char *path,
			   const char *name, const char *format,
			   struct error *err)
{
	struct image *base = NULL;
	int rc = open_backing(ctx, path, name, format, &base, err);

	if (rc < 0)
		return rc;
	if (!format)
		rc = error_set(err, EINVAL,
			       "Backing file specified without backing "
			       "format\nDetected format of %s.",
			       base->driver->name);
	if (plan->size == SIZE_UNKNOWN)
		plan->size = align_up(base->size_bytes, 512);
	image_close(base);
	return rc;
}

static int plan_backing(struct create_plan *plan,
			const struct command_context *ctx,
			const struct create_request *request, const char *path,
			struct error *err)
{
	const char *name = options_get(&plan->options, "backing_file");
	const char *format = options_get(&plan->options, "backing_fmt");

	if (!name)
		return 0;
	if (!*name)
		return error_set(err, EINVAL,
				 "Expected backing file name, got empty "
				 "string");
	if (!strcmp(name, path) || !strcmp(name, request->name))
		return error_set(err, EINVAL,
				 "Error: Trying to create an image with the "
				 "same filename as the backing file");
	if (!request->unsafe_backing)
		return look_at_backing(plan, ctx, path, name, format, err);
	if (!format)
		return error_set(err, EINVAL,
				 "Backing file specified without backing "
				 "format");
	return 0;
}

static int make_plan(struct create_plan *plan,
		     const struct command_context *ctx,
		     const struct create_request *request, const char *path,
		     struct error *err)
{
	char digits[32];
	int rc;

	rc = find_driver(request->format ? request->format : "raw",
			 &plan->driver, err);
	if (rc == 0)
		rc = set_options(plan, request, err);
	if (rc == 0)
		rc = plan_backing(plan, ctx, request, path, err);
	if (rc < 0)
		return rc;
	if (plan->size == SIZE_UNKNOWN)
		return error_set(err, EINVAL,
				 "Image creation needs a size parameter");
	snprintf(digits, sizeof(digits), "%llu",
		 (unsigned long long)plan->size);
	options_remove(&plan->options, "size");
	return options_set(&plan->options, "size", digits);
}

static int write_image(const struct create_plan *plan, const char *path,
		       struct progress *progress, struct error *err)
{
	struct output out = {0};
	int rc;

	if (options_get(&plan->options, "backing_fmt") &&
	    !options_get(&plan->options, "backing_file"))
		return error_set(err, EINVAL,
				 "Backing format cannot be used without "
				 "backing file");
	rc = output_open(&out, path, false, err);
	if (rc < 0)
		return rc;
	rc = create_format(&out, plan->driver, &plan->options, plan->size,
			   progress, err);
	if (rc == 0 && progress_cancelled(progress))
		rc = error_set(err, ECANCELED, "Cancelled");
	if (rc == 0) {
		rc = storage_sync(out.storage);
		if (rc < 0)
			error_set_errno(err, -rc, "Could not write '%s'", path);
	}
	if (rc == 0)
		return output_commit(&out, true, err);
	output_discard(&out);
	return rc;
}

static int write_with_progress(const struct create_plan *plan,
			       const struct create_request *request,
			       const char *path, struct error *err)
{
	struct progress_view view;
	int rc;

	progress_view_start(&view, &request->progress, request->quiet, 1.0);
	rc = write_image(plan, path, &view.progress, err);
	progress_view_stop(&view, rc == 0);
	return rc;
}

static int create(const struct command_context *ctx,
		  const struct create_request *request, const char *path,
		  struct error *err)
{
	struct create_plan plan = {0};
	int rc = make_plan(&plan, ctx, request, path, err);

	if (rc == 0) {
		if (!request->quiet)
			create_options_print(request->name, plan.driver,
					     &plan.options);
		rc = write_with_progress(&plan, request, path, err);
		if (rc == -EFBIG)
			error_set(
				err, EFBIG,
				"The image size is too large for file "
				"format '%s'%s",
				plan.driver->name,
				create_options_has(plan.driver, "cluster_size")
					? " (try using a larger cluster size)"
					: "");
	}
	options_release(&plan.options);
	return rc;
}

static int run(const struct command_context *ctx,
	       const struct create_request *request)
{
	struct image_spec spec = {0};
	struct error err = {0};
	int rc;

	rc = image_spec_parse(&spec, request->name, NULL, &err);
	if (rc == 0 && spec.nbd)
		rc = error_set(&err, ENOTSUP,
			       "An NBD export cannot be created, only filled: "
			       "see 'convert -n'");
	else if (rc == 0)
		rc = create(ctx, request, spec.path, &err);
	if (rc < 0) {
		error_default(&err, rc, "create");
		message_error("%s: %s", request->name, err.message);
	}
	image_spec_release(&spec);
	return rc < 0 ? 1 : 0;
}

static int show_help(const struct create_request *request)
{
	const struct format_driver *driver;
	struct error err = {0};

	if (find_driver(request->format ? request->format : "raw", &driver,
			&err) < 0) {
		message_error("%s", err.message);
		return 1;
	}
	create_options_help(driver, request->name != NULL);
	return 0;
}

static int run_parsed(const struct command_context *ctx,
		      struct create_request *request, const struct args *args)
{
	if (args->count > 0)
		request->name = args->operands[0];
	if (args_options_ask_help(request->option_text))
		return show_help(request);
	if (!request->name)
		return message_usage("Expecting image file name");
	if (args->count > 2)
		return message_usage("Unexpected argument: %s",
				     args->operands[2]);
	if (args->count == 2 && !args_size(args->operands[1], "image size", 0,
					   INT64_MAX, &request->size))
		return 1;
	return run(ctx, request);
}

int command_create(struct command_context *ctx, int argc, char **argv)
{
	struct create_request request = {.size = SIZE_UNKNOWN};
	const struct arg_def defs[] = {
		{'f', "format", ARG_TEXT, &request.format, NULL},
		{'o', "options", ARG_OPTIONS, &request.option_text, NULL},
		{'b', "backing", ARG_TEXT, &request.backing, NULL},
		{'F', NULL, ARG_TEXT, &request.backing_format, NULL},
		{'B', "backing-format", ARG_TEXT, &request.backing_format,
		 NULL},
		{'u', "backing-unsafe", ARG_FLAG, &request.unsafe_backing,
		 NULL},
		{'q', "quiet", ARG_FLAG, &request.quiet, NULL},
		ARGS_PROGRESS(&request.progress),
		ARGS_END,
	};
	struct args args;
	int status;

	if (args_parse(&args, ctx, argc, argv, defs))
		status = run_parsed(ctx, &request, &args);
	else
		status = args.status;
	free(request.option_text);
	return status;
}
