/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What codecs write is read back here by the plain libraries, the way other
 * programs do it; what they read is made by the plain libraries too. Streams
 * that lie are in test_codec_hostile.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#define ZLIB_CONST
#include <zlib.h>
#include <zstd.h>

#include "block/codec.h"
#include "block/error.h"

#define KIB	  1024u
#define LEN_MAX	  (2048 * KIB)
#define GUARD	  0xa5
#define NO_FIT(n) ((n)-1) /* the most that a packed cluster may take */

enum data_kind { DATA_ZERO, DATA_TEXT, DATA_RECORDS, DATA_FAR, DATA_RANDOM };
#define DATA_KINDS 5

static uint32_t next_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

static void fill_random(uint8_t *buf, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(next_random(&seed) >> 11);
}

static void fill_text(uint8_t *buf, size_t len)
{
	static const char *const words[] = {
		"disk ",  "image ", "of ",     "the ",	  "cluster\n",
		"holds ", "guest ", "offset ", "which ",  "mapping, ",
		"and ",	  "a ",	    "table ",  "refers ", "to. ",
	};
	uint32_t seed = 7;
	size_t i = 0;

	while (i < len) {
		const char *word = words[next_random(&seed) % 15];

		while (*word && i < len)
			buf[i++] = (uint8_t)*word++;
	}
}

/* Small numbers that count up, beside random ones: like tables of programs. */
static void fill_records(uint8_t *buf, size_t len)
{
	uint32_t seed = 9;

	for (size_t i = 0; i < len; i++)
		buf[i] = i % 16 < 3 ? (uint8_t)next_random(&seed)
				    : (uint8_t)(i / 256 + i % 16);
}

/* Random bytes that repeat at a distance of 6001: no small window sees it. */
static void fill_far(uint8_t *buf, size_t len)
{
	size_t head = len < 6001 ? len : 6001;

	fill_random(buf, head, 11);
	for (size_t i = head; i < len; i++)
		buf[i] = buf[i - head];
}

static void fill(uint8_t *buf, size_t len, enum data_kind kind)
{
	switch (kind) {
	case DATA_ZERO:
		memset(buf, 0, len);
		return;
	case DATA_TEXT:
		fill_text(buf, len);
		return;
	case DATA_RECORDS:
		fill_records(buf, len);
		return;
	case DATA_FAR:
		fill_far(buf, len);
		return;
	case DATA_RANDOM:
		fill_random(buf, len, 13);
		return;
	}
}

static struct codec *codec_of(enum codec_kind kind, int level, int window_bits)
{
	const struct codec_params params = {kind, level, window_bits};
	struct codec *codec;

	assert_int_equal(codec_new(&codec, &params), 0);
	return codec;
}

static uint8_t *buffer(size_t len)
{
	uint8_t *buf = malloc(len);

	assert_non_null(buf);
	return buf;
}

/*
 * One shot into the whole cluster with a window of 12 bits declared, which is
 * how QEMU reads. The stream has to end with the output.
 */
static void check_deflate(const uint8_t *packed, size_t n, const uint8_t *want,
			  size_t len)
{
	uint8_t *out = buffer(len);
	z_stream s = {0};

	assert_int_equal(inflateInit2(&s, -12), Z_OK);
	s.next_in = packed;
	s.avail_in = (uInt)n;
	s.next_out = out;
	s.avail_out = (uInt)len;
	assert_int_equal(inflate(&s, Z_FINISH), Z_STREAM_END);
	assert_int_equal(s.total_out, len);
	assert_int_equal(s.total_in, n);
	assert_memory_equal(out, want, len);
	inflateEnd(&s);
	free(out);
}

static void check_zlib(const uint8_t *packed, size_t n, const uint8_t *want,
		       size_t len)
{
	uint8_t *out = buffer(len);
	uLongf got = len;

	assert_int_equal(uncompress(out, &got, packed, n), Z_OK);
	assert_int_equal(got, len);
	assert_memory_equal(out, want, len);
	free(out);
}

/* A single frame that says its content's size and carries no checksum. */
static void check_zstd(const uint8_t *packed, size_t n, const uint8_t *want,
		       size_t len)
{
	uint8_t *out = buffer(len);

	assert_int_equal(ZSTD_findFrameCompressedSize(packed, n), n);
	assert_int_equal(ZSTD_getFrameContentSize(packed, n), len);
	assert_int_equal(packed[4] & 0x04, 0);
	assert_int_equal(ZSTD_decompress(out, len, packed, n), len);
	assert_memory_equal(out, want, len);
	free(out);
}

