/* SPDX-License-Identifier: BSD-3-Clause */
/* A driver with bitmaps: see bitmap-driver.h. */
#include "tests/support/bitmap-driver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/bitmap.h"
#include "block/error.h"
#include "block/format.h"
#include "formats/registry.h"

bool bitmap_driver_is_set(unsigned number, uint64_t guest_off)
{
	uint64_t granule = guest_off / BITMAP_DRIVER_GRANULE;

	return (granule / (number * 16 + 1) + number) % 2;
}

struct test_bitmap {
	struct image_bitmap base;
	unsigned number;
	int error;
};

static unsigned open_count;

unsigned bitmap_driver_open_count(void)
{
	return open_count;
}

static int test_bitmap_open(struct image *img, const char *name,
			    struct image_bitmap **out, struct error *err)
{
	struct test_bitmap *bitmap;

	(void)img;
	if (!strcmp(name, "broken"))
		return error_set(err, EIO, "the bitmap's table is cut");
	if (*name != 'b')
		return -ENOENT;
	bitmap = calloc(1, sizeof(*bitmap));
	if (!bitmap)
		return -ENOMEM;
	bitmap->number = (unsigned)strtoul(name + 1, NULL, 10);
	bitmap->error = strstr(name, "bad") ? -EIO : 0;
	open_count++;
	*out = &bitmap->base;
	return 0;
}

static int test_bitmap_run(struct image_bitmap *base, uint64_t guest_off,
			   uint64_t len, struct bitmap_run *out)
{
	struct test_bitmap *bitmap = (struct test_bitmap *)base;
	uint64_t end = guest_off + len, at = guest_off;
	bool set = bitmap_driver_is_set(bitmap->number, guest_off);

	if (bitmap->error)
		return bitmap->error;
	while (at < end && bitmap_driver_is_set(bitmap->number, at) == set)
		at = (at / BITMAP_DRIVER_GRANULE + 1) * BITMAP_DRIVER_GRANULE;
	*out = (struct bitmap_run){(at < end ? at : end) - guest_off, set};
	return 0;
}

static void test_bitmap_close(struct image_bitmap *base)
{
	open_count--;
	free(base);
}

static const struct bitmap_ops test_bitmaps = {
	.open = test_bitmap_open,
	.run = test_bitmap_run,
	.close = test_bitmap_close,
};

static const char *shown[2];

const char *const *bitmap_driver_shown(void)
{
	return shown;
}

static int test_show(struct image *img, const char *id, const char *name,
		     struct error *err)
{
	(void)img;
	if (id && strcmp(id, "1") != 0)
		return error_set(err, ENOENT, "Can't find snapshot");
	shown[0] = id;
	shown[1] = name;
	return 0;
}

static const struct snapshot_ops test_snapshots = {.show = test_show};

/* raw, and what it lacks. */
const struct format_driver *bitmap_driver(void)
{
	static struct format_driver driver;

	driver = *format_find("raw");
	driver.name = "with-bitmaps";
	driver.bitmaps = &test_bitmaps;
	driver.snapshots = &test_snapshots;
	return &driver;
}
