/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * raw: the disk is the file, byte for byte. The format to read first.
 *
 * A driver says where the bytes of a guest range are; block/image.c moves them.
 * Here the answer never changes: guest offset g is host offset g + window
 * start, always DATA, and always writable in place. So there is nothing to
 * reserve, to link, to free or to check, and the operations for all that are
 * absent. A hole in the file is data that happens to be zero, not something
 * missing: finding holes is the storage's business, for every format alike.
 *
 * Disks consist of sectors of 512 bytes and files do not. The size of the disk
 * is that of the file rounded up. The few bytes between the end of the file
 * and the end of the disk are mapped like the others: a read sees the zeros
 * that any storage shows behind its end, a write makes the file longer.
 *
 * The options `offset` and `size` cut a window out of the file. Nothing outside
 * it can be reached, because image.c checks every range against size_bytes.
 */
#include "formats/raw/raw.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/image.h"
#include "block/options.h"

#define SECTOR 512

struct raw {
	uint64_t window_off; /* host offset of the disk's first byte */
	bool windowed;	     /* the disk is only a part of the file */
};

static const struct option_def raw_open_options[] = {
	{"offset", OPTION_SIZE, "where in the file the disk begins", NULL},
	{"size", OPTION_SIZE, "size of the disk in the file", NULL},
	{0},
};

static const struct option_def raw_create_options[] = {
	{"extent_size_hint", OPTION_SIZE,
	 "Extent size hint for the image file, 0 to disable", NULL},
	{"nocow", OPTION_BOOL, "Turn off copy-on-write (valid only on btrfs)",
	 NULL},
	{"preallocation", OPTION_STRING,
	 "Preallocation mode (allowed values: off, falloc, full)", NULL},
	{"size", OPTION_SIZE, "Virtual disk size", NULL},
	{0},
};

/* Anything may be raw, but everybody else is asked first. */
static int raw_probe(const struct probe_input *in)
{
	(void)in;
	return 1;
}

/* The window that the options ask for must lie inside the file. */
static int place_window(uint64_t file_size, uint64_t off, bool has_size,
			uint64_t *size, struct error *err)
{
	if (has_size && *size % SECTOR)
		return error_set(err, EINVAL,
				 "Specified size %llu is not a multiple of 512",
				 (unsigned long long)*size);
	if (!range_inside(off, has_size ? *size : 0, file_size))
		return error_set(err, EINVAL,
				 "The sum of offset (%llu) and size (%llu) has "
				 "to be smaller or equal to the actual size of "
				 "the containing file (%llu)",
				 (unsigned long long)off,
				 (unsigned long long)*size,
				 (unsigned long long)file_size);
	if (!has_size)
		*size = align_up(file_size - off, SECTOR);
	return 0;
}

static int raw_open(struct image *img, const struct options *opts,
		    struct error *err)
{
	uint64_t file_size = storage_size(img->file), off, size;
	bool has_off, has_size;
	struct raw *raw;
	int ret;

	if (file_size > IMAGE_SIZE_MAX)
		return error_set(err, EFBIG,
				 "the file has %llu bytes, a disk at most %llu",
				 (unsigned long long)file_size,
				 (unsigned long long)IMAGE_SIZE_MAX);
	ret = options_get_size(opts, raw_open_options, "offset", &off, &has_off,
			       err);
	if (!ret)
		ret = options_get_size(opts, raw_open_options, "size", &size,
				       &has_size, err);
	if (!ret)
		ret = place_window(align_up(file_size, SECTOR), off, has_size,
				   &size, err);
	if (ret)
		return ret;
	raw = calloc(1, sizeof(*raw));
	if (!raw)
		return error_set_errno(err, ENOMEM, "opening a raw disk");
	raw->window_off = off;
	raw->windowed = has_off || has_size;
	img->state = raw;
	img->size_bytes = size;
	img->cluster_size = SECTOR;
	return 0;
}

static int raw_map(struct image *img, uint64_t guest_off, uint64_t len,
		   struct mapping *out)
{
	const struct raw *raw = img->state;

