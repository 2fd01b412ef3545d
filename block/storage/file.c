/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening files and block devices as storages. The parts:
 *	file-facts.c	kind, size, alignment, abilities
 *	file-lock.c	locks against other programs
 *	file-map.c	lending
 *	file-io.c	reading, writing, syncing, holes
 *	file-space.c	zeroing, discarding, reserving, cloning, resizing
 *
 * Order of an open: look at the path without opening it (opening a device can
 * set it going), open without blocking, check the kind again on the descriptor,
 * lock, truncate, and only then ask for the size.
 */
#include "block/storage/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/error.h"
#include "block/storage/file-private.h"

#define CREATE_MODE 0644

static int64_t file_allocated_bytes(struct storage *s)
{
	struct stat st;

	if (fstat(s->fd, &st))
		return -errno;
	return (int64_t)st.st_blocks * 512;
}

/* All of a device is in use by whoever has it. */
static int64_t device_allocated_bytes(struct storage *s)
{
	return storage_size(s);
}

static void file_close(struct storage *s)
{
	file_map_free(to_file(s));
	close(s->fd);
	pthread_mutex_destroy(&to_file(s)->write_turn);
	storage_release(s);
	free(to_file(s));
}

static bool is_same_file(const struct storage *a, const struct storage *b)
{
	const struct file *fa = (const struct file *)a;
	const struct file *fb = (const struct file *)b;

	return fa->dev == fb->dev && fa->ino == fb->ino;
}

static const struct storage_ops file_ops = {
	.name = "file",
	.readv = file_readv,
	.read_nowait = file_read_nowait,
	.lend = file_lend,
	.writev = file_writev,
	.zero = file_zero,
	.discard = file_discard,
	.clone = file_clone,
	.write_behind = file_write_behind,
	.same = is_same_file,
	.sync = file_sync,
	.resize = file_resize,
	.extent = file_extent,
	.allocated_bytes = file_allocated_bytes,
	.close = file_close,
};

static const struct storage_ops device_ops = {
	.name = "host_device",
	.readv = file_readv,
	.read_nowait = file_read_nowait,
	.writev = file_writev,
	.zero = file_device_zero,
	.discard = file_device_discard,
	.write_behind = file_write_behind,
	.same = is_same_file,
	.sync = file_sync,
	.extent = file_extent,
	.allocated_bytes = device_allocated_bytes,
	.close = file_close,
};

static bool is_file(const struct storage *s)
{
	return s->ops == &file_ops || s->ops == &device_ops;
}

bool storage_file_is_at(const struct storage *s, const char *path)
{
	const struct file *f = (const struct file *)s;
	struct stat st;

	if (!is_file(s) || stat(path, &st))
		return false;
	if (s->is_device)
		return S_ISBLK(st.st_mode) && st.st_rdev == f->dev;
	return st.st_dev == f->dev && st.st_ino == f->ino;
}

/* Leaves no O_APPEND, which would move writes, and no O_NONBLOCK. */
static int set_status_flags(int fd, const char *name, unsigned flags,
			    struct error *err)
{
	int status = fcntl(fd, F_GETFL);
	int wanted = status & ~(O_APPEND | O_NONBLOCK | O_DIRECT);

	if (status < 0)
		return error_set_errno(err, errno, "Could not open '%s'", name);
	if ((status & O_PATH) || (status & O_ACCMODE) == O_WRONLY ||
	    ((flags & FILE_OPEN_WRITE) && (status & O_ACCMODE) != O_RDWR))
		return error_set(err, EBADF,
				 "Could not open '%s': descriptor %d is not "
				 "open for %s",
				 name, fd,
				 flags & FILE_OPEN_WRITE ? "reading and writing"
							 : "reading");
	if (flags & FILE_OPEN_DIRECT)
		wanted |= O_DIRECT;
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 &&
	    fcntl(fd, F_SETFL, wanted) == 0)
		return 0;
	if (errno == EINVAL && (flags & FILE_OPEN_DIRECT))
		return error_set(
			err, EINVAL,
			"Could not open '%s': its file system does not "
			"support O_DIRECT; use a cache mode other than "
			"none and directsync",
			name);
	return error_set_errno(err, errno, "Could not open '%s'", name);
}

