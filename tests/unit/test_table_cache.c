/* SPDX-License-Identifier: BSD-3-Clause */
/* The metadata cache above a small store that records and fails on request. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "block/storage.h"
#include "block/table-cache.h"

#define UNIT	   4096u
#define STORE_SIZE (8u << 20)
#define WRITES_MAX 64

struct store {
	struct storage storage;
	uint8_t bytes[STORE_SIZE];
	unsigned reads, writes;
	unsigned fail_read, fail_write; /* the Nth from now; 0: never */
	struct {
		uint64_t off, len;
	} log[WRITES_MAX];
};

static struct store store;

static uint64_t iov_len(const struct iovec *iov, int iov_count)
{
	uint64_t len = 0;

	for (int i = 0; i < iov_count; i++)
		len += iov[i].iov_len;
	return len;
}

static int store_readv(struct storage *s, const struct iovec *iov,
		       int iov_count, uint64_t off)
{
	assert_ptr_equal(s, &store.storage);
	store.reads++;
	if (store.fail_read && !--store.fail_read)
		return -EIO;
	assert_true(off + iov_len(iov, iov_count) <= storage_size(s));
	for (int i = 0; i < iov_count; i++) {
		memcpy(iov[i].iov_base, store.bytes + off, iov[i].iov_len);
		off += iov[i].iov_len;
	}
	return 0;
}

static int store_writev(struct storage *s, const struct iovec *iov,
			int iov_count, uint64_t off)
{
	uint64_t end = off + iov_len(iov, iov_count);

	if (store.fail_write && !--store.fail_write)
		return -EIO;
	assert_true(store.writes < WRITES_MAX && end <= STORE_SIZE);
	store.log[store.writes].off = off;
	store.log[store.writes++].len = end - off;
	for (int i = 0; i < iov_count; i++) {
		memcpy(store.bytes + off, iov[i].iov_base, iov[i].iov_len);
		off += iov[i].iov_len;
	}
	if (end > storage_size(s))
		atomic_store(&s->size_bytes, end);
	return 0;
}

static const struct storage_ops store_ops = {
	.name = "recording",
	.readv = store_readv,
	.writev = store_writev,
};

/* Unit i of a store of `units` holds bytes i + 1. */
static struct table_cache *cache_above(unsigned units, uint32_t unit,
				       size_t max_units)
{
	struct table_cache *cache;

	memset(&store, 0, sizeof(store));
	assert_int_equal(storage_init(&store.storage, &store_ops, "store"), 0);
	store.storage.writable = true;
	store.storage.can_grow = true;
	atomic_store(&store.storage.size_bytes, (uint64_t)units * unit);
	for (unsigned i = 0; i < units; i++)
		memset(store.bytes + (size_t)i * unit, (int)(i + 1), unit);
	assert_int_equal(
		table_cache_new(&cache, &store.storage, unit, max_units), 0);
	assert_int_equal(table_cache_unit(cache), unit);
	return cache;
}

static void cache_done(struct table_cache *cache)
{
	table_cache_free(cache);
	storage_release(&store.storage);
}

static struct table *got(struct table_cache *cache, unsigned i)
{
	uint32_t unit = table_cache_unit(cache);
	struct table *t;

	assert_int_equal(table_cache_get(cache, (uint64_t)i * unit, &t), 0);
	assert_int_equal(t->host_off, (uint64_t)i * unit);
	assert_int_equal((uintptr_t)t->data % 4096, 0);
	return t;
}

static void touch(struct table_cache *cache, unsigned i)
{
	table_cache_put(cache, got(cache, i));
}

/* Changes unit i to bytes 0x80 + i. */
static void change(struct table_cache *cache, unsigned i)
{
	struct table *t = got(cache, i);

	memset(t->data, (int)(0x80 + i), table_cache_unit(cache));
	table_cache_mark_dirty(cache, t);
	table_cache_put(cache, t);
}

static void make_new(struct table_cache *cache, unsigned i)
{
	uint32_t unit = table_cache_unit(cache);
	struct table *t;

	assert_int_equal(table_cache_get_new(cache, (uint64_t)i * unit, &t), 0);
	assert_true(t->dirty && t->fresh);
	for (uint32_t k = 0; k < unit; k++)
		assert_int_equal(((uint8_t *)t->data)[k], 0);
	memset(t->data, (int)(0x80 + i), unit);
	table_cache_put(cache, t);
}

