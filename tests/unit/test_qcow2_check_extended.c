/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Check and repair of what cannot be read or written yet, but checked: extended
 * L2 entries, which have a bitmap of subclusters each, and disks that keep
 * their data in another file.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "block/storage.h"
#include "formats/qcow2/layout.h"
#include "tests/support/check-fixture.h"
#include "tests/support/qcow2-builder.h"

#define BITS	    14
#define CLUSTER	    (1u << BITS)
#define AT_SIZE	    offsetof(struct qcow2_header_disk, size)
#define AT_INCOMPAT offsetof(struct qcow2_header_disk, incompatible_features)

#define ALL_ALLOCATED 0x00000000ffffffffull
#define ALL_ZERO      0xffffffff00000000ull
#define HALF_OF_EACH  0xffff00000000ffffull

struct extended {
	struct qcow2_builder b;
	uint64_t l2, data; /* three clusters of data */
};

static void put_entry(struct extended *e, unsigned idx, uint64_t entry,
		      uint64_t bitmap)
{
	qcow2_builder_put(&e->b, e->l2 + 16 * idx, entry);
	qcow2_builder_put(&e->b, e->l2 + 16 * idx + 8, bitmap);
}

static uint64_t get_entry(struct extended *e, unsigned idx, uint64_t *bitmap)
{
	*bitmap = qcow2_builder_get(&e->b, e->l2 + 16 * idx + 8);
	return qcow2_builder_get(&e->b, e->l2 + 16 * idx);
}

/* Data, half data and half zeros, zeros, and space without data. */
static void make_extended(struct extended *e)
{
	qcow2_builder_init(&e->b, BITS, 1, 1);
	e->l2 = qcow2_builder_take(&e->b, 1);
	e->data = qcow2_builder_take(&e->b, 3);
	qcow2_builder_put(&e->b, e->b.l1_off, e->l2 | QCOW2_COPIED);
	put_entry(e, 0, e->data | QCOW2_COPIED, ALL_ALLOCATED);
	put_entry(e, 1, (e->data + CLUSTER) | QCOW2_COPIED, HALF_OF_EACH);
	put_entry(e, 2, 0, ALL_ZERO);
	put_entry(e, 3, (e->data + 2 * CLUSTER) | QCOW2_COPIED, 0);
	qcow2_builder_finish(&e->b);
	qcow2_builder_put(&e->b, AT_SIZE, CLUSTER / 16 * CLUSTER);
	qcow2_builder_put(&e->b, AT_INCOMPAT, QCOW2_INCOMPAT_EXTENDED_L2);
}

/* Exactly one corruption, and these words about it. */
static void expect_one(struct extended *e, const char *words)
{
	struct check_findings f;
	struct check_result r = check_fixture_run(&e->b, false, false, &f);

	assert_int_equal(r.corruptions, 1);
	assert_int_equal(r.leaks, 0);
	assert_int_equal(f.count, 1);
	if (!strstr(f.text[0], words))
		fail_msg("\"%s\" does not say \"%s\"", f.text[0], words);
	storage_close(e->b.file);
}

static void sound_extended_entries_are_clean(void **state)
{
	struct check_result r;
	struct extended e;

	(void)state;
	make_extended(&e);
	r = check_fixture_run(&e.b, false, false, NULL);
	assert_int_equal(r.corruptions + r.leaks + r.check_errors, 0);
	assert_int_equal(r.allocated_clusters, 3);
	assert_int_equal(r.total_clusters, CLUSTER / 16);
	storage_close(e.b.file);
}

static void bitmaps_that_contradict_themselves_are_found(void **state)
{
	struct extended e;

	(void)state;
	make_extended(&e);
	put_entry(&e, 0, e.data | QCOW2_COPIED, 0x100000001ull);
	expect_one(&e, "subclusters are both allocated and zero: "
		       "bitmap=100000001");
	make_extended(&e);
	put_entry(&e, 4, 0, 1);
	expect_one(&e, "unallocated cluster has subclusters that are "
		       "allocated: bitmap=1");
	make_extended(&e);
	put_entry(&e, 3, qcow2_packed_encode(e.data + 2 * CLUSTER, 512, BITS),
		  2);
	expect_one(&e, "compressed cluster with subcluster bitmap 2");
}

