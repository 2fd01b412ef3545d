/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writing to qcow2 images at the edges: damaged ones, where a table must never
 * be written over or let go of; stores that cannot grow; steps that fail
 * halfway; tables that are cached in pieces.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/image.h"
#include "block/storage/memory.h"
#include "formats/qcow2/qcow2.h"
#include "tests/support/fault-storage.h"
#include "tests/support/internal-snapshot.h"
#include "tests/support/workload.h"

#define CLUSTER 512u
#define L2_SPAN (CLUSTER / 8 * CLUSTER)

/* Counts of 64 bits: a refcount block describes 64 clusters. */
static const struct workload_geometry small = {
	.name = "small",
	.create = "cluster_size=512,refcount_bits=64",
	.open = "l2-cache-size=4096,refcount-cache-size=4096",
	.size_bytes = 512 * 1024,
	.size_max = 512 * 1024,
};

static struct storage *new_image(const struct workload_geometry *geometry)
{
	struct storage *s;

	assert_int_equal(storage_memory_new(&s, "test", 0), 0);
	assert_int_equal(workload_create(s, geometry), 0);
	return s;
}

static struct image *open_image(struct storage *s,
				const struct workload_geometry *geometry)
{
	struct image *img;

	assert_int_equal(workload_open(&img, s, geometry, true), 0);
	return img;
}

static int write_tag(struct image *img, uint64_t guest_off, uint8_t tag)
{
	uint8_t buf[CLUSTER];

	memset(buf, tag, sizeof(buf));
	return image_write(img, buf, sizeof(buf), guest_off);
}

static void expect_tag(struct image *img, uint64_t guest_off, uint8_t tag)
{
	uint8_t buf[CLUSTER], expect[CLUSTER];

	memset(expect, tag, sizeof(expect));
	assert_int_equal(image_read(img, buf, sizeof(buf), guest_off), 0);
	assert_memory_equal(buf, expect, sizeof(buf));
}

static uint64_t get64(struct storage *s, uint64_t off)
{
	be64_t value;

	assert_int_equal(storage_read(s, &value, sizeof(value), off), 0);
	return be64_get(value);
}

static void put64(struct storage *s, uint64_t off, uint64_t value)
{
	be64_t disk = be64_make(value);

	assert_int_equal(storage_write(s, &disk, sizeof(disk), off), 0);
}

#define AT_L1	     offsetof(struct qcow2_header_disk, l1_table_offset)
#define AT_REFTABLE  offsetof(struct qcow2_header_disk, refcount_table_offset)
#define AT_SNAPSHOTS offsetof(struct qcow2_header_disk, snapshots_offset)

/* ---- damaged images ---- */

static void a_table_is_not_made_over_another_table(void **state)
{
	const uint64_t moved_off = 64 * CLUSTER; /* where a block would go */
	struct storage *s = new_image(&small);
	uint8_t before[CLUSTER], after[CLUSTER];
	uint64_t l1_off = get64(s, AT_L1);
	struct image *img;
	int ret = 0;

	(void)state;
	/* The L1 table moves to where no refcount block counts it. */
	assert_int_equal(storage_read_padded(s, before, CLUSTER, l1_off), 0);
	assert_int_equal(storage_write(s, before, CLUSTER, moved_off), 0);
	put64(s, AT_L1, moved_off);
	img = open_image(s, &small);
	for (uint64_t off = 0; off < L2_SPAN * 2 && !ret; off += CLUSTER)
		ret = write_tag(img, off, 1);
	assert_int_equal(ret, -EIO);
	assert_int_equal(image_flush(img), 0);
	/* What was written before is found, so the table is still there. */
	assert_int_equal(storage_read(s, after, CLUSTER, moved_off), 0);
	assert_int_not_equal(get64(s, moved_off), 0);
	assert_memory_equal(before + 16, after + 16, CLUSTER - 16);
	assert_int_equal(write_tag(img, 0, 2), 0); /* in place, all the same */
	assert_int_equal(write_tag(img, L2_SPAN * 3, 1), -EIO);
	image_close(img);
}

