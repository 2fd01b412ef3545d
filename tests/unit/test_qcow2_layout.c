/* SPDX-License-Identifier: BSD-3-Clause */
/* qcow2 on disk: what is read back, what is refused, what is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "block/error.h"
#include "formats/qcow2/layout.h"

#define CLUSTER	  65536u
#define FILE_SIZE (16ull * CLUSTER)

/* A small valid image of version 3: L1, refcount table and block, 1 GiB. */
static struct qcow2_header valid_header(void)
{
	return (struct qcow2_header){
		.version = 3,
		.cluster_bits = 16,
		.size_bytes = 1ull << 30,
		.l1_entries = 2,
		.l1_off = 3 * CLUSTER,
		.reftable_off = CLUSTER,
		.reftable_clusters = 1,
		.refcount_order = 4,
		.header_len = 112,
	};
}

static int validate(const struct qcow2_header *h, unsigned flags,
		    struct error *err)
{
	int ret;

	*err = (struct error){0};
	ret = qcow2_header_validate(h, FILE_SIZE, flags, err);
	assert_int_equal(ret, -err->code);
	return ret;
}

/* Expects a refusal that says all of this. */
static void assert_refused(const struct qcow2_header *h, const char *words)
{
	struct error err;

	assert_true(validate(h, 0, &err) < 0);
	if (!strstr(err.message, words))
		fail_msg("'%s' does not say '%s'", err.message, words);
}

static void assert_accepted(const struct qcow2_header *h, unsigned flags)
{
	struct error err;

	if (validate(h, flags, &err) < 0)
		fail_msg("refused: %s", err.message);
}

static void encode(struct qcow2_header *h, const struct qcow2_header_tail *tail,
		   uint8_t *area)
{
	struct error err = {0};
	size_t used;

	if (qcow2_header_encode(h, tail, area, (size_t)1 << h->cluster_bits,
				&used, &err) < 0)
		fail_msg("encode: %s", err.message);
	assert_true(used <= (size_t)1 << h->cluster_bits);
}

static int decode_tail(struct qcow2_header_tail *out,
		       const struct qcow2_header *h, const uint8_t *area,
		       struct error *err)
{
	*err = (struct error){0};
	return qcow2_header_tail_decode(out, h, area,
					(size_t)1 << h->cluster_bits, err);
}

static void fixed_part_comes_back(void **state)
{
	static uint8_t area[CLUSTER], again[CLUSTER];
	struct qcow2_header h = valid_header(), back;
	struct qcow2_header_tail tail = {0};

	(void)state;
	h.incompatible = QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_COMPRESSION;
	h.compatible = 0x8000000000000001ull;
	h.autoclear = 0x4000000000000000ull;
	h.compression_type = QCOW2_COMPRESSION_ZSTD;
	h.snapshot_count = 3;
	h.snapshots_off = 5 * CLUSTER;
	h.refcount_order = 6;
	encode(&h, &tail, area);
	qcow2_header_decode(&back, area);
	assert_int_equal(back.incompatible, h.incompatible);
	assert_int_equal(back.autoclear, h.autoclear);
	assert_int_equal(back.snapshots_off, h.snapshots_off);
	encode(&back, &tail, again);
	assert_memory_equal(again, area, sizeof(area));
	assert_memory_equal(area, "QFI\xfb", 4);
}

static void version_2_reads_nothing_behind_72(void **state)
{
	uint8_t buf[QCOW2_V3_HEADER_BYTES];
	struct qcow2_header h;

	(void)state;
	memset(buf, 0xff, sizeof(buf));
	memcpy(buf, "QFI\xfb\0\0\0\2", 8);
	qcow2_header_decode(&h, buf);
	assert_int_equal(h.version, 2);
	assert_int_equal(h.incompatible | h.compatible | h.autoclear, 0);
	assert_int_equal(h.refcount_order, 4);
	assert_int_equal(h.header_len, 72);
	assert_int_equal(h.compression_type, 0);
}

static void short_version_3_has_no_compression_type(void **state)
{
	uint8_t buf[QCOW2_V3_HEADER_BYTES];
	struct qcow2_header h;

	(void)state;
	memset(buf, 0xff, sizeof(buf));
	memcpy(buf, "QFI\xfb\0\0\0\3", 8);
	memcpy(buf + 100, "\0\0\0\x68", 4);
	qcow2_header_decode(&h, buf);
	assert_int_equal(h.header_len, 104);
	assert_int_equal(h.compression_type, 0);
}

