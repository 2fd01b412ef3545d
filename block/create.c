/* SPDX-License-Identifier: BSD-3-Clause */
/* Formatting an output: the checks that all formats share. */
#include "block/create.h"

#include <assert.h>
#include <errno.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/format.h"
#include "block/image.h"
#include "block/options.h"
#include "block/storage.h"

#define SECTOR 512

int create_format(struct output *out, const struct format_driver *driver,
		  const struct options *opts, uint64_t size_bytes,
		  struct progress *progress, struct error *err)
{
	struct create_args args = {
		.storage = out->storage,
		.filename = out->final_path,
		.size_bytes = size_bytes,
		.options = opts,
		.progress = progress,
	};
	int ret;

	assert(out->storage && !out->taken);
	if (!driver->create)
		return error_set(err, ENOTSUP,
				 "Format driver '%s' does not support image "
				 "creation",
				 driver->name);
	ret = options_check(opts, driver->create_options, err);
	if (ret)
		return ret;
	if (size_bytes > IMAGE_SIZE_MAX)
		return error_set(err, EFBIG,
				 "The image size is too large for file format "
				 "'%s': %llu bytes, allowed are %llu",
				 driver->name, (unsigned long long)size_bytes,
				 (unsigned long long)IMAGE_SIZE_MAX);
	if (driver->caps & FORMAT_SIZE_IN_512)
		args.size_bytes = align_up(size_bytes, SECTOR);
	return driver->create(&args, err);
}
