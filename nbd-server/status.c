/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is where, for clients that ask (spec: nbd 7 and 10). Saying "data" is
 * always right, saying "zero" wrongly loses data; so zeros are what the walk
 * over the image calls ZERO, while writers are kept away from the range.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/bitmap.h"
#include "block/bytes.h"
#include "block/image.h"
#include "nbd-server/transmit.h"

static bool is_of_disk(const struct nbd_status_part *part)
{
	return part->context < NBD_CONTEXT_BITMAPS;
}

static uint32_t flags_of(unsigned context, const struct mapping *m)
{
	if (context == NBD_CONTEXT_ALLOCATION)
		return m->kind == MAPPING_ZERO ? NBD_STATE_HOLE | NBD_STATE_ZERO
					       : 0;
	/* The layer that has it, counted from 1; 0: none of them. */
	return m->flags & MAPPING_ABSENT ? 0 : m->depth + 1;
}

static void append(struct nbd_status_part *part, uint64_t len, uint32_t flags)
{
	struct nbd_extent *last = part->extents + part->count;

	if (part->count && last[-1].flags == flags)
		last[-1].len += len;
	else if (part->count < part->room)
		part->extents[part->count++] = (struct nbd_extent){len, flags};
	else
		part->full = true;
}

/* False once each of the disk's own contexts has all that it can tell. */
static bool append_mapping(struct nbd_status *status, const struct mapping *m)
{
	bool room = false;

	for (unsigned i = 0; i < status->count; i++) {
		struct nbd_status_part *part = status->parts + i;

		if (!is_of_disk(part))
			break;
		if (!part->full)
			append(part, m->len, flags_of(part->context, m));
		room |= !part->full;
	}
	return room;
}

static int walk(struct nbd_status *status, struct image *img,
		uint64_t guest_off, uint64_t len)
{
	struct image_walk walk;
	struct mapping m;
	int ret;

	image_walk_start(&walk, img, guest_off, len, 0);
	do {
		ret = image_walk_next(&walk, &m);
		if (ret < 0)
			return ret;
	} while (m.len && append_mapping(status, &m));
	return 0;
}

/* The disk's own contexts come first. */
static int fill_from_disk(struct nbd_status *status, struct image *img,
			  uint64_t guest_off, uint64_t len)
{
	struct range_hold hold;
	int ret;

	if (!is_of_disk(status->parts))
		return 0;
	range_hold_take(&img->holds, &hold, guest_off, len, RANGE_SHARED);
	ret = walk(status, img, guest_off, len);
	range_hold_drop(&img->holds, &hold);
	return ret;
}

static int fill_from_bitmap(struct nbd_status_part *part,
			    struct image_bitmap *bitmap, uint64_t guest_off,
			    uint64_t len)
{
	while (len && !part->full) {
		struct bitmap_run run;
		int ret = image_bitmap_run(bitmap, guest_off, len, &run);

		if (ret < 0)
			return ret;
		append(part, run.len, run.set ? NBD_STATE_DIRTY : 0);
		guest_off += run.len;
		len -= run.len;
	}
	return 0;
}

/*
 * So that a client with many contexts costs little more than one with few: what
 * is cut off, it asks for again.
 */
static unsigned room_for_each(unsigned count, bool one)
{
	unsigned room = 2 * NBD_EXTENTS_MAX / count;

	if (one)
		return 1;
	return room < NBD_EXTENTS_MAX ? room : NBD_EXTENTS_MAX;
}

static int allocate(struct nbd_status *status,
		    const struct nbd_context_set *wanted, bool one)
{
	unsigned room = room_for_each(wanted->count, one), number = 0;
	size_t size = NBD_HEAD_MAX + room * sizeof(struct nbd_extent);

	static_assert(2 * NBD_EXTENTS_MAX >= NBD_CONTEXTS_MAX,
		      "each context has room for an answer");
	static_assert(NBD_HEAD_MAX % _Alignof(struct nbd_extent) == 0,
		      "what is behind a head is aligned");
	status->parts = calloc(wanted->count, sizeof(*status->parts));
	status->wire = malloc(wanted->count * size);
	if (!status->parts || !status->wire)
		return -ENOMEM;
	for (; status->count < wanted->count; status->count++) {
		struct nbd_status_part *part = status->parts + status->count;

		part->context = nbd_context_next(wanted, number);
		part->room = room;
		part->extents = (void *)(status->wire + NBD_HEAD_MAX +
					 status->count * size);
		number = part->context + 1;
	}
	return 0;
}

int nbd_status_fill(struct nbd_status *status, const struct nbd_export *export,
		    const struct nbd_context_set *wanted, bool one,
		    uint64_t guest_off, uint64_t len)
{
	int ret = allocate(status, wanted, one);

	if (!ret)
		ret = fill_from_disk(status, export->img, guest_off, len);
	for (unsigned i = 0; i < status->count && !ret; i++) {
		struct nbd_status_part *part = status->parts + i;

		if (!is_of_disk(part))
			ret = fill_from_bitmap(
				part,
				nbd_export_bitmap(export, part->context)->map,
				guest_off, len);
	}
	return ret;
}

void nbd_status_release(struct nbd_status *status)
{
	free(status->parts);
	free(status->wire);
	*status = (struct nbd_status){0};
}
