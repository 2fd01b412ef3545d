/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bytes in order, to and from descriptors that know no offsets: stdin, stdout,
 * pipes, sockets. Any thread; one descriptor, one thread at a time.
 */
#ifndef PLATTER_BLOCK_STORAGE_PIPE_H
#define PLATTER_BLOCK_STORAGE_PIPE_H

#include <stddef.h>
#include <stdint.h>

/* `len` bytes, or fewer at the end; -errno. */
int64_t pipe_read(int fd, void *buf, size_t len);
/* All of it, or -errno. */
int pipe_write(int fd, const void *buf, size_t len);

#endif
