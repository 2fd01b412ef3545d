/* SPDX-License-Identifier: BSD-3-Clause */
/* Shared by the parts of the file storage only: file*.c. */
#ifndef PLATTER_BLOCK_STORAGE_FILE_PRIVATE_H
#define PLATTER_BLOCK_STORAGE_FILE_PRIVATE_H

#include <sys/types.h>

#include "block/storage.h"
#include "block/storage/file.h"

struct file_map;

struct file {
	struct storage base; /* base.fd is the descriptor, and ours to close */
	dev_t dev;	     /* which file it is: of a device, its number */
	ino_t ino;	     /* 0 for a device */
	uint32_t sector;     /* a device's logical block size, else 1 */
	bool direct;
	bool distrust_holes;
	bool reserve_first; /* large writes are cheaper into reserved space */
	pthread_mutex_t write_turn; /* of large buffered writes; a leaf */

	/* What the file system has said it cannot do; each is only ever set. */
	atomic_bool no_punch;
	atomic_bool no_zero_range;
	atomic_bool no_zero_out;
	atomic_bool no_discard;
	atomic_bool no_reserve;
	atomic_bool no_clone;

	struct file_map *_Atomic map; /* of file-map.c; made when it is used */
};

static inline struct file *to_file(struct storage *s)
{
	return (struct file *)s;
}

static inline bool file_flag(atomic_bool *flag)
{
	/* An old answer costs one more system call, so no order is needed. */
	return atomic_load_explicit(flag, memory_order_relaxed);
}

/* file-facts.c: what may be opened at all, and what the descriptor is. */
int file_check_kind(const char *name, mode_t mode, unsigned flags,
		    struct error *err);
int file_read_facts(struct file *f, struct error *err);

/* file-lock.c: W12; the message is complete. */
int file_lock(int fd, const char *name, unsigned flags, struct error *err);

/* file-io.c */
int file_readv(struct storage *s, const struct iovec *iov, int iov_count,
	       uint64_t off);
int file_read_nowait(struct storage *s, void *buf, size_t len, uint64_t off);
int file_writev(struct storage *s, const struct iovec *iov, int iov_count,
		uint64_t off);
int file_write_zeros(struct file *f, uint64_t off, uint64_t len);
void file_write_behind(struct storage *s, uint64_t off, uint64_t len);
int file_sync(struct storage *s);
int file_extent(struct storage *s, uint64_t off, uint64_t len,
		struct storage_extent *out);

/* file-map.c */
const void *file_lend(struct storage *s, uint64_t off, size_t len);
void file_map_free(struct file *f);

/* file-space.c */
int file_zero(struct storage *s, uint64_t off, uint64_t len, unsigned flags);
int file_device_zero(struct storage *s, uint64_t off, uint64_t len,
		     unsigned flags);
int file_discard(struct storage *s, uint64_t off, uint64_t len);
int file_device_discard(struct storage *s, uint64_t off, uint64_t len);
/* Space for a write to come; the size stays. What fails does not matter. */
void file_reserve(struct file *f, uint64_t off, uint64_t len);
int file_clone(struct storage *dst, uint64_t dst_off, struct storage *src,
	       uint64_t src_off, uint64_t len);
int file_resize(struct storage *s, uint64_t new_size, enum prealloc_mode mode,
		struct error *err);

#endif
