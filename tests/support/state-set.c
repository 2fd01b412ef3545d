/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. Open addressing, at most half full. */
#include "tests/support/state-set.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/log-storage.h"

#define FIRST_SLOTS 1024
#define LANES	    4 /* independent, so that the multiplications overlap */
#define PRIME	    0x9e3779b97f4a7c15ull

static uint64_t mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * PRIME;
	return hash ^ hash >> 29;
}

/* Never 0. */
static uint64_t hash_disk(const struct flat_disk *disk)
{
	uint64_t lanes[LANES] = {1, 2, 3, 4}, words[LANES];
	uint64_t hash = disk->size, at = 0;

	for (; at + sizeof(words) <= disk->size; at += sizeof(words)) {
		memcpy(words, disk->data + at, sizeof(words));
		for (unsigned i = 0; i < LANES; i++)
			lanes[i] = mix(lanes[i], words[i]);
	}
	for (; at < disk->size; at++)
		hash = mix(hash, disk->data[at]);
	for (unsigned i = 0; i < LANES; i++)
		hash = mix(hash, lanes[i]);
	return hash ? hash : 1;
}

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

bool state_set_add(struct state_set *set, const struct flat_disk *disk)
{
	if (set->used * 2 >= set->slot_count)
		grow(set);
	return insert(set, hash_disk(disk));
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