static void an_image_without_counts_is_not_written(void **state)
{
	struct storage *s = new_image(&small);
	struct image *img;

	(void)state;
	put64(s, get64(s, AT_REFTABLE), 0);
	img = open_image(s, &small);
	assert_int_equal(write_tag(img, 0, 1), -EIO);
	/* The image says so from now on. */
	assert_true(get64(s, 72) & QCOW2_INCOMPAT_CORRUPT);
	image_close(img);
}

/* The table would be its own child: what a write enters into one changes both.
 */
static void an_l2_pointer_to_a_table_is_not_written(void **state)
{
	const uint64_t places[] = {AT_L1, AT_REFTABLE};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct storage *s = new_image(&small);
		struct image *img;

		put64(s, get64(s, AT_L1), get64(s, places[i]));
		assert_int_equal(workload_open(&img, s, &small, true),
				 -ERROR_CORRUPT);
	}
}

/* An image with a snapshot; the caller frees its bytes. */
static uint8_t *image_with_snapshot(size_t *len)
{
	struct image *img = open_image(new_image(&small), &small);
	uint8_t *bytes;

	assert_int_equal(write_tag(img, 0, 1), 0);
	assert_int_equal(internal_snapshot_take(img), 0);
	assert_int_equal(image_flush(img), 0);
	*len = (size_t)storage_size(img->file);
	bytes = malloc(*len);
	assert_non_null(bytes);
	assert_int_equal(storage_read(img->file, bytes, *len, 0), 0);
	image_close(img);
	return bytes;
}

/* The same, but for the place of the snapshot's L1 table. */
static struct storage *with_snapshot_at(const uint8_t *bytes, size_t len,
					uint64_t l1_off)
{
	struct storage *s;

	assert_int_equal(storage_memory_from(&s, "test", bytes, len), 0);
	put64(s, get64(s, AT_SNAPSHOTS), l1_off);
	return s;
}

/*
 * Whatever the counts say: what is written into the table would become the
 * snapshot's.
 */
static void a_snapshot_in_an_active_table_is_not_written(void **state)
{
	size_t len;
	uint8_t *bytes = image_with_snapshot(&len);
	struct storage *s;
	struct image *img;
	uint64_t places[5];

	(void)state;
	assert_int_equal(storage_memory_from(&s, "test", bytes, len), 0);
	places[0] = 0;
	places[1] = get64(s, AT_L1);
	places[2] = get64(s, AT_REFTABLE);
	places[3] = get64(s, places[1]) & QCOW2_OFFSET_MASK;
	places[4] = get64(s, places[2]);
	storage_close(s);
	for (size_t i = 0; i < 5; i++) {
		s = with_snapshot_at(bytes, len, places[i]);
		assert_int_equal(workload_open(&img, s, &small, true),
				 -ERROR_CORRUPT);
		s = with_snapshot_at(bytes, len, places[i]);
		assert_int_equal(workload_open(&img, s, &small, false), 0);
		expect_tag(img, 0, 1);
		image_close(img);
	}
	free(bytes);
}

static void a_snapshot_that_is_not_counted_is_kept(void **state)
{
	size_t len;
	uint8_t *bytes = image_with_snapshot(&len);
	uint64_t moved_off = align_up(len, CLUSTER);
	struct image *img =
		open_image(with_snapshot_at(bytes, len, moved_off), &small);
	int ret = 0;

	(void)state;
	for (uint64_t off = 0; off < L2_SPAN && !ret; off += CLUSTER)
		ret = write_tag(img, off, 1);
	assert_int_equal(ret, -EIO);
	image_close(img);
	free(bytes);
}

/* ---- counts ---- */

static uint64_t count_of(struct image *img, uint64_t cluster)
{
	uint64_t count = 0;

	assert_int_equal(qcow2_refcount_read(img->state, cluster, &count), 0);
	return count;
}

