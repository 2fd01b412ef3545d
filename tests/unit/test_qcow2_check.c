/* SPDX-License-Identifier: BSD-3-Clause */
/* Check and repair of images that are built, and damaged, by hand. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/image.h"
#include "block/progress.h"
#include "block/storage.h"
#include "formats/qcow2/check.h"
#include "formats/registry.h"
#include "tests/support/check-fixture.h"
#include "tests/support/qcow2-builder.h"

struct simple {
	struct qcow2_builder b;
	uint64_t l2, data;
};

/* Eight clusters of data under one table. */
static void make_simple(struct simple *s)
{
	qcow2_builder_init(&s->b, 12, 8, 1);
	s->l2 = qcow2_builder_take(&s->b, 1);
	s->data = qcow2_builder_take(&s->b, 8);
	qcow2_builder_put(&s->b, s->b.l1_off, s->l2 | QCOW2_COPIED);
	for (uint64_t i = 0; i < 8; i++)
		qcow2_builder_put(&s->b, s->l2 + 8 * i,
				  (s->data + (i << 12)) | QCOW2_COPIED);
	qcow2_builder_finish(&s->b);
}

static void sound_image_is_clean(void **state)
{
	struct check_findings f;
	struct check_result r;
	struct simple s;

	(void)state;
	make_simple(&s);
	r = check_fixture_run(&s.b, false, false, &f);
	assert_int_equal(f.count, 0);
	assert_int_equal(r.corruptions + r.leaks + r.check_errors, 0);
	assert_int_equal(r.allocated_clusters, 8);
	assert_int_equal(r.fragmented_clusters, 0);
	assert_int_equal(r.image_end_offset, storage_size(s.b.file));
	storage_close(s.b.file);
}

static void leak_is_found_and_freed(void **state)
{
	struct check_findings f;
	struct check_result r;
	struct simple s;

	(void)state;
	make_simple(&s);
	qcow2_builder_put(&s.b, s.l2, 0);
	r = check_fixture_run(&s.b, false, false, &f);
	assert_int_equal(r.leaks, 1);
	assert_int_equal(r.corruptions, 0);
	assert_true(check_fixture_found(
		&f, "Leaked cluster 4 refcount=1 reference=0"));

	r = check_fixture_run(&s.b, true, false, &f);
	assert_int_equal(r.leaks_fixed, 1);
	assert_int_equal(r.leaks, 0);
	assert_int_equal(check_fixture_get_count(&s.b, s.data), 0);
	check_fixture_clean(&s.b);
	storage_close(s.b.file);
}

static void low_count_is_raised_and_flags_cleared(void **state)
{
	struct check_findings f;
	struct check_result r;
	struct simple s;

	(void)state;
	make_simple(&s);
	/* The second entry leads to the first one's cluster. */
	qcow2_builder_put(&s.b, s.l2 + 8, s.data | QCOW2_COPIED);
	r = check_fixture_run(&s.b, false, false, &f);
	assert_int_equal(r.corruptions, 1);
	assert_int_equal(r.leaks, 1);
	assert_true(check_fixture_found(
		&f, "ERROR cluster 4 refcount=1 reference=2"));

	r = check_fixture_run(&s.b, true, true, NULL);
	assert_int_equal(r.corruptions + r.leaks, 0);
	assert_int_equal(check_fixture_get_count(&s.b, s.data), 2);
	assert_int_equal(qcow2_builder_get(&s.b, s.l2), s.data);
	assert_int_equal(qcow2_builder_get(&s.b, s.l2 + 8), s.data);
	check_fixture_clean(&s.b);
	storage_close(s.b.file);
}

static void leaks_only_repair_leaves_errors(void **state)
{
	struct check_result r;
	struct simple s;

	(void)state;
	make_simple(&s);
	qcow2_builder_put(&s.b, s.l2 + 8, s.data | QCOW2_COPIED);
	r = check_fixture_run(&s.b, true, false, NULL);
	assert_int_equal(r.leaks, 0);
	assert_int_equal(r.leaks_fixed, 1);
	assert_int_equal(r.corruptions, 1);
	assert_int_equal(check_fixture_get_count(&s.b, s.data), 1);
	storage_close(s.b.file);
}

