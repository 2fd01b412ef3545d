/* SPDX-License-Identifier: BSD-3-Clause */
/* Advice to file systems about the file of a new disk. */
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "formats/raw/raw.h"

/* Takes effect only while the file is empty, which is why it comes first. */
static void set_no_copy_on_write(int fd)
{
	int flags;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags))
		return;
	flags |= FS_NOCOW_FL;
	(void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

static void set_extent_size(int fd, uint64_t extent_size)
{
	struct fsxattr attr;

	if (extent_size > UINT32_MAX || ioctl(fd, FS_IOC_FSGETXATTR, &attr))
		return;
	attr.fsx_xflags |= FS_XFLAG_EXTSIZE;
	attr.fsx_extsize = (uint32_t)extent_size;
	(void)ioctl(fd, FS_IOC_FSSETXATTR, &attr);
}

void raw_advise(const struct storage *file, bool no_copy_on_write,
		uint64_t extent_size)
{
	if (file->fd < 0 || file->is_device)
		return;
	if (no_copy_on_write)
		set_no_copy_on_write(file->fd);
	if (extent_size)
		set_extent_size(file->fd, extent_size);
}