/* Two blocks, of which only the first one's clusters can be changed. */
static void counts_change_all_together_or_not_at_all(void **state)
{
	struct image *img = open_image(new_image(&small), &small);
	struct qcow2_run run = {60, 8, false}, rest = {64, 4, false};

	(void)state;
	for (uint64_t off = 0; off < 200 * CLUSTER; off += CLUSTER)
		assert_int_equal(write_tag(img, off, 1), 0);
	for (uint64_t i = 60; i < 68; i++)
		assert_int_equal(count_of(img, i), 1);
	assert_int_equal(qcow2_refcount_change(img->state, rest, -1), 0);
	assert_int_equal(qcow2_refcount_change(img->state, run, -1), -ERANGE);
	for (uint64_t i = 60; i < 68; i++)
		assert_int_equal(count_of(img, i), i < 64);
	assert_int_equal(qcow2_refcount_change(img->state, rest, +1), 0);
	assert_int_equal(qcow2_refcount_change(img->state, run, +1), 0);
	assert_int_equal(count_of(img, 60), 2);
	assert_int_equal(count_of(img, 67), 2);
	image_close(img);
}

/* More than one refcount block can count: these come with blocks of their own.
 */
static void a_long_run_is_counted_behind_everything(void **state)
{
	const uint64_t want = 200;
	struct image *img = open_image(new_image(&small), &small);
	struct qcow2 *q = img->state;
	uint64_t reftable_off = q->header.reftable_off;
	struct check_result result;
	struct qcow2_run run;

	(void)state;
	assert_int_equal(write_tag(img, 0, 1), 0);
	assert_int_equal(qcow2_alloc_exact(q, want, &run), 0);
	assert_int_equal(run.count, want);
	for (uint64_t i = 0; i < want; i++)
		assert_int_equal(count_of(img, run.first + i), 1);
	assert_int_equal(count_of(img, run.first + want), 0);
	/* The table had room for the blocks, and did not move. */
	assert_int_equal(q->header.reftable_off, reftable_off);
	/* Leaks, as far as the file goes. */
	assert_int_equal(storage_write(img->file, "", 1,
				       (run.first + want) * CLUSTER - 1),
			 0);
	assert_int_equal(image_flush(img), 0);
	assert_int_equal(
		image_check(img, &(struct check_args){0}, &result, NULL), 0);
	assert_int_equal(result.corruptions + result.check_errors, 0);
	assert_int_equal(result.leaks, want);
	expect_tag(img, 0, 1);
	/* Too far away for any pointer, or for any table. */
	assert_int_equal(qcow2_alloc_exact(q, 1ull << 40, &run), -EFBIG);
	assert_int_equal(qcow2_alloc_exact(q, 1ull << 50, &run), -EFBIG);
	assert_int_equal(image_close(img), 0);
}

/* ---- stores with an end ---- */

static void a_full_device_fails_the_write_and_not_the_flush(void **state)
{
	struct storage *s = new_image(&small);
	struct image *img;
	char why[300] = "";
	uint64_t off = 0;

	(void)state;
	/* Room for a few clusters, and a part of one. */
	assert_int_equal(
		storage_resize(s, 20 * CLUSTER + 100, PREALLOC_OFF, NULL), 0);
	s->can_grow = false;
	img = open_image(s, &small);
	/* A new L2 table each time: the last one has no place any more. */
	while (off < small.size_bytes && !write_tag(img, off, 1))
		off += L2_SPAN;
	assert_in_range(off, L2_SPAN, small.size_bytes - 1);
	assert_int_equal(write_tag(img, off, 1), -ENOSPC);
	assert_int_equal(image_zero(img, off, CLUSTER, 0), 0);
	assert_int_equal(image_flush(img), 0);
	for (uint64_t at = 0; at < off; at += L2_SPAN)
		expect_tag(img, at, 1);
	/* What is given back can be used again. */
	assert_int_equal(image_discard(img, 0, CLUSTER), 0);
	assert_int_equal(image_flush(img), 0);
	assert_int_equal(write_tag(img, CLUSTER, 2), 0);
	assert_int_equal(image_flush(img), 0);
	assert_int_equal(storage_memory_new(&s, "copy", 0), 0);
	for (uint64_t at = 0; at < storage_size(img->file); at += 100) {
		uint8_t buf[100];

		storage_read_padded(img->file, buf, sizeof(buf), at);
		assert_int_equal(storage_write(s, buf, sizeof(buf), at), 0);
	}
	assert_int_equal(image_close(img), 0);
	assert_int_equal(workload_check(s, NULL, why, sizeof(why)), 0);
}

