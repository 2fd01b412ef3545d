/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A storage that keeps a log of everything that changes it, from which crash
 * states are made (crash-states.h). Storages of several files may share a log:
 * then it also tells in which order they were changed and synced.
 *
 * Durable is what came before the last sync of the same file that succeeded. Of
 * what came after, any part may have reached the disk.
 *
 * One thread for all storages of a log; aborts when out of memory.
 */
#ifndef PLATTER_TESTS_SUPPORT_LOG_STORAGE_H
#define PLATTER_TESTS_SUPPORT_LOG_STORAGE_H

#include "block/storage.h"

enum log_kind { LOG_WRITE, LOG_ZERO, LOG_DISCARD, LOG_RESIZE, LOG_SYNC };

/* A log may also be made by others, entry by entry. Whole transfers only. */
struct log_entry {
	enum log_kind kind;
	unsigned file;	   /* the first is 0 */
	uint64_t off, len; /* bytes; LOG_RESIZE: len is the new size */
	uint8_t *data;	   /* LOG_WRITE; owned by the log, from malloc() */
};

struct storage_log {
	struct log_entry *entries;
	size_t count, capacity;
};

/* A flat image in memory. */
struct flat_disk {
	uint8_t *data;
	uint64_t size, capacity;
};

/*
 * `log` is the caller's and outlives the storage. Starts as a copy of `base`.
 * 0 or -ENOMEM.
 */
int storage_log_new(struct storage **out, struct storage_log *log,
		    const struct flat_disk *base);
/* The same for file number `file` of several. */
int storage_log_new_file(struct storage **out, struct storage_log *log,
			 unsigned file, const struct flat_disk *base);
void storage_log_release(struct storage_log *log);

/* The storage's contents; aborts if they cannot be read. */
void flat_disk_read(struct flat_disk *dst, struct storage *storage);
void flat_disk_copy(struct flat_disk *dst, const struct flat_disk *src);
void flat_disk_release(struct flat_disk *disk);
/* The whole entry. */
void flat_disk_apply(struct flat_disk *disk, const struct log_entry *e);
/* Only those sectors of a write or zero for which the mask has a bit. */
void flat_disk_apply_torn(struct flat_disk *disk, const struct log_entry *e,
			  uint64_t mask);

#endif
