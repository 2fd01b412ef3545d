/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where guest bytes are, through the whole chain; and passes over whole disks.
 */
#include <assert.h>
#include <errno.h>

#include "block/bytes.h"
#include "block/image.h"
#include "block/storage.h"

static void set_absent(struct mapping *out, struct image *layer, unsigned depth,
		       uint64_t guest_off, uint64_t len)
{
	*out = (struct mapping){
		.kind = MAPPING_ZERO,
		.flags = MAPPING_ABSENT,
		.guest_off = guest_off,
		.len = len,
		.layer = layer,
		.depth = depth,
	};
}

int image_map(struct image *img, uint64_t guest_off, uint64_t len,
	      struct mapping *out)
{
	struct image *layer = img;
	unsigned depth = 0;

	if (!range_inside(guest_off, len, img->size_bytes))
		return -EINVAL;
	if (!len) {
		set_absent(out, img, 0, guest_off, 0);
		return 0;
	}
	for (;;) {
		int ret = layer->driver->map(layer, guest_off, len, out);

		if (ret < 0)
			return ret;
		assert(out->len && out->len <= len);
		out->layer = layer;
		out->depth = depth;
		if (out->kind != MAPPING_BACKING)
			return 0;
		len = out->len;
		if (!layer->backing ||
		    guest_off >= layer->backing->size_bytes) {
			/* Nothing below, or a base that ends before here. */
			set_absent(out, layer, depth, guest_off, len);
			return 0;
		}
		layer = layer->backing;
		len = min_u64(len, layer->size_bytes - guest_off);
		depth++;
	}
}

void image_walk_start(struct image_walk *walk, struct image *img,
		      uint64_t guest_off, uint64_t len, unsigned flags)
{
	assert(range_inside(guest_off, len, img->size_bytes));
	*walk = (struct image_walk){
		.img = img,
		.guest_off = guest_off,
		.end = guest_off + len,
		.flags = flags,
	};
}

static bool may_have_holes(const struct image_walk *walk,
			   const struct mapping *m)
{
	return m->kind == MAPPING_DATA && m->storage->ops->extent &&
	       !(walk->flags & IMAGE_WALK_NO_HOLES) &&
	       !(m->flags & MAPPING_CIPHERED);
}

/*
 * The extent of the store that holds m->host_off, remembered from one call to
 * the next: it is asked for whole, not clipped to the mapping, so that many
 * small mappings into one hole cost one look-up.
 */
static int look_up_extent(struct image_walk *walk, const struct mapping *m)
{
	uint64_t size = storage_size(m->storage);
	struct storage_extent extent;
	int ret;

	if (walk->extent_storage == m->storage &&
	    m->host_off >= walk->extent_off &&
	    m->host_off - walk->extent_off < walk->extent_len)
		return 0;
	if (m->host_off >= size) {
		extent = (struct storage_extent){.len = m->len, .hole = true};
	} else {
		ret = storage_extent_at(m->storage, m->host_off,
					size - m->host_off, &extent);
		if (ret < 0)
			return ret;
	}
	walk->extent_storage = m->storage;
	walk->extent_off = m->host_off;
	walk->extent_len = extent.len;
	walk->extent_hole = extent.hole;
	return 0;
}

/* Cuts the mapping at the end of the store's extent; holes become ZERO. */
static int refine(struct image_walk *walk, struct mapping *m)
{
	int ret;

	if (!may_have_holes(walk, m))
		return 0;
	ret = look_up_extent(walk, m);
	if (ret < 0)
		return ret;
	m->len = min_u64(m->len,
			 walk->extent_off + walk->extent_len - m->host_off);
	if (walk->extent_hole) {
		m->kind = MAPPING_ZERO;
		m->flags |= MAPPING_HAS_HOST;
	}
	return 0;
}

/* The next piece, refined. What refining cuts off waits in walk->rest. */
static int next_piece(struct image_walk *walk, struct mapping *out)
{
	int ret;

	if (walk->has_ahead) {
		*out = walk->ahead;
		walk->has_ahead = false;
		return 0;
	}
	if (!walk->has_rest) {
		ret = image_map(walk->img, walk->guest_off,
				walk->end - walk->guest_off, &walk->rest);
		if (ret < 0)
			return ret;
	}
	*out = walk->rest;
	ret = refine(walk, out);
	if (ret < 0)
		return ret;
	walk->has_rest = out->len < walk->rest.len;
	walk->rest.guest_off += out->len;
	walk->rest.host_off += out->len;
	walk->rest.len -= out->len;
	walk->guest_off += out->len;
	return 0;
}

static bool continues(const struct mapping *a, const struct mapping *b)
{
	bool has_host =
		a->kind == MAPPING_DATA || (a->flags & MAPPING_HAS_HOST);

	if (a->kind == MAPPING_PACKED || a->kind != b->kind ||
	    a->flags != b->flags || a->layer != b->layer)
		return false;
	return !has_host || (a->storage == b->storage &&
			     a->host_off + a->len == b->host_off);
}

int image_walk_next(struct image_walk *walk, struct mapping *out)
{
	int ret;

	if (walk->guest_off >= walk->end && !walk->has_ahead) {
		set_absent(out, walk->img, 0, walk->end, 0);
		return 0;
	}
	ret = next_piece(walk, out);
	if (ret < 0)
		return ret;
	while (walk->guest_off < walk->end) {
		struct mapping more;

		ret = next_piece(walk, &more);
		if (ret < 0)
			return ret;
		if (!continues(out, &more)) {
			walk->ahead = more;
			walk->has_ahead = true;
			break;
		}
		out->len += more.len;
	}
	return 0;
}
