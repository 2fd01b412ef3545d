/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What image.c checks for all drivers, so that they need not: state, ranges and
 * sizes. What it supplies for drivers that lack an operation. That the errors
 * of a driver reach the caller, and nothing is written behind them.
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
#include "formats/qcow2/driver.h"
#include "formats/raw/raw.h"
#include "tests/support/log-storage.h"
#include "tests/support/workload.h"

#define CLUSTER 512u
#define SIZE	(64u * CLUSTER)

static const struct workload_geometry small = {
	.name = "small",
	.create = "cluster_size=512",
	.open = "",
	.size_bytes = SIZE,
	.size_max = SIZE,
};

static uint8_t piece[2 * CLUSTER];

/* A new qcow2 disk; what changes it is logged if there is a log. */
static struct image *open_qcow2(unsigned flags, struct storage_log *log)
{
	struct flat_disk disk = {0};
	struct storage *s;
	struct image *img;

	assert_int_equal(storage_memory_new(&s, "test", 0), 0);
	assert_int_equal(workload_create(s, &small), 0);
	if (log) {
		flat_disk_read(&disk, s);
		storage_close(s);
		assert_int_equal(storage_log_new(&s, log, &disk), 0);
		flat_disk_release(&disk);
	}
	s->writable = flags & IMAGE_WRITE;
	assert_int_equal(
		image_open_storage(&img, s, &qcow2_driver, NULL, flags, NULL),
		0);
	return img;
}

/* ---- state ---- */

static void a_read_only_image_refuses_every_change(void **state)
{
	struct image *img = open_qcow2(0, NULL);
	struct placement p;
	struct error err = {0};

	(void)state;
	assert_int_equal(image_write(img, piece, CLUSTER, 0), -EROFS);
	assert_int_equal(image_zero(img, 0, CLUSTER, 0), -EROFS);
	assert_int_equal(image_discard(img, 0, CLUSTER), -EROFS);
	assert_int_equal(image_write_packed(img, piece, CLUSTER, 0, 0), -EROFS);
	assert_int_equal(image_place(img, 0, CLUSTER, &p), -EROFS);
	assert_int_equal(image_resize(img, 2 * SIZE, PREALLOC_OFF, false, &err),
			 -EACCES);
	assert_string_equal(err.message, "Image is read-only");
	assert_int_equal(image_close(img), 0);
}

static void an_image_opened_for_its_header_moves_no_guest_data(void **state)
{
	struct image *img = open_qcow2(IMAGE_INFO_ONLY, NULL);

	(void)state;
	assert_int_equal(image_read(img, piece, CLUSTER, 0), -EINVAL);
	img->writable = true;
	assert_int_equal(image_write(img, piece, CLUSTER, 0), -EINVAL);
	img->writable = false;
	assert_int_equal(image_close(img), 0);
}

static void nothing_outside_the_disk_is_touched(void **state)
{
	static const struct {
		uint64_t off;
		size_t len;
	} ranges[] = {{SIZE, 1}, {SIZE - 1, 2}, {UINT64_MAX, 2}, {SIZE + 1, 0}};
	struct storage_log log = {0};
	struct image *img = open_qcow2(IMAGE_WRITE, &log);
	struct mapping m;

	(void)state;
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		uint64_t off = ranges[i].off;
		size_t len = ranges[i].len;

		assert_int_equal(image_read(img, piece, len, off), -EINVAL);
		assert_int_equal(image_write(img, piece, len, off), -EINVAL);
		assert_int_equal(image_zero(img, off, len, 0), -EINVAL);
		assert_int_equal(image_discard(img, off, len), -EINVAL);
		assert_int_equal(image_map(img, off, len, &m), -EINVAL);
	}
	assert_int_equal(image_map(img, SIZE, 0, &m), 0);
	assert_int_equal(m.len, 0);
	/* At the end nothing is still something that may be asked for. */
	assert_int_equal(image_read(img, piece, 0, SIZE), 0);
	assert_int_equal(image_write(img, piece, 0, SIZE), 0);
	assert_int_equal(image_zero(img, SIZE, 0, 0), 0);
	assert_int_equal(image_discard(img, SIZE, 0), 0);
	assert_int_equal(log.count, 0);
	assert_int_equal(image_close(img), 0);
	storage_log_release(&log);
}

/* ---- packed clusters ---- */

