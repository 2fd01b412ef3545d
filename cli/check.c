/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check: looks for errors in an image's metadata, and mends them on request.
 *
 * With --dry-run the repair runs on an overlay in memory, so that what it says
 * is what a repair does.
 */
#include <stdio.h>
#include <string.h>

#include "block/error.h"
#include "block/image-spec.h"
#include "block/image.h"
#include "block/storage/file.h"
#include "block/storage/overlay.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/guard.h"
#include "cli/json.h"
#include "cli/message.h"
#include "cli/open.h"
#include "cli/progress-view.h"
#include "formats/registry.h"

/* Exit statuses that scripts tell apart. */
enum {
	EXIT_CLEAN = 0,
	EXIT_INCOMPLETE = 1,
	EXIT_CORRUPT = 2,
	EXIT_LEAKS = 3,
	EXIT_UNSUPPORTED = 63,
};

struct check_request {
	struct open_request image;
	const char *repair_word;
	bool fix_leaks, fix_errors;
	bool dry_run, json, quiet;
	struct progress_wish progress;
};

static void print_finding(void *opaque, const char *text)
{
	(void)opaque;
	fflush(stdout);
	fprintf(stderr, "%s\n", text);
}

/* A second pass, without repair, tells the state that was reached. */
static int check_again(struct image *img, struct check_args *args,
		       struct check_result *result, struct error *err)
{
	uint64_t leaks_fixed = result->leaks_fixed;
	uint64_t corruptions_fixed = result->corruptions_fixed;
	int rc;

	memset(result, 0, sizeof(*result));
	args->fix_leaks = args->fix_errors = false;
	rc = image_check(img, args, result, err);
	result->leaks_fixed = leaks_fixed;
	result->corruptions_fixed = corruptions_fixed;
	return rc;
}

static void print_repairs(const struct check_request *request,
			  const struct check_result *result)
{
	if (request->json || request->quiet)
		return;
	printf("The following inconsistencies were found and repaired:\n\n"
	       "    %llu leaked clusters\n    %llu corruptions\n\n"
	       "Double checking the fixed image now...\n",
	       (unsigned long long)result->leaks_fixed,
	       (unsigned long long)result->corruptions_fixed);
}

static int check_image(struct image *img, const struct check_request *request,
		       struct check_result *result, struct error *err)
{
	struct progress_view view;
	struct check_args args = {
		.fix_leaks = request->fix_leaks,
		.fix_errors = request->fix_errors,
		.progress = &view.progress,
		.finding = print_finding,
	};
	int rc;

	progress_view_start(&view, &request->progress, request->quiet, 1.0);
	rc = image_check(img, &args, result, err);
	progress_view_stop(&view, rc == 0);
	if (rc == 0 && (result->leaks_fixed || result->corruptions_fixed)) {
		print_repairs(request, result);
		args.progress = NULL;
		rc = check_again(img, &args, result, err);
	}
	return rc;
}

static double percent_of(uint64_t part, uint64_t whole)
{
	return 100.0 * (double)part / (double)whole;
}

static void print_problems(const struct check_result *result)
{
	if (result->corruptions)
		printf("\n%llu errors were found on the image.\n"
		       "Data may be corrupted, or further writes to the image "
		       "may corrupt it.\n",
		       (unsigned long long)result->corruptions);
	if (result->leaks)
		printf("\n%llu leaked clusters were found on the image.\n"
		       "This means waste of disk space, but no harm to data.\n",
		       (unsigned long long)result->leaks);
	if (result->check_errors)
		printf("\n%llu internal errors have occurred during the "
		       "check.\n",
		       (unsigned long long)result->check_errors);
	if (!result->corruptions && !result->leaks && !result->check_errors)
		puts("No errors were found on the image.");
}

static void print_human(const struct check_result *r)
{
	print_problems(r);
	if (r->has_counts && r->total_clusters && r->allocated_clusters)
		printf("%llu/%llu = %.2f%% allocated, %.2f%% fragmented, "
		       "%.2f%% compressed clusters\n",
		       (unsigned long long)r->allocated_clusters,
		       (unsigned long long)r->total_clusters,
		       percent_of(r->allocated_clusters, r->total_clusters),
		       percent_of(r->fragmented_clusters,
				  r->allocated_clusters),
		       percent_of(r->compressed_clusters,
				  r->allocated_clusters));
	if (r->image_end_offset)
		printf("Image end offset: %llu\n",
		       (unsigned long long)r->image_end_offset);
}

static void set_count(json_t *object, const char *key, uint64_t value)
{
	if (value)
		json_object_set_new(object, key,
				    json_integer((json_int_t)value));
}

static bool print_json(const struct image *img,
		       const struct check_request *request,
		       const struct check_result *r)
{
	json_t *out = json_object();

	set_count(out, "image-end-offset", r->image_end_offset);
	set_count(out, "total-clusters", r->total_clusters);
	json_object_set_new(out, "check-errors",
			    json_integer((json_int_t)r->check_errors));
	set_count(out, "corruptions", r->corruptions);
	set_count(out, "leaks", r->leaks);
	set_count(out, "corruptions-fixed", r->corruptions_fixed);
	set_count(out, "leaks-fixed", r->leaks_fixed);
	set_count(out, "allocated-clusters", r->allocated_clusters);
	set_count(out, "fragmented-clusters", r->fragmented_clusters);
	set_count(out, "compressed-clusters", r->compressed_clusters);
	if (request->dry_run)
		json_object_set_new(out, "dry-run", json_true());
	json_object_set_new(out, "filename", json_text(request->image.name));
	json_object_set_new(out, "format", json_string(img->driver->name));
	return json_print(out);
}