	assert(range_inside(guest_off, len, img->size_bytes));
	*out = (struct mapping){
		.kind = MAPPING_DATA,
		.guest_off = guest_off,
		.len = len,
		.storage = img->file,
		.host_off = raw->window_off + guest_off,
	};
	return 0;
}

static int raw_flush(struct image *img)
{
	return storage_sync(img->file);
}

static int raw_resize(struct image *img, uint64_t new_size,
		      enum prealloc_mode mode, struct error *err)
{
	const struct raw *raw = img->state;
	int ret;

	if (raw->windowed)
		return error_set(err, ENOTSUP,
				 "Cannot resize fixed-size raw disks: 'offset' "
				 "or 'size' was given");
	ret = storage_resize(img->file, new_size, mode, err);
	/* As it is found when the file is opened again. */
	if (!ret)
		img->size_bytes = align_up(new_size, SECTOR);
	return ret;
}

static int parse_prealloc(const char *word, enum prealloc_mode *out,
			  struct error *err)
{
	if (!word || !strcmp(word, "off"))
		*out = PREALLOC_OFF;
	else if (!strcmp(word, "falloc"))
		*out = PREALLOC_FALLOC;
	else if (!strcmp(word, "full"))
		*out = PREALLOC_FULL;
	else
		return error_set(err, EINVAL,
				 "Unsupported preallocation mode '%s' (allowed "
				 "values: off, falloc, full)",
				 word);
	return 0;
}

/* A device has its size already; all that matters is that the disk fits. */
static int fit_device(const struct create_args *args, struct error *err)
{
	uint64_t device_size = storage_size(args->storage);

	if (args->size_bytes <= device_size)
		return 0;
	return error_set(err, ENOSPC,
			 "%s: the disk of %llu bytes does not fit into the "
			 "device of %llu bytes",
			 args->filename, (unsigned long long)args->size_bytes,
			 (unsigned long long)device_size);
}

static int raw_create(const struct create_args *args, struct error *err)
{
	const struct option_def *defs = raw_create_options;
	enum prealloc_mode mode;
	uint64_t extent_size;
	bool nocow;
	int ret;

	ret = parse_prealloc(
		options_get_text(args->options, defs, "preallocation"), &mode,
		err);
	if (!ret)
		ret = options_get_bool(args->options, defs, "nocow", &nocow,
				       err);
	if (!ret)
		ret = options_get_size(args->options, defs, "extent_size_hint",
				       &extent_size, NULL, err);
	if (ret)
		return ret;
	if (args->storage->is_device)
		return fit_device(args, err);
	raw_advise(args->storage, nocow, extent_size);
	return storage_resize(args->storage, args->size_bytes, mode, err);
}

static int raw_measure(const struct options *opts, struct image *source,
		       uint64_t size_bytes, struct measure_result *out,
		       struct error *err)
{
	uint64_t size = source ? source->size_bytes : size_bytes;
	enum prealloc_mode mode;
	int ret;

	ret = parse_prealloc(
		options_get_text(opts, raw_create_options, "preallocation"),
		&mode, err);
	if (ret)
		return ret;
	if (size > IMAGE_SIZE_MAX)
		return error_set(err, EFBIG,
				 "a disk of %llu bytes is over the limit of "
				 "%llu",
				 (unsigned long long)size,
				 (unsigned long long)IMAGE_SIZE_MAX);
	size = align_up(size, SECTOR);
	*out = (struct measure_result){
		.required = size,
		.fully_allocated = size,
	};
	return 0;
}

static int raw_close(struct image *img)
{
	int ret = img->writable ? raw_flush(img) : 0;

	free(img->state);
	img->state = NULL;
	return ret;
}

const struct format_driver raw_driver = {
	.name = "raw",
	.caps = FORMAT_NO_METADATA | FORMAT_SIZE_IN_512,
	.create_options = raw_create_options,
	.open_options = raw_open_options,
	.probe = raw_probe,
	.inspect = raw_inspect,
	.open = raw_open,
	.create = raw_create,
	.measure = raw_measure,
	.map = raw_map,
	.flush = raw_flush,
	.resize = raw_resize,
	.close = raw_close,
};
