/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A bounded cache of equal units of metadata.
 *
 * Every unit in memory is in the hash. Those that nobody has pinned are in the
 * LRU list too, coldest first; a pinned unit is in no list. Spare slots wait in
 * a list of their own and keep their buffers. All of it is made once: in use,
 * only buffers are allocated, each slot's at its first use.
 *
 * Invariants: pins == 0 exactly when in the LRU list; clean_idle counts the
 * clean units of that list, so that "full, and all dirty" is known without a
 * walk; dirty_count counts the dirty ones of the hash.
 *
 * Locks: none here; the owner's is held (block/locks.h).
 */
#include "block/table-cache.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/storage.h"

#define TABLE_ALIGN 4096

/* Adjacent dirty units go out in one request up to this size. */
#define WRITE_BYTES_MAX (1u << 20)
#define WRITE_UNITS_MAX 1024 /* IOV_MAX of Linux */

struct table_cache {
	struct storage *storage;
	uint32_t unit;
	unsigned unit_shift;
	size_t max_units;
	size_t run_units_max; /* how many units one write may take */

	struct table *slots; /* max_units */
	struct table *spare; /* through hash_next */
	struct table **hash; /* hash_mask + 1 buckets */
	size_t hash_mask;

	struct table *coldest, *warmest;
	size_t clean_idle;
	size_t dirty_count;

	/* scratch of table_cache_write() */
	struct table **sorted; /* max_units */
	struct iovec *iov;     /* run_units_max */
};

static struct table **bucket_of(const struct table_cache *cache,
				uint64_t host_off)
{
	/* Fibonacci hashing: the upper half of the product is well mixed. */
	uint64_t mixed = (host_off >> cache->unit_shift) * 0x9e3779b97f4a7c15;

	return &cache->hash[(mixed >> 32) & cache->hash_mask];
}

static struct table *hash_find(const struct table_cache *cache,
			       uint64_t host_off)
{
	struct table *t = *bucket_of(cache, host_off);

	while (t && t->host_off != host_off)
		t = t->hash_next;
	return t;
}

static void hash_insert(struct table_cache *cache, struct table *t)
{
	struct table **bucket = bucket_of(cache, t->host_off);

	t->hash_next = *bucket;
	*bucket = t;
}

static void hash_remove(struct table_cache *cache, struct table *t)
{
	struct table **link = bucket_of(cache, t->host_off);

	while (*link != t)
		link = &(*link)->hash_next;
	*link = t->hash_next;
}

static void lru_append(struct table_cache *cache, struct table *t)
{
	t->lru_next = NULL;
	t->lru_prev = cache->warmest;
	if (cache->warmest)
		cache->warmest->lru_next = t;
	else
		cache->coldest = t;
	cache->warmest = t;
	cache->clean_idle += !t->dirty;
}

static void lru_remove(struct table_cache *cache, struct table *t)
{
	if (t->lru_prev)
		t->lru_prev->lru_next = t->lru_next;
	else
		cache->coldest = t->lru_next;
	if (t->lru_next)
		t->lru_next->lru_prev = t->lru_prev;
	else
		cache->warmest = t->lru_prev;
	cache->clean_idle -= !t->dirty;
}

static void mark_clean(struct table_cache *cache, struct table *t)
{
	assert(t->dirty);
	t->dirty = false;
	cache->dirty_count--;
	cache->clean_idle += !t->pins;
}

static void pin(struct table_cache *cache, struct table *t)
{
	if (!t->pins++)
		lru_remove(cache, t);
}

static void spare_push(struct table_cache *cache, struct table *t)
{
	t->hash_next = cache->spare;
	cache->spare = t;
}

/* Takes an unpinned unit out of memory, whatever it holds. */
static void drop(struct table_cache *cache, struct table *t)
{
	assert(!t->pins);
	if (t->dirty)
		mark_clean(cache, t);
	lru_remove(cache, t);
	hash_remove(cache, t);
	spare_push(cache, t);
}

