/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. Open addressing, at most half full. */
#include "tests/support/state-set.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_SLOTS 1024

static bool insert(struct state_set *set, uint64_t hash)
{
	size_t i = hash & (set->slot_count - 1);

	while (set->slots[i] && set->slots[i] != hash)
		i = (i + 1) & (set->slot_count - 1);
	if (set->slots[i])
		return false;
	set->slots[i] = hash;
	set->used++;
	return true;
}

static void grow(struct state_set *set)
{
	struct state_set old = *set;

	set->slot_count = old.slot_count ? old.slot_count * 2 : FIRST_SLOTS;
	set->slots = calloc(set->slot_count, sizeof(*set->slots));
	if (!set->slots)
		abort();
	set->used = 0;
	for (size_t i = 0; i < old.slot_count; i++) {
		if (old.slots[i])
			insert(set, old.slots[i]);
	}
	free(old.slots);
}

bool state_set_add(struct state_set *set, uint64_t hash)
{
	if (set->used * 2 >= set->slot_count)
		grow(set);
	return insert(set, hash ? hash : 1);
}

void state_set_clear(struct state_set *set)
{
	if (set->used)
		memset(set->slots, 0, set->slot_count * sizeof(*set->slots));
	set->used = 0;
}

void state_set_release(struct state_set *set)
{
	free(set->slots);
	*set = (struct state_set){0};
}
