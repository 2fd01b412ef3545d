/* SPDX-License-Identifier: BSD-3-Clause */
/* raw: the disk is the file, or a window of it, and nothing outside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/image-info.h"
#include "block/image.h"
#include "block/options.h"
#include "block/storage/memory.h"
#include "formats/raw/raw.h"

/* Bytes that tell where they are. */
static uint8_t byte_at(uint64_t off)
{
	return (uint8_t)(off % 251 + 1);
}

static struct storage *numbered_file(uint64_t size)
{
	struct storage *s;
	uint8_t *bytes = malloc(size + 1);

	assert_non_null(bytes);
	for (uint64_t i = 0; i < size; i++)
		bytes[i] = byte_at(i);
	assert_int_equal(storage_memory_from(&s, "numbers", bytes, size), 0);
	free(bytes);
	return s;
}

static int open_raw(struct image **out, uint64_t file_size, const char *text,
		    unsigned flags, struct error *err)
{
	struct storage *s = numbered_file(file_size);
	struct options opts = {0};
	int ret;

	s->writable = flags & IMAGE_WRITE;
	assert_int_equal(options_parse(&opts, text, NULL), 0);
	ret = image_open_storage(out, s, &raw_driver, &opts, flags, err);
	options_release(&opts);
	return ret;
}

static struct image *opened(uint64_t file_size, const char *text,
			    unsigned flags)
{
	struct error err = {0};
	struct image *img;

	if (open_raw(&img, file_size, text, flags, &err))
		fail_msg("%s: %s", text, err.message);
	return img;
}

/* Reads all of the disk: the file from `off` on, zeros behind its end. */
static void expect_disk(struct image *img, uint64_t off, uint64_t size,
			uint64_t file_size)
{
	uint8_t *buf = malloc(size + 1);

	assert_non_null(buf);
	assert_int_equal(img->size_bytes, size);
	assert_int_equal(image_read(img, buf, size, 0), 0);
	for (uint64_t i = 0; i < size; i++)
		assert_int_equal(buf[i],
				 off + i < file_size ? byte_at(off + i) : 0);
	free(buf);
}

static void sizes_are_rounded_up_to_sectors(void **state)
{
	static const uint64_t sizes[] = {0, 1, 511, 512, 513, 1000, 65537};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct image *img = opened(sizes[i], "", 0);

		expect_disk(img, 0, align_up(sizes[i], 512), sizes[i]);
		assert_int_equal(image_close(img), 0);
	}
}

static void a_write_behind_the_end_of_the_file_grows_it(void **state)
{
	struct image *img = opened(1000, "", IMAGE_WRITE);
	uint8_t buf[24];

	(void)state;
	assert_int_equal(image_write(img, "x", 1, 1010), 0);
	assert_int_equal(storage_size(img->file), 1011);
	assert_int_equal(image_read(img, buf, 24, 1000), 0);
	for (int i = 0; i < 24; i++)
		assert_int_equal(buf[i], i == 10 ? 'x' : 0);
	assert_int_equal(image_write(img, "y", 1, 1024), -EINVAL);
	assert_int_equal(image_write(img, "y", 1, 1023), 0);
	assert_int_equal(storage_size(img->file), 1024);
	assert_int_equal(image_close(img), 0);
}

static void a_window_shows_its_part_of_the_file(void **state)
{
	static const struct {
		const char *text;
		uint64_t off, size;
	} windows[] = {
		{"offset=512", 512, 4096},
		{"offset=513", 513, 4096},
		{"offset=512,size=1k", 512, 1024},
		{"size=0", 0, 0},
		{"size=4608", 0, 4608},
		{"offset=4608", 4608, 0},
		{"offset=4096,size=512", 4096, 512},
		{"offset=1,size=512", 1, 512},
	};
	const uint64_t file_size = 4600;

	(void)state;
	for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]); i++) {
		struct image *img = opened(file_size, windows[i].text, 0);

		expect_disk(img, windows[i].off, windows[i].size, file_size);
		assert_int_equal(image_close(img), 0);
	}
}