static int exit_status(const struct check_result *result)
{
	if (result->check_errors) {
		message_error("Check failed");
		return EXIT_INCOMPLETE;
	}
	if (result->corruptions)
		return EXIT_CORRUPT;
	return result->leaks ? EXIT_LEAKS : EXIT_CLEAN;
}

static int check_and_report(struct image *img,
			    const struct check_request *request)
{
	struct check_result result = {0};
	struct error err = {0};
	int rc = check_image(img, request, &result, &err);

	if (rc == -ENOTSUP) {
		message_error("This image format does not support checks");
		return EXIT_UNSUPPORTED;
	}
	if (rc < 0) {
		message_error("Check failed: %s", err.message);
		return EXIT_INCOMPLETE;
	}
	if (request->json) {
		if (!print_json(img, request, &result))
			return EXIT_INCOMPLETE;
	} else if (!request->quiet) {
		print_human(&result);
		if (request->dry_run)
			puts("Dry run: nothing was written.");
	}
	return exit_status(&result);
}

/* The file itself, read-only. */
static int open_file(const struct command_context *ctx,
		     const struct check_request *request,
		     struct image_spec *spec, struct storage **out,
		     struct error *err)
{
	struct image_open_args args = {
		.spec = spec,
		.flags = request->image.force_share ? IMAGE_FORCE_SHARE : 0,
	};

	if (spec->format && !format_find(spec->format))
		return error_set(err, EINVAL, "Unknown driver '%s'",
				 spec->format);
	if (ctx->guard->active)
		return guard_take(ctx->guard, &args, spec, out, err);
	return image_open_storage_of(out, &args, err);
}

/* The image on an overlay that forgets all writes. NULL after a message. */
static struct image *open_dry(const struct command_context *ctx,
			      const struct check_request *request)
{
	struct image_spec spec = {0};
	struct error err = {0};
	struct image *img = NULL;
	struct storage *file;
	int rc;

	if (!open_spec(&spec, &request->image))
		return NULL;
	rc = open_file(ctx, request, &spec, &file, &err);
	if (rc == 0)
		rc = storage_overlay_new(&file, file);
	if (rc == 0)
		rc = image_open_storage(
			&img, file,
			spec.format ? format_find(spec.format) : NULL,
			&spec.options,
			IMAGE_WRITE | IMAGE_FOR_CHECK | IMAGE_NO_BACKING, &err);
	if (rc < 0) {
		error_default(&err, rc, "no memory for a dry run");
		message_error("Could not open '%s': %s", request->image.name,
			      err.message);
		img = NULL;
	}
	image_spec_release(&spec);
	return img;
}

static int run(struct command_context *ctx, struct check_request *request)
{
	bool repairs = request->fix_leaks || request->fix_errors;
	struct image *img;
	int status;

	request->image.flags = IMAGE_FOR_CHECK | IMAGE_NO_BACKING;
	if (repairs)
		request->image.flags |= IMAGE_WRITE;
	ctx->guard->kept_fd = request->progress.fd;
	img = request->dry_run ? open_dry(ctx, request)
			       : open_image(ctx, &request->image);
	if (!img)
		return EXIT_INCOMPLETE;
	status = check_and_report(img, request);
	if (!open_close(img) && status == EXIT_CLEAN)
		status = EXIT_INCOMPLETE;
	return status;
}

/* What -r says; --dry-run alone shows all that could be mended. */
static bool parse_repair(struct check_request *request)
{
	const char *word = request->repair_word;

	if (!word && request->dry_run)
		word = "all";
	if (!word)
		return true;
	request->fix_leaks = true;
	request->fix_errors = !strcmp(word, "all");
	if (request->fix_errors || !strcmp(word, "leaks"))
		return true;
	message_usage("Unknown option value for -r (expecting 'leaks' or "
		      "'all'): %s",
		      word);
	return false;
}

int command_check(struct command_context *ctx, int argc, char **argv)
{
	struct check_request request = {0};
	struct open_request *image = &request.image;
	const char *cache_word = NULL;
	const struct arg_def defs[] = {
		{'f', "format", ARG_TEXT, &image->format, NULL},
		{0, "image-opts", ARG_FLAG, &image->image_opts, NULL},
		{'r', "repair", ARG_TEXT, &request.repair_word, NULL},
		{0, "dry-run", ARG_FLAG, &request.dry_run, NULL},
		{'T', "cache", ARG_TEXT, &cache_word, NULL},
		{0, "output", ARG_OUTPUT, &request.json, NULL},
		{'U', "force-share", ARG_FLAG, &image->force_share, NULL},
		{'q', "quiet", ARG_FLAG, &request.quiet, NULL},
		ARGS_PROGRESS(&request.progress),
		ARGS_END,
	};
	struct args args;

	if (!args_parse(&args, ctx, argc, argv, defs))
		return args.status;
	if (!parse_repair(&request))
		return EXIT_INCOMPLETE;
	if (args.count != 1)
		return message_usage("Expecting one image file name");
	if (!open_cache_mode(cache_word, "source cache option", &image->cache))
		return EXIT_INCOMPLETE;
	image->name = args.operands[0];
	return run(ctx, &request);
}
