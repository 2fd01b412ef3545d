/* SPDX-License-Identifier: BSD-3-Clause */
/* Storage in memory: for tests and fuzz targets, and for small generated data.
 */
#ifndef PLATTER_BLOCK_STORAGE_MEMORY_H
#define PLATTER_BLOCK_STORAGE_MEMORY_H

#include "block/storage.h"

/* Sparse (pages of 64 KiB, absent ones read as zeros), zero filled, grows. */
int storage_memory_new(struct storage **out, const char *name,
		       uint64_t size_bytes);

/* Starts with a copy of `data`. */
int storage_memory_from(struct storage **out, const char *name,
			const void *data, size_t len);

#endif