static void check_packed(enum codec_kind kind, const uint8_t *packed, size_t n,
			 const uint8_t *want, size_t len)
{
	switch (kind) {
	case CODEC_DEFLATE:
		check_deflate(packed, n, want, len);
		return;
	case CODEC_ZLIB:
		check_zlib(packed, n, want, len);
		return;
	case CODEC_ZSTD:
		check_zstd(packed, n, want, len);
		return;
	}
}

static void assert_guard(const uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		assert_int_equal(buf[i], GUARD);
}

/* Packs, checks with the plain library, unpacks with foreign bytes behind. */
static int64_t round_trip(struct codec *codec, enum codec_kind kind,
			  const uint8_t *src, size_t len, size_t cap)
{
	uint8_t *packed = buffer(cap + 64), *out = buffer(len + 64);
	int64_t n;

	memset(packed, GUARD, cap + 64);
	memset(out, GUARD, len + 64);
	n = codec_pack(codec, src, len, packed, cap);
	assert_guard(packed + cap, 64);
	if (n >= 0) {
		assert_in_range(n, 1, cap);
		check_packed(kind, packed, (size_t)n, src, len);
		fill_random(packed + n, cap + 64 - (size_t)n, 17);
		assert_int_equal(
			codec_unpack(codec, packed, cap + 64, out, len), 0);
		assert_memory_equal(out, src, len);
		assert_guard(out + len, 64);
	} else {
		assert_int_equal(n, -ENOSPC);
	}
	free(packed);
	free(out);
	return n;
}

/* Whether this data has to shrink, whatever the level and window. */
static bool shrinks(enum data_kind data)
{
	return data != DATA_FAR && data != DATA_RANDOM;
}

static void round_trip_all_data(enum codec_kind kind, int level,
				int window_bits, size_t len)
{
	struct codec *codec = codec_of(kind, level, window_bits);
	uint8_t *src = buffer(len);

	for (int data = 0; data < DATA_KINDS; data++) {
		int64_t n;

		fill(src, len, (enum data_kind)data);
		n = round_trip(codec, kind, src, len, NO_FIT(len));
		if (shrinks((enum data_kind)data))
			assert_true(n > 0);
		if (data == DATA_RANDOM)
			assert_int_equal(n, -ENOSPC);
	}
	free(src);
	codec_free(codec);
}

static void every_deflate_level_reads_back(void **state)
{
	static const size_t lens[] = {512, 4 * KIB, 64 * KIB};

	(void)state;
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		for (int level = 0; level <= 9; level++) {
			for (int bits = 12; bits <= 15; bits++)
				round_trip_all_data(CODEC_DEFLATE, level, bits,
						    lens[i]);
			round_trip_all_data(CODEC_ZLIB, level, 0, lens[i]);
			round_trip_all_data(CODEC_ZLIB, level, 12, lens[i]);
		}
	}
}

static void every_zstd_level_reads_back(void **state)
{
	static const size_t lens[] = {512, 4 * KIB, 64 * KIB};

	(void)state;
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
		for (int level = 0; level <= 22; level++)
			round_trip_all_data(CODEC_ZSTD, level, 0, lens[i]);
}

static void the_largest_clusters_read_back(void **state)
{
	(void)state;
	round_trip_all_data(CODEC_DEFLATE, 0, 0, LEN_MAX);
	round_trip_all_data(CODEC_DEFLATE, 1, 0, LEN_MAX);
	round_trip_all_data(CODEC_DEFLATE, 4, 0, LEN_MAX);
	round_trip_all_data(CODEC_DEFLATE, 4, 15, LEN_MAX);
	round_trip_all_data(CODEC_ZLIB, 0, 0, LEN_MAX);
	round_trip_all_data(CODEC_ZSTD, 0, 0, LEN_MAX);
	round_trip_all_data(CODEC_ZSTD, 19, 0, LEN_MAX);
}