static void counts_below_extended_entries_are_mended(void **state)
{
	struct check_result r;
	struct extended e;
	uint64_t bitmap;

	(void)state;
	make_extended(&e);
	check_fixture_set_count(&e.b, e.data, 2);
	check_fixture_set_count(&e.b, e.data + CLUSTER, 0);
	r = check_fixture_run(&e.b, false, false, NULL);
	assert_int_equal(r.leaks, 1);
	/* A count that is too low, and two flags that follow from counts. */
	assert_int_equal(r.corruptions, 3);
	r = check_fixture_run(&e.b, true, true, NULL);
	assert_int_equal(r.corruptions + r.leaks, 0);
	assert_int_equal(check_fixture_get_count(&e.b, e.data), 1);
	assert_int_equal(check_fixture_get_count(&e.b, e.data + CLUSTER), 1);
	check_fixture_clean(&e.b);
	assert_int_equal(get_entry(&e, 1, &bitmap),
			 (e.data + CLUSTER) | QCOW2_COPIED);
	assert_int_equal(bitmap, HALF_OF_EACH);
	storage_close(e.b.file);
}

static void flags_of_extended_entries_are_mended(void **state)
{
	struct extended e;
	uint64_t bitmap;

	(void)state;
	make_extended(&e);
	/* A bitmap like any other, which as an entry would lack its flag. */
	put_entry(&e, 1, e.data + CLUSTER, e.data);
	put_entry(&e, 3, e.data + 2 * CLUSTER, 0);
	assert_int_equal(
		check_fixture_run(&e.b, false, false, NULL).corruptions, 2);
	assert_int_equal(check_fixture_run(&e.b, true, true, NULL).corruptions,
			 0);
	check_fixture_clean(&e.b);
	/* No bitmap was taken for an entry. */
	assert_int_equal(get_entry(&e, 1, &bitmap),
			 (e.data + CLUSTER) | QCOW2_COPIED);
	assert_int_equal(bitmap, e.data);
	assert_int_equal(get_entry(&e, 2, &bitmap), 0);
	assert_int_equal(bitmap, ALL_ZERO);
	storage_close(e.b.file);
}

/* Its offset goes if no subcluster has its data there, and stays otherwise. */
static void a_misplaced_extended_entry_keeps_what_it_reads(void **state)
{
	struct extended e;
	uint64_t entry, bitmap;

	(void)state;
	make_extended(&e);
	put_entry(&e, 3, (e.data + 2 * CLUSTER + 512) | QCOW2_COPIED, ALL_ZERO);
	check_fixture_run(&e.b, true, true, NULL);
	assert_int_equal(get_entry(&e, 3, &bitmap), 0);
	assert_int_equal(bitmap, ALL_ZERO);
	check_fixture_clean(&e.b);

	entry = (e.data + 512) | QCOW2_COPIED;
	put_entry(&e, 0, entry, 1);
	assert_true(check_fixture_run(&e.b, true, true, NULL).corruptions > 0);
	assert_int_equal(get_entry(&e, 0, &bitmap), entry);
	assert_int_equal(bitmap, 1);
	storage_close(e.b.file);
}

/* Where data is in another file nothing here is counted for it. */
static void data_in_another_file_has_no_counts_here(void **state)
{
	struct check_result r;
	struct extended e;

	(void)state;
	qcow2_builder_init(&e.b, BITS, 1, 1);
	e.l2 = qcow2_builder_take(&e.b, 1);
	qcow2_builder_put(&e.b, e.b.l1_off, e.l2 | QCOW2_COPIED);
	/* Offset 0 is a place there, and so is one far behind this file. */
	qcow2_builder_put(&e.b, e.l2, QCOW2_COPIED);
	qcow2_builder_put(&e.b, e.l2 + 8, 100ull * CLUSTER | QCOW2_COPIED);
	qcow2_builder_finish(&e.b);
	qcow2_builder_put(&e.b, AT_INCOMPAT, QCOW2_INCOMPAT_DATA_FILE);
	r = check_fixture_run(&e.b, false, false, NULL);
	assert_int_equal(r.corruptions + r.leaks + r.check_errors, 0);
	assert_int_equal(r.allocated_clusters, 2);
	qcow2_builder_put(&e.b, e.l2 + 8,
			  qcow2_packed_encode(CLUSTER, 512, BITS));
	expect_one(&e, "compressed cluster with data file");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sound_extended_entries_are_clean),
		cmocka_unit_test(bitmaps_that_contradict_themselves_are_found),
		cmocka_unit_test(counts_below_extended_entries_are_mended),
		cmocka_unit_test(flags_of_extended_entries_are_mended),
		cmocka_unit_test(
			a_misplaced_extended_entry_keeps_what_it_reads),
		cmocka_unit_test(data_in_another_file_has_no_counts_here),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
