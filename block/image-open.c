/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening images and their chains, and closing them.
 *
 * A chain is opened from the top, one layer after the other, each name resolved
 * against the image that holds it and opened through the caller's opener.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/codec-pool.h"
#include "block/error.h"
#include "block/image-spec.h"
#include "block/image.h"
#include "block/opener.h"
#include "block/options.h"
#include "block/probe.h"
#include "block/quote.h"
#include "block/storage/file.h"
#include "block/storage/nbd.h"
#include "formats/registry.h"

int cache_mode_parse(const char *text, enum cache_mode *out)
{
	static const struct {
		const char *word;
		enum cache_mode mode;
	} words[] = {
		{"writeback", CACHE_WRITEBACK},
		{"writethrough", CACHE_WRITETHROUGH},
		{"none", CACHE_NONE},
		{"off", CACHE_NONE},
		{"directsync", CACHE_DIRECTSYNC},
		{"unsafe", CACHE_UNSAFE},
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (!strcmp(text, words[i].word)) {
			*out = words[i].mode;
			return 0;
		}
	}
	return -EINVAL;
}

static bool is_direct(enum cache_mode cache)
{
	return cache == CACHE_NONE || cache == CACHE_DIRECTSYNC;
}

static void image_free(struct image *img)
{
	if (!img)
		return;
	codec_pool_drain(img);
	storage_close(img->file);
	free(img->filename);
	free(img->backing_name);
	free(img->backing_format);
	range_lock_release(&img->holds);
	pthread_mutex_destroy(&img->codec_lock);
	free(img);
}

/* Takes the storage, also on failure. */
static struct image *image_new(struct storage *file, unsigned flags)
{
	struct image *img = calloc(1, sizeof(*img));

	if (!img) {
		storage_close(file);
		return NULL;
	}
	img->file = file;
	img->open_flags = flags;
	img->writable = flags & IMAGE_WRITE;
	img->cluster_size = 512;
	range_lock_init(&img->holds);
	pthread_mutex_init(&img->codec_lock, NULL);
	img->filename = strdup(file->name);
	if (!img->filename) {
		image_free(img);
		return NULL;
	}
	return img;
}

static int choose_driver(struct image *img, const struct format_driver *driver,
			 struct error *err)
{
	if (driver) {
		img->driver = driver;
		return 0;
	}
	return probe_format(img->file, &img->driver, &img->format_guessed, err);
}

int image_open_storage(struct image **out, struct storage *file,
		       const struct format_driver *driver,
		       const struct options *opts, unsigned flags,
		       struct error *err)
{
	static const struct options no_options;
	static const struct option_def no_defs[] = {{0}};
	struct image *img = image_new(file, flags);
	int ret;

	if (!img)
		return error_set_errno(err, ENOMEM, "Could not open the image");
	if (!opts)
		opts = &no_options;
	ret = choose_driver(img, driver, err);
	if (!ret)
		ret = options_check(opts,
				    img->driver->open_options
					    ? img->driver->open_options
					    : no_defs,
				    err);
	if (!ret)
		ret = img->driver->open(img, opts, err);
	if (!ret && img->size_bytes > IMAGE_SIZE_MAX) {
		img->driver->close(img);
		ret = error_set(err, EFBIG,
				"The virtual size %llu is larger than the "
				"maximum %llu",
				(unsigned long long)img->size_bytes,
				(unsigned long long)IMAGE_SIZE_MAX);
	}
	if (ret < 0) {
		image_free(img);
		return ret;
	}
	assert(is_power_of_2(img->cluster_size));
	*out = img;
	return 0;
}

void image_set_backing(struct image *img, struct image *base)
{
	assert(!img->backing);
	img->backing = base;
}

unsigned image_file_flags(const struct image_open_args *args)
{
	unsigned flags = 0;

	if (args->flags & IMAGE_WRITE)
		flags |= FILE_OPEN_WRITE;
	if (args->flags & IMAGE_FORCE_SHARE)
		flags |= FILE_OPEN_NO_LOCK;
	if (args->flags & IMAGE_DISTRUST_HOLES)
		flags |= FILE_OPEN_DISTRUST_HOLES;
	if (args->flags & IMAGE_GUEST_IO)
		flags |= FILE_OPEN_RANDOM;
	if (is_direct(args->cache))
		flags |= FILE_OPEN_DIRECT;
	return flags;
}

/* Without the chain. Takes the storage, also on failure. */
static int open_layer(struct image **out, struct storage *file,
		      const struct image_open_args *args, struct error *err)
{
	const struct image_spec *spec = args->spec;
	const struct format_driver *driver = NULL;
	int ret;

	if (spec->format) {
		driver = format_find(spec->format);
		if (!driver) {
			storage_close(file);
			return error_set(err, EINVAL, "Unknown driver '%s'",
					 spec->format);
		}
	}
	file->ignore_sync = args->cache == CACHE_UNSAFE;
	ret = image_open_storage(out, file, driver, &spec->options, args->flags,
				 err);
	if (!ret)
		(*out)->cache = args->cache;
	return ret;
}

/* Before the file is touched. */
static int check_args(const struct image_open_args *args, struct error *err)
{
	const char *format = args->spec->format;

	if ((args->flags & IMAGE_WRITE) && (args->flags & IMAGE_FORCE_SHARE))
		return error_set(err, EINVAL,
				 "force-share=on can only be used with "
				 "read-only images");
	if (format && !format_find(format))
		return error_set(err, EINVAL, "Unknown driver '%s'", format);
	return 0;
}

