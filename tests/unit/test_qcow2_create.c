/* SPDX-License-Identifier: BSD-3-Clause */
/* New qcow2 images: sizes, options, preallocation, and the rewritten header. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "block/error.h"
#include "block/image.h"
#include "block/options.h"
#include "block/progress.h"
#include "block/storage/memory.h"
#include "formats/qcow2/new-image.h"
#include "formats/qcow2/qcow2.h"
#include "formats/registry.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define TIB (1ull << 40)

static struct options parse(const char *text)
{
	struct options opts = {0};

	assert_int_equal(options_parse(&opts, text, NULL), 0);
	return opts;
}

/* Makes an image in memory; NULL, and the message, if that is refused. */
static struct storage *create(const char *text, uint64_t size,
			      struct error *err)
{
	struct options opts = parse(text);
	struct create_args args = {
		.filename = "new.qcow2", .size_bytes = size, .options = &opts};

	*err = (struct error){0};
	assert_int_equal(storage_memory_new(&args.storage, "new.qcow2", 0), 0);
	if (qcow2_create(&args, err) < 0) {
		storage_close(args.storage);
		args.storage = NULL;
	}
	options_release(&opts);
	return args.storage;
}

static struct image *open_image(struct storage *s, unsigned flags)
{
	struct error err = {0};
	struct image *img;

	if (image_open_storage(&img, s, format_find("qcow2"), NULL, flags,
			       &err) < 0)
		fail_msg("open: %s", err.message);
	return img;
}

static void assert_clean(struct storage *s)
{
	struct image *img = open_image(s, IMAGE_FOR_CHECK);
	struct check_args args = {0};
	struct check_result result;

	assert_int_equal(image_check(img, &args, &result, NULL), 0);
	assert_int_equal(result.corruptions, 0);
	assert_int_equal(result.leaks, 0);
	assert_int_equal(result.check_errors, 0);
	image_close(img);
}

static void measure_knows_the_sizes_of_qemu(void **state)
{
	static const struct {
		const char *options;
		uint64_t size, required, fully;
	} cases[] = {
		{"", 64 * MIB, 327680, 67436544},
		{"", GIB, 393216, 1074135040},
		{"", 10 * GIB, 1900544, 10739318784},
		{"", TIB, 168034304, 1099679662080},
		{"cluster_size=4k,refcount_bits=64", GIB, 4222976, 1077964800},
		{"extended_l2=on", GIB, 524288, 1074266112},
		{"encrypt.format=luks", 64 * MIB, 2424832, 69533696},
		{"preallocation=full", 64 * MIB, 67436544, 67436544},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct options opts = parse(cases[i].options);
		struct measure_result result;

		assert_int_equal(qcow2_measure(&opts, NULL, cases[i].size,
					       &result, NULL),
				 0);
		assert_int_equal(result.required, cases[i].required);
		assert_int_equal(result.fully_allocated, cases[i].fully);
		assert_false(result.has_bitmaps);
		options_release(&opts);
	}
}