static void limits_are_exact(void **state)
{
	struct qcow2_header h = valid_header();

	(void)state;
	assert_accepted(&h, 0);
	h.l1_entries = QCOW2_L1_ENTRIES_MAX;
	h.l1_off = 4 * CLUSTER;
	assert_accepted(&h, 0);
	h.l1_entries++;
	assert_refused(&h, "Active L1 table too large");

	h = valid_header();
	h.reftable_off = 4 * CLUSTER;
	h.reftable_clusters = QCOW2_REFTABLE_BYTES_MAX / CLUSTER;
	assert_accepted(&h, 0);
	h.reftable_clusters++;
	assert_refused(&h, "Reference count table too large");

	h = valid_header();
	h.snapshots_off = 4 * CLUSTER;
	h.snapshot_count = QCOW2_SNAPSHOTS_MAX;
	assert_accepted(&h, 0);
	h.snapshot_count++;
	assert_refused(&h, "Snapshot table too large");
}

static void l1_must_cover_the_disk(void **state)
{
	struct qcow2_header h = valid_header();

	(void)state;
	h.size_bytes = (1ull << 30) + 1;
	assert_refused(&h, "L1 table is too small");
	h.size_bytes = INT64_MAX;
	assert_refused(&h, "Image is too big");
	h.size_bytes = UINT64_MAX;
	assert_refused(&h, "Image is too big");
	h.size_bytes = 1ull << 50;
	h.l1_entries = 1u << 21;
	h.l1_off = 4 * CLUSTER;
	assert_accepted(&h, 0);
	/* Half as many entries fit into a table when they are twice as long. */
	h.incompatible = QCOW2_INCOMPAT_EXTENDED_L2;
	assert_refused(&h, "L1 table is too small");

	h = valid_header();
	h.size_bytes = 0;
	h.l1_entries = 0;
	h.l1_off = 0;
	assert_accepted(&h, 0);
}

static void tables_do_not_overlap(void **state)
{
	struct qcow2_header h = valid_header();

	(void)state;
	h.l1_off = 0;
	assert_refused(&h, "overlaps the Header");
	assert_accepted(&h, QCOW2_VALIDATE_FOR_CHECK);
	h = valid_header();
	h.l1_off = h.reftable_off;
	assert_refused(&h, "overlaps the");
	h = valid_header();
	h.reftable_clusters = 3;
	assert_refused(&h, "overlaps the Active L1 table");
	h = valid_header();
	h.snapshot_count = 1;
	h.snapshots_off = h.l1_off;
	assert_refused(&h, "Snapshot table offset invalid");
	assert_accepted(&h, QCOW2_VALIDATE_FOR_CHECK);
	/* Without snapshots their table is nowhere. */
	h.snapshot_count = 0;
	assert_accepted(&h, 0);
}

static void tables_may_cross_the_end_but_not_start_there(void **state)
{
	struct qcow2_header h = valid_header();

	(void)state;
	h.l1_off = FILE_SIZE - CLUSTER;
	h.l1_entries = QCOW2_L1_ENTRIES_MAX;
	assert_accepted(&h, 0);
	h.l1_off = FILE_SIZE;
	assert_refused(&h, "behind the end of the file");
	assert_accepted(&h, QCOW2_VALIDATE_FOR_CHECK);
	assert_refused(&h, "Active L1 table offset invalid");
	h.l1_off = 1ull << 62;
	assert_refused(&h, "behind the end of the file");
	h.l1_off = (1ull << 63) - CLUSTER;
	assert_refused(&h, "end behind 2^63 - 1");

	h = valid_header();
	h.reftable_off = FILE_SIZE;
	assert_refused(&h, "Reference count table offset invalid");
	assert_accepted(&h, QCOW2_VALIDATE_READ_ONLY);
}

static void only_check_opens_without_refcount_table(void **state)
{
	struct qcow2_header h = valid_header();

	(void)state;
	h.reftable_clusters = 0;
	assert_refused(&h, "does not contain a reference count table");
	assert_accepted(&h, QCOW2_VALIDATE_FOR_CHECK);
}

