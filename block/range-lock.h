/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Holds on guest ranges: readers and in-place writers share, whoever changes a
 * mapping is alone. While a hold lasts nobody changes the range's mapping.
 *
 * A hold belongs to the request that embeds it, not to a thread: one thread may
 * take it and another release it. It is never upgraded; release, take the other
 * kind, and look the mapping up again. Holds are granted first come first
 * served among those that overlap, so nobody starves.
 *
 * Lock order: outermost of all (block/locks.h).
 */
#ifndef PLATTER_BLOCK_RANGE_LOCK_H
#define PLATTER_BLOCK_RANGE_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum range_hold_kind { RANGE_SHARED, RANGE_EXCLUSIVE };

struct range_hold {
	struct range_hold *next, *prev;
	uint64_t off, len;
	enum range_hold_kind kind;
	bool granted;
	pthread_cond_t granted_cond;
};

struct range_lock {
	pthread_mutex_t mutex;
	struct range_hold *first, *last; /* in order of arrival */
	unsigned exclusive_count;	 /* of these, waiting ones included */
};

void range_lock_init(struct range_lock *lock);
/* No hold may be left. */
void range_lock_release(struct range_lock *lock);

/* Blocks until granted. `len` > 0. */
void range_hold_take(struct range_lock *lock, struct range_hold *hold,
		     uint64_t off, uint64_t len, enum range_hold_kind kind);
/* False, and nothing taken, where range_hold_take() would block. */
bool range_hold_try(struct range_lock *lock, struct range_hold *hold,
		    uint64_t off, uint64_t len, enum range_hold_kind kind);
void range_hold_drop(struct range_lock *lock, struct range_hold *hold);

#endif
