/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * map: where the data of an image is.
 *
 * Images of millions of runs are common, so lines are put together by hand in
 * one large buffer.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/image.h"
#include "block/storage.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/message.h"
#include "cli/open.h"

#define OUTPUT_BYTES (64 * 1024)
#define LINE_BYTES   256 /* no line of JSON is longer */

struct output_buffer {
	size_t used;
	char bytes[OUTPUT_BYTES];
};

static void put_text(struct output_buffer *out, const char *text, size_t len)
{
	memcpy(out->bytes + out->used, text, len);
	out->used += len;
}

#define PUT(out, literal) put_text((out), literal, sizeof(literal) - 1)

static void put_number(struct output_buffer *out, uint64_t value)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	put_text(out, digits + at, sizeof(digits) - at);
}

static void put_bool(struct output_buffer *out, bool value)
{
	if (value)
		PUT(out, "true");
	else
		PUT(out, "false");
}

static void flush_buffer(struct output_buffer *out)
{
	fwrite(out->bytes, 1, out->used, stdout);
	out->used = 0;
}

/*
 * Does the run take space? A hole in a raw file does not; a hole below a format
 * that has the run allocated counts as data, as it does for qemu-img.
 */
static bool takes_space(const struct mapping *m)
{
	if (m->kind != MAPPING_ZERO)
		return true;
	return (m->flags & MAPPING_HAS_HOST) &&
	       !(m->flags & MAPPING_EXPLICIT) &&
	       !(m->layer->driver->caps & FORMAT_NO_METADATA);
}

static bool has_plain_offset(const struct mapping *m)
{
	if (m->flags & MAPPING_CIPHERED)
		return false;
	return m->kind == MAPPING_DATA || (m->flags & MAPPING_HAS_HOST);
}

static void put_json_run(struct output_buffer *out, const struct mapping *m)
{
	PUT(out, "{ \"start\": ");
	put_number(out, m->guest_off);
	PUT(out, ", \"length\": ");
	put_number(out, m->len);
	PUT(out, ", \"depth\": ");
	put_number(out, m->depth);
	PUT(out, ", \"present\": ");
	put_bool(out, !(m->flags & MAPPING_ABSENT));
	PUT(out, ", \"zero\": ");
	put_bool(out, m->kind == MAPPING_ZERO);
	PUT(out, ", \"data\": ");
	put_bool(out, takes_space(m));
	if (m->kind == MAPPING_PACKED)
		PUT(out, ", \"compressed\": true");
	if (has_plain_offset(m)) {
		PUT(out, ", \"offset\": ");
		put_number(out, m->host_off);
	}
	PUT(out, "}");
}

/* The list is never empty: a disk without bytes is one run without length. */
static int print_json(struct image_walk *walk, uint64_t start)
{
	struct output_buffer *out = malloc(sizeof(*out));
	struct mapping m;
	uint64_t count = 0;
	int rc;

	if (!out)
		return -ENOMEM;
	out->used = 0;
	PUT(out, "[");
	while ((rc = image_walk_next(walk, &m)) == 0 && m.len) {
		if (count++)
			PUT(out, ",\n");
		put_json_run(out, &m);
		if (out->used > OUTPUT_BYTES - LINE_BYTES)
			flush_buffer(out);
	}
	flush_buffer(out);
	free(out);
	if (rc < 0)
		return rc;
	if (!count)
		printf("{ \"start\": %llu, \"length\": 0, \"depth\": 0, "
		       "\"present\": false, \"zero\": false, "
		       "\"data\": false}",
		       (unsigned long long)start);
	puts("]");
	return 0;
}

/* False after a message: this run cannot be told as offsets of a file. */
static bool print_human_run(const struct mapping *m)
{
	if (m->kind == MAPPING_ZERO)
		return true;
	if (!has_plain_offset(m)) {
		message_error("File contains external, encrypted or "
			      "compressed clusters.");
		return false;
	}
	printf("%#-16llx%#-16llx%#-16llx%s\n", (unsigned long long)m->guest_off,
	       (unsigned long long)m->len, (unsigned long long)m->host_off,
	       m->storage->name);
	return true;
}

static int print_human(struct image_walk *walk)
{
	struct mapping m;
	int rc;

	printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
	while ((rc = image_walk_next(walk, &m)) == 0 && m.len)
		if (!print_human_run(&m))
			return 1;
	return rc;
}

static int map_range(struct image *img, uint64_t start,
		     const struct arg_size *max_len, bool json)
{
	uint64_t len = start < img->size_bytes ? img->size_bytes - start : 0;
	struct image_walk walk;
	int rc;

	if (max_len->given)
		len = min_u64(len, max_len->bytes);
	image_walk_start(&walk, img, len ? start : 0, len, 0);
	rc = json ? print_json(&walk, start) : print_human(&walk);
	if (rc < 0)
		message_error("Failed to read image metadata: %s",
			      strerror(-rc));
	return rc ? 1 : 0;
}

int command_map(struct command_context *ctx, int argc, char **argv)
{
	struct open_request request = {.cache = CACHE_WRITEBACK};
	struct arg_size start = {0}, max_len = {0};
	bool json = false;
	const struct arg_def defs[] = {
		{'f', "format", ARG_TEXT, &request.format, NULL},
		{0, "image-opts", ARG_FLAG, &request.image_opts, NULL},
		{'s', "start-offset", ARG_SIZE, &start, "start offset"},
		{'l', "max-length", ARG_SIZE, &max_len, "max length"},
		{0, "output", ARG_OUTPUT, &json, NULL},
		{'U', "force-share", ARG_FLAG, &request.force_share, NULL},
		ARGS_END,
	};
	struct args args;
	struct image *img;
	int status;

	if (!args_parse(&args, ctx, argc, argv, defs))
		return args.status;
	if (args.count != 1)
		return message_usage("Expecting one image file name");
	request.name = args.operands[0];
	img = open_image(ctx, &request);
	if (!img)
		return 1;
	status = map_range(img, start.bytes, &max_len, json);
	return open_close(img) ? status : 1;
}
