/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A set of crash states, by a hash of 64 bits: tells whether one was there
 * before. One thread; aborts when out of memory.
 */
#ifndef PLATTER_TESTS_SUPPORT_STATE_SET_H
#define PLATTER_TESTS_SUPPORT_STATE_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct state_set {
	uint64_t *slots; /* 0: empty */
	size_t slot_count, used;
};

/* True if it was not in the set, which it is from now on. */
bool state_set_add(struct state_set *set, uint64_t hash);
void state_set_clear(struct state_set *set);
void state_set_release(struct state_set *set);

#endif