static void odd_lengths_read_back(void **state)
{
	static const size_t lens[] = {1, 2, 7, 100, 511, 513, 12345, 65537};
	static const enum codec_kind kinds[] = {CODEC_DEFLATE, CODEC_ZLIB,
						CODEC_ZSTD};
	uint8_t src[65537];

	(void)state;
	fill(src, sizeof(src), DATA_TEXT);
	for (size_t k = 0; k < 3; k++) {
		struct codec *codec = codec_of(kinds[k], 0, 0);

		for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
			assert_true(round_trip(codec, kinds[k], src, lens[i],
					       codec_pack_bound(lens[i])) > 0);
		codec_free(codec);
	}
}

/*
 * A reader with a window of `bits` and no more: output is taken away in small
 * pieces, so that zlib has to refer back into its own window.
 */
static bool reads_with_window(const uint8_t *packed, size_t n, int bits,
			      const uint8_t *want, size_t len)
{
	uint8_t piece[512];
	size_t done = 0;
	z_stream s = {0};
	int ret = Z_OK;
	bool same = true;

	assert_int_equal(inflateInit2(&s, -bits), Z_OK);
	s.next_in = packed;
	s.avail_in = (uInt)n;
	while (ret == Z_OK && same) {
		size_t got;

		s.next_out = piece;
		s.avail_out = sizeof(piece);
		ret = inflate(&s, Z_NO_FLUSH);
		got = sizeof(piece) - s.avail_out;
		same = got <= len - done && !memcmp(piece, want + done, got);
		done += got;
	}
	inflateEnd(&s);
	return same && ret == Z_STREAM_END && done == len;
}

static void streams_stay_inside_their_window(void **state)
{
	static const size_t lens[] = {4 * KIB, 64 * KIB, LEN_MAX};
	uint8_t *src = buffer(LEN_MAX), *packed = buffer(2 * LEN_MAX);

	(void)state;
	for (int level = 0; level <= 9; level++) {
		for (int bits = 12; bits <= 14; bits++) {
			/* 0: the default has to be 12. */
			struct codec *codec = codec_of(CODEC_DEFLATE, level,
						       bits == 12 ? 0 : bits);
			size_t len = lens[(level + bits) % 3];

			for (int data = 0; data < DATA_KINDS; data++) {
				int64_t n;

				fill(src, len, (enum data_kind)data);
				n = codec_pack(codec, src, len, packed,
					       codec_pack_bound(len));
				assert_true(n > 0);
				assert_true(reads_with_window(packed, (size_t)n,
							      bits, src, len));
			}
			codec_free(codec);
		}
	}
	free(src);
	free(packed);
}

/* The check above can fail: it does on what a wide window gives. */
static void a_wide_window_packs_what_a_small_one_cannot(void **state)
{
	static const int levels[] = {0, 1, 4, 9};
	static uint8_t src[64 * KIB], packed[128 * KIB];

	(void)state;
	fill(src, sizeof(src), DATA_FAR);
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		struct codec *wide = codec_of(CODEC_DEFLATE, levels[i], 15);
		struct codec *small = codec_of(CODEC_DEFLATE, levels[i], 12);
		int64_t n = codec_pack(wide, src, sizeof(src), packed,
				       sizeof(packed));

		assert_in_range(n, 6001, sizeof(src) * 3 / 4);
		assert_false(reads_with_window(packed, (size_t)n, 12, src,
					       sizeof(src)));
		check_deflate(packed, (size_t)n, src, sizeof(src));
		n = codec_pack(small, src, sizeof(src), packed, sizeof(packed));
		assert_true(n > (int64_t)sizeof(src) * 15 / 16);
		codec_free(wide);
		codec_free(small);
	}
}

static void zlib_streams_say_their_window(void **state)
{
	static uint8_t src[64 * KIB], packed[64 * KIB];
	struct codec *codec = codec_of(CODEC_ZLIB, 0, 0);
	int64_t n;

	(void)state;
	fill(src, sizeof(src), DATA_TEXT);
	n = codec_pack(codec, src, sizeof(src), packed, sizeof(src) - 1);
	assert_true(n > 0);
	assert_int_equal(packed[0], 0x78);
	assert_int_equal(packed[1], 0x9c);
	codec_free(codec);
	codec = codec_of(CODEC_ZLIB, 0, 12);
	n = codec_pack(codec, src, sizeof(src), packed, sizeof(src) - 1);
	assert_true(n > 0);
	assert_int_equal(packed[0], 0x48);
	assert_int_equal((packed[0] << 8 | packed[1]) % 31, 0);
	codec_free(codec);
}

