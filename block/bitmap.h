/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bitmaps that an image keeps of its disk under names: where it was written
 * since somebody cleared them. Who copies a disk a second time copies what is
 * set, so saying "set" is always right, and saying "clear" wrongly loses data.
 */
#ifndef PLATTER_BLOCK_BITMAP_H
#define PLATTER_BLOCK_BITMAP_H

#include <stdbool.h>
#include <stdint.h>

struct error;
struct image;
struct image_bitmap;

struct bitmap_run {
	uint64_t len; /* > 0; of guest bytes */
	bool set;
};

/* What a driver offers (block/format.h). */
struct bitmap_ops {
	/*
	 * The bitmap of that name as it can be used now, first in whatever the
	 * driver keeps of it; the caller fills its fields. -ENOENT: there is
	 * none; other errors say what is wrong with it.
	 */
	int (*open)(struct image *img, const char *name,
		    struct image_bitmap **out, struct error *err);
	/*
	 * The run of like bits at guest_off, cut to `len`; may stop early. Any
	 * thread, at any time; the range lies inside the driver's disk.
	 */
	int (*run)(struct image_bitmap *bitmap, uint64_t guest_off,
		   uint64_t len, struct bitmap_run *out);
	void (*close)(struct image_bitmap *bitmap);
};

struct image_bitmap {
	const struct bitmap_ops *ops;
	uint64_t size_bytes; /* of the layer that has it */
};

/*
 * The bitmap of the uppermost layer that has one of that name. -ENOENT: "Bitmap
 * 'NAME' is not found"; -ENOTSUP: no layer's format offers any. It has to be
 * closed before the image.
 */
int image_bitmap_open(struct image_bitmap **out, struct image *img,
		      const char *name, struct error *err);

/* As in struct bitmap_ops; past the end of that layer all is set. */
int image_bitmap_run(struct image_bitmap *bitmap, uint64_t guest_off,
		     uint64_t len, struct bitmap_run *out);

/* NULL is fine. */
void image_bitmap_close(struct image_bitmap *bitmap);

#endif
