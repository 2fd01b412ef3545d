/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Resizing qcow2 images: what is refused; that a shrink gives back what counted
 * only what is gone; and every call of the storage failing in turn. Whatever
 * failed, the disk has its old or its new size, all that is inside both reads
 * as before, nothing is corrupt, and who claims success has done it.
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
#include "tests/support/log-storage.h"
#include "tests/support/workload.h"

#define CLUSTER 512u
#define KIB	1024u
#define SMALL	(256 * KIB)
/* Of the new part a cluster in each such piece is looked at. */
#define PIECE (16 * CLUSTER)

/* Counts of 64 bits: a refcount block describes 64 clusters. */
static const struct workload_geometry small = {
	.name = "small",
	.create = "cluster_size=512,refcount_bits=64",
	.open = "",
	.size_bytes = SMALL,
	.size_max = SMALL,
};

/* All refcount blocks lie at the start, counted by the first of them. */
static const struct workload_geometry allocated = {
	.name = "allocated",
	.create = "cluster_size=512,refcount_bits=64,preallocation=metadata",
	.open = "",
	.size_bytes = SMALL,
	.size_max = SMALL,
};

static const struct workload_geometry version_2 = {
	.name = "version-2",
	.create = "cluster_size=512,compat=v2",
	.open = "",
	.size_bytes = SMALL,
	.size_max = SMALL,
};

/* The disk that the tables of these look up in full. */
static const struct workload_geometry on_base = {
	.name = "on-base",
	.create = "cluster_size=512,backing_file=base,backing_fmt=raw",
	.open = "",
	.size_bytes = 24 * KIB,
	.size_max = 2 * 1024 * KIB,
	.base_bytes = 64 * KIB,
};

static const struct workload_geometry version_2_on_base = {
	.name = "version-2-on-base",
	.create = "cluster_size=512,compat=v2,"
		  "backing_file=base,backing_fmt=raw",
	.open = "",
	.size_bytes = 24 * KIB,
	.size_max = 2 * 1024 * KIB,
	.base_bytes = 64 * KIB,
};

static struct image *open_image(struct storage *s,
				const struct workload_geometry *g)
{
	struct image *img;

	assert_int_equal(workload_open(&img, s, g, true), 0);
	return img;
}

static struct image *new_image(const struct workload_geometry *g)
{
	struct storage *s;

	assert_int_equal(storage_memory_new(&s, "test", 0), 0);
	assert_int_equal(workload_create(s, g), 0);
	return open_image(s, g);
}

static uint8_t tag_of(uint64_t guest_off)
{
	return (uint8_t)(guest_off / CLUSTER % 255 + 1);
}

static void fill(struct image *img, uint64_t end)
{
	uint8_t buf[CLUSTER];

	for (uint64_t off = 0; off < end; off += CLUSTER) {
		memset(buf, tag_of(off), sizeof(buf));
		assert_int_equal(image_write(img, buf, sizeof(buf), off), 0);
	}
	assert_int_equal(image_flush(img), 0);
}

/* Cluster by cluster: is this what fill() left, or zeros? */
static bool holds(struct image *img, uint64_t off, bool filled)
{
	uint8_t buf[CLUSTER], expect[CLUSTER];

	memset(expect, filled ? tag_of(off) : 0, sizeof(expect));
	assert_int_equal(image_read(img, buf, sizeof(buf), off), 0);
	return !memcmp(buf, expect, sizeof(buf));
}

static void check(struct storage *s, bool leaks_allowed)
{
	struct check_result result;
	struct image *img;

	assert_int_equal(workload_open(&img, s, &small, false), 0);
	assert_int_equal(
		image_check(img, &(struct check_args){0}, &result, NULL), 0);
	assert_int_equal(result.corruptions, 0);
	assert_int_equal(result.check_errors, 0);
	if (!leaks_allowed)
		assert_int_equal(result.leaks, 0);
	image_close(img);
}

static struct storage *copy_of(struct storage *s)
{
	struct flat_disk disk = {0};

	flat_disk_read(&disk, s);
	assert_int_equal(storage_memory_from(&s, "copy", disk.data, disk.size),
			 0);
	flat_disk_release(&disk);
	return s;
}

