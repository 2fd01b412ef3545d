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

/* A hole in the store below a run that the format has allocated. */
static bool is_hole_in_data(const struct mapping *m)
{
	return m->kind == MAPPING_ZERO && (m->flags & MAPPING_HAS_HOST) &&
	       !(m->flags & MAPPING_EXPLICIT) &&
	       !(m->layer->driver->caps & FORMAT_NO_METADATA);
}

/* A hole in a raw file does not take space; one in a cluster is told as data.
 */
static bool takes_space(const struct mapping *m)
{
	return m->kind != MAPPING_ZERO || is_hole_in_data(m);
}

static bool has_plain_offset(const struct mapping *m)
{
	if (m->flags & MAPPING_CIPHERED)
		return false;
	return m->kind == MAPPING_DATA || (m->flags & MAPPING_HAS_HOST);
}

/* The runs of an image as they are printed: as long as they can be. */
struct run_reader {
	struct image_walk walk;
	struct mapping ahead;
	bool has_ahead;
};

static bool is_continued_by(const struct mapping *m, const struct mapping *next)
{
	if (m->kind != next->kind || m->depth != next->depth ||
	    m->flags != next->flags || takes_space(m) != takes_space(next))
		return false;
	return !has_plain_offset(m) || (m->storage == next->storage &&
					m->host_off + m->len == next->host_off);
}

/* Holes that are smaller than a cluster are part of its data. */
static int read_piece(struct run_reader *reader, struct mapping *out)
{
	int rc = image_walk_next(&reader->walk, out);

	if (rc == 0 && out->len && is_hole_in_data(out) &&
	    out->len < out->layer->cluster_size) {
		out->kind = MAPPING_DATA;
		out->flags &= ~MAPPING_HAS_HOST;
	}
	return rc;
}

/* out->len is 0 at the end. */
static int read_run(struct run_reader *reader, struct mapping *out)
{
	int rc = 0;

	if (reader->has_ahead)
		*out = reader->ahead;
	else
		rc = read_piece(reader, out);
	reader->has_ahead = false;
	while (rc == 0 && out->len) {
		rc = read_piece(reader, &reader->ahead);
		if (rc < 0 || !is_continued_by(out, &reader->ahead)) {
			reader->has_ahead = rc == 0;
			break;
		}
		if (!reader->ahead.len)
			break;
		out->len += reader->ahead.len;
	}
	return rc;
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
static int print_json(struct run_reader *reader, uint64_t start)
{
	struct output_buffer *out = malloc(sizeof(*out));
	struct mapping m;
	uint64_t count = 0;
	int rc;

	if (!out)
		return -ENOMEM;
	out->used = 0;
	PUT(out, "[");
	while ((rc = read_run(reader, &m)) == 0 && m.len) {
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

static int print_human(struct run_reader *reader)
{
	struct mapping m;
	int rc;

	printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
	while ((rc = read_run(reader, &m)) == 0 && m.len)
		if (!print_human_run(&m))
			return 1;
	return rc;
}

static int map_range(struct image *img, uint64_t start,
		     const struct arg_size *max_len, bool json)
{
	uint64_t len = start < img->size_bytes ? img->size_bytes - start : 0;
	struct run_reader reader = {.has_ahead = false};
	int rc;

	if (max_len->given)
		len = min_u64(len, max_len->bytes);
	image_walk_start(&reader.walk, img, len ? start : 0, len, 0);
	rc = json ? print_json(&reader, start) : print_human(&reader);
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
