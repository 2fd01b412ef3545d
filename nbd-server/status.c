/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is where, for clients that ask (spec: nbd 7 and 10). Saying "data" is
 * always right, saying "zero" wrongly loses data; so zeros are what the walk
 * over the image calls ZERO, while writers are kept away from the range.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/image.h"
#include "nbd-server/transmit.h"

static uint32_t flags_of(unsigned kind, const struct mapping *m)
{
	if ((1u << kind) == NBD_META_ALLOCATION)
		return m->kind == MAPPING_ZERO ? NBD_STATE_HOLE | NBD_STATE_ZERO
					       : 0;
	/* The layer that has it, counted from 1; 0: none of them. */
	return m->flags & MAPPING_ABSENT ? 0 : m->depth + 1;
}

/* False: there is no room for it. */
static bool append(struct nbd_status *status, unsigned kind, uint64_t len,
		   uint32_t flags)
{
	unsigned count = status->count[kind];
	struct nbd_extent *extents = status->extents[kind];

	if (count && extents[count - 1].flags == flags) {
		extents[count - 1].len += len;
		return true;
	}
	if (count == (status->one ? 1 : NBD_EXTENTS_MAX))
		return false;
	extents[count] = (struct nbd_extent){len, flags};
	status->count[kind]++;
	return true;
}

/* False once every context has all that it can tell. */
static bool append_all(struct nbd_status *status, const struct mapping *m,
		       unsigned *full)
{
	for (unsigned kind = 0; kind < NBD_META_KINDS; kind++) {
		unsigned bit = 1u << kind;

		if ((status->meta & bit & ~*full) &&
		    !append(status, kind, m->len, flags_of(kind, m)))
			*full |= bit;
	}
	return *full != status->meta;
}

static int walk(struct nbd_status *status, struct image *img,
		uint64_t guest_off, uint64_t len)
{
	struct image_walk walk;
	struct mapping m;
	unsigned full = 0;
	int ret;

	image_walk_start(&walk, img, guest_off, len, 0);
	do {
		ret = image_walk_next(&walk, &m);
		if (ret < 0)
			return ret;
	} while (m.len && append_all(status, &m, &full));
	return 0;
}

static int allocate(struct nbd_status *status)
{
	size_t count = status->one ? 1 : NBD_EXTENTS_MAX;

	for (unsigned kind = 0; kind < NBD_META_KINDS; kind++) {
		if (!(status->meta & (1u << kind)))
			continue;
		status->extents[kind] =
			malloc(count * sizeof(struct nbd_extent));
		if (!status->extents[kind])
			return -ENOMEM;
	}
	return 0;
}

int nbd_status_fill(struct nbd_status *status, struct image *img,
		    uint64_t guest_off, uint64_t len)
{
	struct range_hold hold;
	int ret = allocate(status);

	if (ret < 0)
		return ret;
	range_hold_take(&img->holds, &hold, guest_off, len, RANGE_SHARED);
	ret = walk(status, img, guest_off, len);
	range_hold_drop(&img->holds, &hold);
	return ret;
}

void nbd_status_release(struct nbd_status *status)
{
	for (unsigned kind = 0; kind < NBD_META_KINDS; kind++) {
		free(status->extents[kind]);
		status->extents[kind] = NULL;
	}
}