/* ---- refcount blocks ---- */

static unsigned blocks_of(struct image *img)
{
	struct qcow2 *q = img->state;
	unsigned count = 0;

	for (uint64_t i = 0; i < q->reftable_entries; i++)
		count += q->reftable[i] != 0;
	return count;
}

static void shrink_and_grow(const struct workload_geometry *g)
{
	struct image *img = new_image(g);
	unsigned before, after;
	uint64_t long_file;

	fill(img, g->size_bytes);
	before = blocks_of(img);
	long_file = storage_size(img->file);
	assert_int_equal(image_resize(img, 16 * KIB, PREALLOC_OFF, true, NULL),
			 0);
	after = blocks_of(img);
	assert_in_range(before, 8, 100);
	assert_in_range(after, 1, before / 2);
	assert_true(storage_size(img->file) < long_file / 2);
	for (uint64_t off = 0; off < 16 * KIB; off += CLUSTER)
		assert_true(holds(img, off, true));
	assert_int_equal(image_flush(img), 0);
	check(copy_of(img->file), false);

	/* What was given back is found again, and counted by new blocks. */
	assert_int_equal(
		image_resize(img, g->size_bytes, PREALLOC_OFF, false, NULL), 0);
	assert_true(holds(img, 16 * KIB, false));
	fill(img, g->size_bytes);
	assert_true(blocks_of(img) > after);
	for (uint64_t off = 0; off < g->size_bytes; off += CLUSTER)
		assert_true(holds(img, off, true));
	check(copy_of(img->file), false);
	assert_int_equal(image_close(img), 0);
}

static void a_shrink_lets_go_of_blocks_that_count_nothing(void **state)
{
	(void)state;
	shrink_and_grow(&small);
	shrink_and_grow(&allocated);
}

/* ---- refusals ---- */

static void expect_refused(struct image *img, uint64_t size,
			   enum prealloc_mode mode, int code, const char *words)
{
	uint64_t size_before = img->size_bytes;
	struct error err = {0};

	assert_int_equal(image_resize(img, size, mode, true, &err), -code);
	if (!strstr(err.message, words))
		fail_msg("\"%s\" does not say \"%s\"", err.message, words);
	assert_int_equal(img->size_bytes, size_before);
}

static void what_cannot_be_resized_is_left_alone(void **state)
{
	struct image *img = new_image(&version_2);
	struct qcow2 *q = img->state;

	(void)state;
	q->header.snapshot_count = 1;
	expect_refused(img, 1024 * KIB, PREALLOC_OFF, ENOTSUP,
		       "version 2 image which has snapshots");
	expect_refused(img, 4 * KIB, PREALLOC_OFF, ENOTSUP, "has snapshots");
	q->header.snapshot_count = 0;
	q->tail.has_bitmaps = true;
	expect_refused(img, 1024 * KIB, PREALLOC_OFF, ENOTSUP, "bitmaps");
	q->tail.has_bitmaps = false;
	expect_refused(img, 1ull << 50, PREALLOC_OFF, EFBIG, "too large");
	assert_int_equal(image_close(img), 0);

	img = new_image(&on_base);
	expect_refused(img, 128 * KIB, PREALLOC_METADATA, EINVAL,
		       "with a backing file");
	assert_int_equal(image_close(img), 0);
}

static void a_longer_base_does_not_show_in_the_new_part(void **state)
{
	static const struct workload_geometry *const both[] = {
		&on_base, &version_2_on_base};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct image *img = new_image(both[i]);

		/* Down and up again, and beyond the base. */
		assert_int_equal(
			image_resize(img, 16 * KIB, PREALLOC_OFF, true, NULL),
			0);
		assert_int_equal(
			image_resize(img, 128 * KIB, PREALLOC_OFF, false, NULL),
			0);
		for (uint64_t off = 16 * KIB; off < 128 * KIB; off += CLUSTER)
			assert_true(holds(img, off, false));
		check(copy_of(img->file), false);
		assert_int_equal(image_close(img), 0);
	}
}

/* ---- faults ---- */

struct fault_case {
	const struct workload_geometry *geometry;
	uint64_t size; /* the new one */
	enum prealloc_mode mode;
};