static void broken_refcount_table_is_rebuilt(void **state)
{
	static const uint64_t entries[] = {0, 1, 0x200, 1ull << 40};

	(void)state;
	for (size_t i = 0; i < sizeof(entries) / sizeof(*entries); i++) {
		struct check_result r;
		struct simple s;
		uint64_t old_off, old_len;

		make_simple(&s);
		old_off = s.b.reftable_off;
		old_len = storage_size(s.b.file);
		qcow2_builder_put(&s.b, old_off, entries[i]);
		r = check_fixture_run(&s.b, true, true, NULL);
		assert_int_equal(r.corruptions + r.leaks + r.check_errors, 0);
		assert_true(r.corruptions_fixed > 0);
		s.b.reftable_off = qcow2_builder_get(&s.b, 48);
		assert_true(s.b.reftable_off >= old_len);
		assert_int_equal(check_fixture_get_count(&s.b, s.data), 1);
		assert_int_equal(check_fixture_get_count(&s.b, old_off), 0);
		check_fixture_clean(&s.b);
		storage_close(s.b.file);
	}
}

static void rebuild_stays_clear_of_dangling_pointers(void **state)
{
	struct check_result r;
	struct simple s;
	uint64_t end, table;

	(void)state;
	make_simple(&s);
	end = storage_size(s.b.file);
	qcow2_builder_put(&s.b, s.l2, (end + 4096) | QCOW2_COPIED);
	qcow2_builder_put(&s.b, s.b.reftable_off,
			  qcow2_builder_get(&s.b, s.b.reftable_off) | 1);
	r = check_fixture_run(&s.b, true, true, NULL);
	table = qcow2_builder_get(&s.b, 48);
	assert_true(table >= end);
	/* One block and the table: neither lies where the pointer leads. */
	assert_int_not_equal(table, end + 4096);
	assert_int_not_equal(qcow2_builder_get(&s.b, table), end + 4096);
	/* What was counted before stays counted: it may be what was lost. */
	assert_true(r.corruptions + r.leaks > 0);
	storage_close(s.b.file);
}

static void nothing_is_freed_while_a_pointer_is_lost(void **state)
{
	struct check_result r;
	struct simple s;

	(void)state;
	make_simple(&s);
	qcow2_builder_put(&s.b, s.b.l1_off, QCOW2_COPIED | 1ull << 40);
	r = check_fixture_run(&s.b, true, true, NULL);
	assert_int_equal(r.leaks, 9);
	assert_int_equal(r.leaks_fixed, 0);
	assert_true(r.corruptions > 0);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(
			check_fixture_get_count(&s.b, s.data + (i << 12)), 1);

	/* With the pointer mended by hand all is well again. */
	qcow2_builder_put(&s.b, s.b.l1_off, QCOW2_COPIED | s.l2);
	check_fixture_clean(&s.b);
	storage_close(s.b.file);
}

/* The L1 entry leads to guest data: no byte of that may change. */
static void guest_data_is_not_taken_for_a_table(void **state)
{
	uint8_t before[4096], after[4096];
	struct simple s;

	(void)state;
	make_simple(&s);
	memset(before, 9, sizeof(before));
	assert_int_equal(storage_write(s.b.file, before, 4096, s.data), 0);
	qcow2_builder_put(&s.b, s.b.l1_off, s.data | QCOW2_COPIED);
	assert_true(check_fixture_run(&s.b, true, true, NULL).corruptions > 0);
	assert_int_equal(storage_read(s.b.file, after, 4096, s.data), 0);
	assert_memory_equal(before, after, 4096);
	storage_close(s.b.file);
}

