/* SPDX-License-Identifier: BSD-3-Clause */
/* Files that have no name, or lose it at once: see unnamed.h. */
#include "block/storage/unnamed.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/error.h"
#include "block/storage/file.h"

/* For file systems that know names only: it has one for a moment. */
static int open_and_unlink(const char *folder)
{
	char *path;
	int fd;

	if (asprintf(&path, "%s/.platter-XXXXXX", folder) < 0)
		return -1;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0)
		unlink(path);
	free(path);
	return fd;
}

int storage_unnamed_in(struct storage **out, const char *folder,
		       struct error *err)
{
	int fd = open(folder, O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR))
		fd = open_and_unlink(folder);
	if (fd < 0)
		return error_set_errno(
			err, errno, "Could not make a temporary file in '%s'",
			folder);
	return storage_file_from_fd(out, fd, "(temporary file)",
				    FILE_OPEN_WRITE, err);
}

int storage_unnamed_new(struct storage **out, const char *near_path,
			struct error *err)
{
	char *copy = strdup(near_path);
	int ret;

	if (!copy)
		return error_set(err, ENOMEM, "out of memory");
	ret = storage_unnamed_in(out, dirname(copy), err);
	free(copy);
	return ret;
}