static void a_packed_write_is_one_cluster(void **state)
{
	static const struct {
		uint64_t off;
		size_t len;
	} wrong[] = {
		{0, 0},		      /* nothing */
		{1, CLUSTER},	      /* on no border */
		{0, 100},	      /* a part that is not the last one */
		{0, 2 * CLUSTER},     /* two */
		{SIZE, CLUSTER},      /* behind the end */
		{SIZE - 512, 2 * 512} /* across it */
	};
	struct image *img = open_qcow2(IMAGE_WRITE, NULL);

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(image_write_packed(img, piece, wrong[i].len,
						    wrong[i].off, 0),
				 -EINVAL);
	assert_int_equal(image_write_packed(img, piece, CLUSTER, 0, 99),
			 -EINVAL);
	memset(piece, 7, CLUSTER);
	assert_int_equal(image_write_packed(img, piece, CLUSTER, 0, 0), 0);
	assert_int_equal(image_write_packed(img, piece, CLUSTER, 0, 0),
			 -EEXIST);
	memset(piece, 0, CLUSTER);
	assert_int_equal(image_read(img, piece, CLUSTER, 0), 0);
	for (size_t i = 0; i < CLUSTER; i++)
		assert_int_equal(piece[i], 7);
	assert_int_equal(image_close(img), 0);
}

static void raw_has_no_packed_clusters(void **state)
{
	struct storage *s;
	struct image *img;

	(void)state;
	assert_int_equal(storage_memory_new(&s, "raw", SIZE), 0);
	assert_int_equal(image_open_storage(&img, s, &raw_driver, NULL,
					    IMAGE_WRITE, NULL),
			 0);
	assert_int_equal(image_write_packed(img, piece, CLUSTER, 0, 0),
			 -EOPNOTSUPP);
	assert_int_equal(image_close(img), 0);
}

/* ---- durability ---- */

static void expect_synced(const struct storage_log *log)
{
	assert_true(log->count > 0);
	assert_int_equal(log->entries[log->count - 1].kind, LOG_SYNC);
}

static void writing_through_syncs_each_change(void **state)
{
	static const enum cache_mode modes[] = {CACHE_WRITETHROUGH,
						CACHE_DIRECTSYNC};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct storage_log log = {0};
		struct image *img = open_qcow2(IMAGE_WRITE, &log);

		img->cache = modes[i];
		assert_int_equal(image_write(img, piece, CLUSTER, 0), 0);
		expect_synced(&log);
		assert_int_equal(image_write(img, piece, CLUSTER, 0), 0);
		expect_synced(&log);
		assert_int_equal(
			image_write_packed(img, piece, CLUSTER, CLUSTER, 0), 0);
		expect_synced(&log);
		assert_int_equal(image_zero(img, 0, CLUSTER, 0), 0);
		expect_synced(&log);
		assert_int_equal(image_close(img), 0);
		storage_log_release(&log);
	}
}

/* ---- resizing ---- */

static void expect_resize(struct image *img, uint64_t size,
			  enum prealloc_mode mode, int code, const char *words)
{
	struct error err = {0};

	assert_int_equal(image_resize(img, size, mode, false, &err), -code);
	if (!strstr(err.message, words))
		fail_msg("\"%s\" does not say \"%s\"", err.message, words);
	assert_int_equal(img->size_bytes, SIZE);
}

static void a_size_that_cannot_be_is_refused(void **state)
{
	struct storage_log log = {0};
	struct image *img = open_qcow2(IMAGE_WRITE, &log);
	struct error err = {0};

	(void)state;
	expect_resize(img, IMAGE_SIZE_MAX + 1, PREALLOC_OFF, EFBIG,
		      "larger than the maximum");
	expect_resize(img, SIZE + 1, PREALLOC_OFF, EINVAL, "multiple of 512");
	expect_resize(img, SIZE - 512, PREALLOC_OFF, EINVAL, "deletes data");
	assert_int_equal(
		image_resize(img, SIZE - 512, PREALLOC_FULL, true, &err),
		-EINVAL);
	assert_non_null(strstr(err.message, "only be used for growing"));
	assert_int_equal(log.count, 0);
	assert_int_equal(image_close(img), 0);
	storage_log_release(&log);
}

/* ---- a driver that has the least ---- */

/* The first half of the file is the disk; a hole in the middle of that. */
static struct bare {
	uint64_t size_bytes;
	int map_error;	/* instead of an answer */
	int zero_error; /* of bare_zero() */
	unsigned closes;
} bare;

#define BARE_HOLE     (8 * CLUSTER)
#define BARE_HOLE_END (12 * CLUSTER)

static int bare_open(struct image *img, const struct options *opts,
		     struct error *err)
{
	(void)opts;
	(void)err;
	img->size_bytes = bare.size_bytes;
	return 0;
}