static bool in_memory(struct table_cache *cache, unsigned i)
{
	struct table *t =
		table_cache_find(cache, (uint64_t)i * table_cache_unit(cache));

	if (t)
		table_cache_put(cache, t);
	return t != NULL;
}

static void assert_write(unsigned i, uint64_t first_unit, uint64_t units)
{
	assert_true(i < store.writes);
	assert_int_equal(store.log[i].off, first_unit * UNIT);
	assert_int_equal(store.log[i].len, units * UNIT);
}

static void units_are_read_once(void **state)
{
	struct table_cache *cache = cache_above(8, UNIT, 4);
	struct table *a, *again;

	(void)state;
	assert_null(table_cache_find(cache, 3 * UNIT));
	a = got(cache, 3);
	assert_int_equal(((uint8_t *)a->data)[UNIT - 1], 4);
	again = got(cache, 3);
	assert_ptr_equal(a, again);
	assert_int_equal(store.reads, 1);
	table_cache_put(cache, a);
	table_cache_put(cache, again);
	touch(cache, 3);
	assert_int_equal(store.reads, 1);
	cache_done(cache);
}

static void bytes_past_the_end_are_zeros(void **state)
{
	struct table_cache *cache = cache_above(2, UNIT, 4);
	struct table *t;

	(void)state;
	atomic_store(&store.storage.size_bytes, UNIT + 100);
	t = got(cache, 1);
	assert_int_equal(((uint8_t *)t->data)[99], 2);
	for (uint32_t i = 100; i < UNIT; i++)
		assert_int_equal(((uint8_t *)t->data)[i], 0);
	table_cache_put(cache, t);
	t = got(cache, 1000);
	assert_int_equal(((uint8_t *)t->data)[0], 0);
	table_cache_put(cache, t);
	cache_done(cache);
}

static void the_coldest_clean_unit_makes_room(void **state)
{
	struct table_cache *cache = cache_above(8, UNIT, 4);

	(void)state;
	change(cache, 0);
	touch(cache, 1);
	touch(cache, 2);
	touch(cache, 3);
	touch(cache, 1);
	/* 0 is colder than 2, but dirty; 1 was used again. */
	touch(cache, 4);
	assert_true(in_memory(cache, 0));
	assert_false(in_memory(cache, 2));
	assert_true(in_memory(cache, 1));
	assert_true(in_memory(cache, 3));
	assert_true(in_memory(cache, 4));
	cache_done(cache);
}

static void pinned_units_stay(void **state)
{
	struct table_cache *cache = cache_above(8, UNIT, 4);
	struct table *pinned = got(cache, 0), *more[3], *t;

	(void)state;
	for (unsigned i = 1; i < 8; i++)
		touch(cache, i);
	assert_ptr_equal(got(cache, 0), pinned);
	assert_int_equal(((uint8_t *)pinned->data)[0], 1);
	table_cache_put(cache, pinned);

	for (unsigned i = 0; i < 3; i++)
		more[i] = got(cache, i + 1);
	/* No write-back could help here: not to be taken for "all dirty". */
	assert_int_equal(table_cache_get(cache, 4 * UNIT, &t), -ENOBUFS);
	for (unsigned i = 0; i < 3; i++)
		table_cache_put(cache, more[i]);
	table_cache_put(cache, pinned);
	touch(cache, 4);
	cache_done(cache);
}

static void a_cache_full_of_dirty_units_asks_for_write_back(void **state)
{
	struct table_cache *cache = cache_above(8, UNIT, 4);
	struct table *t;

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		change(cache, i);
	assert_int_equal(table_cache_get(cache, 5 * UNIT, &t), -EAGAIN);
	assert_int_equal(table_cache_get_new(cache, 5 * UNIT, &t), -EAGAIN);
	/* What is in memory is still to be had. */
	touch(cache, 2);
	assert_int_equal(store.writes, 0);
	assert_int_equal(table_cache_write(cache, TABLES_ALL), 0);
	touch(cache, 5);
	assert_int_equal(store.bytes[0], 0x80);
	assert_int_equal(store.bytes[4 * UNIT - 1], 0x83);
	cache_done(cache);
}

