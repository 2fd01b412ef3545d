/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A disk with two faces: what is durable, and what it holds now. Changes go to
 * the second, which is taken back to the first for the price of the changes and
 * not of the disk; so is the hash that tells contents apart.
 *
 * One thread; aborts when out of memory.
 */
#ifndef PLATTER_TESTS_SUPPORT_UNDO_DISK_H
#define PLATTER_TESTS_SUPPORT_UNDO_DISK_H

#include "tests/support/log-storage.h"

struct undo_disk {
	struct flat_disk durable;
	struct flat_disk now; /* to be read; private otherwise */

	/* By block of the durable bytes. */
	uint64_t *hashes;
	uint8_t *touched;     /* differs now, or may */
	uint64_t *touch_list; /* the blocks that are touched */
	size_t touch_count, room;
	uint64_t sum; /* of the hashes */
};

/* Both faces are a copy of `start`. */
void undo_disk_init(struct undo_disk *u, const struct flat_disk *start);
void undo_disk_release(struct undo_disk *u);

/* The sectors for which the mask has a bit; see flat_disk_apply_torn(). */
void undo_disk_apply(struct undo_disk *u, const struct log_entry *e,
		     uint64_t mask);
/* Forgets what was applied. */
void undo_disk_reset(struct undo_disk *u);
/* What was applied is durable. */
void undo_disk_keep(struct undo_disk *u);
/* Of what it holds now and how long it is; however it came to that. */
uint64_t undo_disk_hash(const struct undo_disk *u);

#endif
