/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What an open descriptor is and can do: kind, size, alignment, cheap zeroes
 * (spec: raw-and-probing 3, 4). All of it is asked of the descriptor, never of
 * the path, which may mean another file by now.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/storage/file-private.h"

/* Enough for every device and file system that is known. */
#define SAFE_ALIGN 4096u
#define MIN_ALIGN  512u

static const char *refused_kind(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "a directory";
	case S_IFIFO:
		return "a pipe (FIFO)";
	case S_IFSOCK:
		return "a socket";
	case S_IFCHR:
		return "a character device";
	case S_IFLNK:
		return "a symbolic link";
	default:
		return "of an unknown kind";
	}
}

int file_check_kind(const char *name, mode_t mode, unsigned flags,
		    struct error *err)
{
	if (S_ISREG(mode))
		return 0;
	if (S_ISBLK(mode) && (flags & FILE_OPEN_NO_DEVICE))
		return error_set(err, EINVAL,
				 "Could not open '%s': it is a block device, "
				 "only a regular file is allowed here",
				 name);
	if (S_ISBLK(mode))
		return 0;
	return error_set(err, S_ISDIR(mode) ? EISDIR : EINVAL,
			 "Could not open '%s': it is %s, not a regular file or "
			 "block device",
			 name, refused_kind(mode));
}

static int read_device_size(struct file *f, struct error *err)
{
	const char *name = f->base.name;
	uint64_t size_bytes;
	int sector;

	if (ioctl(f->base.fd, BLKGETSIZE64, &size_bytes) ||
	    ioctl(f->base.fd, BLKSSZGET, &sector))
		return error_set_errno(
			err, errno, "Could not open '%s': size of the device",
			name);
	if (size_bytes > INT64_MAX || sector <= 0 || !is_power_of_2(sector))
		return error_set(err, EINVAL,
				 "Could not open '%s': the device reports %llu "
				 "bytes in sectors of %d",
				 name, (unsigned long long)size_bytes, sector);
	f->sector = sector;
	storage_raise_size(&f->base, size_bytes);
	return 0;
}

/* One number from the queue of a device, or of the disk of a partition. */
static uint64_t queue_limit(dev_t dev, const char *limit)
{
	static const char *const folders[] = {"queue", "../queue"};
	unsigned long long value = 0;
	bool found = false;

	for (size_t i = 0; i < 2 && !found; i++) {
		char path[128];
		FILE *file;

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/%s",
			 major(dev), minor(dev), folders[i], limit);
		file = fopen(path, "re");
		if (!file)
			continue;
		found = fscanf(file, "%llu", &value) == 1;
		fclose(file);
	}
	return found ? value : 0;
}

/*
 * A punch behind the end of the file changes nothing, and tells. Far behind, so
 * that space which somebody has reserved after the end stays.
 */
static bool can_punch_file(struct file *f)
{
	const uint64_t far = 1ull << 30;
	uint64_t off = align_up(storage_size(&f->base), far) + far;

	if (off > INT64_MAX - SAFE_ALIGN)
		return false;
	if (!fallocate(f->base.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		       off, SAFE_ALIGN))
		return true;
	return errno != EOPNOTSUPP && errno != ENOSYS && errno != EPERM &&
	       errno != ETXTBSY;
}

/*
 * Elsewhere it does not pay: XFS reserves as it writes, btrfs then does not
 * compress what is written, tmpfs clears the pages first.
 */
static bool is_ext4(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == EXT4_SUPER_MAGIC;
}

static void read_abilities(struct file *f)
{
	struct storage *s = &f->base;

	if (!s->writable)
		return;
	if (s->is_device) {
		s->zero_is_fast = queue_limit(f->dev, "write_zeroes_max_bytes");
		s->can_punch = s->zero_is_fast &&
			       queue_limit(f->dev, "discard_max_bytes");
		return;
	}
	s->can_grow = true;
	f->reserve_first = is_ext4(s->fd);
	s->can_punch = can_punch_file(f);
	s->zero_is_fast = s->can_punch;
}

/* The kernel's own word; false on old kernels and many file systems. */
static bool ask_statx(struct file *f, uint32_t *align, uint32_t *mem_align)
{
#ifdef STATX_DIOALIGN
	struct statx stx;

	if (statx(f->base.fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) ||
	    !(stx.stx_mask & STATX_DIOALIGN))
		return false;
	*align = stx.stx_dio_offset_align;
	*mem_align = stx.stx_dio_mem_align;
	return is_power_of_2(*align) && *align <= 65536 &&
	       is_power_of_2(*mem_align) && *mem_align <= 65536;
#else
	(void)f;
	(void)align;
	(void)mem_align;
	return false;
#endif
}

/*
 * The smallest block that can be read. Where an odd length can be read nothing
 * is enforced, so the answer is worthless, and so it is near the end of file.
 */
static uint32_t probe_align(struct file *f)
{
	uint32_t align = SAFE_ALIGN;
	void *buf;

	if (storage_size(&f->base) < 2 * SAFE_ALIGN)
		return SAFE_ALIGN;
	if (posix_memalign(&buf, SAFE_ALIGN, SAFE_ALIGN))
		return SAFE_ALIGN;
	if (pread(f->base.fd, buf, 1, 1) != 1) {
		for (align = MIN_ALIGN; align < SAFE_ALIGN; align *= 2)
			if (pread(f->base.fd, buf, align, align) ==
			    (ssize_t)align)
				break;
	}
	free(buf);
	return align;
}

static void read_alignment(struct file *f)
{
	struct storage *s = &f->base;

	if (!f->direct || ask_statx(f, &s->align, &s->mem_align))
		return;
	s->align = s->is_device ? f->sector : probe_align(f);
	s->mem_align = SAFE_ALIGN;
}

int file_read_facts(struct file *f, struct error *err)
{
	struct storage *s = &f->base;
	struct stat st;
	int ret = 0;

	if (fstat(s->fd, &st))
		return error_set_errno(err, errno, "Could not open '%s'",
				       s->name);
	f->sector = 1;
	s->is_device = S_ISBLK(st.st_mode);
	f->dev = s->is_device ? st.st_rdev : st.st_dev;
	f->ino = s->is_device ? 0 : st.st_ino;
	if (s->is_device)
		ret = read_device_size(f, err);
	else
		storage_raise_size(s, st.st_size);
	if (ret)
		return ret;
	read_abilities(f);
	read_alignment(f);
	return 0;
}