static const struct format_driver *backing_driver(const struct image *img,
						  const struct opener *opener,
						  struct error *err)
{
	const struct format_driver *driver;
	struct quoted_name quoted;

	if (!img->backing_format) {
		if (!opener->allow_probing)
			error_set(err, EACCES,
				  "No format is recorded for the backing file "
				  "'%s', and formats are not guessed here%s",
				  quote_name(&quoted, img->backing_name),
				  opener->hint ? opener->hint : "");
		return NULL;
	}
	driver = format_find(img->backing_format);
	if (!driver)
		error_set(err, EINVAL, "Unknown driver '%s'",
			  quote_name(&quoted, img->backing_format));
	return driver;
}

static bool in_chain(const struct image *top, const struct storage *file)
{
	for (; top; top = top->backing) {
		if (storage_same(top->file, file))
			return true;
	}
	return false;
}

/* The same, for a file that our own lock on it keeps us from opening again. */
static bool locked_by_chain(const struct image *top, const char *path)
{
	for (; top; top = top->backing) {
		if (storage_file_is_at(top->file, path))
			return true;
	}
	return false;
}

/* Opens what `img`, the lowest layer of `top` so far, names as its backing. */
static int open_backing(struct image *top, struct image *img,
			const struct image_open_args *args, struct error *err)
{
	const struct format_driver *driver;
	struct storage *file;
	struct image *base;
	char *path;
	bool loops;
	int ret;

	driver = backing_driver(img, args->opener, err);
	if (!driver && (img->backing_format || !args->opener->allow_probing))
		return -EINVAL;
	ret = opener_resolve(img->filename, img->backing_name, &path, err);
	if (ret < 0)
		return ret;
	ret = opener_open(args->opener, path, is_direct(args->cache), &file,
			  err);
	if (!ret) {
		loops = in_chain(top, file);
		if (loops)
			storage_close(file);
	} else {
		loops = ret == -EAGAIN && locked_by_chain(top, path);
	}
	if (loops)
		ret = error_set(err, ELOOP,
				"Backing file '%s' creates an infinite loop.",
				path);
	free(path);
	if (ret < 0)
		return ret;
	ret = image_open_storage(&base, file, driver, NULL,
				 args->flags & ~(unsigned)IMAGE_WRITE, err);
	if (ret < 0) {
		error_prefix(err, "Could not open '%s': ", img->backing_name);
		return ret;
	}
	base->cache = args->cache;
	image_set_backing(img, base);
	return 0;
}

static int open_chain(struct image *top, const struct image_open_args *args,
		      struct error *err)
{
	struct opener opener = {.policy = OPENER_NONE};
	struct image_open_args with_opener = *args;
	struct image *img = top;

	if (args->opener)
		opener = *args->opener;
	if (args->flags & IMAGE_DISTRUST_HOLES)
		opener.distrust_holes = true;
	with_opener.opener = &opener;
	for (unsigned depth = 1; img->backing_name; depth++) {
		int ret;

		if (depth >= IMAGE_CHAIN_MAX)
			return error_set(err, ELOOP,
					 "The backing chain is longer than %u "
					 "images",
					 IMAGE_CHAIN_MAX);
		ret = open_backing(top, img, &with_opener, err);
		if (ret < 0) {
			error_prefix(err, "Could not open backing file: ");
			return ret;
		}
		img = img->backing;
	}
	return 0;
}

/* The storage's own message starts like that already. */
static int could_not_open(const struct image_open_args *args, int ret,
			  struct error *err)
{
	if (err && strncmp(err->message, "Could not open '", 16) != 0)
		error_prefix(err, "Could not open '%s': ", args->spec->text);
	return ret;
}

int image_open_file(struct image **out, struct storage *file,
		    const struct image_open_args *args, struct error *err)
{
	const unsigned alone = IMAGE_NO_BACKING | IMAGE_INFO_ONLY;
	struct image *img;
	int ret = open_layer(&img, file, args, err);

	if (ret < 0)
		return could_not_open(args, ret, err);
	if (!(args->flags & alone) && !args->spec->no_backing) {
		ret = open_chain(img, args, err);
		if (ret < 0) {
			error_prefix(err,
				     "Could not open '%s': ", args->spec->text);
			image_close(img);
			return ret;
		}
	}
	*out = img;
	return 0;
}

int image_open_storage_of(struct storage **out,
			  const struct image_open_args *args, struct error *err)
{
	unsigned flags = image_file_flags(args);

	if (args->spec->nbd)
		return storage_nbd_open(out, args->spec->nbd, flags, err);
	return storage_file_open(out, args->spec->path, flags, err);
}

int image_open(struct image **out, const struct image_open_args *args,
	       struct error *err)
{
	struct storage *file;
	int ret = check_args(args, err);

	if (!ret)
		ret = image_open_storage_of(&file, args, err);
	if (ret < 0)
		return could_not_open(args, ret, err);
	return image_open_file(out, file, args, err);
}

int image_close(struct image *img)
{
	int ret = 0;

	while (img) {
		struct image *base = img->backing;
		int one = image_flush(img);

		if (!ret)
			ret = one;
		one = img->driver->close(img);
		if (!ret)
			ret = one;
		image_free(img);
		img = base;
	}
	return ret;
}
