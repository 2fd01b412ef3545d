/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See the header. Invariant: below the durable length, blocks that are not
 * touched are the same in both faces; above it everything differs.
 */
#include "tests/support/undo-disk.h"

#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"

#define BLOCK 4096u
#define LANES 8 /* independent, so that the multiplications overlap */
#define PRIME 0x9e3779b97f4a7c15ull

static uint64_t mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * PRIME;
	return hash ^ hash >> 29;
}

/* Of one block and its number; a short one counts as filled with zeros. */
static uint64_t hash_block(const struct flat_disk *disk, uint64_t block)
{
	uint64_t at = block * BLOCK, lanes[LANES] = {1, 2, 3, 4, 5, 6, 7, 8},
		 words[LANES];
	uint8_t padded[BLOCK];
	const uint8_t *bytes = disk->data + at;
	uint64_t hash = block;

	if (disk->size - at < BLOCK) {
		memset(padded, 0, sizeof(padded));
		memcpy(padded, bytes, disk->size - at);
		bytes = padded;
	}
	for (size_t i = 0; i < BLOCK; i += sizeof(words)) {
		memcpy(words, bytes + i, sizeof(words));
		for (unsigned k = 0; k < LANES; k++)
			lanes[k] = mix(lanes[k], words[k]);
	}
	for (unsigned k = 0; k < LANES; k++)
		hash = mix(hash, lanes[k]);
	return hash;
}

static uint64_t block_count(const struct flat_disk *disk)
{
	return div_round_up(disk->size, BLOCK);
}

static void *resized(void *items, size_t count, size_t size)
{
	items = reallocarray(items, count, size);
	if (!items)
		abort();
	return items;
}

static void make_room(struct undo_disk *u)
{
	size_t count = block_count(&u->durable);

	if (count <= u->room)
		return;
	u->hashes = resized(u->hashes, count, sizeof(*u->hashes));
	u->touched = resized(u->touched, count, sizeof(*u->touched));
	u->touch_list = resized(u->touch_list, count, sizeof(*u->touch_list));
	memset(u->touched + u->room, 0, count - u->room);
	u->room = count;
}

void undo_disk_init(struct undo_disk *u, const struct flat_disk *start)
{
	*u = (struct undo_disk){0};
	flat_disk_copy(&u->durable, start);
	flat_disk_copy(&u->now, start);
	make_room(u);
	for (uint64_t b = 0; b < block_count(start); b++) {
		u->hashes[b] = hash_block(start, b);
		u->sum += u->hashes[b];
	}
}

void undo_disk_release(struct undo_disk *u)
{
	flat_disk_release(&u->durable);
	flat_disk_release(&u->now);
	free(u->hashes);
	free(u->touched);
	free(u->touch_list);
	*u = (struct undo_disk){0};
}

/* Also what lies behind the end, but in the last block. */
static void touch(struct undo_disk *u, uint64_t off, uint64_t end)
{
	uint64_t last =
		min_u64(div_round_up(end, BLOCK), block_count(&u->durable));

	for (uint64_t b = off / BLOCK; b < last; b++) {
		if (u->touched[b])
			continue;
		u->touched[b] = true;
		u->touch_list[u->touch_count++] = b;
	}
}

void undo_disk_apply(struct undo_disk *u, const struct log_entry *e,
		     uint64_t mask)
{
	uint64_t size = u->now.size;

	if (!mask)
		return;
	if (e->kind != LOG_RESIZE && e->kind != LOG_SYNC)
		touch(u, e->off, e->off + e->len);
	if (mask == UINT64_MAX)
		flat_disk_apply(&u->now, e);
	else
		flat_disk_apply_torn(&u->now, e, mask);
	/* What was cut off before has come back as zeros. */
	if (u->now.size > size)
		touch(u, size, u->now.size);
}

void undo_disk_reset(struct undo_disk *u)
{
	for (size_t i = 0; i < u->touch_count; i++) {
		uint64_t b = u->touch_list[i], at = b * BLOCK;

		memcpy(u->now.data + at, u->durable.data + at,
		       min_u64(BLOCK, u->durable.size - at));
		u->touched[b] = false;
	}
	u->touch_count = 0;
	u->now.size = u->durable.size;
}

static void keep_block(struct undo_disk *u, uint64_t b)
{
	uint64_t at = b * BLOCK;

	memcpy(u->durable.data + at, u->now.data + at,
	       min_u64(BLOCK, u->now.size - at));
	u->hashes[b] = hash_block(&u->now, b);
	u->sum += u->hashes[b];
}

/* Blocks that are gone, then those that differ, then those that are new. */
void undo_disk_keep(struct undo_disk *u)
{
	uint64_t old_count = block_count(&u->durable);
	uint64_t count = block_count(&u->now);
	struct log_entry resize = {.kind = LOG_RESIZE, .len = u->now.size};

	/* The last block may be cut or go on. */
	if (u->now.size != u->durable.size && u->durable.size && u->now.size)
		touch(u, min_u64(u->now.size, u->durable.size) - 1,
		      min_u64(u->now.size, u->durable.size));
	for (uint64_t b = count; b < old_count; b++)
		u->sum -= u->hashes[b];
	flat_disk_apply(&u->durable, &resize);
	make_room(u);
	for (size_t i = 0; i < u->touch_count; i++) {
		uint64_t b = u->touch_list[i];

		u->touched[b] = false;
		if (b >= count)
			continue;
		u->sum -= u->hashes[b];
		keep_block(u, b);
	}
	u->touch_count = 0;
	for (uint64_t b = old_count; b < count; b++)
		keep_block(u, b);
}

static uint64_t hash_all(const struct flat_disk *disk)
{
	uint64_t sum = 0;

	for (uint64_t b = 0; b < block_count(disk); b++)
		sum += hash_block(disk, b);
	return sum;
}

uint64_t undo_disk_hash(const struct undo_disk *u)
{
	uint64_t sum = u->sum;

	if (u->now.size < u->durable.size)
		return mix(hash_all(&u->now), u->now.size);
	for (size_t i = 0; i < u->touch_count; i++) {
		uint64_t b = u->touch_list[i];

		sum += hash_block(&u->now, b) - u->hashes[b];
	}
	for (uint64_t b = block_count(&u->durable); b < block_count(&u->now);
	     b++)
		sum += hash_block(&u->now, b);
	return mix(sum, u->now.size);
}
