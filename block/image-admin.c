/* SPDX-License-Identifier: BSD-3-Clause */
/* Operations on an image as a whole: resize, check, snapshots. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/image.h"

static int check_resize(const struct image *img, uint64_t new_size,
			enum prealloc_mode mode, bool may_shrink,
			struct error *err)
{
	if (!img->driver->resize)
		return error_set(err, ENOTSUP,
				 "Image format driver does not support resize");
	if (!img->writable)
		return error_set(err, EACCES, "Image is read-only");
	if (new_size > IMAGE_SIZE_MAX)
		return error_set(err, EFBIG,
				 "The new size %" PRIu64
				 " is larger than the maximum %" PRIu64,
				 new_size, IMAGE_SIZE_MAX);
	/* A format without metadata has a file of any length instead. */
	if ((img->driver->caps & FORMAT_SIZE_IN_512) &&
	    !(img->driver->caps & FORMAT_NO_METADATA) && new_size % 512)
		return error_set(err, EINVAL,
				 "The new size must be a multiple of 512");
	if (new_size < img->size_bytes && !may_shrink)
		return error_set(err, EINVAL,
				 "Shrinking from %" PRIu64 " to %" PRIu64
				 " bytes deletes data and was not asked for",
				 img->size_bytes, new_size);
	if (new_size < img->size_bytes && mode != PREALLOC_OFF)
		return error_set(err, EINVAL,
				 "Preallocation can only be used for growing "
				 "images");
	return 0;
}

int image_resize(struct image *img, uint64_t new_size, enum prealloc_mode mode,
		 bool may_shrink, struct error *err)
{
	int ret = check_resize(img, new_size, mode, may_shrink, err);

	if (ret < 0 || new_size == img->size_bytes)
		return ret;
	return img->driver->resize(img, new_size, mode, err);
}

int image_check(struct image *img, const struct check_args *args,
		struct check_result *out, struct error *err)
{
	*out = (struct check_result){0};
	if (!img->driver->check)
		return error_set(err, ENOTSUP,
				 "This image format does not support checks");
	return img->driver->check(img, args, out, err);
}

int image_show_snapshot(struct image *img, const char *id, const char *name,
			struct error *err)
{
	const struct snapshot_ops *ops = img->driver->snapshots;

	assert(!img->writable && (id || name));
	if (!ops)
		return error_set(err, ENOTSUP,
				 "the format '%s' of '%s' offers no internal "
				 "snapshots",
				 img->driver->name, img->filename);
	return ops->show(img, id, name, err);
}
