/* SPDX-License-Identifier: BSD-3-Clause */
/* resize: another virtual size, absolute or as a difference. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/image.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/message.h"
#include "cli/open.h"

struct resize_request {
	struct open_request image;
	const char *prealloc_word;
	enum prealloc_mode prealloc;
	bool shrink, quiet;
	char sign; /* '+', '-', or 0 for an absolute size */
	uint64_t bytes;
};

static bool parse_size(struct resize_request *request, const char *text)
{
	request->sign = 0;
	if (*text == '+' || *text == '-')
		request->sign = *text++;
	return args_size(text, "image size", 0, INT64_MAX, &request->bytes);
}

/* The size to have; 0, which no image may have, stands for a bad one. */
static uint64_t target_size(const struct resize_request *request,
			    uint64_t current)
{
	uint64_t sum;

	switch (request->sign) {
	case '+':
		if (add_overflows(current, request->bytes, &sum) ||
		    sum > INT64_MAX)
			return 0;
		return sum;
	case '-':
		return request->bytes < current ? current - request->bytes : 0;
	default:
		return request->bytes;
	}
}

static bool fits_format(const struct resize_request *request,
			const struct format_driver *driver)
{
	if (request->prealloc == PREALLOC_METADATA &&
	    (driver->caps & FORMAT_NO_METADATA)) {
		message_error("Unsupported preallocation mode: metadata");
		return false;
	}
	return true;
}

static bool size_is_sane(const struct resize_request *request,
			 uint64_t old_size, uint64_t new_size)
{
	if (!new_size) {
		message_error("New image size must be positive");
		return false;
	}
	if (new_size <= old_size && request->prealloc != PREALLOC_OFF) {
		message_error("Preallocation can only be used for growing "
			      "images");
		return false;
	}
	if (new_size < old_size && !request->shrink) {
		message_error("Use the --shrink option to perform a shrink "
			      "operation.");
		message_warning("Shrinking an image will delete all data "
				"beyond the shrunken image's end. Before "
				"performing such an operation, make sure there "
				"is no important data there.");
		return false;
	}
	return true;
}

static bool resize(struct image *img, const struct resize_request *request)
{
	uint64_t new_size = target_size(request, img->size_bytes);
	struct error err = {0};

	if (!size_is_sane(request, img->size_bytes, new_size) ||
	    !fits_format(request, img->driver))
		return false;
	if (image_resize(img, new_size, request->prealloc, request->shrink,
			 &err) < 0) {
		message_error("%s", err.message);
		return false;
	}
	return true;
}

static int run(struct command_context *ctx, struct resize_request *request)
{
	struct image *img = open_image(ctx, &request->image);
	bool good;

	if (!img)
		return 1;
	good = resize(img, request);
	/* It has to be on the disk before anyone is told. */
	good = open_close(img) && good;
	if (good && !request->quiet)
		puts("Image resized.");
	return good ? 0 : 1;
}

/*
 * Takes a size like -1G out of the arguments, so that it is not read as an
 * option: no option starts with a digit. NULL if there is none.
 */
static const char *take_negative_size(int *argc, char **argv)
{
	for (int i = 1; i < *argc; i++) {
		const char *text = argv[i];

		if (text[0] != '-' || !isdigit((unsigned char)text[1]))
			continue;
		memmove(&argv[i], &argv[i + 1],
			(size_t)(*argc - i) * sizeof(argv[0]));
		(*argc)--;
		return text;
	}
	return NULL;
}

int command_resize(struct command_context *ctx, int argc, char **argv)
{
	struct resize_request request = {
		.image = {.flags = IMAGE_WRITE, .cache = CACHE_WRITEBACK},
	};
	struct open_request *image = &request.image;
	const struct arg_def defs[] = {
		{'f', "format", ARG_TEXT, &image->format, NULL},
		{0, "image-opts", ARG_FLAG, &image->image_opts, NULL},
		{0, "preallocation", ARG_TEXT, &request.prealloc_word, NULL},
		{0, "shrink", ARG_FLAG, &request.shrink, NULL},
		{'q', "quiet", ARG_FLAG, &request.quiet, NULL},
		ARGS_END,
	};
	const char *size = argc > 2 ? take_negative_size(&argc, argv) : NULL;
	struct args args;

	if (argc < 2)
		return message_usage("Not enough arguments");
	if (!args_parse(&args, ctx, argc, argv, defs))
		return args.status;
	if (args.count + (size != NULL) != 2)
		return message_usage("Expecting image file name and size");
	image->name = args.operands[0];
	if (!open_prealloc_mode(request.prealloc_word, &request.prealloc) ||
	    !parse_size(&request, size ? size : args.operands[1]))
		return 1;
	return run(ctx, &request);
}