static void features_agree_with_fields(void **state)
{
	struct qcow2_header h = valid_header();

	(void)state;
	h.compression_type = 1;
	assert_refused(&h, "feature bit must be set");
	h.incompatible = QCOW2_INCOMPAT_COMPRESSION;
	assert_accepted(&h, 0);
	h.compression_type = 0;
	assert_refused(&h, "feature bit must not be set");
	h.compression_type = 2;
	assert_refused(&h, "unknown compression type: 2");
	h = valid_header();
	h.refcount_order = 7;
	assert_refused(&h, "may not exceed 64 bits");
	h = valid_header();
	h.crypt_method = 3;
	assert_refused(&h, "Unsupported encryption method 3");
}

static void backing_name_stays_between_header_and_cluster_end(void **state)
{
	struct qcow2_header h = valid_header();

	(void)state;
	h.backing_off = 112;
	h.backing_len = 1023;
	assert_accepted(&h, 0);
	h.backing_len = 1024;
	assert_refused(&h, "Backing file name too long");
	h.backing_len = 0;
	assert_refused(&h, "Backing file name is empty");
	h.backing_len = 8;
	h.backing_off = 111;
	assert_refused(&h, "Invalid backing file offset");
	h.backing_off = CLUSTER - 8;
	assert_accepted(&h, 0);
	h.backing_off++;
	assert_refused(&h, "do not fit into the first cluster");
	h.backing_off = 1ull << 63;
	assert_refused(&h, "Invalid backing file offset");
}

static char *text(const char *s)
{
	char *copy = strdup(s);

	assert_non_null(copy);
	return copy;
}

/* Extensions as in a file: no padding, no end marker, and so on. */
static size_t put_ext(uint8_t *area, size_t at, uint32_t type, const void *data,
		      size_t len)
{
	be32_t word[2] = {be32_make(type), be32_make((uint32_t)len)};

	memcpy(area + at, word, 8);
	memcpy(area + at + 8, data, len);
	return at + 8 + (size_t)align_up(len, 8);
}

static void layout_of_a_default_image_is_the_usual_one(void **state)
{
	static uint8_t area[CLUSTER];
	struct qcow2_header h = valid_header();
	struct qcow2_header_tail tail = {0};
	be32_t word[2];

	(void)state;
	tail.backing_format = text("qcow2");
	tail.backing_name = text("base.qcow2");
	encode(&h, &tail, area);
	/* format extension 112, feature names 128, end 520, name 528 */
	assert_int_equal(h.backing_off, 0x210);
	assert_int_equal(h.backing_len, 10);
	memcpy(word, area + 128, 8);
	assert_int_equal(be32_get(word[0]), QCOW2_EXT_FEATURE_NAMES);
	assert_int_equal(be32_get(word[1]), 384);
	assert_string_equal((char *)area + 138, "dirty bit");
	h.version = 2;
	encode(&h, &tail, area);
	assert_int_equal(h.backing_off, 0x60);
	qcow2_header_tail_release(&tail);
}

static void rewrite_keeps_what_it_does_not_understand(void **state)
{
	static uint8_t area[CLUSTER], again[CLUSTER];
	struct qcow2_header h = valid_header();
	struct qcow2_header_tail tail;
	struct error err;
	uint8_t names[96] = {0};
	size_t at;

	(void)state;
	h.header_len = 128;
	memset(area, 0, sizeof(area));
	memcpy(area + 112, "FUTURE FIELDS 16", 16);
	memcpy(names, "\1\0old name of lazy", 18);
	memcpy(names + 48, "\1\77compatible feature 63", 23);
	at = put_ext(area, 128, 0x11111111, "one", 3);
	at = put_ext(area, at, QCOW2_EXT_FEATURE_NAMES, names, 96);
	at = put_ext(area, at, 0x22222222, "", 0);
	put_ext(area, at, 0x11111111, "again", 5);
	assert_int_equal(decode_tail(&tail, &h, area, &err), 0);
	assert_int_equal(tail.extension_count, 4);
	tail.backing_name = text("b");
	encode(&h, &tail, again);
	qcow2_header_tail_release(&tail);

	assert_int_equal(h.header_len, 128);
	assert_memory_equal(again + 112, "FUTURE FIELDS 16", 16);
	assert_int_equal(decode_tail(&tail, &h, again, &err), 0);
	/* Our names first, once; then the unknown ones in their order. */
	assert_int_equal(tail.extension_count, 4);
	assert_int_equal(tail.extensions[0].type, QCOW2_EXT_FEATURE_NAMES);
	assert_int_equal(tail.extensions[0].len, 9 * 48);
	assert_string_equal((char *)tail.extensions[0].data + 8 * 48 + 2,
			    "compatible feature 63");
	assert_int_equal(tail.extensions[1].type, 0x11111111);
	assert_memory_equal(tail.extensions[1].data, "one", 3);
	assert_int_equal(tail.extensions[2].type, 0x22222222);
	assert_memory_equal(tail.extensions[3].data, "again", 5);
	assert_string_equal(tail.backing_name, "b");
	qcow2_header_tail_release(&tail);
}