static void neighbours_are_written_together_in_order(void **state)
{
	static const unsigned order[] = {9, 3, 1, 2, 12, 10};
	struct table_cache *cache = cache_above(16, UNIT, 16);

	(void)state;
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
		change(cache, order[i]);
	touch(cache, 11); /* clean, so it parts 10 from 12 */
	assert_int_equal(table_cache_write(cache, TABLES_ALL), 0);
	assert_int_equal(store.writes, 3);
	assert_write(0, 1, 3);
	assert_write(1, 9, 2);
	assert_write(2, 12, 1);
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
		assert_int_equal(store.bytes[order[i] * UNIT + 7],
				 0x80 + order[i]);
	assert_int_equal(store.bytes[11 * UNIT], 12);
	assert_false(table_cache_has_dirty(cache, TABLES_ALL));
	assert_int_equal(table_cache_write(cache, TABLES_ALL), 0);
	assert_int_equal(store.writes, 3);
	cache_done(cache);
}

static void long_runs_are_cut_at_one_mebibyte(void **state)
{
	struct table_cache *cache = cache_above(0, 1u << 19, 8);

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		make_new(cache, i);
	assert_int_equal(table_cache_write(cache, TABLES_FRESH), 0);
	assert_int_equal(store.writes, 3);
	assert_int_equal(store.log[0].len, 1u << 20);
	assert_int_equal(store.log[1].len, 1u << 20);
	assert_int_equal(store.log[2].len, 1u << 19);
	assert_int_equal(store.bytes[(5u << 19) - 1], 0x84);
	cache_done(cache);

	/* Small units: bounded by what one system call takes. */
	cache = cache_above(0, 512, 1500);
	for (unsigned i = 0; i < 1500; i++)
		make_new(cache, i);
	assert_int_equal(table_cache_write(cache, TABLES_ALL), 0);
	assert_int_equal(store.writes, 2);
	assert_int_equal(store.log[0].len, 1024 * 512);
	assert_int_equal(store.log[1].len, 476 * 512);
	cache_done(cache);
}

static void fresh_and_published_units_are_told_apart(void **state)
{
	struct table_cache *cache = cache_above(8, UNIT, 8);

	(void)state;
	change(cache, 1);
	make_new(cache, 2);
	assert_true(table_cache_has_dirty(cache, TABLES_FRESH));
	assert_int_equal(table_cache_write(cache, TABLES_FRESH), 0);
	assert_int_equal(store.writes, 1);
	assert_write(0, 2, 1);
	assert_false(table_cache_has_dirty(cache, TABLES_FRESH));
	assert_true(table_cache_has_dirty(cache, TABLES_PUBLISHED));

	/* Written, but still nothing points to it: fresh until published. */
	change(cache, 2);
	assert_true(table_cache_has_dirty(cache, TABLES_FRESH));
	table_cache_publish(cache);
	assert_false(table_cache_has_dirty(cache, TABLES_FRESH));
	assert_int_equal(table_cache_write(cache, TABLES_FRESH), 0);
	assert_int_equal(store.writes, 1);
	assert_int_equal(table_cache_write(cache, TABLES_PUBLISHED), 0);
	assert_int_equal(store.writes, 2);
	assert_write(1, 1, 2);
	cache_done(cache);
}

static void units_in_use_are_written_too(void **state)
{
	struct table_cache *cache = cache_above(4, UNIT, 4);
	struct table *t = got(cache, 1);

	(void)state;
	memset(t->data, 0x55, UNIT);
	table_cache_mark_dirty(cache, t);
	assert_int_equal(table_cache_write(cache, TABLES_ALL), 0);
	assert_false(t->dirty);
	assert_int_equal(store.bytes[UNIT], 0x55);
	table_cache_put(cache, t);
	/* Clean and idle now, so it can make room. */
	for (unsigned i = 2; i < 6; i++)
		touch(cache, i);
	assert_false(in_memory(cache, 1));
	cache_done(cache);
}

static void failed_writes_leave_units_dirty(void **state)
{
	struct table_cache *cache = cache_above(16, UNIT, 8);

	(void)state;
	change(cache, 1);
	change(cache, 5);
	change(cache, 9);
	store.fail_write = 2;
	assert_int_equal(table_cache_write(cache, TABLES_ALL), -EIO);
	assert_int_equal(store.writes, 1);
	assert_int_equal(store.bytes[5 * UNIT], 6);
	assert_true(table_cache_has_dirty(cache, TABLES_ALL));
	assert_int_equal(table_cache_write(cache, TABLES_ALL), 0);
	assert_int_equal(store.writes, 3);
	assert_write(1, 5, 1);
	assert_write(2, 9, 1);
	assert_false(table_cache_has_dirty(cache, TABLES_ALL));
	cache_done(cache);
}