static int truncate_regular(int fd, const struct stat *st, const char *name,
			    struct error *err)
{
	if (!S_ISREG(st->st_mode))
		return 0;
	while (ftruncate(fd, 0))
		if (errno != EINTR)
			return error_set_errno(err, errno,
					       "Could not truncate '%s'", name);
	return 0;
}

/* Everything from the check of the kind to the truncation; keeps `fd`. */
static int prepare_fd(int fd, const char *name, unsigned flags,
		      struct error *err)
{
	struct stat st;
	int ret;

	if (fstat(fd, &st))
		return error_set_errno(err, errno, "Could not open '%s'", name);
	ret = file_check_kind(name, st.st_mode, flags, err);
	if (!ret)
		ret = set_status_flags(fd, name, flags, err);
	if (!ret)
		ret = file_lock(fd, name, flags, err);
	if (!ret && (flags & FILE_OPEN_TRUNCATE))
		ret = truncate_regular(fd, &st, name, err);
	/*
	 * Without readahead ext4 keeps pages one by one. A small write into a
	 * large folio costs it 20 to 55 us, into a page 1.3.
	 */
	if (!ret && (flags & FILE_OPEN_RANDOM))
		posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	return ret;
}

static int new_file(struct file **out, int fd, const char *name, unsigned flags,
		    struct error *err)
{
	struct file *f = calloc(1, sizeof(*f));
	int ret = f ? storage_init(&f->base, &file_ops, name) : -ENOMEM;

	if (ret) {
		free(f);
		return error_set_errno(err, -ret, "Could not open '%s'", name);
	}
	f->base.fd = fd;
	f->base.writable = flags & FILE_OPEN_WRITE;
	f->direct = flags & FILE_OPEN_DIRECT;
	f->distrust_holes = flags & FILE_OPEN_DISTRUST_HOLES;
	pthread_mutex_init(&f->write_turn, NULL);
	ret = file_read_facts(f, err);
	if (ret) {
		pthread_mutex_destroy(&f->write_turn);
		storage_release(&f->base);
		free(f);
		return ret;
	}
	if (f->base.is_device)
		f->base.ops = &device_ops;
	*out = f;
	return 0;
}

int storage_file_from_fd(struct storage **out, int fd, const char *name,
			 unsigned flags, struct error *err)
{
	struct file *f = NULL;
	int ret;

	ret = prepare_fd(fd, name, flags, err);
	if (!ret)
		ret = new_file(&f, fd, name, flags, err);
	if (ret) {
		close(fd);
		return ret;
	}
	*out = &f->base;
	return 0;
}

/*
 * A first look that spares devices an open and gives clear words for what
 * cannot be opened at all. It decides nothing: the path may change after it.
 */
static int look_at_path(const char *path, unsigned flags, struct error *err)
{
	int at_flags = flags & FILE_OPEN_NO_FOLLOW ? AT_SYMLINK_NOFOLLOW : 0;
	struct stat st;

	if (flags & FILE_OPEN_CREATE)
		return 0;
	if (fstatat(AT_FDCWD, path, &st, at_flags))
		return 0;
	if (S_ISLNK(st.st_mode))
		return error_set(err, ELOOP,
				 "Could not open '%s': it is a symbolic link, "
				 "which is not followed here",
				 path);
	return file_check_kind(path, st.st_mode, flags, err);
}

static int open_path(const char *path, unsigned flags)
{
	int open_flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	int fd;

	open_flags |= flags & FILE_OPEN_WRITE ? O_RDWR : O_RDONLY;
	if (flags & FILE_OPEN_CREATE)
		open_flags |= O_CREAT | O_EXCL;
	if (flags & FILE_OPEN_NO_FOLLOW)
		open_flags |= O_NOFOLLOW;
	do {
		fd = open(path, open_flags, CREATE_MODE);
	} while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

int storage_file_open(struct storage **out, const char *path, unsigned flags,
		      struct error *err)
{
	int fd;
	int ret;

	ret = look_at_path(path, flags, err);
	if (ret)
		return ret;
	fd = open_path(path, flags);
	if (fd < 0)
		return error_set_errno(
			err, -fd, "Could not %s '%s'",
			flags & FILE_OPEN_CREATE ? "create" : "open", path);
	ret = storage_file_from_fd(out, fd, path, flags, err);
	/* O_EXCL says that the file is ours, and empty. */
	if (ret && (flags & FILE_OPEN_CREATE))
		unlink(path);
	return ret;
}