static void full_cluster_is_refused_and_names_give_way(void **state)
{
	static uint8_t area[CLUSTER];
	struct qcow2_header h = valid_header();
	struct qcow2_header_tail tail = {0};
	struct error err = {0};
	size_t used;

	(void)state;
	h.cluster_bits = 9;
	tail.backing_name = calloc(1, 512);
	assert_non_null(tail.backing_name);
	memset(tail.backing_name, 'x', 392);
	/* 112 for the header, 8 for the end marker, 392 for the name. */
	encode(&h, &tail, area);
	tail.backing_name[392] = 'x';
	assert_int_equal(qcow2_header_encode(&h, &tail, area, 512, &used, &err),
			 -ENOSPC);
	qcow2_header_tail_release(&tail);
}

/*
 * The image's own names that do not fit go, not ours with them: a second
 * rewrite would find room for ours, and would not write the same again.
 */
static void names_that_do_not_fit_go_before_ours(void **state)
{
	static uint8_t area[CLUSTER], again[CLUSTER], bytes[CLUSTER];
	struct qcow2_header h = valid_header();
	struct qcow2_header_tail tail;
	struct error err;
	uint8_t names[5 * 48] = {0};
	size_t at, i;

	(void)state;
	for (i = 0; i < 5; i++) {
		names[48 * i] = 1;
		names[48 * i + 1] = (uint8_t)(40 + i);
		names[48 * i + 2] = (uint8_t)('a' + i);
	}
	h.cluster_bits = 13;
	memset(area, 0, sizeof(area));
	at = put_ext(area, 112, QCOW2_EXT_FEATURE_NAMES, names, sizeof(names));
	/* Leaves room for our 8 names and 2 more, with bitmaps and an end. */
	put_ext(area, at, 0x11111111, bytes,
		8192 - 112 - 8 - 10 * 48 - 8 - 40 - 16);
	assert_int_equal(qcow2_header_tail_decode(&tail, &h, area, 8192, &err),
			 0);
	encode(&h, &tail, again);
	qcow2_header_tail_release(&tail);
	assert_int_equal(qcow2_header_tail_decode(&tail, &h, again, 8192, &err),
			 0);
	assert_int_equal(tail.extensions[0].type, QCOW2_EXT_FEATURE_NAMES);
	assert_int_equal(tail.extensions[0].len, 10 * 48);
	assert_string_equal((char *)tail.extensions[0].data + 9 * 48 + 2, "b");
	encode(&h, &tail, area);
	assert_memory_equal(area, again, 8192);
	qcow2_header_tail_release(&tail);
}

static void unknown_features_are_refused_by_name(void **state)
{
	static uint8_t area[CLUSTER];
	struct qcow2_header h = valid_header();
	struct qcow2_header_tail tail;
	struct error err;
	uint8_t names[100] = {0};

	(void)state;
	names[1] = 40;
	memset(names + 2, 'N', 46);
	names[49] = 41;
	memcpy(names + 50, "a\nb", 3);
	memset(area, 0, sizeof(area));
	put_ext(area, 112, QCOW2_EXT_FEATURE_NAMES, names, sizeof(names));
	h.incompatible = 1ull << 40 | 1ull << 41 | 1ull << 62;
	assert_int_equal(decode_tail(&tail, &h, area, &err), -ENOTSUP);
	assert_string_equal(err.message,
			    "Unsupported qcow2 feature(s): "
			    "NNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNN, "
			    "a\\x0ab, "
			    "Unknown incompatible feature: 4000000000000000");
}