/* Makes a spare slot of the coldest clean unit. */
static int evict(struct table_cache *cache)
{
	struct table *t = cache->coldest;

	/* With nothing idle no write-back would help: not -EAGAIN. */
	if (!t)
		return -ENOBUFS;
	if (!cache->clean_idle)
		return -EAGAIN;
	while (t->dirty)
		t = t->lru_next;
	drop(cache, t);
	return 0;
}

/* A slot with a buffer, off every list. */
static int slot_take(struct table_cache *cache, struct table **out)
{
	struct table *t;
	int ret;

	if (!cache->spare) {
		ret = evict(cache);
		if (ret)
			return ret;
	}
	t = cache->spare;
	if (!t->data) {
		t->data = aligned_alloc(TABLE_ALIGN,
					max_u64(cache->unit, TABLE_ALIGN));
		if (!t->data)
			return -ENOMEM;
	}
	cache->spare = t->hash_next;
	*out = t;
	return 0;
}

/* Puts a filled slot into the hash, pinned once. */
static void slot_publish(struct table_cache *cache, struct table *t,
			 uint64_t host_off)
{
	t->host_off = host_off;
	t->dirty = false;
	t->fresh = false;
	t->pins = 1;
	hash_insert(cache, t);
}

static void cache_free(struct table_cache *cache)
{
	if (cache->slots)
		for (size_t i = 0; i < cache->max_units; i++)
			free(cache->slots[i].data);
	free(cache->slots);
	free(cache->hash);
	free(cache->sorted);
	free(cache->iov);
	free(cache);
}

int table_cache_new(struct table_cache **out, struct storage *storage,
		    uint32_t unit, size_t max_units)
{
	struct table_cache *cache;
	size_t buckets = 1;

	assert(is_power_of_2(unit) && unit >= 512 && max_units >= 4);
	while (buckets < max_units)
		buckets *= 2;
	cache = calloc(1, sizeof(*cache));
	if (!cache)
		return -ENOMEM;
	cache->storage = storage;
	cache->unit = unit;
	cache->unit_shift = (unsigned)__builtin_ctz(unit);
	cache->max_units = max_units;
	cache->run_units_max =
		min_u64(WRITE_UNITS_MAX, max_u64(WRITE_BYTES_MAX / unit, 1));
	cache->hash_mask = buckets - 1;
	cache->slots = calloc(max_units, sizeof(*cache->slots));
	cache->hash = calloc(buckets, sizeof(*cache->hash));
	cache->sorted = calloc(max_units, sizeof(*cache->sorted));
	cache->iov = calloc(cache->run_units_max, sizeof(*cache->iov));
	if (!cache->slots || !cache->hash || !cache->sorted || !cache->iov) {
		cache_free(cache);
		return -ENOMEM;
	}
	for (size_t i = max_units; i-- > 0;)
		spare_push(cache, &cache->slots[i]);
	*out = cache;
	return 0;
}

void table_cache_free(struct table_cache *cache)
{
	if (!cache)
		return;
	table_cache_clear(cache);
	cache_free(cache);
}

int table_cache_get(struct table_cache *cache, uint64_t host_off,
		    struct table **out)
{
	struct table *t = table_cache_find(cache, host_off);
	int ret;

	if (!t) {
		ret = slot_take(cache, &t);
		if (ret)
			return ret;
		ret = storage_read_padded(cache->storage, t->data, cache->unit,
					  host_off);
		if (ret) {
			spare_push(cache, t);
			return ret;
		}
		slot_publish(cache, t, host_off);
	}
	*out = t;
	return 0;
}

int table_cache_get_new(struct table_cache *cache, uint64_t host_off,
			struct table **out)
{
	struct table *t = table_cache_find(cache, host_off);
	int ret;