static const struct fault_case fault_cases[] = {
	{&small, 16 * KIB, PREALLOC_OFF},
	{&small, 16 * KIB + 100 * 512, PREALLOC_OFF},
	{&allocated, 16 * KIB, PREALLOC_OFF},
	{&small, 3 * 1024 * KIB, PREALLOC_OFF}, /* the L1 table moves */
	{&small, 300 * KIB, PREALLOC_METADATA},
	{&small, 300 * KIB, PREALLOC_FALLOC},
	{&small, 300 * KIB, PREALLOC_FULL},
	{&version_2, 20 * KIB, PREALLOC_OFF},
	{&version_2, 3 * 1024 * KIB, PREALLOC_OFF},
	{&on_base, 8 * KIB, PREALLOC_OFF},
	{&on_base, 2 * 1024 * KIB, PREALLOC_OFF},
	{&version_2_on_base, 8 * KIB, PREALLOC_OFF},
	{&version_2_on_base, 2 * 1024 * KIB, PREALLOC_OFF},
};

/* Takes the storage, which has seen a fault; `done`: it claims success. */
static void judge(struct storage *s, const struct fault_case *c, bool done)
{
	uint64_t old_size = c->geometry->size_bytes;
	uint64_t kept = min_u64(old_size, c->size);
	struct storage *copy = copy_of(s);
	struct image *img = open_image(s, c->geometry);

	if (done)
		assert_int_equal(img->size_bytes, c->size);
	else
		assert_true(img->size_bytes == c->size ||
			    img->size_bytes == old_size);
	for (uint64_t off = 0; off < kept; off += CLUSTER)
		assert_true(holds(img, off, true));
	/* Of what a shrink was to remove a part may be gone. */
	for (uint64_t off = kept; off < img->size_bytes; off += PIECE)
		assert_true(
			holds(img, off, false) ||
			(img->size_bytes == old_size && holds(img, off, true)));
	check(copy, true);
	/* Without a fault it works, on what the fault has left. */
	assert_int_equal(image_resize(img, c->size, PREALLOC_OFF, true, NULL),
			 0);
	fill(img, kept);
	check(copy_of(img->file), true);
	assert_int_equal(image_close(img), 0);
}

/* False when the fault did not come: there was no such call. */
static bool resize_with_fault(struct storage *start, const struct fault_case *c,
			      struct fault_plan *plan)
{
	struct storage *left = NULL, *s;
	struct image *img;
	uint64_t nth = plan->nth;
	int ret, closed;

	plan->nth = 0;
	plan->keep = &left;
	assert_int_equal(storage_fault_new(&s, copy_of(start), plan), 0);
	img = open_image(s, c->geometry);
	plan->calls = 0;
	plan->fired = plan->lost = false;
	plan->nth = nth;
	ret = image_resize(img, c->size, c->mode, true, NULL);
	closed = image_close(img);
	if (plan->lost)
		assert_true(ret < 0 || closed < 0);
	judge(left, c, !ret && !closed);
	return plan->fired;
}

static void every_call_may_fail(void **state)
{
	static const int codes[] = {EIO, ENOSPC};
	unsigned injections = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(fault_cases) / sizeof(*fault_cases);
	     i++) {
		const struct fault_case *c = &fault_cases[i];
		struct image *img = new_image(c->geometry);
		struct storage *start;

		fill(img, c->geometry->size_bytes);
		start = copy_of(img->file);
		assert_int_equal(image_close(img), 0);
		/* EIO once, EIO from then on, ENOSPC from then on. */
		for (unsigned k = 0; k < 3; k++) {
			struct fault_plan plan = {
				.code = codes[k / 2],
				.for_ever = k > 0,
				.nth = 1,
			};

			for (; resize_with_fault(start, c, &plan); plan.nth++)
				injections++;
		}
		storage_close(start);
	}
	print_message("%u injections\n", injections);
	assert_true(injections > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_shrink_lets_go_of_blocks_that_count_nothing),
		cmocka_unit_test(what_cannot_be_resized_is_left_alone),
		cmocka_unit_test(a_longer_base_does_not_show_in_the_new_part),
		cmocka_unit_test(every_call_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
