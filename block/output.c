/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Making a file so that its name never shows half of it (W10).
 *
 *	open     look for what is there; lock it; make .NAME.partial-XXXXXX
 *	         beside it (or empty the old file, if it cannot be replaced)
 *	commit   rename over the name, sync the folder
 *	discard  remove the temporary name
 *
 * After a crash the name leads to the old file or to the new one, complete;
 * what may be left over is the temporary name.
 */
#include "block/output.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "block/error.h"
#include "block/storage.h"
#include "block/storage/file.h"

#define NEW_FILE_MODE  0644 /* less the umask */
#define PRIVATE_MODE   0600 /* until the old file's mode is carried over */
#define MODE_BITS      0777
#define LINKS_MAX      40 /* as the kernel follows */
#define TEMP_SUFFIX    ".partial-"
#define RANDOM_LEN     6
#define TEMP_TRIES_MAX 100

/* ---- names ---- */

/* Length of the folder in front of the last part, its slash included. */
static size_t folder_len(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (size_t)(slash - path) + 1 : 0;
}

static char *folder_of(const char *path)
{
	size_t len = folder_len(path);

	return len ? strndup(path, len) : strdup(".");
}

/*
 * /proc/self/fd/3 and its kin look like links, but stand for the open file
 * itself: whoever passes one wants that file written, not its name replaced.
 */
static bool is_descriptor_link(const char *path)
{
	char *folder = folder_of(path);
	struct statfs fs;
	bool yes =
		folder && !statfs(folder, &fs) && fs.f_type == PROC_SUPER_MAGIC;

	free(folder);
	return yes;
}

/* What the link at `path` leads to, one step; NULL if it is none. */
static int read_link(const char *path, char **out)
{
	char target[PATH_MAX];
	ssize_t len = readlink(path, target, sizeof(target));
	size_t folder = folder_len(path);

	*out = NULL;
	if (len < 0)
		return 0;
	if ((size_t)len == sizeof(target))
		return -ENAMETOOLONG;
	if (*target == '/')
		folder = 0;
	if (asprintf(out, "%.*s%.*s", (int)folder, path, (int)len, target) < 0)
		return -ENOMEM;
	return 0;
}

/*
 * Follows the links of the last part, also where they end at nothing: the file
 * is then made there. `*out` is the caller's.
 */
static int follow_links(const char *path, char **out)
{
	char *now = strdup(path), *next = NULL;

	for (int links = 0; now && links <= LINKS_MAX; links++) {
		int ret = is_descriptor_link(now) ? 0 : read_link(now, &next);

		if (ret) {
			free(now);
			return ret;
		}
		if (!next) {
			*out = now;
			return 0;
		}
		free(now);
		now = next;
		next = NULL;
	}
	if (!now)
		return -ENOMEM;
	free(now);
	return -ELOOP;
}

/* ---- the temporary file ---- */

static int random_suffix(char out[RANDOM_LEN + 1])
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
	unsigned char bytes[RANDOM_LEN];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return -EIO;
	for (size_t i = 0; i < RANDOM_LEN; i++)
		out[i] = letters[bytes[i] % (sizeof(letters) - 1)];
	out[RANDOM_LEN] = '\0';
	return 0;
}

/* A long name is cut, between characters, so that the whole stays a name. */
static int temp_name(const char *final_path, char **out)
{
	const size_t room = NAME_MAX - 1 - strlen(TEMP_SUFFIX) - RANDOM_LEN;
	size_t folder = folder_len(final_path);
	const char *name = final_path + folder;
	size_t len = strlen(name);
	char suffix[RANDOM_LEN + 1];

	if (len > room) {
		len = room;
		while (len && ((unsigned char)name[len] & 0xc0) == 0x80)
			len--;
	}
	if (random_suffix(suffix))
		return -EIO;
	if (asprintf(out, "%.*s.%.*s" TEMP_SUFFIX "%s", (int)folder, final_path,
		     (int)len, name, suffix) < 0)
		return -ENOMEM;
	return 0;
}

/* Opens a new file of a name nobody has. A descriptor or a negative errno. */
static int create_temp(struct output *out, mode_t mode)
{
	const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;

	for (int tries = 0; tries < TEMP_TRIES_MAX; tries++) {
		char *name = NULL;
		int ret = temp_name(out->final_path, &name);

		if (ret)
			return ret;
		ret = open(name, flags, mode);
		if (ret >= 0) {
			out->temp_path = name;
			return ret;
		}
		ret = -errno;
		free(name);
		if (ret != -EEXIST && ret != -EINTR)
			return ret;
	}
	return -EEXIST;
}

static void remove_temp(struct output *out)
{
	if (out->temp_path)
		unlink(out->temp_path);
	free(out->temp_path);
	out->temp_path = NULL;
}

/* ---- opening ---- */

/* The owner first: changing it clears bits of the mode. */
static int carry_over(int fd, const struct stat *old)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if ((st.st_uid != old->st_uid || st.st_gid != old->st_gid) &&
	    fchown(fd, old->st_uid, old->st_gid))
		return -errno;
	return fchmod(fd, old->st_mode & MODE_BITS) ? -errno : 0;
}

/* Files bound to a name in a container cannot be renamed over. */
static bool is_mount_point(const char *path)
{
	struct statx st;

	return !statx(AT_FDCWD, path, 0, 0, &st) &&
	       (st.stx_attributes_mask & st.stx_attributes &
		STATX_ATTR_MOUNT_ROOT);
}