/* The L1 table is the header and all that follows, and longer than the file. */
static void header_is_not_taken_for_an_l1_table(void **state)
{
	uint64_t l1_entries;
	struct simple s;

	(void)state;
	make_simple(&s);
	/* As an entry it leads where nothing else does, and is not COPIED. */
	l1_entries = s.data;
	qcow2_builder_put(&s.b, s.l2, 0);
	assert_true(l1_entries * 8 > storage_size(s.b.file) + 4096);
	qcow2_builder_put(&s.b, 32, l1_entries);
	qcow2_builder_put(&s.b, 40, 0);
	assert_true(check_fixture_run(&s.b, true, true, NULL).corruptions > 0);
	assert_int_equal(qcow2_builder_get(&s.b, 32), l1_entries);
	storage_close(s.b.file);
}

static void misaligned_zero_loses_its_offset(void **state)
{
	struct check_result r;
	struct simple s;

	(void)state;
	make_simple(&s);
	qcow2_builder_put(&s.b, s.l2, (s.data + 512) | 1 | QCOW2_COPIED);
	r = check_fixture_run(&s.b, true, true, NULL);
	assert_int_equal(r.corruptions + r.leaks, 0);
	assert_int_equal(qcow2_builder_get(&s.b, s.l2), QCOW2_L2_ZERO);
	check_fixture_clean(&s.b);
	storage_close(s.b.file);
}

static void misaligned_data_is_left_alone(void **state)
{
	struct simple s;
	uint64_t entry;

	(void)state;
	make_simple(&s);
	entry = (s.data + 512) | QCOW2_COPIED;
	qcow2_builder_put(&s.b, s.l2, entry);
	assert_true(check_fixture_run(&s.b, true, true, NULL).corruptions > 0);
	assert_int_equal(qcow2_builder_get(&s.b, s.l2), entry);
	storage_close(s.b.file);
}

static void bits_of_damage_go_after_repair(void **state)
{
	struct simple s;

	(void)state;
	make_simple(&s);
	qcow2_builder_put(&s.b, 72,
			  QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT);
	check_fixture_run(&s.b, false, false, NULL);
	assert_int_equal(qcow2_builder_get(&s.b, 72), 3);
	check_fixture_run(&s.b, true, true, NULL);
	assert_int_equal(qcow2_builder_get(&s.b, 72), 0);
	storage_close(s.b.file);
}

/* A dirty image is mended by opening it for writing. */
static void dirty_image_is_mended_when_opened(void **state)
{
	struct error err = {0};
	struct image *img;
	struct simple s;

	(void)state;
	make_simple(&s);
	check_fixture_set_count(&s.b, s.data, 0);
	qcow2_builder_put(&s.b, 72, QCOW2_INCOMPAT_DIRTY);
	if (image_open_storage(&img, s.b.file, format_find("qcow2"), NULL,
			       IMAGE_WRITE, &err) < 0)
		fail_msg("open: %s", err.message);
	assert_int_equal(check_fixture_get_count(&s.b, s.data), 1);
	assert_int_equal(qcow2_builder_get(&s.b, 72), 0);
	assert_int_equal(image_close(img), 0);
}

/*
 * More paths to one table than a counter holds, and one bad entry in it: both
 * count for each path, yet the table is read once.
 */
static void many_paths_weigh_but_do_not_multiply_work(void **state)
{
	const uint32_t paths = 100000;
	struct qcow2_builder b;
	struct check_result r;
	struct check_findings f;
	uint64_t l2, data;

	(void)state;
	qcow2_builder_init(&b, 12, paths, 1);
	l2 = qcow2_builder_take(&b, 1);
	data = qcow2_builder_take(&b, 1);
	for (uint32_t i = 0; i < paths; i++)
		qcow2_builder_put(&b, b.l1_off + 8ull * i, l2);
	qcow2_builder_put(&b, l2, data);
	qcow2_builder_put(&b, l2 + 8, 1ull << 40);
	qcow2_builder_finish(&b);
	check_fixture_set_count(&b, l2, UINT16_MAX);
	check_fixture_set_count(&b, data, UINT16_MAX);
	r = check_fixture_run(&b, false, false, &f);
	assert_int_equal(r.corruptions, paths + 2ull * (paths - UINT16_MAX));
	assert_int_equal(r.leaks, 0);
	assert_int_equal(r.allocated_clusters, 2ull * paths);
	assert_int_equal(f.count, 3);
	storage_close(b.file);
}

