/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lending the bytes of a file: a map of it, for system calls to read from.
 *
 * A reply that is sent straight from the page cache costs one copy instead of
 * two, and no look-up (spec: performance 5). Our own code never touches the
 * map: whoever cuts the file turns its end into a fault, which ends a process
 * that reads there, but only fails a system call.
 *
 * The file is mapped in segments, each when it is first asked for. Pages that
 * are not in memory would make the call wait for the disk; so only units that
 * were found in memory once, whole, are lent. Later the kernel may need the
 * memory for something else: then a call does wait, and all is well otherwise.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "block/bytes.h"
#include "block/storage/file-private.h"

#define SEGMENT_BYTES (1ull << 30)
#define SEGMENTS_MAX  4096u /* 4 TiB; what lies behind is not lent */
#define UNIT_BYTES    (2ull << 20)
#define UNITS	      (SEGMENT_BYTES / UNIT_BYTES)
#define PAGE_MIN      4096u /* of any machine */

/* Since Linux 5.14; Debian 12's headers have it, others may not. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

struct segment {
	uint8_t *bytes;
	atomic_bool known[UNITS]; /* was in memory; only ever set */
	/* How often it was not: it is looked at after 1, 2, 4, ... requests. */
	atomic_uint misses[UNITS];
};

struct file_map {
	struct segment *_Atomic segments[SEGMENTS_MAX];
};

static struct file_map *get_map(struct file *f)
{
	struct file_map *map = atomic_load(&f->map), *none = NULL;

	if (map)
		return map;
	map = calloc(1, sizeof(*map));
	if (!map || atomic_compare_exchange_strong(&f->map, &none, map))
		return map;
	free(map);
	return none;
}

static struct segment *new_segment(int fd, uint64_t off)
{
	struct segment *segment = calloc(1, sizeof(*segment));
	void *bytes;

	if (!segment)
		return NULL;
	/* The file may be shorter and grow into it later. */
	bytes = mmap(NULL, SEGMENT_BYTES, PROT_READ, MAP_SHARED, fd,
		     (off_t)off);
	if (bytes == MAP_FAILED) {
		free(segment);
		return NULL;
	}
	segment->bytes = bytes;
	return segment;
}

static void free_segment(struct segment *segment)
{
	if (!segment)
		return;
	munmap(segment->bytes, SEGMENT_BYTES);
	free(segment);
}

static struct segment *get_segment(struct file *f, uint64_t number)
{
	struct file_map *map = get_map(f);
	struct segment *segment, *none = NULL;

	if (!map)
		return NULL;
	segment = atomic_load(&map->segments[number]);
	if (segment)
		return segment;
	segment = new_segment(f->base.fd, number * SEGMENT_BYTES);
	if (!segment || atomic_compare_exchange_strong(&map->segments[number],
						       &none, segment))
		return segment;
	free_segment(segment);
	return none;
}

static bool is_in_memory(const uint8_t *bytes, size_t len)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char pages[UNIT_BYTES / PAGE_MIN];

	if (mincore((void *)(uintptr_t)bytes, len, pages))
		return false;
	for (size_t i = 0; i < div_round_up(len, page); i++)
		if (!(pages[i] & 1))
			return false;
	return true;
}

/* `len` is what the file has of the unit. */
static bool look_at_unit(struct segment *segment, uint64_t unit, size_t len)
{
	uint8_t *bytes = segment->bytes + unit * UNIT_BYTES;
	unsigned misses = atomic_fetch_add_explicit(&segment->misses[unit], 1,
						    memory_order_relaxed);

	if ((misses & (misses + 1)) || !is_in_memory(bytes, len))
		return false;
	/* Or each page costs a fault; where it fails, these do it. */
	madvise(bytes, len, MADV_POPULATE_READ);
	atomic_store_explicit(&segment->known[unit], true,
			      memory_order_relaxed);
	return true;
}

static bool is_known(struct segment *segment, uint64_t in_segment, size_t len,
		     uint64_t left)
{
	uint64_t last = (in_segment + len - 1) / UNIT_BYTES;

	for (uint64_t unit = in_segment / UNIT_BYTES; unit <= last; unit++) {
		uint64_t there = left - unit * UNIT_BYTES;

		/* An old answer costs one more look, so no order is needed. */
		if (!atomic_load_explicit(&segment->known[unit],
					  memory_order_relaxed) &&
		    !look_at_unit(segment, unit, min_u64(there, UNIT_BYTES)))
			return false;
	}
	return true;
}

const void *file_lend(struct storage *s, uint64_t off, size_t len)
{
	uint64_t number = off / SEGMENT_BYTES;
	uint64_t start = number * SEGMENT_BYTES, size = storage_size(s);
	struct segment *segment;

	if (number >= SEGMENTS_MAX || off + len > start + SEGMENT_BYTES)
		return NULL;
	segment = get_segment(to_file(s), number);
	if (!segment || !is_known(segment, off - start, len, size - start))
		return NULL;
	return segment->bytes + (off - start);
}

void file_map_free(struct file *f)
{
	struct file_map *map = atomic_load(&f->map);

	if (!map)
		return;
	for (size_t i = 0; i < SEGMENTS_MAX; i++)
		free_segment(atomic_load(&map->segments[i]));
	free(map);
}