static void what_cannot_be_measured_is_said(void **state)
{
	static const struct {
		const char *options;
		uint64_t size;
		const char *words; /* NULL: it can be */
	} cases[] = {
		{"encrypt.format=luks,encrypt.cipher-alg=aes-128", MIB,
		 "not 'aes-128' in mode 'xts'"},
		{"encrypt.format=luks,encrypt.cipher-mode=cbc", MIB,
		 "not 'aes-256' in mode 'cbc'"},
		{"encrypt.format=luks,encrypt.cipher-alg=aes-256,"
		 "encrypt.cipher-mode=xts",
		 MIB, NULL},
		{"", IMAGE_SIZE_MAX + 1, "too large"},
		{"cluster_size=512", 64 * TIB, "too large"},
		{"compat=1", MIB, "compatibility level"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct options opts = parse(cases[i].options);
		struct measure_result result;
		struct error err = {0};
		int ret = qcow2_measure(&opts, NULL, cases[i].size, &result,
					&err);

		assert_int_equal(ret < 0, cases[i].words != NULL);
		if (ret < 0 && !strstr(err.message, cases[i].words))
			fail_msg("'%s' does not say '%s'", err.message,
				 cases[i].words);
		options_release(&opts);
	}
}

static void measure_counts_clusters_with_data(void **state)
{
	struct options opts = {0};
	struct measure_result result;
	struct storage *s;
	struct image *img;
	struct error err;
	uint64_t empty;

	(void)state;
	s = create("cluster_size=4k", 4 * MIB, &err);
	img = open_image(s, IMAGE_WRITE);
	assert_int_equal(qcow2_measure(&opts, img, 0, &result, NULL), 0);
	empty = result.required;
	assert_int_equal(result.has_bitmaps && !result.bitmaps, true);
	/* Two runs in one cluster of the target, and one across its border. */
	assert_int_equal(image_write(img, "x", 1, 0), 0);
	assert_int_equal(image_write(img, "x", 1, 32768), 0);
	assert_int_equal(image_write(img, "xx", 2, 196607), 0);
	assert_int_equal(qcow2_measure(&opts, img, 0, &result, NULL), 0);
	assert_int_equal(result.required - empty, 3 * 65536);
	image_close(img);
}

static void plans_cover_themselves(void **state)
{
	static const uint64_t sizes[] = {0, 512, MIB, GIB, 100 * GIB, 8 * TIB};

	(void)state;
	for (unsigned bits = 9; bits <= 21; bits++)
		for (unsigned order = 0; order <= 6; order++)
			for (size_t i = 0; i < 6; i++) {
				struct qcow2_new n = {
					.size_bytes = sizes[i],
					.version = 3,
					.cluster_bits = bits,
					.refcount_order = order,
					.prealloc = i % 2 ? PREALLOC_METADATA
							  : PREALLOC_OFF};
				struct qcow2_plan p;

				if (qcow2_plan_make(&p, &n, NULL) < 0)
					continue;
				assert_true(p.refblock_count
						    << (bits + 3 - order) >=
					    p.total);
				assert_true(p.reftable_count << (bits - 3) >=
					    p.refblock_count);
				assert_true(p.reftable_count << bits <=
					    QCOW2_REFTABLE_BYTES_MAX);
				assert_true(p.l1_entries <=
					    QCOW2_L1_ENTRIES_MAX);
			}
}

static void created_images_are_clean_and_empty(void **state)
{
	static const char *const cases[] = {
		"",
		"compat=0.10",
		"cluster_size=512",
		"cluster_size=2M",
		"refcount_bits=1",
		"refcount_bits=64,cluster_size=512",
		"lazy_refcounts=on,compression_type=zstd",
		"preallocation=metadata",
		"preallocation=falloc,cluster_size=512,refcount_bits=2",
		"preallocation=full,compat=v2",
	};
	uint8_t buf[4096];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct error err;
		struct storage *s = create(cases[i], 5 * MIB + 512, &err);
		struct image *img;

		if (!s)
			fail_msg("%s: %s", cases[i], err.message);
		img = open_image(s, IMAGE_WRITE);
		assert_int_equal(img->size_bytes, 5 * MIB + 512);
		assert_int_equal(image_read(img, buf, 512, 5 * MIB), 0);
		assert_int_equal(buf[0] | buf[511], 0);
		image_close(img);
		assert_clean(create(cases[i], 5 * MIB + 512, &err));
	}
}

static void preallocated_images_are_written_in_place(void **state)
{
	struct error err;
	struct storage *s = create("preallocation=metadata", 64 * MIB, &err);
	struct image *img = open_image(s, IMAGE_WRITE);
	uint64_t size = storage_size(s);
	struct mapping m;

	(void)state;
	/* The file ends with the last cluster, as QEMU's does. */
	assert_int_equal(size, 0x4050000);
	assert_int_equal(image_map(img, 0, 64 * MIB, &m), 0);
	assert_int_equal(m.kind, MAPPING_DATA);
	assert_int_equal(m.flags & MAPPING_SHARED, 0);
	assert_int_equal(m.host_off, 0x50000);
	assert_int_equal(image_write(img, "data", 4, 33 * MIB), 0);
	assert_int_equal(image_flush(img), 0);
	assert_int_equal(storage_size(s), size);
	image_close(img);
}

static void growing_can_preallocate(void **state)
{
	static const enum prealloc_mode modes[] = {
		PREALLOC_METADATA, PREALLOC_FALLOC, PREALLOC_FULL};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct error err;
		struct storage *s = create("cluster_size=4k", 3 * MIB, &err);
		struct image *img = open_image(s, IMAGE_WRITE);
		struct mapping m;
		char back[4];

		assert_int_equal(image_write(img, "head", 4, 0), 0);
		if (image_resize(img, 9 * MIB + 512, modes[i], false, &err) < 0)
			fail_msg("resize: %s", err.message);
		for (uint64_t at = 3 * MIB; at < img->size_bytes; at += m.len) {
			assert_int_equal(
				image_map(img, at, img->size_bytes - at, &m),
				0);
			assert_int_equal(m.kind, MAPPING_DATA);
		}
		assert_int_equal(image_read(img, back, 4, 9 * MIB), 0);
		assert_memory_equal(back, "\0\0\0\0", 4);
		assert_int_equal(image_read(img, back, 4, 0), 0);
		assert_memory_equal(back, "head", 4);
		image_close(img);
	}
}

