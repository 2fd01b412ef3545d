/* SPDX-License-Identifier: BSD-3-Clause */
/* The exports of a plan to serve: see serve-exports.h. */
#include "cli/serve-exports.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/bitmap.h"
#include "block/error.h"
#include "block/image-spec.h"
#include "block/scratch.h"
#include "cli/message.h"
#include "cli/open.h"
#include "cli/serve-run.h"
#include "cli/serve-trust.h"
#include "formats/registry.h"
#include "nbd-server/export.h"
#include "nbd-server/stats.h"

/* More does not fit on the wire. */
static bool fits(const char *text, const char *what, size_t room)
{
	if (!text || strlen(text) <= room)
		return true;
	message_error("%s '%.32s...' is too long: %zu bytes, allowed are %zu",
		      what, text, strlen(text), room);
	return false;
}

/*
 * What a guest wrote into a raw disk can look like any format at the next
 * start, and like one that names files of ours.
 */
static bool has_format(const struct open_request *request)
{
	struct image_spec spec = {0};
	bool good;

	if (!open_spec(&spec, request))
		return false;
	good = spec.format != NULL;
	image_spec_release(&spec);
	if (!good)
		message_error("The format of '%s' has to be given by -f: what "
			      "clients write could be taken for another one. "
			      "'platter info' shows what it is now",
			      request->name);
	return good;
}

/* Writes go to a layer that nobody will see again. */
static bool add_scratch(struct image **img)
{
	const struct format_driver *driver = format_find("qcow2");
	struct error err = {0};

	if (scratch_open(img, *img, driver, scratch_folder(), &err) == 0)
		return true;
	message_error("Could not make the layer for --snapshot: %s",
		      err.message);
	return false;
}

bool serve_take_snapshot(struct serve_snapshot *out, const char *text)
{
	static const struct option_def defs[] = {
		{"snapshot.id", OPTION_STRING, "Its number", NULL},
		{"snapshot.name", OPTION_STRING, "Its name", NULL},
		{0},
	};
	struct error err = {0};

	if (!text || strncmp(text, "snapshot.", 9) != 0) {
		out->either = text;
		return true;
	}
	if (options_parse(&out->words, text, &err) < 0 ||
	    options_check(&out->words, defs, &err) < 0) {
		message_error("%s", err.message);
		message_error("Failed in parsing snapshot param `%s'", text);
		return false;
	}
	out->id = options_get(&out->words, "snapshot.id");
	out->name = options_get(&out->words, "snapshot.name");
	return true;
}

static bool show_snapshot(struct image *img, const struct serve_snapshot *shown)
{
	struct error err = {0};
	int ret = 0;

	if (!shown)
		return true;
	if (shown->id || shown->name)
		ret = image_show_snapshot(img, shown->id, shown->name, &err);
	if (shown->either)
		ret = image_show_snapshot(img, shown->either, NULL, &err);
	if (ret == -ENOENT && shown->either)
		ret = image_show_snapshot(img, NULL, shown->either, &err);
	if (ret < 0)
		message_error("Failed to load snapshot: %s", err.message);
	return ret == 0;
}

/* NULL after a message. */
static struct image *open_disk(const struct command_context *ctx,
			       const struct serve_export *from)
{
	struct open_request request = from->image;
	struct image *img;

	request.flags |= IMAGE_GUEST_IO;
	if (!from->read_only && !from->snapshot)
		request.flags |= IMAGE_WRITE;
	img = serve_open_image(ctx, &request, from->backing);
	if (img && (!show_snapshot(img, from->shown) ||
		    (from->snapshot && !add_scratch(&img)))) {
		open_close(img);
		img = NULL;
	}
	return img;
}

static bool have_room(const struct serve_export *from)
{
	size_t room = NBD_STRING_MAX - strlen(NBD_BITMAP_PREFIX);

	for (size_t i = 0; i < from->bitmap_count; i++)
		if (!fits(from->bitmaps[i], "Bitmap name", room))
			return false;
	return true;
}

/* False after a message; what is open is counted. */
static bool open_bitmaps(const struct serve_export *from,
			 struct nbd_export *out)
{
	struct nbd_bitmap *bitmaps;
	struct error err = {0};

	if (!from->bitmap_count)
		return true;
	if (!have_room(from))
		return false;
	bitmaps = calloc(from->bitmap_count, sizeof(*bitmaps));
	out->bitmaps = bitmaps;
	if (!bitmaps)
		error_set_errno(&err, ENOMEM, "Opening bitmaps");
	while (!err.code && out->bitmap_count < from->bitmap_count) {
		struct nbd_bitmap *bitmap = bitmaps + out->bitmap_count;

		bitmap->name = from->bitmaps[out->bitmap_count];
		if (image_bitmap_open(&bitmap->map, out->img, bitmap->name,
				      &err) == 0)
			out->bitmap_count++;
	}
	if (err.code)
		message_error("%s", err.message);
	return !err.code;
}

static bool start_counting(struct nbd_export *export)
{
	export->stats = malloc(sizeof(*export->stats));
	if (!export->stats) {
		message_error("No memory to count the requests of '%s'",
			      export->name);
		return false;
	}
	nbd_stats_init(export->stats);
	return true;
}

/* False after a message if what was written may not be durable. */
static bool close_disk(struct nbd_export *export)
{
	bool good;

	while (export->bitmap_count)
		image_bitmap_close(export->bitmaps[--export->bitmap_count].map);
	free(export->bitmaps);
	good = open_close(export->img);
	export->bitmaps = NULL;
	export->img = NULL;
	return good;
}

static void stop_counting(struct nbd_export *export)
{
	if (export->stats)
		nbd_stats_release(export->stats);
	free(export->stats);
	export->stats = NULL;
}

static bool open_export(const struct command_context *ctx,
			const struct serve_plan *plan,
			const struct serve_export *from, struct nbd_export *out)
{
	if (plan->needs_format && !has_format(&from->image))
		return false;
	out->img = open_disk(ctx, from);
	if (!out->img)
		return false;
	atomic_store(&out->size_bytes, out->img->size_bytes);
	out->name = from->name;
	out->description = from->description;
	out->read_only = from->read_only;
	out->resizable = from->resize;
	out->discard = from->discard;
	out->zeroes = from->zeroes;
	out->offers_depth = from->offers_depth;
	out->max_clients = from->max_clients;
	if (open_bitmaps(from, out) && (!plan->stats || start_counting(out)))
		return true;
	close_disk(out);
	stop_counting(out);
	return false;
}

bool serve_open_exports(const struct command_context *ctx,
			const struct serve_plan *plan,
			struct nbd_exports *exports)
{
	exports->items = calloc(plan->export_count, sizeof(*exports->items));
	if (!exports->items) {
		message_error("No memory for %zu exports", plan->export_count);
		return false;
	}
	for (; exports->count < plan->export_count; exports->count++)
		if (!open_export(ctx, plan, &plan->exports[exports->count],
				 &exports->items[exports->count]))
			return false;
	return true;
}

bool serve_close_exports(struct nbd_exports *exports)
{
	bool good = true;

	for (size_t i = exports->count; i > 0; i--)
		good &= close_disk(&exports->items[i - 1]);
	return good;
}

void serve_release_exports(struct nbd_exports *exports)
{
	while (exports->count)
		stop_counting(&exports->items[--exports->count]);
	free(exports->items);
	exports->items = NULL;
}
