/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gate for files that images name.
 *
 * Two steps, so that no step trusts the other: resolving turns the name into a
 * path by text alone, opening applies the policy to what is really there.
 *
 * Below a directory nothing is decided by looking at a path and opening it
 * afterwards, because the path may lead elsewhere by then. The resolved path is
 * walked from the directory's own descriptor, a part at a time, and no part may
 * be a symbolic link any more: if one appears meanwhile, the walk fails.
 */
#include "block/opener.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/error.h"
#include "block/quote.h"
#include "block/storage/file.h"
#include "block/storage/nbd-address.h"
#include "block/storage/nbd.h"

/* "http:", "json:" and what else has a colon before any slash. */
static bool has_protocol(const char *name)
{
	return name[strcspn(name, ":/")] == ':';
}

static int check_name(const char *name, struct error *err)
{
	struct quoted_name quoted;

	if (!*name)
		return error_set(err, EINVAL,
				 "the image names a file of no "
				 "name");
	if (has_protocol(name) && !nbd_address_is(name))
		return error_set(
			err, EINVAL,
			"the image names '%s', which is neither a "
			"plain path to a local file nor an NBD export, "
			"and only such are opened; if it is a file, "
			"record it as './...'",
			quote_name(&quoted, name));
	return 0;
}

static int check_has_folder(const char *image_path, const char *name,
			    struct error *err)
{
	struct quoted_name quoted;

	if (!nbd_address_is(image_path))
		return 0;
	return error_set(
		err, EINVAL,
		"the image names '%s', which is relative to the image, "
		"but that is an export of an NBD server",
		quote_name(&quoted, name));
}

int opener_resolve(const char *image_path, const char *name, char **out,
		   struct error *err)
{
	const char *slash = strrchr(image_path, '/');
	size_t folder_len = slash ? (size_t)(slash - image_path) + 1 : 0;
	size_t name_size = strlen(name) + 1;
	char *path;
	int ret;

	ret = check_name(name, err);
	if (ret)
		return ret;
	if (*name == '/' || nbd_address_is(name))
		folder_len = 0;
	else
		ret = check_has_folder(image_path, name, err);
	if (ret)
		return ret;
	path = malloc(folder_len + name_size);
	if (!path)
		return error_set_errno(err, ENOMEM, "resolving a file name");
	memcpy(path, image_path, folder_len);
	memcpy(path + folder_len, name, name_size);
	*out = path;
	return 0;
}

/* The part of `path` below `folder`, or NULL; both free of links and dots. */
static char *part_below(char *path, const char *folder)
{
	size_t len = strlen(folder);

	/* Only the root itself ends in a slash. */
	if (len == 1)
		return path + 1;
	if (strncmp(path, folder, len) || path[len] != '/')
		return NULL;
	return path + len + 1;
}

/* openat() that gives up `dir`. A descriptor or a negative errno. */
static int step(int dir, const char *name, int flags)
{
	int fd = openat(dir, name, flags | O_NOFOLLOW | O_CLOEXEC);
	int ret = fd < 0 ? -errno : fd;

	if (dir != AT_FDCWD)
		close(dir);
	return ret;
}

/*
 * Opens `path` below `folder` without following any link; cuts `path` into its
 * parts on the way. A descriptor or a negative errno.
 */
static int walk(const char *folder, char *path)
{
	int fd = step(AT_FDCWD, folder, O_PATH | O_DIRECTORY);
	char *slash;

	while (fd >= 0 && (slash = strchr(path, '/'))) {
		*slash = '\0';
		fd = step(fd, path, O_PATH | O_DIRECTORY);
		path = slash + 1;
	}
	/* Non-blocking: it may be a pipe that nobody writes to. */
	return fd < 0 ? fd : step(fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
}

static int could_not_open(const char *path, int ret, struct error *err)
{
	struct quoted_name quoted;

	return error_set_errno(err, -ret, "Could not open '%s'",
			       quote_name(&quoted, path));
}

static const char *hint_of(const struct opener *opener)
{
	return opener->hint ? opener->hint : "";
}

static int outside(const struct opener *opener, const char *path,
		   struct error *err)
{
	struct quoted_name quoted;

	return error_set(err, EACCES,
			 "Could not open '%s': it is outside '%s', the only "
			 "folder in which files that an image names may be%s",
			 quote_name(&quoted, path), opener->directory,
			 hint_of(opener));
}

/* Returns a descriptor, or fails if `path` leads out of the folder. */
static int open_beneath(const struct opener *opener, const char *path,
			struct error *err)
{
	const char *folder = opener->directory;
	char *real_folder = realpath(folder, NULL), *real_path, *below;
	int ret;

	if (!real_folder)
		return could_not_open(folder, -errno, err);
	real_path = realpath(path, NULL);
	if (!real_path) {
		ret = could_not_open(path, -errno, err);
	} else {
		below = part_below(real_path, real_folder);
		ret = below ? walk(real_folder, below)
			    : outside(opener, path, err);
		if (below && ret < 0)
			could_not_open(path, ret, err);
	}
	free(real_path);
	free(real_folder);
	return ret;
}

/* Storages show paths as they are; an odd one is shown in our words instead. */
static int quote_failure(int ret, const char *path, struct error *err)
{
	struct quoted_name quoted;

	if (ret && strcmp(quote_name(&quoted, path), path))
		could_not_open(path, ret, err);
	return ret;
}

static int refuse(const struct opener *opener, const char *path,
		  struct error *err)
{
	struct quoted_name quoted;

	return error_set(err, EACCES,
			 "Could not open '%s': an image names it, and files "
			 "that images name are not opened here%s",
			 quote_name(&quoted, path), hint_of(opener));
}

/* The address comes out of an image: no message shows it as it is. */
static int open_export(const char *name, unsigned flags, struct storage **out,
		       struct error *err)
{
	struct nbd_address address;
	struct quoted_name quoted;
	int ret = nbd_address_parse(&address, name, NULL);

	if (ret)
		return error_set(err, -ret,
				 "Could not open '%s': this is no valid name "
				 "of an NBD export",
				 quote_name(&quoted, name));
	ret = storage_nbd_open(out, &address, flags, err);
	nbd_address_release(&address);
	if (ret)
		error_prefix(err, "Could not open '%s': ",
			     quote_name(&quoted, name));
	return ret;
}

static int open_any(const char *path, unsigned flags, struct storage **out,
		    struct error *err)
{
	if (nbd_address_is(path))
		return open_export(path, flags, out, err);
	return quote_failure(storage_file_open(out, path, flags, err), path,
			     err);
}

int opener_open(const struct opener *opener, const char *path, bool direct,
		struct storage **out, struct error *err)
{
	unsigned flags = 0;
	int fd;

	if (direct)
		flags |= FILE_OPEN_DIRECT;
	if (opener->force_share)
		flags |= FILE_OPEN_NO_LOCK;
	if (opener->distrust_holes)
		flags |= FILE_OPEN_DISTRUST_HOLES;
	if (!opener->allow_devices)
		flags |= FILE_OPEN_NO_DEVICE;
	switch (opener->policy) {
	case OPENER_NONE:
		return refuse(opener, path, err);
	case OPENER_BENEATH:
		assert(opener->directory);
		if (nbd_address_is(path))
			return outside(opener, path, err);
		fd = open_beneath(opener, path, err);
		if (fd < 0)
			return fd;
		return quote_failure(
			storage_file_from_fd(out, fd, path, flags, err), path,
			err);
	case OPENER_ANY:
		return open_any(path, flags, out, err);
	}
	assert(!"opener policy outside its enum");
	return -EINVAL;
}