static void nothing_outside_a_window_is_reached(void **state)
{
	static const struct {
		uint64_t off, len;
	} ranges[] = {
		{1024, 1},	     {1023, 2},	      {0, 1025},
		{UINT64_MAX, 1},     {UINT64_MAX, 2}, {UINT64_MAX - 511, 512},
		{(uint64_t)-512, 1}, {INT64_MAX, 1},
	};
	struct image *img = opened(4096, "offset=512,size=1024", IMAGE_WRITE);
	struct mapping m;
	uint8_t buf[2048] = {0}, whole[4096];

	(void)state;
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		uint64_t off = ranges[i].off;
		size_t len = ranges[i].len;

		assert_int_equal(image_read(img, buf, len, off), -EINVAL);
		assert_int_equal(image_write(img, buf, len, off), -EINVAL);
		assert_int_equal(image_zero(img, off, len, 0), -EINVAL);
		assert_int_equal(image_discard(img, off, len), -EINVAL);
	}
	assert_int_equal(image_map(img, 0, 1024, &m), 0);
	assert_int_equal(m.kind, MAPPING_DATA);
	assert_int_equal(m.host_off, 512);
	assert_int_equal(m.len, 1024);
	assert_int_equal(image_zero(img, 0, 1024, 0), 0);
	assert_int_equal(storage_read(img->file, whole, 4096, 0), 0);
	for (uint64_t i = 0; i < 4096; i++)
		assert_int_equal(whole[i],
				 i < 512 || i >= 1536 ? byte_at(i) : 0);
	assert_int_equal(image_close(img), 0);
}

static void a_window_outside_the_file_is_refused(void **state)
{
	static const struct {
		const char *text, *part;
	} bad[] = {
		{"offset=1025", "has to be smaller"},
		{"size=1536", "has to be smaller"},
		{"offset=512,size=1024", "has to be smaller"},
		{"offset=9223372036854775807,size=512", "has to be smaller"},
		{"offset=9223372036854775807", "has to be smaller"},
		{"size=511", "not a multiple of 512"},
		{"size=-1", "'size' expects a size"},
		{"offset=x", "'offset' expects a size"},
		{"offsets=0", "Invalid parameter 'offsets'"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct error err = {0};
		struct image *img;

		if (!open_raw(&img, 1000, bad[i].text, 0, &err))
			fail_msg("%s was accepted", bad[i].text);
		if (!strstr(err.message, bad[i].part))
			fail_msg("%s: no '%s' in it", err.message, bad[i].part);
	}
}

static void resizing_moves_the_end_of_the_file(void **state)
{
	struct image *img = opened(1000, "", IMAGE_WRITE);
	struct error err = {0};

	(void)state;
	assert_int_equal(image_resize(img, 4096, PREALLOC_OFF, false, &err), 0);
	assert_int_equal(storage_size(img->file), 4096);
	expect_disk(img, 0, 4096, 1000);
	assert_int_equal(image_resize(img, 512, PREALLOC_OFF, true, &err), 0);
	expect_disk(img, 0, 512, 512);
	assert_true(image_resize(img, 1024, PREALLOC_METADATA, false, &err) <
		    0);
	assert_int_equal(img->size_bytes, 512);
	assert_int_equal(image_close(img), 0);

	img = opened(4096, "size=1024", IMAGE_WRITE);
	assert_true(image_resize(img, 2048, PREALLOC_OFF, false, &err) < 0);
	assert_non_null(strstr(err.message, "fixed-size raw"));
	assert_int_equal(image_close(img), 0);
}

static int create(struct storage *s, const char *text, uint64_t size,
		  struct error *err)
{
	struct options opts = {0};
	struct create_args args = {
		.storage = s,
		.filename = "new",
		.size_bytes = size,
		.options = &opts,
	};
	int ret;

	assert_int_equal(options_parse(&opts, text, NULL), 0);
	ret = raw_driver.create(&args, err);
	options_release(&opts);
	return ret;
}

static void creating_sets_the_size(void **state)
{
	static const char *const good[] = {
		"",
		"preallocation=off",
		"preallocation=falloc",
		"preallocation=full",
		"nocow=on,extent_size_hint=1M",
	};
	struct error err = {0};
	struct storage *s;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(storage_memory_new(&s, "new", 0), 0);
		if (create(s, good[i], 65536, &err))
			fail_msg("%s: %s", good[i], err.message);
		assert_int_equal(storage_size(s), 65536);
		storage_close(s);
	}
	assert_int_equal(storage_memory_new(&s, "new", 0), 0);
	assert_int_equal(create(s, "preallocation=metadata", 512, &err),
			 -EINVAL);
	assert_non_null(strstr(err.message,
			       "Unsupported preallocation mode 'metadata'"));
	assert_int_equal(storage_size(s), 0);
	storage_close(s);
}