static void failed_reads_are_not_remembered(void **state)
{
	struct table_cache *cache = cache_above(8, UNIT, 4);
	struct table *t;

	(void)state;
	for (unsigned round = 0; round < 6; round++) {
		store.fail_read = 1;
		assert_int_equal(table_cache_get(cache, 2 * UNIT, &t), -EIO);
		assert_false(in_memory(cache, 2));
	}
	t = got(cache, 2);
	assert_int_equal(((uint8_t *)t->data)[0], 3);
	table_cache_put(cache, t);
	/* No slot was lost on the way. */
	touch(cache, 3);
	touch(cache, 4);
	touch(cache, 5);
	assert_true(in_memory(cache, 2));
	cache_done(cache);
}

static void forgotten_units_are_never_written(void **state)
{
	struct table_cache *cache = cache_above(8, UNIT, 4);

	(void)state;
	change(cache, 1);
	make_new(cache, 2);
	table_cache_forget(cache, 1 * UNIT);
	table_cache_forget(cache, 2 * UNIT);
	table_cache_forget(cache, 3 * UNIT); /* not there: fine */
	assert_false(table_cache_has_dirty(cache, TABLES_ALL));
	assert_int_equal(table_cache_write(cache, TABLES_ALL), 0);
	assert_int_equal(store.writes, 0);
	/* Read anew, and a slot that was fresh is so no longer. */
	change(cache, 1);
	change(cache, 2);
	assert_false(table_cache_has_dirty(cache, TABLES_FRESH));
	table_cache_clear(cache);
	assert_false(table_cache_has_dirty(cache, TABLES_ALL));
	assert_false(in_memory(cache, 1));
	assert_int_equal(store.bytes[UNIT], 2);
	cache_done(cache);
}

static void a_new_unit_hides_old_bytes(void **state)
{
	struct table_cache *cache = cache_above(8, UNIT, 4);
	struct table *t;

	(void)state;
	touch(cache, 1); /* in memory with its old bytes */
	make_new(cache, 1);
	make_new(cache, 2); /* not in memory: and not read for this */
	assert_int_equal(store.reads, 1);
	t = got(cache, 1);
	assert_int_equal(((uint8_t *)t->data)[0], 0x81);
	table_cache_put(cache, t);
	cache_done(cache);
}

/* Random use against a plain array that says what each unit has to hold. */
static void random_use_agrees_with_a_plain_array(void **state)
{
	enum { UNITS = 40, STEPS = 20000 };
	struct table_cache *cache = cache_above(UNITS, 512, 7);
	uint8_t model[UNITS];
	unsigned seed = 1;

	(void)state;
	for (unsigned i = 0; i < UNITS; i++)
		model[i] = (uint8_t)(i + 1);
	for (unsigned step = 0; step < STEPS; step++) {
		unsigned i = (unsigned)rand_r(&seed) % UNITS;
		struct table *t;
		int ret = table_cache_get(cache, i * 512u, &t);

		store.writes = 0;
		if (ret == -EAGAIN) {
			assert_int_equal(table_cache_write(cache, TABLES_ALL),
					 0);
			ret = table_cache_get(cache, i * 512u, &t);
		}
		assert_int_equal(ret, 0);
		assert_int_equal(((uint8_t *)t->data)[step % 512], model[i]);
		if (rand_r(&seed) % 2) {
			model[i] = (uint8_t)rand_r(&seed);
			memset(t->data, model[i], 512);
			table_cache_mark_dirty(cache, t);
		}
		table_cache_put(cache, t);
	}
	assert_int_equal(table_cache_write(cache, TABLES_ALL), 0);
	for (unsigned i = 0; i < UNITS; i++)
		assert_int_equal(store.bytes[i * 512], model[i]);
	cache_done(cache);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(units_are_read_once),
		cmocka_unit_test(bytes_past_the_end_are_zeros),
		cmocka_unit_test(the_coldest_clean_unit_makes_room),
		cmocka_unit_test(pinned_units_stay),
		cmocka_unit_test(
			a_cache_full_of_dirty_units_asks_for_write_back),
		cmocka_unit_test(neighbours_are_written_together_in_order),
		cmocka_unit_test(long_runs_are_cut_at_one_mebibyte),
		cmocka_unit_test(fresh_and_published_units_are_told_apart),
		cmocka_unit_test(units_in_use_are_written_too),
		cmocka_unit_test(failed_writes_leave_units_dirty),
		cmocka_unit_test(failed_reads_are_not_remembered),
		cmocka_unit_test(forgotten_units_are_never_written),
		cmocka_unit_test(a_new_unit_hides_old_bytes),
		cmocka_unit_test(random_use_agrees_with_a_plain_array),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