/* Counters are narrower than what they count; each way past their end. */
static void more_references_than_a_counter_holds(void **state)
{
	const uint32_t paths = 80000, tables = 130;
	struct qcow2_builder b;
	struct check_findings f;
	uint64_t l2, data, many;
	char text[100];

	(void)state;
	/* Two tables by 40000 paths each, and a cluster that is in both. */
	qcow2_builder_init(&b, 12, paths, 1);
	l2 = qcow2_builder_take(&b, 2);
	data = qcow2_builder_take(&b, 1);
	for (uint32_t i = 0; i < paths; i++)
		qcow2_builder_put(&b, b.l1_off + 8ull * i, l2 + i % 2 * 4096);
	qcow2_builder_put(&b, l2, data);
	qcow2_builder_put(&b, l2 + 4096, data);
	qcow2_builder_finish(&b);
	check_fixture_set_count(&b, data, UINT16_MAX);
	check_fixture_run(&b, false, false, &f);
	snprintf(text, sizeof(text),
		 "ERROR overflow cluster offset=0x%llx: 80000 references, "
		 "at most 65535 can be counted",
		 (unsigned long long)data);
	assert_true(check_fixture_found(&f, text));
	storage_close(b.file);

	/* One by one: a cluster in every entry of many tables. */
	qcow2_builder_init(&b, 12, tables, 1);
	l2 = qcow2_builder_take(&b, tables);
	many = qcow2_builder_take(&b, 1);
	for (uint32_t i = 0; i < tables; i++)
		qcow2_builder_put(&b, b.l1_off + 8 * i,
				  (l2 + i * 4096) | QCOW2_COPIED);
	for (uint32_t i = 0; i < tables * 512; i++)
		qcow2_builder_put(&b, l2 + 8 * i, many);
	qcow2_builder_finish(&b);
	check_fixture_set_count(&b, many, UINT16_MAX);
	check_fixture_run(&b, false, false, &f);
	snprintf(text, sizeof(text),
		 "ERROR overflow cluster offset=0x%llx: 66560 references, "
		 "at most 65535 can be counted",
		 (unsigned long long)many);
	assert_true(check_fixture_found(&f, text));
	storage_close(b.file);
}

static void a_cancelled_check_finds_and_mends_nothing(void **state)
{
	struct progress progress = {.cancelled = true};
	struct check_args args = {
		.fix_leaks = true,
		.fix_errors = true,
		.progress = &progress,
	};
	struct check_result result;
	struct error err = {0};
	struct image *img;
	struct simple s;

	(void)state;
	make_simple(&s);
	check_fixture_set_count(&s.b, s.data, 0);
	assert_int_equal(
		image_open_storage(&img, s.b.file, format_find("qcow2"), NULL,
				   IMAGE_FOR_CHECK | IMAGE_WRITE, NULL),
		0);
	assert_int_equal(image_check(img, &args, &result, &err), -ECANCELED);
	assert_int_equal(check_fixture_get_count(&s.b, s.data), 0);
	args.progress = NULL;
	assert_int_equal(image_check(img, &args, &result, NULL), 0);
	assert_int_equal(check_fixture_get_count(&s.b, s.data), 1);
	assert_int_equal(image_close(img), 0);
}

/* Each costs a read of its own; there is an end to that, which is told. */
static void misaligned_tables_are_read_up_to_a_limit(void **state)
{
	const uint32_t tables = 1100;
	struct qcow2_builder b;
	struct check_findings f;
	struct check_result r;
	uint64_t l2, lone;

	(void)state;
	qcow2_builder_init(&b, 12, tables, 1);
	l2 = qcow2_builder_take(&b, 200);
	lone = qcow2_builder_take(&b, 1);
	for (uint32_t i = 0; i < tables; i++)
		qcow2_builder_put(&b, b.l1_off + 8 * i,
				  l2 + 512 * (1 + i + i / 7));
	qcow2_builder_finish(&b);
	r = check_fixture_run(&b, false, false, &f);
	assert_true(r.corruptions >= tables);
	/* What was not read may lead to what looks like a leak. */
	assert_true(r.check_errors > 0);
	r = check_fixture_run(&b, true, true, NULL);
	assert_true(r.corruptions >= tables);
	assert_int_equal(check_fixture_get_count(&b, lone), 1);
	storage_close(b.file);
}

