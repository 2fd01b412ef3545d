/* SPDX-License-Identifier: BSD-3-Clause */
/* Layers for writes that are to be forgotten: see scratch.h. */
#include "block/scratch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/format.h"
#include "block/image.h"
#include "block/options.h"
#include "block/storage/unnamed.h"

/* /tmp may be memory, and a disk's writes may be more than that. */
const char *scratch_folder(void)
{
	const char *folder = getenv("TMPDIR");

	return folder && *folder && strcmp(folder, "/tmp") ? folder
							   : "/var/tmp";
}

int scratch_open(struct image **out, struct image *base,
		 const struct format_driver *driver, const char *folder,
		 struct error *err)
{
	struct options options = {0};
	struct create_args args = {
		.filename = folder,
		.size_bytes = base->size_bytes,
		.options = &options,
	};
	struct image *img;
	int ret;

	assert((driver->caps & FORMAT_BACKING) && driver->create);
	ret = storage_unnamed_in(&args.storage, folder, err);
	if (ret < 0)
		return ret;
	args.storage->ignore_sync = true;
	ret = driver->create(&args, err);
	if (ret < 0) {
		storage_close(args.storage);
		return ret;
	}
	ret = image_open_storage(&img, args.storage, driver, NULL,
				 IMAGE_WRITE | IMAGE_GUEST_IO, err);
	if (ret < 0)
		return ret;
	img->cache = CACHE_UNSAFE;
	image_set_backing(img, base);
	*out = img;
	return 0;
}