/* Whatever a codec did before, and whoever does it: the same bytes. */
static void output_depends_on_the_input_alone(void **state)
{
	static const struct codec_params params[] = {
		{CODEC_DEFLATE, 0, 0},	{CODEC_DEFLATE, 1, 0},
		{CODEC_DEFLATE, 2, 0},	{CODEC_DEFLATE, 0, 15},
		{CODEC_DEFLATE, 6, 0},	{CODEC_DEFLATE, 5, 15},
		{CODEC_DEFLATE, 9, 15}, {CODEC_ZLIB, 0, 0},
		{CODEC_ZSTD, 0, 0},	{CODEC_ZSTD, 1, 0},
		{CODEC_ZSTD, 9, 0},	{CODEC_ZSTD, 19, 0},
	};
	const size_t len = 64 * KIB, cap = codec_pack_bound(len);
	uint8_t *src = buffer(len), *first = buffer(cap), *again = buffer(cap);

	(void)state;
	for (size_t i = 0; i < sizeof(params) / sizeof(params[0]); i++) {
		struct codec *used;

		assert_int_equal(codec_new(&used, &params[i]), 0);
		for (int round = 0; round < 3 * DATA_KINDS; round++) {
			struct codec *fresh;
			int64_t n;

			fill(src, len, (enum data_kind)(round % DATA_KINDS));
			src[round] ^= 0x55;
			assert_int_equal(codec_new(&fresh, &params[i]), 0);
			n = codec_pack(fresh, src, len, first, cap);
			codec_free(fresh);
			assert_int_equal(codec_pack(used, src, len, again, cap),
					 n);
			assert_memory_equal(again, first, n);
			/* A failure in between leaves no trace either. */
			assert_int_equal(codec_pack(used, src, len, again, 10),
					 -ENOSPC);
		}
		codec_free(used);
	}
	free(src);
	free(first);
	free(again);
}

static void higher_levels_pack_smaller(void **state)
{
	static const int levels[] = {1, 3, 6, 9};
	static uint8_t src[64 * KIB], packed[64 * KIB];

	(void)state;
	fill(src, sizeof(src), DATA_TEXT);
	for (int bits = 12; bits <= 15; bits += 3) {
		int64_t last = sizeof(src);

		for (size_t i = 0; i < 4; i++) {
			struct codec *codec =
				codec_of(CODEC_DEFLATE, levels[i], bits);
			int64_t n = codec_pack(codec, src, sizeof(src), packed,
					       sizeof(packed) - 1);

			assert_in_range(n, 1, last);
			last = n;
			codec_free(codec);
		}
	}
}

static void nothing_is_written_past_a_small_cap(void **state)
{
	static const struct codec_params params[] = {
		{CODEC_DEFLATE, 0, 0},	{CODEC_DEFLATE, 1, 0},
		{CODEC_DEFLATE, 6, 0},	{CODEC_DEFLATE, 6, 15},
		{CODEC_DEFLATE, 9, 15}, {CODEC_ZLIB, 0, 0},
		{CODEC_ZSTD, 0, 0},
	};
	static uint8_t src[16 * KIB], packed[16 * KIB + 64];

	(void)state;
	fill(src, sizeof(src), DATA_RECORDS);
	for (size_t i = 0; i < sizeof(params) / sizeof(params[0]); i++) {
		struct codec *codec;
		int64_t full;

		assert_int_equal(codec_new(&codec, &params[i]), 0);
		full = codec_pack(codec, src, sizeof(src), packed,
				  sizeof(src) - 1);
		assert_true(full > 0);
		for (size_t cap = 0; cap < (size_t)full; cap += 1 + cap / 16) {
			memset(packed, GUARD, sizeof(packed));
			assert_int_equal(codec_pack(codec, src, sizeof(src),
						    packed, cap),
					 -ENOSPC);
			assert_guard(packed + cap, sizeof(packed) - cap);
		}
		assert_int_equal(codec_pack(codec, src, sizeof(src), packed,
					    (size_t)full - 1),
				 -ENOSPC);
		codec_free(codec);
	}
}

