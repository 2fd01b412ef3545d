/* SPDX-License-Identifier: BSD-3-Clause */
/* compare: do two images hold the same disk? */
#include <stdio.h>
#include <string.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/image.h"
#include "block/jobs/compare.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/guard.h"
#include "cli/message.h"
#include "cli/open.h"
#include "cli/progress-view.h"

/* Exit statuses that scripts tell apart. */
enum {
	EXIT_SAME = 0,
	EXIT_DIFFERENT = 1,
	EXIT_OPEN_FAILED = 2,
	EXIT_STATUS_FAILED = 3,
	EXIT_READ_FAILED = 4,
};

#define PROGRESS_STEP 2.0

struct compare_request {
	struct open_request a, b;
	const char *cache_word;
	bool strict, quiet;
	struct progress_wish progress;
};

static int report_failure(const struct compare_result *result,
			  const struct error *err)
{
	message_error("%s", err->message);
	/* Never EXIT_DIFFERENT, which would say what nobody has seen. */
	return result->failure == COMPARE_FAILED_STATUS ? EXIT_STATUS_FAILED
							: EXIT_READ_FAILED;
}

/* Other sizes matter, and are told, once the common part is the same. */
static bool reached_tail(const struct compare_args *args,
			 const struct compare_result *result)
{
	if (!result->size_differs || result->kind == COMPARE_SIZE)
		return false;
	return result->kind == COMPARE_IDENTICAL ||
	       result->offset >=
		       min_u64(args->a->size_bytes, args->b->size_bytes);
}

static void print_answer(const struct compare_args *args,
			 const struct compare_result *result)
{
	unsigned long long offset = result->offset;

	if (reached_tail(args, result))
		puts("Warning: Image size mismatch!");
	switch (result->kind) {
	case COMPARE_IDENTICAL:
		puts("Images are identical.");
		break;
	case COMPARE_CONTENT:
		printf("Content mismatch at offset %llu!\n", offset);
		break;
	case COMPARE_STATUS:
		printf("Strict mode: Offset %llu block status mismatch!\n",
		       offset);
		break;
	case COMPARE_SIZE:
		puts("Strict mode: Image size mismatch!");
		break;
	}
}

static int compare_open(struct image *a, struct image *b,
			const struct compare_request *request)
{
	struct compare_result result = {0};
	struct error err = {0};
	struct progress_view view;
	struct compare_args args = {
		.a = a,
		.b = b,
		.strict = request->strict,
		.progress = &view.progress,
	};
	int rc;

	progress_view_start(&view, &request->progress, request->quiet,
			    PROGRESS_STEP);
	rc = compare_images(&args, &result, &err);
	progress_view_stop(&view, rc == 0);
	if (rc < 0)
		return report_failure(&result, &err);
	if (!request->quiet)
		print_answer(&args, &result);
	return result.kind == COMPARE_IDENTICAL ? EXIT_SAME : EXIT_DIFFERENT;
}

static int run(struct command_context *ctx,
	       const struct compare_request *request)
{
	struct image *a, *b;
	int status = EXIT_OPEN_FAILED;

	ctx->guard->kept_fd = request->progress.fd;
	if (!open_admit(ctx, &request->a) || !open_admit(ctx, &request->b) ||
	    !open_enter(ctx))
		return EXIT_OPEN_FAILED;
	a = open_image(ctx, &request->a);
	if (!a)
		return EXIT_OPEN_FAILED;
	b = open_image(ctx, &request->b);
	if (b)
		status = compare_open(a, b, request);
	image_close(b);
	image_close(a);
	return status;
}

int command_compare(struct command_context *ctx, int argc, char **argv)
{
	struct compare_request request = {0};
	struct open_request *a = &request.a, *b = &request.b;
	const struct arg_def defs[] = {
		{'f', "a-format", ARG_TEXT, &a->format, NULL},
		{'F', "b-format", ARG_TEXT, &b->format, NULL},
		{0, "image-opts", ARG_FLAG, &a->image_opts, NULL},
		{'s', "strict", ARG_FLAG, &request.strict, NULL},
		{'T', "cache", ARG_TEXT, &request.cache_word, NULL},
		{'U', "force-share", ARG_FLAG, &a->force_share, NULL},
		{'q', "quiet", ARG_FLAG, &request.quiet, NULL},
		ARGS_PROGRESS(&request.progress),
		ARGS_END,
	};
	struct args args;

	if (!args_parse(&args, ctx, argc, argv, defs))
		return args.status;
	if (args.count != 2)
		return message_usage("Expecting two image file names");
	a->cache = CACHE_WRITEBACK;
	if (!open_cache_mode(request.cache_word, "source cache option",
			     &a->cache))
		return EXIT_OPEN_FAILED;
	a->name = args.operands[0];
	b->name = args.operands[1];
	b->image_opts = a->image_opts;
	b->force_share = a->force_share;
	b->cache = a->cache;
	return run(ctx, &request);
}