/* True if a temporary file fails for a reason that the old file is free of. */
static bool is_refusal(int ret)
{
	return ret == -EACCES || ret == -EPERM || ret == -EROFS;
}

/* The descriptor of a temporary file that can take the old one's place. */
static int replacement_fd(struct output *out)
{
	struct stat old;
	int fd, ret;

	if (!out->old)
		return create_temp(out, NEW_FILE_MODE);
	if (out->old->is_device || is_descriptor_link(out->final_path) ||
	    is_mount_point(out->final_path))
		return -EPERM;
	if (fstat(out->old->fd, &old))
		return -errno;
	fd = create_temp(out, PRIVATE_MODE);
	if (fd < 0)
		return fd;
	ret = carry_over(fd, &old);
	if (ret) {
		close(fd);
		remove_temp(out);
		return ret;
	}
	return fd;
}

static void write_in_place(struct output *out)
{
	out->to_empty = !out->old->is_device;
	out->storage = out->old;
	out->old = NULL;
}

static int lock_old(struct output *out, unsigned flags, struct error *err)
{
	struct stat st;

	if (!stat(out->final_path, &st))
		return storage_file_open(&out->old, out->final_path, flags,
					 err);
	if (errno == ENOENT && out->final_path[folder_len(out->final_path)])
		return 0;
	return error_set_errno(err, errno, "Could not create '%s'",
			       out->final_path);
}

static int open_target(struct output *out, const char *path, unsigned flags,
		       struct error *err)
{
	int ret = follow_links(path, &out->final_path);
	int fd;

	if (ret)
		return error_set_errno(err, -ret, "Could not create '%s'",
				       path);
	ret = lock_old(out, flags, err);
	if (ret)
		return ret;
	fd = replacement_fd(out);
	if (out->old && is_refusal(fd)) {
		write_in_place(out);
		return 0;
	}
	if (fd < 0)
		return error_set_errno(err, -fd, "Could not create '%s'", path);
	return storage_file_from_fd(&out->storage, fd, path, flags, err);
}

static int open_locked(struct output *out, const char *path, bool direct,
		       struct error *err)
{
	unsigned flags = FILE_OPEN_WRITE | (direct ? FILE_OPEN_DIRECT : 0);

	*out = (struct output){0};
	return open_target(out, path, flags, err);
}

static int open_folder(struct output *out)
{
	char *folder = folder_of(out->final_path);
	int fd = -1, ret = -ENOMEM;

	if (folder) {
		fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		ret = fd < 0 ? -errno : 0;
	}
	free(folder);
	if (ret)
		return ret;
	out->folder_fd = fd;
	out->has_folder = true;
	return 0;
}

int output_reserve(struct output *out, const char *path, bool direct,
		   struct error *err)
{
	int ret = open_locked(out, path, direct, err);

	if (!ret && out->temp_path) {
		ret = open_folder(out);
		if (ret)
			error_set_errno(err, -ret,
					"Could not open the folder of '%s'",
					path);
	}
	if (ret)
		output_discard(out);
	return ret;
}

int output_start(struct output *out, struct error *err)
{
	int ret = 0;

	assert(out->storage && !out->taken);
	if (out->to_empty)
		ret = storage_resize(out->storage, 0, PREALLOC_OFF, err);
	out->to_empty = false;
	return ret;
}

int output_open(struct output *out, const char *path, bool direct,
		struct error *err)
{
	int ret = open_locked(out, path, direct, err);

	if (!ret)
		ret = output_start(out, err);
	if (ret)
		output_discard(out);
	return ret;
}

/* ---- finishing ---- */

struct storage *output_take(struct output *out)
{
	struct storage *storage = out->storage;

	assert(storage && !out->taken);
	out->storage = NULL;
	out->taken = true;
	return storage;
}

static int sync_folder(struct output *out, struct error *err)
{
	int ret = out->has_folder ? 0 : open_folder(out);

	if (!ret && fsync(out->folder_fd))
		ret = -errno;
	/* File systems that do not sync folders say that it is invalid. */
	if (ret == -EINVAL)
		ret = 0;
	if (ret)
		error_set_errno(err, -ret,
				"'%s' is complete, but its folder could not be "
				"synced",
				out->final_path);
	return ret;
}

/* Where nothing was before, nothing is replaced. */
static int rename_new(const char *from, const char *to)
{
	if (!renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE))
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	return rename(from, to) ? -errno : 0;
}

static int publish(struct output *out, bool sync, struct error *err)
{
	int ret;

	if (out->old)
		ret = rename(out->temp_path, out->final_path) ? -errno : 0;
	else
		ret = rename_new(out->temp_path, out->final_path);
	if (ret)
		return error_set_errno(err, -ret, "Could not put '%s' in place",
				       out->final_path);
	free(out->temp_path);
	out->temp_path = NULL;
	return sync ? sync_folder(out, err) : 0;
}

int output_commit(struct output *out, bool sync, struct error *err)
{
	int ret = 0;

	assert(out->storage || out->taken);
	if (out->storage && sync)
		ret = storage_sync(out->storage);
	if (ret)
		error_set_errno(err, -ret, "Could not sync '%s'",
				out->final_path);
	/* Closed first: who finds the new name must not find it locked. */
	storage_close(out->storage);
	out->storage = NULL;
	if (!ret && out->temp_path)
		ret = publish(out, sync, err);
	output_discard(out);
	return ret;
}

void output_discard(struct output *out)
{
	storage_close(out->storage);
	remove_temp(out);
	storage_close(out->old);
	if (out->has_folder)
		close(out->folder_fd);
	free(out->final_path);
	*out = (struct output){0};
}