/* Formats that must store a stream give room for growth, and get one. */
static void with_room_for_growth_random_bytes_are_packed(void **state)
{
	static const size_t lens[] = {1, 512, 64 * KIB, LEN_MAX};
	uint8_t *src = buffer(LEN_MAX);

	(void)state;
	fill(src, LEN_MAX, DATA_RANDOM);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		for (int level = 0; level <= 9; level++) {
			struct codec *codec = codec_of(CODEC_ZLIB, level,
						       level % 2 ? 12 : 15);

			assert_true(round_trip(codec, CODEC_ZLIB, src, lens[i],
					       codec_pack_bound(lens[i])) > 0);
			codec_free(codec);
		}
	}
	free(src);
}

/*
 * The probe is there to give up early, so whatever it lets through has to be
 * found out by how much a codec packs: here repeats that no histogram shows.
 */
static void repeats_of_random_bytes_are_no_hopeless_case(void **state)
{
	static uint8_t src[64 * KIB], packed[64 * KIB];
	struct codec *codec = codec_of(CODEC_DEFLATE, 0, 0);
	int64_t n;

	(void)state;
	fill_random(src, 3001, 19);
	for (size_t i = 3001; i < sizeof(src); i++)
		src[i] = src[i - 3001];
	n = codec_pack(codec, src, sizeof(src), packed, sizeof(src) - 1);
	assert_in_range(n, 3001, 6 * KIB);

	/* Half random, half zeros: worth it as well. */
	fill_random(src, sizeof(src), 23);
	memset(src + sizeof(src) / 2, 0, sizeof(src) / 2);
	n = codec_pack(codec, src, sizeof(src), packed, sizeof(src) - 1);
	assert_in_range(n, sizeof(src) / 2, sizeof(src) * 6 / 10);
	codec_free(codec);
}

/* Six bits in eight: a quarter to gain, and no repeats at all. */
static void skewed_bytes_are_no_hopeless_case(void **state)
{
	static uint8_t src[16 * KIB], packed[16 * KIB];
	struct codec *codec = codec_of(CODEC_DEFLATE, 0, 0);

	(void)state;
	fill_random(src, sizeof(src), 29);
	for (size_t i = 0; i < sizeof(src); i++)
		src[i] &= 0x7e;
	assert_in_range(
		codec_pack(codec, src, sizeof(src), packed, sizeof(src) - 1), 1,
		sizeof(src) * 8 / 10);
	codec_free(codec);
}

static void assert_params_refused(enum codec_kind kind, int level,
				  int window_bits, const char *text)
{
	const struct codec_params params = {kind, level, window_bits};
	struct error err = {0};
	struct codec *codec;

	assert_int_equal(codec_params_check(&params, &err), -EINVAL);
	assert_non_null(strstr(err.message, text));
	assert_int_equal(codec_new(&codec, &params), -EINVAL);
}

static void parameters_out_of_range_are_refused(void **state)
{
	const struct codec_params fine = {CODEC_ZSTD, 22, 0};

	(void)state;
	assert_int_equal(codec_params_check(&fine, NULL), 0);
	assert_params_refused(CODEC_DEFLATE, 10, 0, "between 1 and 9");
	assert_params_refused(CODEC_DEFLATE, -1, 0, "level -1");
	assert_params_refused(CODEC_ZLIB, 10, 0, "between 1 and 9");
	assert_params_refused(CODEC_ZSTD, 23, 0, "between 1 and 22");
	assert_params_refused(CODEC_ZSTD, -1, 0, "level -1");
	assert_params_refused(CODEC_DEFLATE, 0, 11, "11 bits");
	assert_params_refused(CODEC_DEFLATE, 0, 16, "16 bits");
	assert_params_refused(CODEC_ZSTD, 0, 12, "zstd");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_deflate_level_reads_back),
		cmocka_unit_test(every_zstd_level_reads_back),
		cmocka_unit_test(the_largest_clusters_read_back),
		cmocka_unit_test(odd_lengths_read_back),
		cmocka_unit_test(streams_stay_inside_their_window),
		cmocka_unit_test(a_wide_window_packs_what_a_small_one_cannot),
		cmocka_unit_test(zlib_streams_say_their_window),
		cmocka_unit_test(output_depends_on_the_input_alone),
		cmocka_unit_test(higher_levels_pack_smaller),
		cmocka_unit_test(nothing_is_written_past_a_small_cap),
		cmocka_unit_test(with_room_for_growth_random_bytes_are_packed),
		cmocka_unit_test(repeats_of_random_bytes_are_no_hopeless_case),
		cmocka_unit_test(skewed_bytes_are_no_hopeless_case),
		cmocka_unit_test(parameters_out_of_range_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
