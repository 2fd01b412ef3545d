/* SPDX-License-Identifier: BSD-3-Clause */
/* measure: how much space a new image would take. */
#include <stdio.h>
#include <stdlib.h>

#include "block/error.h"
#include "block/image.h"
#include "block/options.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/json.h"
#include "cli/message.h"
#include "cli/open.h"
#include "formats/registry.h"

struct measure_request {
	struct open_request source; /* name NULL: `size` counts */
	struct arg_size size;
	const char *format;
	char *option_text;
	const char *snapshot;
	bool json;
};

/* The driver of the target, and its options; NULL after a message. */
static const struct format_driver *find_target(
	const struct measure_request *request, struct options *opts)
{
	const char *name = request->format ? request->format : "raw";
	const struct format_driver *driver = format_find(name);
	struct error err = {0};

	if (!driver) {
		message_error("Unknown file format '%s'", name);
		return NULL;
	}
	if (!driver->create_options) {
		message_error("Format driver '%s' does not support image "
			      "creation",
			      name);
		return NULL;
	}
	if (!driver->measure) {
		message_error("Block driver '%s' does not support size "
			      "measurement",
			      name);
		return NULL;
	}
	if (request->option_text &&
	    (options_parse(opts, request->option_text, &err) < 0 ||
	     options_check(opts, driver->create_options, &err) < 0)) {
		message_error("%s", err.message);
		message_error("Invalid options for file format '%s'", name);
		return NULL;
	}
	/* The size is that of the operand, or of --size. */
	options_remove(opts, "size");
	return driver;
}

static bool print_json(const struct measure_result *result)
{
	json_t *root = json_object();

	json_object_set_new(root, "required",
			    json_integer((json_int_t)result->required));
	json_object_set_new(root, "fully-allocated",
			    json_integer((json_int_t)result->fully_allocated));
	if (result->has_bitmaps)
		json_object_set_new(root, "bitmaps",
				    json_integer((json_int_t)result->bitmaps));
	return json_print(root);
}

static bool print_human(const struct measure_result *result)
{
	printf("required size: %llu\n", (unsigned long long)result->required);
	printf("fully allocated size: %llu\n",
	       (unsigned long long)result->fully_allocated);
	if (result->has_bitmaps)
		printf("bitmaps size: %llu\n",
		       (unsigned long long)result->bitmaps);
	return true;
}

static int measure(struct command_context *ctx,
		   const struct measure_request *request,
		   const struct format_driver *driver,
		   const struct options *opts)
{
	struct measure_result result = {0};
	struct error err = {0};
	struct image *source = NULL;
	int rc;

	if (request->source.name) {
		source = open_image(ctx, &request->source);
		if (!source)
			return 1;
	}
	rc = driver->measure(opts, source,
			     source ? source->size_bytes : request->size.bytes,
			     &result, &err);
	image_close(source);
	if (rc < 0) {
		message_error("%s", err.message);
		return 1;
	}
	return (request->json ? print_json(&result) : print_human(&result)) ? 0
									    : 1;
}

/* NULL if the arguments go together, else what is wrong. */
static const char *find_conflict(const struct measure_request *request,
				 int operands)
{
	const struct open_request *source = &request->source;

	if (operands > 1)
		return "At most one filename argument is allowed.";
	if (operands == 1 && request->size.given)
		return "--size N cannot be used together with a filename.";
	if (operands == 0 &&
	    (source->image_opts || source->format || request->snapshot))
		return "--image-opts, -f, and -l require a filename argument.";
	if (operands == 0 && !request->size.given)
		return "Either --size N or one filename must be specified.";
	if (request->snapshot)
		return "Measuring internal snapshots is not supported";
	return NULL;
}

static int run(struct command_context *ctx, struct measure_request *request,
	       const struct args *args)
{
	const char *conflict = find_conflict(request, args->count);
	const struct format_driver *driver;
	struct options opts = {0};
	int status = 1;

	if (conflict) {
		message_error("%s", conflict);
		return 1;
	}
	if (args->count)
		request->source.name = args->operands[0];
	driver = find_target(request, &opts);
	if (driver)
		status = measure(ctx, request, driver, &opts);
	options_release(&opts);
	return status;
}

int command_measure(struct command_context *ctx, int argc, char **argv)
{
	struct measure_request request = {0};
	struct open_request *source = &request.source;
	const struct arg_def defs[] = {
		{'f', "format", ARG_TEXT, &source->format, NULL},
		{0, "image-opts", ARG_FLAG, &source->image_opts, NULL},
		{'l', "snapshot", ARG_TEXT, &request.snapshot, NULL},
		{'O', "target-format", ARG_TEXT, &request.format, NULL},
		{'o', "options", ARG_OPTIONS, &request.option_text, NULL},
		{'s', "size", ARG_SIZE, &request.size, "image size"},
		{0, "output", ARG_OUTPUT, &request.json, NULL},
		{'U', "force-share", ARG_FLAG, &source->force_share, NULL},
		ARGS_END,
	};
	struct args args;
	int status;

	if (args_parse(&args, ctx, argc, argv, defs))
		status = run(ctx, &request, &args);
	else
		status = args.status;
	free(request.option_text);
	return status;
}