/* One extension, its data and what is said about it; NULL: accepted. */
static void check_extension(uint32_t type, const void *data, size_t len,
			    uint32_t crypt_method, const char *words)
{
	static uint8_t area[CLUSTER];
	struct qcow2_header h = valid_header();
	struct qcow2_header_tail tail = {0};
	struct error err;
	int ret;

	memset(area, 0, sizeof(area));
	h.crypt_method = crypt_method;
	put_ext(area, 112, type, data, len);
	ret = decode_tail(&tail, &h, area, &err);
	if (!words) {
		if (ret < 0)
			fail_msg("refused: %s", err.message);
		qcow2_header_tail_release(&tail);
		return;
	}
	assert_true(ret < 0);
	if (!strstr(err.message, words))
		fail_msg("'%s' does not say '%s'", err.message, words);
}

static void extensions_are_checked(void **state)
{
	uint8_t crypt[16] = {[5] = 1, [14] = 1};

	(void)state;
	check_extension(QCOW2_EXT_BACKING_FORMAT, "raw", 3, 0, NULL);
	check_extension(QCOW2_EXT_BACKING_FORMAT, "123456789012345", 15, 0,
			NULL);
	check_extension(QCOW2_EXT_BACKING_FORMAT, "1234567890123456", 16, 0,
			"Backing format name has 16 bytes");
	check_extension(QCOW2_EXT_BACKING_FORMAT, "", 0, 0,
			"Backing format name has 0 bytes");
	check_extension(QCOW2_EXT_BACKING_FORMAT, "ra\0w", 4, 0, "zero byte");
	check_extension(QCOW2_EXT_DATA_FILE, "", 0, 0, "Data file name has 0");
	check_extension(QCOW2_EXT_ENCRYPTION, crypt, 16, 2, NULL);
	check_extension(QCOW2_EXT_ENCRYPTION, crypt, 15, 2, "has 15 bytes");
	check_extension(QCOW2_EXT_ENCRYPTION, crypt, 16, 0,
			"only for crypt_method 2");
	crypt[7] = 1;
	check_extension(QCOW2_EXT_ENCRYPTION, crypt, 16, 2,
			"not a multiple of the cluster size");
	check_extension(0x12345678, "", 0, 2, "Missing encryption header");
	check_extension(QCOW2_EXT_BITMAPS, "", 0, 0, "has 0 bytes, not 24");
	check_extension(0x12345678, "anything", 8, 0, NULL);
}

static void extension_may_fill_the_area_but_not_leave_it(void **state)
{
	static uint8_t area[CLUSTER];
	struct qcow2_header h = valid_header();
	struct qcow2_header_tail tail;
	struct error err;

	(void)state;
	memset(area, 0, sizeof(area));
	put_ext(area, 112, 0x12345678, "", 0);
	area[118] = (CLUSTER - 120) >> 8;
	area[119] = (CLUSTER - 120) & 0xff;
	assert_int_equal(decode_tail(&tail, &h, area, &err), 0);
	qcow2_header_tail_release(&tail);
	area[119]++;
	assert_true(decode_tail(&tail, &h, area, &err) < 0);
	assert_non_null(strstr(err.message, "Header extension too large"));
	memset(area + 116, 0xff, 4);
	assert_true(decode_tail(&tail, &h, area, &err) < 0);
	/* The name ends the area before the cluster does. */
	h.backing_off = 128;
	h.backing_len = 4;
	put_ext(area, 112, 0x12345678, "123456789", 9);
	assert_true(decode_tail(&tail, &h, area, &err) < 0);
}

static void double_extensions_are_refused(void **state)
{
	static const uint32_t types[] = {QCOW2_EXT_BACKING_FORMAT,
					 QCOW2_EXT_DATA_FILE, QCOW2_EXT_BITMAPS,
					 QCOW2_EXT_ENCRYPTION};
	static uint8_t area[CLUSTER];

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct qcow2_header h = valid_header();
		struct qcow2_header_tail tail;
		struct error err;
		uint8_t data[24] = {'a', 'a', 'a', 'a', 'a', 1, 0, 0,
				    0,	 0,   0,   0,	0,   1, 0, 0};
		size_t len = types[i] == QCOW2_EXT_BITMAPS ? 24 : 5, at;

		if (types[i] == QCOW2_EXT_ENCRYPTION) {
			h.crypt_method = 2;
			memset(data, 0, 6);
			data[5] = 1;
			len = 16;
		}
		memset(area, 0, sizeof(area));
		at = put_ext(area, 112, types[i], data, len);
		assert_int_equal(decode_tail(&tail, &h, area, &err), 0);
		qcow2_header_tail_release(&tail);
		put_ext(area, at, types[i], data, len);
		assert_true(decode_tail(&tail, &h, area, &err) < 0);
		assert_non_null(strstr(err.message, "more than once"));
	}
}