	if (!t) {
		ret = slot_take(cache, &t);
		if (ret)
			return ret;
		slot_publish(cache, t, host_off);
	}
	memset(t->data, 0, cache->unit);
	table_cache_mark_dirty(cache, t);
	t->fresh = true;
	*out = t;
	return 0;
}

struct table *table_cache_find(struct table_cache *cache, uint64_t host_off)
{
	struct table *t;

	assert(is_aligned(host_off, cache->unit));
	t = hash_find(cache, host_off);
	if (t)
		pin(cache, t);
	return t;
}

void table_cache_put(struct table_cache *cache, struct table *table)
{
	assert(table->pins);
	if (!--table->pins)
		lru_append(cache, table);
}

void table_cache_mark_dirty(struct table_cache *cache, struct table *table)
{
	assert(table->pins);
	cache->dirty_count += !table->dirty;
	table->dirty = true;
}

static bool in_set(const struct table *t, enum table_set set)
{
	return t->dirty &&
	       (set == TABLES_ALL || t->fresh == (set == TABLES_FRESH));
}

/* A spare slot is never dirty, so all slots may be asked. */
static size_t collect(const struct table_cache *cache, enum table_set set)
{
	size_t count = 0;

	for (size_t i = 0; i < cache->max_units; i++)
		if (in_set(&cache->slots[i], set))
			cache->sorted[count++] = &cache->slots[i];
	return count;
}

static int compare_host_off(const void *a, const void *b)
{
	const struct table *x = *(struct table *const *)a;
	const struct table *y = *(struct table *const *)b;

	return (x->host_off > y->host_off) - (x->host_off < y->host_off);
}

/* Writes the run of adjacent units at the start of `tables`; its length. */
static int write_run(struct table_cache *cache, struct table **tables,
		     size_t count, size_t *written)
{
	uint64_t next = tables[0]->host_off;
	size_t n = 0;
	int ret;

	while (n < count && n < cache->run_units_max &&
	       tables[n]->host_off == next) {
		cache->iov[n].iov_base = tables[n]->data;
		cache->iov[n].iov_len = cache->unit;
		next += cache->unit;
		n++;
	}
	ret = storage_writev(cache->storage, cache->iov, (int)n,
			     tables[0]->host_off);
	if (ret)
		return ret;
	for (size_t i = 0; i < n; i++)
		mark_clean(cache, tables[i]);
	*written = n;
	return 0;
}

int table_cache_write(struct table_cache *cache, enum table_set set)
{
	size_t count, done = 0;

	if (!cache->dirty_count)
		return 0;
	count = collect(cache, set);
	qsort(cache->sorted, count, sizeof(*cache->sorted), compare_host_off);
	while (done < count) {
		size_t n;
		int ret = write_run(cache, cache->sorted + done, count - done,
				    &n);

		if (ret)
			return ret;
		done += n;
	}
	return 0;
}

void table_cache_publish(struct table_cache *cache)
{
	for (size_t i = 0; i < cache->max_units; i++)
		cache->slots[i].fresh = false;
}

void table_cache_forget(struct table_cache *cache, uint64_t host_off)
{
	struct table *t = hash_find(cache, host_off);

	if (t)
		drop(cache, t);
}

void table_cache_clear(struct table_cache *cache)
{
	/* Every unpinned unit is in this list, and pinned ones are none. */
	while (cache->coldest)
		drop(cache, cache->coldest);
	for (size_t i = 0; i < cache->max_units; i++)
		assert(!cache->slots[i].pins);
	assert(!cache->dirty_count && !cache->clean_idle);
}

bool table_cache_has_dirty(const struct table_cache *cache, enum table_set set)
{
	if (!cache->dirty_count)
		return false;
	for (size_t i = 0; i < cache->max_units; i++)
		if (in_set(&cache->slots[i], set))
			return true;
	return false;
}

uint32_t table_cache_unit(const struct table_cache *cache)
{
	return cache->unit;
}
