/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shared by storage.c and storage-bounce.c only: I/O whose offset, length or
 * memory does not suit the store goes through an aligned buffer.
 *
 * The callers have checked range and permission already, and hold no lock.
 */
#ifndef PLATTER_BLOCK_STORAGE_PRIVATE_H
#define PLATTER_BLOCK_STORAGE_PRIVATE_H

#include "block/storage.h"

static inline bool storage_is_aligned_kind(const struct storage *s)
{
	return s->align > 1 || s->mem_align > 1;
}

bool storage_needs_bounce(const struct storage *s, const struct iovec *iov,
			  int iov_count, uint64_t off);

int storage_bounce_read(struct storage *s, const struct iovec *iov,
			uint64_t off, uint64_t len);

/* Takes edge_lock; a write that ends past the end grows the store. */
int storage_bounce_write(struct storage *s, const struct iovec *iov,
			 uint64_t off, uint64_t len);

#endif