static void raw_data_bit_needs_a_data_file(void **state)
{
	static uint8_t area[CLUSTER];
	struct qcow2_header h = valid_header();
	struct qcow2_header_tail tail;
	struct error err;

	(void)state;
	memset(area, 0, sizeof(area));
	h.autoclear = QCOW2_AUTOCLEAR_RAW_DATA;
	assert_true(decode_tail(&tail, &h, area, &err) < 0);
	h.incompatible = QCOW2_INCOMPAT_DATA_FILE;
	assert_int_equal(decode_tail(&tail, &h, area, &err), 0);
	qcow2_header_tail_release(&tail);
}

static void bitmaps_without_their_bit_are_ignored_and_dropped(void **state)
{
	static uint8_t area[CLUSTER];
	struct qcow2_header h = valid_header();
	struct qcow2_header_tail tail;
	struct error err;
	uint8_t data[24] = {[3] = 1, [15] = 32, [21] = 5};

	(void)state;
	memset(area, 0, sizeof(area));
	put_ext(area, 112, QCOW2_EXT_BITMAPS, data, 24);
	h.autoclear = QCOW2_AUTOCLEAR_BITMAPS;
	assert_int_equal(decode_tail(&tail, &h, area, &err), 0);
	assert_true(tail.has_bitmaps && tail.bitmaps_valid);
	assert_int_equal(tail.bitmap_count, 1);
	assert_int_equal(tail.bitmap_directory_len, 32);
	assert_int_equal(tail.bitmap_directory_off, 5 * CLUSTER);
	encode(&h, &tail, area);
	qcow2_header_tail_release(&tail);
	assert_int_equal(decode_tail(&tail, &h, area, &err), 0);
	assert_true(tail.bitmaps_valid);
	h.autoclear = 0;
	encode(&h, &tail, area);
	qcow2_header_tail_release(&tail);
	assert_int_equal(decode_tail(&tail, &h, area, &err), 0);
	assert_false(tail.has_bitmaps);
	qcow2_header_tail_release(&tail);
}

static void packed_descriptors_come_back(void **state)
{
	struct qcow2_packed p;
	uint64_t first, count;

	(void)state;
	/* As written by QEMU: two streams in one host cluster. */
	p = qcow2_packed_decode(0x400000000005004full, 16);
	assert_int_equal(p.host_off, 0x5004f);
	assert_int_equal(p.len, 433);
	assert_int_equal(qcow2_packed_encode(0x5004f, 79, 16),
			 0x400000000005004full);
	qcow2_packed_clusters(p, 16, &first, &count);
	assert_int_equal(first, 5);
	assert_int_equal(count, 1);

	for (unsigned bits = 9; bits <= 21; bits++) {
		uint64_t limit = qcow2_packed_off_limit(bits);
		uint32_t len = (1u << bits) - 1;
		uint64_t off = limit - 1, entry;

		entry = qcow2_packed_encode(off, len, bits);
		p = qcow2_packed_decode(entry, bits);
		assert_true(entry >> 62 == 1);
		assert_int_equal(p.host_off, off);
		assert_true(p.len >= len && p.len < len + 512);
		assert_int_equal((p.host_off + p.len) % 512, 0);
		qcow2_packed_clusters(p, bits, &first, &count);
		assert_int_equal(first, off >> bits);
		assert_int_equal(count, 2);
	}
	assert_int_equal(qcow2_packed_off_limit(21), 1ull << 49);
	assert_int_equal(qcow2_packed_off_limit(9), 1ull << 56);
}

static void refcounts_of_all_widths(void **state)
{
	static const uint8_t ten_used[][5] = {
		{0xff, 0x03, 0, 0, 0},
		{0x55, 0x55, 0x05, 0, 0},
		{0x11, 0x11, 0x11, 0x11, 0x11},
	};
	uint8_t block[512];

	(void)state;
	for (unsigned order = 0; order <= 6; order++) {
		uint64_t max =
			order == 6 ? UINT64_MAX : (1ull << (1u << order)) - 1;
		uint64_t slots = sizeof(block) * 8 >> order;

		memset(block, 0, sizeof(block));
		for (uint64_t i = 0; i < 10; i++)
			qcow2_refcount_put(block, i, order, 1);
		if (order < 3)
			assert_memory_equal(block, ten_used[order], 5);
		if (order == 4)
			assert_memory_equal(block, "\0\1\0\1", 4);
		for (uint64_t i = 0; i < slots; i++)
			qcow2_refcount_put(block, i, order, max - i % 2);
		for (uint64_t i = 0; i < slots; i++)
			assert_int_equal(qcow2_refcount_get(block, i, order),
					 max - i % 2);
	}
}