static void shrinking_a_long_sparse_file_takes_no_time(void **state)
{
	struct storage *s = new_image(&small);
	struct image *img = open_image(s, &small);

	(void)state;
	assert_int_equal(write_tag(img, 0, 1), 0);
	/* Cluster by cluster this would take years. */
	assert_int_equal(storage_resize(s, 1ull << 61, PREALLOC_OFF, NULL), 0);
	assert_int_equal(image_resize(img, 4096, PREALLOC_OFF, true, NULL), 0);
	assert_in_range(storage_size(s), 3 * CLUSTER, 1024 * CLUSTER);
	expect_tag(img, 0, 1);
	assert_int_equal(image_close(img), 0);
}

/* ---- entries behind the end of the disk ---- */

/* The size of the disk as the header has it, set by somebody else. */
static struct storage *resized_by_hand(uint64_t size_bytes)
{
	const struct workload_geometry *g = &small;
	struct storage *s = new_image(g), *copy;
	struct image *img = open_image(s, g);
	be64_t size = be64_make(size_bytes);
	uint8_t buf[CLUSTER];

	assert_int_equal(write_tag(img, 0, 1), 0);
	assert_int_equal(write_tag(img, CLUSTER, 2), 0);
	assert_int_equal(write_tag(img, 2 * L2_SPAN, 3), 0);
	assert_int_equal(image_flush(img), 0);
	assert_int_equal(storage_memory_new(&copy, "copy", 0), 0);
	for (uint64_t at = 0; at < storage_size(s); at += CLUSTER) {
		storage_read_padded(s, buf, CLUSTER, at);
		assert_int_equal(storage_write(copy, buf, CLUSTER, at), 0);
	}
	assert_int_equal(image_close(img), 0);
	assert_int_equal(
		storage_write(copy, &size, sizeof(size),
			      offsetof(struct qcow2_header_disk, size)),
		0);
	return copy;
}

static void a_grown_disk_shows_nothing_that_lay_behind_its_end(void **state)
{
	static const uint64_t sizes[] = {0, CLUSTER};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct image *img =
			open_image(resized_by_hand(sizes[i]), &small);

		assert_int_equal(image_resize(img, small.size_bytes,
					      PREALLOC_OFF, false, NULL),
				 0);
		expect_tag(img, 0, sizes[i] ? 1 : 0);
		expect_tag(img, CLUSTER, 0);
		expect_tag(img, 2 * L2_SPAN, 0);
		assert_int_equal(image_close(img), 0);
	}
}

/* ---- packed clusters in groups ---- */

static struct storage *fault_image(struct fault_plan *plan)
{
	struct storage *s = new_image(&small);

	assert_int_equal(storage_fault_new(&s, s, plan), 0);
	return s;
}

static void packed_clusters_are_linked_together_or_not_at_all(void **state)
{
	struct fault_plan plan = {.code = EIO};
	struct pack_slot slots[2] = {
		{.guest_off = CLUSTER, .packed_len = 100},
		{.guest_off = L2_SPAN + CLUSTER, .packed_len = 100},
	};
	struct image *img = open_image(fault_image(&plan), &small);
	const struct pack_ops *pack = img->driver->pack;
	uint64_t count = 0;

	(void)state;
	/* Two tables, both out of the cache after the others were read. */
	for (uint64_t off = 0; off < small.size_bytes; off += L2_SPAN)
		assert_int_equal(write_tag(img, off, 1), 0);
	assert_int_equal(pack->reserve(img, slots, 2), 0);
	assert_int_equal(image_flush(img), 0);
	for (uint64_t off = 2 * L2_SPAN; off < small.size_bytes; off += L2_SPAN)
		expect_tag(img, off, 1);
	/* The first table is read, the second one is not. */
	plan.calls = 0;
	plan.nth = 2;
	assert_int_equal(pack->commit(img, slots, 2), -EIO);
	assert_true(plan.fired);
	pack->abort(img, slots, 2);
	expect_tag(img, CLUSTER, 0);
	expect_tag(img, L2_SPAN + CLUSTER, 0);
	assert_int_equal(qcow2_refcount_read(img->state,
					     slots[0].host_off / CLUSTER,
					     &count),
			 0);
	assert_int_equal(count, 0);
	assert_int_equal(image_close(img), 0);
}