static int bare_map(struct image *img, uint64_t guest_off, uint64_t len,
		    struct mapping *out)
{
	bool hole = guest_off >= BARE_HOLE && guest_off < BARE_HOLE_END;
	uint64_t end = hole		       ? BARE_HOLE_END
		       : guest_off < BARE_HOLE ? BARE_HOLE
					       : img->size_bytes;

	if (bare.map_error)
		return bare.map_error;
	*out = (struct mapping){
		.kind = hole ? MAPPING_ZERO : MAPPING_DATA,
		.guest_off = guest_off,
		.len = min_u64(len, end - guest_off),
		.storage = img->file,
		.host_off = guest_off,
	};
	return 0;
}

static int bare_zero(struct image *img, uint64_t guest_off, uint64_t len,
		     unsigned flags)
{
	(void)img;
	(void)guest_off;
	(void)len;
	(void)flags;
	return bare.zero_error;
}

static int bare_close(struct image *img)
{
	(void)img;
	bare.closes++;
	return 0;
}

static const struct format_driver bare_driver = {
	.name = "bare",
	.open = bare_open,
	.map = bare_map,
	.close = bare_close,
};

static const struct format_driver bare_driver_with_zero = {
	.name = "bare",
	.open = bare_open,
	.map = bare_map,
	.zero = bare_zero,
	.close = bare_close,
};

static struct image *open_bare(const struct format_driver *driver,
			       struct storage_log *log)
{
	struct flat_disk disk = {0};
	struct storage *s;
	struct image *img;

	bare = (struct bare){.size_bytes = SIZE};
	assert_int_equal(storage_memory_new(&s, "bare", 2 * SIZE), 0);
	flat_disk_read(&disk, s);
	storage_close(s);
	memset(disk.data, 0xee, disk.size);
	assert_int_equal(storage_log_new(&s, log, &disk), 0);
	flat_disk_release(&disk);
	assert_int_equal(
		image_open_storage(&img, s, driver, NULL, IMAGE_WRITE, NULL),
		0);
	return img;
}

static void close_bare(struct image *img, struct storage_log *log)
{
	assert_int_equal(image_close(img), 0);
	assert_int_equal(bare.closes, 1);
	storage_log_release(log);
}

static void expect_bytes(struct storage *s, uint64_t off, size_t len, int byte)
{
	uint8_t buf[CLUSTER];

	assert_true(len <= sizeof(buf));
	assert_int_equal(storage_read(s, buf, len, off), 0);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(buf[i], byte);
}

static void a_driver_without_reserve_is_written_in_place(void **state)
{
	struct storage_log log = {0};
	struct image *img = open_bare(&bare_driver, &log);
	struct placement p;

	(void)state;
	memset(piece, 5, sizeof(piece));
	assert_int_equal(image_write(img, piece, CLUSTER, CLUSTER), 0);
	expect_bytes(img->file, CLUSTER, CLUSTER, 5);
	assert_int_equal(image_place(img, CLUSTER, CLUSTER, &p), 0);
	assert_false(p.reserved);
	assert_int_equal(p.host_off, CLUSTER);
	assert_int_equal(image_link(img, &p), 0);
	image_unplace(img, &p);
	/* Where nothing is there is nothing to write to. */
	assert_int_equal(image_write(img, piece, CLUSTER, BARE_HOLE), -EIO);
	assert_int_equal(image_place(img, BARE_HOLE, CLUSTER, &p), -EIO);
	expect_bytes(img->file, BARE_HOLE, CLUSTER, 0xee);
	close_bare(img, &log);
}

static void a_driver_without_zero_leaves_it_to_the_storage(void **state)
{
	struct storage_log log = {0};
	struct image *img = open_bare(&bare_driver, &log);
	size_t logged;

	(void)state;
	/* Across the hole, which is zero without being touched. */
	assert_int_equal(
		image_zero(img, CLUSTER, 14 * CLUSTER, FORMAT_ZERO_MAY_UNMAP),
		0);
	assert_int_equal(log.count, 2);
	assert_int_equal(log.entries[0].off, CLUSTER);
	assert_int_equal(log.entries[1].off, BARE_HOLE_END);
	expect_bytes(img->file, 2 * CLUSTER, CLUSTER, 0);
	expect_bytes(img->file, BARE_HOLE, CLUSTER, 0xee);
	expect_bytes(img->file, 15 * CLUSTER, CLUSTER, 0xee);
	/* Parts of clusters too, and only where there is something. */
	assert_int_equal(image_zero(img, BARE_HOLE_END - 10, 4, 0), 0);
	assert_int_equal(log.count, 2);
	assert_int_equal(image_discard(img, BARE_HOLE_END, CLUSTER + 1), 0);
	logged = log.count;
	assert_int_equal(log.entries[logged - 1].kind, LOG_DISCARD);
	assert_int_equal(log.entries[logged - 1].len, CLUSTER);
	/* Less than a cluster is no use to anybody. */
	assert_int_equal(image_discard(img, 1, CLUSTER), 0);
	assert_int_equal(log.count, logged);
	assert_int_equal(image_flush(img), 0);
	expect_synced(&log);
	close_bare(img, &log);
}

