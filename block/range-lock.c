/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Holds on guest ranges, granted in order of arrival.
 *
 * The list holds every hold, waiting or granted, in order of arrival.
 * Invariant: a hold is granted exactly when no earlier one of the list
 * conflicts with it, waiting ones included. So a reader that comes after a
 * waiting writer waits behind it, and nobody is overtaken by whoever overlaps
 * it. Only dropping a hold can make others grantable, and only later ones that
 * overlap it.
 *
 * The list is as long as there are requests in flight, tens or hundreds: a
 * walk of it costs less than a tree's upkeep. Where everybody shares, which is
 * most of the time, nobody walks.
 */
#include "block/range-lock.h"

#include <assert.h>
#include <stddef.h>

static bool holds_conflict(const struct range_hold *a,
			   const struct range_hold *b)
{
	if (a->kind == RANGE_SHARED && b->kind == RANGE_SHARED)
		return false;
	/* off + len does not wrap: checked when the hold is prepared. */
	return a->off < b->off + b->len && b->off < a->off + a->len;
}

static bool grantable_locked(const struct range_lock *lock,
			     const struct range_hold *hold)
{
	if (!lock->exclusive_count)
		return true;
	for (const struct range_hold *h = hold->prev; h; h = h->prev)
		if (holds_conflict(h, hold))
			return false;
	return true;
}

static void append_locked(struct range_lock *lock, struct range_hold *hold)
{
	hold->next = NULL;
	hold->prev = lock->last;
	if (lock->last)
		lock->last->next = hold;
	else
		lock->first = hold;
	lock->last = hold;
	lock->exclusive_count += hold->kind == RANGE_EXCLUSIVE;
}

static void unlink_locked(struct range_lock *lock, struct range_hold *hold)
{
	if (hold->prev)
		hold->prev->next = hold->next;
	else
		lock->first = hold->next;
	if (hold->next)
		hold->next->prev = hold->prev;
	else
		lock->last = hold->prev;
	lock->exclusive_count -= hold->kind == RANGE_EXCLUSIVE;
}

/* Queues a new hold; `granted` says how it stands. */
static void enter_locked(struct range_lock *lock, struct range_hold *hold,
			 uint64_t off, uint64_t len, enum range_hold_kind kind)
{
	assert(len > 0 && off <= UINT64_MAX - len);
	hold->off = off;
	hold->len = len;
	hold->kind = kind;
	append_locked(lock, hold);
	hold->granted = grantable_locked(lock, hold);
}

void range_lock_init(struct range_lock *lock)
{
	pthread_mutex_init(&lock->mutex, NULL);
	lock->first = NULL;
	lock->last = NULL;
	lock->exclusive_count = 0;
}

void range_lock_release(struct range_lock *lock)
{
	assert(!lock->first && !lock->last);
	pthread_mutex_destroy(&lock->mutex);
}

void range_hold_take(struct range_lock *lock, struct range_hold *hold,
		     uint64_t off, uint64_t len, enum range_hold_kind kind)
{
	pthread_mutex_lock(&lock->mutex);
	enter_locked(lock, hold, off, len, kind);
	if (!hold->granted) {
		/* Whoever grants signals under the mutex, so the condition
		 * may go as soon as we have the mutex back. */
		pthread_cond_init(&hold->granted_cond, NULL);
		while (!hold->granted)
			pthread_cond_wait(&hold->granted_cond, &lock->mutex);
		pthread_cond_destroy(&hold->granted_cond);
	}
	pthread_mutex_unlock(&lock->mutex);
}

bool range_hold_try(struct range_lock *lock, struct range_hold *hold,
		    uint64_t off, uint64_t len, enum range_hold_kind kind)
{
	bool granted;

	pthread_mutex_lock(&lock->mutex);
	enter_locked(lock, hold, off, len, kind);
	granted = hold->granted;
	if (!granted)
		unlink_locked(lock, hold);
	pthread_mutex_unlock(&lock->mutex);
	return granted;
}

void range_hold_drop(struct range_lock *lock, struct range_hold *hold)
{
	struct range_hold *later;
	bool others_share;

	pthread_mutex_lock(&lock->mutex);
	assert(hold->granted);
	others_share = !lock->exclusive_count;
	later = hold->next;
	unlink_locked(lock, hold);
	hold->granted = false;
	for (; later && !others_share; later = later->next) {
		if (later->granted || !holds_conflict(hold, later) ||
		    !grantable_locked(lock, later))
			continue;
		later->granted = true;
		pthread_cond_signal(&later->granted_cond);
	}
	pthread_mutex_unlock(&lock->mutex);
}
