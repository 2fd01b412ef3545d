/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A bounded cache of equal units of metadata (L2 tables, refcount blocks),
 * keyed by host offset. It knows nothing of what the bytes mean.
 *
 * Write-back is never automatic: a dirty unit leaves memory only through
 * table_cache_write(), because only the owner knows what has to be durable
 * before it (W1, W2). When no clean unit can make room, table_cache_get() says
 * -EAGAIN, and the owner runs its ordered write-back and asks again.
 *
 * Threads: none of these functions locks; the owner calls all of them under its
 * own lock. A unit that was got stays in memory until it is put back.
 */
#ifndef PLATTER_BLOCK_TABLE_CACHE_H
#define PLATTER_BLOCK_TABLE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct storage;
struct table_cache;

/* One unit, pinned while the caller holds it. */
struct table {
	uint64_t host_off;
	void *data; /* `unit` bytes, aligned to 4096 */
	bool dirty;
	/*
	 * Nothing durable points here yet: may be written together with data,
	 * before the sync (W2). Cleared by the owner once published.
	 */
	bool fresh;

	/* private */
	unsigned pins;
	struct table *hash_next, *lru_prev, *lru_next;
};

/* `unit` is a power of two >= 512; `max_units` >= 4. Storage is borrowed. */
int table_cache_new(struct table_cache **out, struct storage *storage,
		    uint32_t unit, size_t max_units);
/* Frees everything, dirty or not; nothing may be pinned. NULL is fine. */
void table_cache_free(struct table_cache *cache);

/*
 * Pins the unit at `host_off` (a multiple of the unit), reading it if needed;
 * bytes past the end of the storage read as zeros.
 * -EAGAIN: full, and every unpinned unit is dirty. -ENOBUFS: full of pinned
 * units, so that no write-back would help. Other errors: from the read.
 */
int table_cache_get(struct table_cache *cache, uint64_t host_off,
		    struct table **out);
/* The same for a unit whose old bytes do not matter: zeroed, dirty, fresh. */
int table_cache_get_new(struct table_cache *cache, uint64_t host_off,
			struct table **out);
/* Pins only if it is in memory already, else NULL. */
struct table *table_cache_find(struct table_cache *cache, uint64_t host_off);
void table_cache_put(struct table_cache *cache, struct table *table);

void table_cache_mark_dirty(struct table_cache *cache, struct table *table);

enum table_set { TABLES_FRESH, TABLES_PUBLISHED, TABLES_ALL };

/*
 * Writes the dirty units of the set in order of host offset, adjacent ones
 * together, and marks them clean. Does not sync. On error the units that were
 * not written stay dirty.
 */
int table_cache_write(struct table_cache *cache, enum table_set set);
/* Every fresh unit is now published. */
void table_cache_publish(struct table_cache *cache);
/* Forgets the unit, dirty or not (its cluster was freed). Not pinned. */
void table_cache_forget(struct table_cache *cache, uint64_t host_off);
/* Forgets all, dirty or not. Nothing pinned. */
void table_cache_clear(struct table_cache *cache);

bool table_cache_has_dirty(const struct table_cache *cache, enum table_set set);
uint32_t table_cache_unit(const struct table_cache *cache);

#endif