static void zeros_are_written_where_a_driver_has_no_better_way(void **state)
{
	struct storage_log log = {0};
	struct image *img = open_bare(&bare_driver_with_zero, &log);

	(void)state;
	bare.zero_error = -ENOTSUP;
	assert_int_equal(image_zero(img, CLUSTER, 2 * CLUSTER, 0), 0);
	expect_bytes(img->file, CLUSTER, CLUSTER, 0);
	expect_bytes(img->file, 2 * CLUSTER, CLUSTER, 0);
	expect_bytes(img->file, 3 * CLUSTER, CLUSTER, 0xee);
	bare.zero_error = -EIO;
	assert_int_equal(image_zero(img, 3 * CLUSTER, CLUSTER, 0), -EIO);
	expect_bytes(img->file, 3 * CLUSTER, CLUSTER, 0xee);
	close_bare(img, &log);
}

static void a_mapping_that_fails_changes_nothing(void **state)
{
	struct storage_log log = {0};
	struct image *img = open_bare(&bare_driver, &log);
	struct image_walk walk;
	struct placement p;
	struct mapping m;

	(void)state;
	bare.map_error = -EBADMSG;
	assert_int_equal(image_read(img, piece, CLUSTER, 0), -EBADMSG);
	assert_int_equal(image_write(img, piece, CLUSTER, 0), -EBADMSG);
	assert_int_equal(image_zero(img, 0, CLUSTER, 0), -EBADMSG);
	assert_int_equal(image_zero(img, 1, 1, 0), -EBADMSG);
	assert_int_equal(image_discard(img, 0, CLUSTER), -EBADMSG);
	assert_int_equal(image_place(img, 0, CLUSTER, &p), -EBADMSG);
	assert_int_equal(image_map(img, 0, CLUSTER, &m), -EBADMSG);
	image_walk_start(&walk, img, 0, SIZE, 0);
	assert_int_equal(image_walk_next(&walk, &m), -EBADMSG);
	assert_int_equal(log.count, 0);
	close_bare(img, &log);
}

static void what_a_driver_lacks_is_said(void **state)
{
	struct storage_log log = {0};
	struct image *img = open_bare(&bare_driver, &log);
	struct check_result result;
	struct error err = {0};

	(void)state;
	assert_int_equal(image_resize(img, 2 * SIZE, PREALLOC_OFF, false, &err),
			 -ENOTSUP);
	assert_non_null(strstr(err.message, "does not support resize"));
	assert_int_equal(
		image_check(img, &(struct check_args){0}, &result, &err),
		-ENOTSUP);
	assert_non_null(strstr(err.message, "does not support checks"));
	close_bare(img, &log);
}

static void a_disk_of_impossible_size_is_closed_again(void **state)
{
	struct error err = {0};
	struct storage *s;
	struct image *img;

	(void)state;
	bare = (struct bare){.size_bytes = IMAGE_SIZE_MAX + 1};
	assert_int_equal(storage_memory_new(&s, "bare", 0), 0);
	assert_int_equal(
		image_open_storage(&img, s, &bare_driver, NULL, 0, &err),
		-EFBIG);
	assert_non_null(strstr(err.message, "larger than the maximum"));
	assert_int_equal(bare.closes, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_read_only_image_refuses_every_change),
		cmocka_unit_test(
			an_image_opened_for_its_header_moves_no_guest_data),
		cmocka_unit_test(nothing_outside_the_disk_is_touched),
		cmocka_unit_test(a_packed_write_is_one_cluster),
		cmocka_unit_test(raw_has_no_packed_clusters),
		cmocka_unit_test(writing_through_syncs_each_change),
		cmocka_unit_test(a_size_that_cannot_be_is_refused),
		cmocka_unit_test(a_driver_without_reserve_is_written_in_place),
		cmocka_unit_test(
			a_driver_without_zero_leaves_it_to_the_storage),
		cmocka_unit_test(
			zeros_are_written_where_a_driver_has_no_better_way),
		cmocka_unit_test(a_mapping_that_fails_changes_nothing),
		cmocka_unit_test(what_a_driver_lacks_is_said),
		cmocka_unit_test(a_disk_of_impossible_size_is_closed_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