/* More clusters than are counted at a time, used on both sides of the seam. */
static void slices_meet_without_a_gap(void **state)
{
	const uint64_t seam = QCHECK_WINDOW_CLUSTERS;
	struct qcow2_builder b;
	struct check_result r;
	struct check_findings f;
	char text[80];
	uint64_t l2;

	(void)state;
	qcow2_builder_init(&b, 9, 8, 2200);
	l2 = qcow2_builder_take(&b, 1);
	qcow2_builder_put(&b, b.l1_off, l2 | QCOW2_COPIED);
	b.next = seam - 4;
	qcow2_builder_take(&b, 8);
	for (uint64_t i = 0; i < 8; i++)
		qcow2_builder_put(&b, l2 + 8 * i,
				  (seam - 4 + i) << 9 | QCOW2_COPIED);
	qcow2_builder_finish(&b);
	check_fixture_clean(&b);

	check_fixture_set_count(&b, (seam - 1) << 9, 2);
	check_fixture_set_count(&b, seam << 9, 0);
	r = check_fixture_run(&b, false, false, &f);
	assert_int_equal(r.leaks, 1);
	assert_int_equal(r.corruptions, 3);
	snprintf(text, sizeof(text),
		 "ERROR cluster %llu refcount=0 reference=1",
		 (unsigned long long)seam);
	assert_true(check_fixture_found(&f, text));
	check_fixture_run(&b, true, true, NULL);
	check_fixture_clean(&b);
	storage_close(b.file);
}

/* Entries anywhere below 2^56 cost nothing: the file says what is counted. */
static void entries_far_away_take_no_memory(void **state)
{
	struct check_result r;
	struct simple s;

	(void)state;
	make_simple(&s);
	for (uint64_t i = 8; i < 512; i++)
		qcow2_builder_put(&s.b, s.l2 + 8 * i,
				  1ull << 55 | i << 40 | QCOW2_COPIED);
	r = check_fixture_run(&s.b, false, false, NULL);
	/* Past the end, and a flag without a count. */
	assert_int_equal(r.corruptions, 2 * 504);
	assert_int_equal(r.image_end_offset, storage_size(s.b.file));
	storage_close(s.b.file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sound_image_is_clean),
		cmocka_unit_test(leak_is_found_and_freed),
		cmocka_unit_test(low_count_is_raised_and_flags_cleared),
		cmocka_unit_test(leaks_only_repair_leaves_errors),
		cmocka_unit_test(broken_refcount_table_is_rebuilt),
		cmocka_unit_test(rebuild_stays_clear_of_dangling_pointers),
		cmocka_unit_test(nothing_is_freed_while_a_pointer_is_lost),
		cmocka_unit_test(guest_data_is_not_taken_for_a_table),
		cmocka_unit_test(header_is_not_taken_for_an_l1_table),
		cmocka_unit_test(misaligned_zero_loses_its_offset),
		cmocka_unit_test(misaligned_data_is_left_alone),
		cmocka_unit_test(bits_of_damage_go_after_repair),
		cmocka_unit_test(dirty_image_is_mended_when_opened),
		cmocka_unit_test(many_paths_weigh_but_do_not_multiply_work),
		cmocka_unit_test(more_references_than_a_counter_holds),
		cmocka_unit_test(a_cancelled_check_finds_and_mends_nothing),
		cmocka_unit_test(misaligned_tables_are_read_up_to_a_limit),
		cmocka_unit_test(slices_meet_without_a_gap),
		cmocka_unit_test(entries_far_away_take_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