static void l2_entries_are_told_apart(void **state)
{
	(void)state;
	assert_int_equal(qcow2_l2_kind(0), QCOW2_UNALLOCATED);
	assert_int_equal(qcow2_l2_kind(1), QCOW2_ZERO_PLAIN);
	assert_int_equal(qcow2_l2_kind(0x50001), QCOW2_ZERO_ALLOCATED);
	assert_int_equal(qcow2_l2_kind(QCOW2_COPIED | 0x50000), QCOW2_NORMAL);
	assert_int_equal(qcow2_l2_kind(0x4000000000000001ull),
			 QCOW2_COMPRESSED);
}

/* An entry of the snapshot table; returns its length without padding. */
static size_t put_snapshot(uint8_t *table, uint32_t extra_len, const char *id,
			   const char *name)
{
	be64_t l1_off = be64_make(4 * CLUSTER);
	be32_t l1_entries = be32_make(2), len = be32_make(extra_len);
	be16_t id_len = be16_make((uint16_t)strlen(id));
	be16_t name_len = be16_make((uint16_t)strlen(name));
	be32_t vm_state = be32_make(77);
	be64_t extra[3] = {be64_make(88), be64_make(99), be64_make(111)};
	size_t at = 40 + extra_len;

	memset(table, 0, 40);
	memcpy(table, &l1_off, 8);
	memcpy(table + 8, &l1_entries, 4);
	memcpy(table + 12, &id_len, 2);
	memcpy(table + 14, &name_len, 2);
	memcpy(table + 32, &vm_state, 4);
	memcpy(table + 36, &len, 4);
	memset(table + 40, 0xee, extra_len);
	memcpy(table + 40, extra, min_u64(extra_len, sizeof(extra)));
	memcpy(table + at, id, strlen(id));
	memcpy(table + at + strlen(id), name, strlen(name));
	return at + strlen(id) + strlen(name);
}

static void snapshot_extra_data_may_be_absent(void **state)
{
	static const struct {
		uint32_t extra_len;
		uint64_t vm_state, disk, icount;
		bool v3;
	} cases[] = {
		{0, 77, 5555, UINT64_MAX, false},
		{8, 88, 5555, UINT64_MAX, false},
		{15, 88, 5555, UINT64_MAX, false},
		{16, 88, 99, UINT64_MAX, true},
		{24, 88, 99, 111, true},
		{1024, 88, 99, 111, true},
	};
	uint8_t table[2048];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t len = put_snapshot(table, cases[i].extra_len, "1", "n");
		struct qcow2_header v2 = {.version = 2, .cluster_bits = 16};
		struct qcow2_header v3 = {.version = 3, .cluster_bits = 16};
		struct qcow2_snapshot s;

		/* The padding behind the last entry is not in the file. */
		assert_int_equal(
			qcow2_snapshot_decode(&s, table, len, 0, 5555, NULL),
			align_up(len, 8));
		assert_string_equal(s.id, "1");
		assert_string_equal(s.name, "n");
		assert_int_equal(s.vm_state_size, cases[i].vm_state);
		assert_int_equal(s.disk_size, cases[i].disk);
		assert_int_equal(s.icount, cases[i].icount);
		assert_int_equal(qcow2_snapshot_validate(&s, &v2, NULL), 0);
		assert_int_equal(qcow2_snapshot_validate(&s, &v3, NULL) == 0,
				 cases[i].v3);
		qcow2_snapshot_release(&s);
		assert_true(qcow2_snapshot_decode(&s, table, len - 1, 0, 5555,
						  NULL) < 0);
	}
}