static void a_disk_has_to_fit_into_its_device(void **state)
{
	struct error err = {0};
	struct storage *s = numbered_file(8192);

	(void)state;
	s->is_device = true;
	s->can_grow = false;
	assert_int_equal(create(s, "", 8192, &err), 0);
	assert_int_equal(create(s, "", 512, &err), 0);
	assert_int_equal(create(s, "", 8704, &err), -ENOSPC);
	assert_non_null(strstr(err.message, "does not fit"));
	storage_close(s);
}

static void measuring_rounds_up(void **state)
{
	struct image *img = opened(1000, "", 0);
	struct measure_result m;
	struct options opts = {0};
	struct error err = {0};

	(void)state;
	assert_int_equal(raw_driver.measure(&opts, NULL, 1, &m, &err), 0);
	assert_int_equal(m.required, 512);
	assert_int_equal(m.fully_allocated, 512);
	assert_false(m.has_bitmaps);
	assert_int_equal(raw_driver.measure(&opts, img, 7, &m, &err), 0);
	assert_int_equal(m.required, 1024);
	assert_int_equal(raw_driver.measure(&opts, NULL, UINT64_MAX, &m, &err),
			 -EFBIG);
	assert_int_equal(image_close(img), 0);
}

static void there_is_nothing_to_tell_but_the_size(void **state)
{
	struct image *img = opened(1000, "", 0);
	struct image_info info;

	(void)state;
	assert_int_equal(image_info_get(img, &info, NULL), 0);
	assert_string_equal(info.format, "raw");
	assert_string_equal(info.filename, "numbers");
	assert_string_equal(info.protocol, "memory");
	assert_int_equal(info.virtual_size, 1024);
	assert_int_equal(info.file_length, 1000);
	assert_int_equal(info.cluster_size, 0);
	assert_null(info.backing_filename);
	assert_null(info.specific);
	image_info_release(&info);
	assert_int_equal(image_close(img), 0);
}

/* As an image with a backing file would, without being one. */
static void expect_full_name(struct image *img, const char *recorded,
			     const char *full)
{
	struct image_info info;

	img->backing_name = strdup(recorded);
	assert_int_equal(image_info_get(img, &info, NULL), 0);
	assert_string_equal(info.backing_filename, recorded);
	if (full)
		assert_string_equal(info.full_backing_filename, full);
	else
		assert_null(info.full_backing_filename);
	image_info_release(&info);
	free(img->backing_name);
	img->backing_name = NULL;
}

static void backing_names_are_told_in_full(void **state)
{
	struct image *img = opened(512, "", 0);

	(void)state;
	free(img->filename);
	img->filename = strdup("/images/vm/top");
	expect_full_name(img, "base", "/images/vm/base");
	expect_full_name(img, "../base", "/images/vm/../base");
	expect_full_name(img, "/base", "/base");
	expect_full_name(img, "nbd://host/x", "nbd://host/x");
	expect_full_name(img, "http://host/x", NULL);
	assert_int_equal(image_close(img), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_rounded_up_to_sectors),
		cmocka_unit_test(a_write_behind_the_end_of_the_file_grows_it),
		cmocka_unit_test(a_window_shows_its_part_of_the_file),
		cmocka_unit_test(nothing_outside_a_window_is_reached),
		cmocka_unit_test(a_window_outside_the_file_is_refused),
		cmocka_unit_test(resizing_moves_the_end_of_the_file),
		cmocka_unit_test(creating_sets_the_size),
		cmocka_unit_test(a_disk_has_to_fit_into_its_device),
		cmocka_unit_test(measuring_rounds_up),
		cmocka_unit_test(there_is_nothing_to_tell_but_the_size),
		cmocka_unit_test(backing_names_are_told_in_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
