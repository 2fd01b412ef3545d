/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Storage in a regular file or on a block device (spec: raw-and-probing 2-6).
 *
 * Locks are open-file-description locks on the byte offsets that QEMU uses, so
 * that platter and QEMU keep out of each other's way (W12). A lock that is
 * refused names the process that holds it where /proc tells.
 */
#ifndef PLATTER_BLOCK_STORAGE_FILE_H
#define PLATTER_BLOCK_STORAGE_FILE_H

#include "block/storage.h"

#define FILE_OPEN_WRITE		 0x01u
#define FILE_OPEN_CREATE	 0x02u /* new file; fails if it exists */
#define FILE_OPEN_TRUNCATE	 0x04u /* only once the lock is held */
#define FILE_OPEN_DIRECT	 0x08u /* O_DIRECT: none, directsync */
#define FILE_OPEN_NO_LOCK	 0x10u /* -U: read only use */
#define FILE_OPEN_NO_DEVICE	 0x20u /* regular files only (implicit names) */
#define FILE_OPEN_SHARE_WRITERS	 0x40u /* others may write while we read */
#define FILE_OPEN_DISTRUST_HOLES 0x80u /* SEEK_HOLE is not believed */
#define FILE_OPEN_NO_FOLLOW	 0x100u /* the last part is no symbolic link */
#define FILE_OPEN_RANDOM	 0x200u /* small I/O anywhere, as guests do */

/*
 * Opens `path`. Directories, pipes, sockets and character devices are refused,
 * checked on the descriptor after the open, which never blocks.
 */
int storage_file_open(struct storage **out, const char *path, unsigned flags,
		      struct error *err);

/* The same for a descriptor, which the storage then owns, also on failure. */
int storage_file_from_fd(struct storage **out, int fd, const char *name,
			 unsigned flags, struct error *err);

/* True if `path` leads to the file of `s` at this moment. */
bool storage_file_is_at(const struct storage *s, const char *path);

#endif