static void bad_snapshots_are_refused(void **state)
{
	struct qcow2_header h = valid_header();
	struct qcow2_snapshot s;
	uint8_t table[2048];
	size_t len;

	(void)state;
	len = put_snapshot(table, 1025, "1", "n");
	assert_true(qcow2_snapshot_decode(&s, table, len, 0, 0, NULL) < 0);
	put_snapshot(table, 16, "1", "n");
	memset(table + 36, 0xff, 4);
	assert_true(qcow2_snapshot_decode(&s, table, sizeof(table), 0, 0,
					  NULL) < 0);
	len = put_snapshot(table, 16, "1", "name");
	table[len - 2] = 0;
	assert_true(qcow2_snapshot_decode(&s, table, len, 0, 0, NULL) < 0);
	assert_true(qcow2_snapshot_decode(&s, table, 0, 0, 0, NULL) < 0);

	len = put_snapshot(table, 16, "1", "n");
	assert_true(qcow2_snapshot_decode(&s, table, len, 0, 0, NULL) > 0);
	s.l1_off += 512;
	assert_true(qcow2_snapshot_validate(&s, &h, NULL) < 0);
	s.l1_off = 1ull << 56;
	assert_true(qcow2_snapshot_validate(&s, &h, NULL) < 0);
	s.l1_off = CLUSTER;
	s.l1_entries = QCOW2_L1_ENTRIES_MAX + 1;
	assert_true(qcow2_snapshot_validate(&s, &h, NULL) < 0);
	s.l1_entries--;
	assert_int_equal(qcow2_snapshot_validate(&s, &h, NULL), 0);
	s.disk_size = UINT64_MAX;
	assert_true(qcow2_snapshot_validate(&s, &h, NULL) < 0);
	qcow2_snapshot_release(&s);
}

static void bitmap_entries_are_checked(void **state)
{
	uint8_t entry[64] = {[5] = 5,	[11] = 1, [15] = 2,   [16] = 1,
			     [17] = 16, [19] = 2, [24] = 'b', [25] = '0'};
	struct qcow2_bitmap b;

	(void)state;
	assert_int_equal(qcow2_bitmap_decode(&b, entry, 32, 0, 16, NULL), 32);
	assert_string_equal(b.name, "b0");
	assert_int_equal(b.table_off, 5 * CLUSTER);
	assert_int_equal(b.flags, QCOW2_BITMAP_AUTO);
	qcow2_bitmap_release(&b);
	assert_true(qcow2_bitmap_decode(&b, entry, 31, 0, 16, NULL) < 0);
	assert_true(qcow2_bitmap_decode(&b, entry, 32, 16, 16, NULL) < 0);
	for (unsigned bits = 0; bits < 256; bits++) {
		entry[17] = (uint8_t)bits;
		if (bits >= 9 && bits <= 31)
			continue;
		assert_true(qcow2_bitmap_decode(&b, entry, 32, 0, 16, NULL) <
			    0);
	}
	entry[17] = 16;
	entry[20] = 0xff;
	assert_true(qcow2_bitmap_decode(&b, entry, 64, 0, 16, NULL) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fixed_part_comes_back),
		cmocka_unit_test(version_2_reads_nothing_behind_72),
		cmocka_unit_test(short_version_3_has_no_compression_type),
		cmocka_unit_test(limits_are_exact),
		cmocka_unit_test(l1_must_cover_the_disk),
		cmocka_unit_test(tables_do_not_overlap),
		cmocka_unit_test(tables_may_cross_the_end_but_not_start_there),
		cmocka_unit_test(only_check_opens_without_refcount_table),
		cmocka_unit_test(features_agree_with_fields),
		cmocka_unit_test(
			backing_name_stays_between_header_and_cluster_end),
		cmocka_unit_test(layout_of_a_default_image_is_the_usual_one),
		cmocka_unit_test(rewrite_keeps_what_it_does_not_understand),
		cmocka_unit_test(full_cluster_is_refused_and_names_give_way),
		cmocka_unit_test(names_that_do_not_fit_go_before_ours),
		cmocka_unit_test(unknown_features_are_refused_by_name),
		cmocka_unit_test(extensions_are_checked),
		cmocka_unit_test(extension_may_fill_the_area_but_not_leave_it),
		cmocka_unit_test(double_extensions_are_refused),
		cmocka_unit_test(raw_data_bit_needs_a_data_file),
		cmocka_unit_test(
			bitmaps_without_their_bit_are_ignored_and_dropped),
		cmocka_unit_test(packed_descriptors_come_back),
		cmocka_unit_test(refcounts_of_all_widths),
		cmocka_unit_test(l2_entries_are_told_apart),
		cmocka_unit_test(snapshot_extra_data_may_be_absent),
		cmocka_unit_test(bad_snapshots_are_refused),
		cmocka_unit_test(bitmap_entries_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
