/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Facts about an image: what is true of every image here, the rest from its
 * driver. Nothing is opened, whatever the image names.
 */
#include "block/image-info.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/format.h"
#include "block/image.h"
#include "block/opener.h"
#include "block/storage.h"

/* A name that leads to no local file is left out: the record has it still. */
static int fill_backing(const struct image *img, struct image_info *out)
{
	if (!img->backing_name)
		return 0;
	out->backing_filename = strdup(img->backing_name);
	if (!out->backing_filename)
		return -ENOMEM;
	if (img->backing_format) {
		out->backing_format = strdup(img->backing_format);
		if (!out->backing_format)
			return -ENOMEM;
	}
	if (opener_resolve(img->filename, img->backing_name,
			   &out->full_backing_filename, NULL) == -ENOMEM)
		return -ENOMEM;
	return 0;
}

static int fill_generic(struct image *img, struct image_info *out)
{
	bool has_clusters = !(img->driver->caps & FORMAT_NO_METADATA);

	*out = (struct image_info){
		.filename = strdup(img->filename),
		.format = img->driver->name,
		.virtual_size = img->size_bytes,
		.actual_size = storage_allocated_bytes(img->file),
		.file_length = storage_size(img->file),
		.protocol = img->file->ops->name,
		.cluster_size = has_clusters ? img->cluster_size : 0,
	};
	return out->filename ? fill_backing(img, out) : -ENOMEM;
}

int image_info_get(struct image *img, struct image_info *out, struct error *err)
{
	int ret = fill_generic(img, out);

	if (ret)
		error_set_errno(err, -ret, "collecting facts about '%s'",
				img->filename);
	else if (img->driver->info)
		ret = img->driver->info(img, out, err);
	if (ret)
		image_info_release(out);
	return ret;
}

void image_info_release(struct image_info *info)
{
	for (size_t i = 0; i < info->snapshot_count; i++) {
		free(info->snapshots[i].id);
		free(info->snapshots[i].name);
	}
	free(info->snapshots);
	free(info->filename);
	free(info->backing_filename);
	free(info->full_backing_filename);
	free(info->backing_format);
	json_decref(info->specific);
	*info = (struct image_info){0};
}