static void bad_options_are_refused_by_name(void **state)
{
	static const struct {
		const char *options, *words;
	} cases[] = {
		{"compat=0.9", "Invalid compatibility level: '0.9'"},
		{"cluster_size=256", "Cluster size must be a power of two"},
		{"cluster_size=4M", "Cluster size must be a power of two"},
		{"cluster_size=3000", "between 512 and 2048k"},
		{"refcount_bits=3", "Refcount width must be a power of two"},
		{"refcount_bits=128", "may not exceed 64 bits"},
		{"refcount_bits=0", "Refcount width"},
		{"compat=v2,refcount_bits=8", "Different refcount widths"},
		{"compat=v2,lazy_refcounts=on", "Lazy refcounts only"},
		{"compat=v2,compression_type=zstd", "Non-zlib compression"},
		{"compression_type=lz4", "does not accept value 'lz4'"},
		{"preallocation=foo", "Unsupported preallocation mode 'foo'"},
		{"extended_l2=on", "not supported yet"},
		{"extended_l2=on,cluster_size=4k", "at least 16384 bytes"},
		{"data_file=x", "not supported yet"},
		{"data_file_raw=on", "requires data_file"},
		{"encryption=on", "not supported yet"},
		{"encrypt.format=luks", "not supported yet"},
		{"encrypt.format=rot13", "does not accept value 'rot13'"},
		{"encrypt.cipher-alg=aes-256", "needs encrypt.format"},
		{"backing_fmt=raw", "needs backing_file"},
		{"backing_file=,backing_fmt=raw", "needs backing_file"},
		{"compat=v2,extended_l2=on", "Extended L2 entries are only"},
		{"compat=v2,data_file=x", "External data files are only"},
		{"encrypt.format=aes", "not supported yet"},
		{"cluster_size=large", "cluster_size"},
		{"refcount_bits=many", "refcount_bits"},
		{"lazy_refcounts=maybe", "lazy_refcounts"},
		{"extended_l2=maybe", "extended_l2"},
		{"data_file_raw=maybe", "data_file_raw"},
		{"encryption=maybe", "encryption"},
		{"backing_file=b,backing_fmt=0123456789abcdef", "too long"},
		{"backing_file=b,backing_fmt=raw,preallocation=full",
		 "Backing file and preallocation"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct error err;

		assert_null(create(cases[i].options, MIB, &err));
		if (!strstr(err.message, cases[i].words))
			fail_msg("'%s' does not say '%s'", err.message,
				 cases[i].words);
	}
}

static void off_values_of_unsupported_options_are_fine(void **state)
{
	struct error err;
	struct storage *s = create(
		"encryption=off,extended_l2=off,data_file_raw=off,compat=1.1,"
		"backing_file=,backing_fmt=,preallocation=off",
		MIB, &err);

	(void)state;
	assert_non_null(s);
	storage_close(s);
}

static void too_large_disks_are_refused(void **state)
{
	struct error err;
	struct storage *s = create("cluster_size=512", 128 * GIB, &err);

	(void)state;
	assert_non_null(s);
	storage_close(s);
	assert_null(create("cluster_size=512", 128 * GIB + 512, &err));
	assert_non_null(strstr(err.message, "The image size is too large for "
					    "file format 'qcow2'"));
	assert_int_equal(err.code, EFBIG);
}

static void cancelled_preallocation_stops(void **state)
{
	struct options opts = parse("preallocation=full");
	struct progress progress = {.cancelled = true};
	struct create_args args = {.filename = "new.qcow2",
				   .size_bytes = 64 * MIB,
				   .options = &opts,
				   .progress = &progress};

	(void)state;
	assert_int_equal(storage_memory_new(&args.storage, "new.qcow2", 0), 0);
	assert_int_equal(qcow2_create(&args, NULL), -ECANCELED);
	storage_close(args.storage);
	options_release(&opts);
}

static void rewritten_header_takes_a_new_backing_name(void **state)
{
	struct error err;
	struct storage *s =
		create("backing_file=old,backing_fmt=raw", MIB, &err);
	struct image *img = open_image(s, IMAGE_WRITE);
	struct qcow2 *q = img->state;
	struct qcow2 again = {.img = img, .file = s};

	(void)state;
	free(q->tail.backing_name);
	q->tail.backing_name = strdup("a-new-name.qcow2");
	q->header.compatible |= 1ull << 40;
	assert_int_equal(qcow2_header_write(q, NULL), 0);
	assert_int_equal(qcow2_header_read(&again, s, 0, NULL), 0);
	assert_string_equal(again.tail.backing_name, "a-new-name.qcow2");
	assert_string_equal(again.tail.backing_format, "raw");
	assert_int_equal(again.header.compatible, 1ull << 40);
	qcow2_header_tail_release(&again.tail);
	image_close(img);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(measure_knows_the_sizes_of_qemu),
		cmocka_unit_test(what_cannot_be_measured_is_said),
		cmocka_unit_test(measure_counts_clusters_with_data),
		cmocka_unit_test(plans_cover_themselves),
		cmocka_unit_test(created_images_are_clean_and_empty),
		cmocka_unit_test(preallocated_images_are_written_in_place),
		cmocka_unit_test(growing_can_preallocate),
		cmocka_unit_test(bad_options_are_refused_by_name),
		cmocka_unit_test(off_values_of_unsupported_options_are_fine),
		cmocka_unit_test(too_large_disks_are_refused),
		cmocka_unit_test(cancelled_preallocation_stops),
		cmocka_unit_test(rewritten_header_takes_a_new_backing_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