/* ---- tables larger than the cache's units ---- */

static const struct workload_geometry large = {
	.name = "large",
	.create = "cluster_size=2M",
	.open = "l2-cache-size=65536,refcount-cache-size=65536",
	.size_bytes = 1ull << 40,
	.size_max = 1ull << 40,
};

#define LARGE	   (2ull << 20)
#define UNIT_SPAN  (8192 * LARGE) /* what 64 KiB of an L2 table describe */
#define TABLE_SPAN (32 * UNIT_SPAN)

/* One in each piece of two tables, and on both sides of a border. */
static const uint64_t large_offs[] = {
	0,
	UNIT_SPAN - CLUSTER,
	UNIT_SPAN,
	UNIT_SPAN * 17 + LARGE,
	TABLE_SPAN - CLUSTER,
	TABLE_SPAN,
	TABLE_SPAN + UNIT_SPAN * 31,
};
#define LARGE_COUNT (sizeof(large_offs) / sizeof(large_offs[0]))

static void expect_large(struct image *img, uint8_t first_tag)
{
	for (size_t i = 0; i < LARGE_COUNT; i++)
		expect_tag(img, large_offs[i], first_tag + (uint8_t)i);
}

static void write_large(struct image *img, uint8_t first_tag)
{
	for (size_t i = 0; i < LARGE_COUNT; i++)
		assert_int_equal(
			write_tag(img, large_offs[i], first_tag + (uint8_t)i),
			0);
}

static void large_tables_are_kept_and_copied_in_pieces(void **state)
{
	struct image *img = open_image(new_image(&large), &large);
	struct qcow2 *q = img->state;

	(void)state;
	write_large(img, 1);
	expect_large(img, 1);
	assert_int_equal(internal_snapshot_take(img), 0);
	assert_int_equal(image_flush(img), 0);
	assert_int_equal(qcow2_reload_tables(q, NULL), 0);
	/* Each table is copied now, and each cluster. */
	write_large(img, 100);
	expect_large(img, 100);
	assert_int_equal(image_flush(img), 0);
	/* The snapshot has what was there before. */
	assert_int_equal(internal_snapshot_expose(img->file, large.size_bytes),
			 0);
	q->header.l1_off = get64(img->file, AT_L1);
	assert_int_equal(qcow2_reload_tables(q, NULL), 0);
	expect_large(img, 1);
	assert_int_equal(image_close(img), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_table_is_not_made_over_another_table),
		cmocka_unit_test(an_image_without_counts_is_not_written),
		cmocka_unit_test(an_l2_pointer_to_a_table_is_not_written),
		cmocka_unit_test(a_snapshot_in_an_active_table_is_not_written),
		cmocka_unit_test(a_snapshot_that_is_not_counted_is_kept),
		cmocka_unit_test(counts_change_all_together_or_not_at_all),
		cmocka_unit_test(a_long_run_is_counted_behind_everything),
		cmocka_unit_test(
			a_full_device_fails_the_write_and_not_the_flush),
		cmocka_unit_test(shrinking_a_long_sparse_file_takes_no_time),
		cmocka_unit_test(
			a_grown_disk_shows_nothing_that_lay_behind_its_end),
		cmocka_unit_test(
			packed_clusters_are_linked_together_or_not_at_all),
		cmocka_unit_test(large_tables_are_kept_and_copied_in_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
