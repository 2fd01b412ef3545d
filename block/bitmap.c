/* SPDX-License-Identifier: BSD-3-Clause */
/* Bitmaps of images: see bitmap.h. */
#include "block/bitmap.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/image.h"
#include "block/quote.h"

static int not_found(const struct image *img, bool offered, const char *name,
		     struct error *err)
{
	struct quoted_name quoted;

	if (offered)
		return error_set(err, ENOENT, "Bitmap '%s' is not found",
				 quote_name(&quoted, name));
	return error_set(err, ENOTSUP,
			 "Bitmap '%s' is not found: the format '%s' of '%s' "
			 "offers no bitmaps",
			 quote_name(&quoted, name), img->driver->name,
			 img->filename);
}

int image_bitmap_open(struct image_bitmap **out, struct image *img,
		      const char *name, struct error *err)
{
	bool offered = false;

	for (struct image *layer = img; layer; layer = layer->backing) {
		const struct bitmap_ops *ops = layer->driver->bitmaps;
		int ret;

		if (!ops)
			continue;
		offered = true;
		ret = ops->open(layer, name, out, err);
		if (ret == -ENOENT)
			continue;
		if (ret == 0) {
			(*out)->ops = ops;
			(*out)->size_bytes = layer->size_bytes;
		}
		return ret;
	}
	return not_found(img, offered, name, err);
}

int image_bitmap_run(struct image_bitmap *bitmap, uint64_t guest_off,
		     uint64_t len, struct bitmap_run *out)
{
	uint64_t inside;
	int ret;

	assert(len);
	if (guest_off >= bitmap->size_bytes) {
		*out = (struct bitmap_run){len, true};
		return 0;
	}
	inside = min_u64(len, bitmap->size_bytes - guest_off);
	ret = bitmap->ops->run(bitmap, guest_off, inside, out);
	assert(ret < 0 || (out->len && out->len <= inside));
	return ret;
}

void image_bitmap_close(struct image_bitmap *bitmap)
{
	if (bitmap)
		bitmap->ops->close(bitmap);
}
