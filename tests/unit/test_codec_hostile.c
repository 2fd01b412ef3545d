/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Streams that are broken, lie, or go on (spec: qcow2 5, reliability 3). Every
 * stream is handed over in an allocation of its own size, and every output has
 * a guard behind it, which no stream may touch.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <libdeflate.h>
#include <zlib.h>
#include <zstd.h>

#include "block/codec.h"

#define LEN   4096u
#define GUARD 0xa5

struct stream {
	uint8_t bytes[3 * LEN];
	size_t len;
};

static struct codec *codecs[3];
static uint8_t plain[4 * LEN]; /* what streams are made of */

static int setup(void **state)
{
	uint32_t seed = 1;

	(void)state;
	for (int kind = CODEC_DEFLATE; kind <= CODEC_ZLIB; kind++) {
		const struct codec_params params = {
			.kind = (enum codec_kind)kind,
		};

		assert_int_equal(codec_new(&codecs[kind], &params), 0);
	}
	/* Some repeats, some bytes that are no repeats. */
	for (size_t i = 0; i < sizeof(plain); i++) {
		seed = seed * 1664525 + 1013904223;
		plain[i] = i % 64 < 24 ? (uint8_t)(seed >> 24) : (uint8_t)i;
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (int kind = CODEC_DEFLATE; kind <= CODEC_ZLIB; kind++)
		codec_free(codecs[kind]);
	return 0;
}

/* Unpacks LEN bytes; *right (may be NULL): they are those of `plain`. */
static int unpack(enum codec_kind kind, const uint8_t *bytes, size_t len,
		  bool *right)
{
	uint8_t *src = malloc(len + !len);
	uint8_t *dst = malloc(LEN + 64);
	int ret;

	assert_non_null(src);
	assert_non_null(dst);
	memcpy(src, bytes, len);
	memset(dst, GUARD, LEN + 64);
	ret = codec_unpack(codecs[kind], src, len, dst, LEN);
	for (size_t i = LEN; i < LEN + 64; i++)
		assert_int_equal(dst[i], GUARD);
	if (right)
		*right = !memcmp(dst, plain, LEN);
	free(src);
	free(dst);
	return ret;
}

static void assert_reads(enum codec_kind kind, const struct stream *s)
{
	bool right;

	assert_int_equal(unpack(kind, s->bytes, s->len, &right), 0);
	assert_true(right);
}

static void assert_fails(enum codec_kind kind, const struct stream *s)
{
	assert_int_equal(unpack(kind, s->bytes, s->len, NULL), -EIO);
}

static void append(struct stream *s, const void *bytes, size_t len)
{
	assert_true(len <= sizeof(s->bytes) - s->len);
	memcpy(s->bytes + s->len, bytes, len);
	s->len += len;
}

static void append_rubbish(struct stream *s, size_t len)
{
	assert_true(len <= sizeof(s->bytes) - s->len);
	for (size_t i = 0; i < len; i++)
		s->bytes[s->len++] = (uint8_t)(0xff - i * 37);
}

/* --- deflate -----------------------------------------------------------------
 */

/* The first `len` bytes of `plain`, ended by `flush`. */
static struct stream deflated(size_t len, int window_bits, int flush)
{
	struct stream out = {.len = 0};
	z_stream s = {0};

	assert_int_equal(deflateInit2(&s, 6, Z_DEFLATED, window_bits, 9,
				      Z_DEFAULT_STRATEGY),
			 Z_OK);
	s.next_in = plain;
	s.avail_in = (uInt)len;
	s.next_out = out.bytes;
	s.avail_out = sizeof(out.bytes);
	assert_true(deflate(&s, flush) >= Z_OK);
	assert_true(s.avail_out > 0);
	out.len = s.total_out;
	deflateEnd(&s);
	return out;
}

static void deflate_ends_with_its_output(void **state)
{
	struct stream s = deflated(LEN, -12, Z_FINISH);

	(void)state;
	assert_reads(CODEC_DEFLATE, &s);
	append_rubbish(&s, 500);
	assert_reads(CODEC_DEFLATE, &s);
}

static void deflate_surplus_is_ignored(void **state)
{
	struct stream s = deflated(LEN + 1, -12, Z_FINISH);

	(void)state;
	assert_reads(CODEC_DEFLATE, &s);
	s = deflated(sizeof(plain), -12, Z_FINISH);
	assert_reads(CODEC_DEFLATE, &s);
}

static void deflate_that_is_short_fails(void **state)
{
	struct stream s = deflated(LEN - 1, -12, Z_FINISH);

	(void)state;
	assert_fails(CODEC_DEFLATE, &s);
	append_rubbish(&s, 500);
	assert_fails(CODEC_DEFLATE, &s);
	s = deflated(0, -12, Z_FINISH);
	assert_fails(CODEC_DEFLATE, &s);
}

/* Full is full: what a neighbour left behind the stream decides nothing. */
static void deflate_without_final_block_counts_once_full(void **state)
{
	struct stream s = deflated(LEN, -12, Z_SYNC_FLUSH);
	struct stream tail = s;

	(void)state;
	assert_reads(CODEC_DEFLATE, &s);
	append_rubbish(&tail, 200);
	assert_reads(CODEC_DEFLATE, &tail);
	tail = s;
	memset(tail.bytes + tail.len, 0, 200);
	tail.len += 200;
	assert_reads(CODEC_DEFLATE, &tail);
	s = deflated(LEN - 1, -12, Z_SYNC_FLUSH);
	assert_fails(CODEC_DEFLATE, &s);
}

static void deflate_from_any_window_is_read(void **state)
{
	/* 32 KiB: a distance that only the largest window holds. */
	static uint8_t src[64 << 10], packed[64 << 10], out[64 << 10];
	struct libdeflate_compressor *c = libdeflate_alloc_compressor(6);
	size_t n;

	(void)state;
	assert_non_null(c);
	for (size_t i = 0; i < sizeof(src); i++)
		src[i] = plain[i % 32000 % sizeof(plain)] ^
			 (uint8_t)(i % 32000 / 251);
	n = libdeflate_deflate_compress(c, src, sizeof(src), packed,
					sizeof(packed));
	libdeflate_free_compressor(c);
	assert_true(n > 0);
	assert_int_equal(codec_unpack(codecs[CODEC_DEFLATE], packed, n, out,
				      sizeof(out)),
			 0);
	assert_memory_equal(out, src, sizeof(src));
}

static void wrappers_are_not_mixed_up(void **state)
{
	struct stream wrapped = deflated(LEN, 12, Z_FINISH);
	struct stream raw = deflated(LEN, -12, Z_FINISH);

	(void)state;
	assert_fails(CODEC_DEFLATE, &wrapped);
	assert_fails(CODEC_ZLIB, &raw);
	assert_fails(CODEC_ZSTD, &raw);
}

static void zlib_streams_have_to_be_whole(void **state)
{
	struct stream s = deflated(LEN, 15, Z_FINISH), bad = s;

	(void)state;
	assert_reads(CODEC_ZLIB, &s);
	append_rubbish(&s, 100);
	assert_reads(CODEC_ZLIB, &s);
	bad.bytes[bad.len - 1] ^= 1;
	assert_fails(CODEC_ZLIB, &bad);
	s = deflated(LEN + 1, 15, Z_FINISH);
	assert_fails(CODEC_ZLIB, &s);
	s = deflated(LEN - 1, 15, Z_FINISH);
	assert_fails(CODEC_ZLIB, &s);
	s = deflated(LEN, 15, Z_SYNC_FLUSH);
	assert_fails(CODEC_ZLIB, &s);
}

/* --- zstd --------------------------------------------------------------------
 */

static void append_frame(struct stream *s, const uint8_t *bytes, size_t len,
			 bool checksum)
{
	ZSTD_CCtx *ctx = ZSTD_createCCtx();
	size_t n;

	assert_non_null(ctx);
	ZSTD_CCtx_setParameter(ctx, ZSTD_c_checksumFlag, checksum);
	n = ZSTD_compress2(ctx, s->bytes + s->len, sizeof(s->bytes) - s->len,
			   bytes, len);
	assert_false(ZSTD_isError(n));
	s->len += n;
	ZSTD_freeCCtx(ctx);
}

static struct stream zstd_frame(size_t len, bool checksum)
{
	struct stream s = {.len = 0};

	append_frame(&s, plain, len, checksum);
	return s;
}

static void append_skippable(struct stream *s, uint8_t size)
{
	const uint8_t head[8] = {0x5e, 0x2a, 0x4d, 0x18, size};

	append(s, head, sizeof(head));
	append_rubbish(s, size);
}

/*
 * A frame by hand: descriptor byte, then window byte, both as given, then the
 * first LEN bytes of `plain` in one uncompressed last block.
 */
static struct stream raw_frame(uint8_t window)
{
	const uint32_t block = LEN << 3 | 1;
	const uint8_t head[9] = {
		0x28,
		0xb5,
		0x2f,
		0xfd,
		0x00,
		window,
		(uint8_t)block,
		(uint8_t)(block >> 8),
		(uint8_t)(block >> 16),
	};
	struct stream s = {.len = 0};

	append(&s, head, sizeof(head));
	append(&s, plain, LEN);
	return s;
}

static void zstd_frames_are_read_until_full(void **state)
{
	struct stream s = zstd_frame(LEN, false);

	(void)state;
	assert_reads(CODEC_ZSTD, &s);
	append_rubbish(&s, 300);
	assert_reads(CODEC_ZSTD, &s);
	s = zstd_frame(LEN, true);
	append_rubbish(&s, 300);
	assert_reads(CODEC_ZSTD, &s);

	/* Two frames, with an empty and a skippable one between and before. */
	s.len = 0;
	append_skippable(&s, 17);
	append_frame(&s, plain, 1000, true);
	append_frame(&s, plain, 0, false);
	append_skippable(&s, 0);
	append_frame(&s, plain + 1000, LEN - 1000, false);
	append_rubbish(&s, 300);
	assert_reads(CODEC_ZSTD, &s);

	/* Full: the next frame is a neighbour's. */
	s = zstd_frame(LEN, false);
	append_frame(&s, plain, 1, false);
	assert_reads(CODEC_ZSTD, &s);
}

static void zstd_of_another_length_fails(void **state)
{
	struct stream s = zstd_frame(LEN + 1, false);

	(void)state;
	assert_fails(CODEC_ZSTD, &s);
	s = zstd_frame(LEN - 1, false);
	assert_fails(CODEC_ZSTD, &s);
	append_rubbish(&s, 300);
	assert_fails(CODEC_ZSTD, &s);
	s = zstd_frame(1000, false);
	append_frame(&s, plain + 1000, LEN - 1000 + 1, false);
	assert_fails(CODEC_ZSTD, &s);
	s.len = 0;
	append_skippable(&s, 9);
	assert_fails(CODEC_ZSTD, &s);
	s = zstd_frame(0, false);
	assert_fails(CODEC_ZSTD, &s);
}

static void zstd_with_a_wrong_checksum_fails(void **state)
{
	struct stream s = zstd_frame(LEN, true);

	(void)state;
	assert_reads(CODEC_ZSTD, &s);
	s.bytes[s.len - 1] ^= 1;
	assert_fails(CODEC_ZSTD, &s);
}

static void zstd_windows_are_bounded(void **state)
{
	struct stream s = raw_frame(13 << 3);

	(void)state;
	assert_reads(CODEC_ZSTD, &s); /* 8 MiB */
	s = raw_frame(13 << 3 | 1);
	assert_fails(CODEC_ZSTD, &s);
	s = raw_frame(14 << 3);
	assert_fails(CODEC_ZSTD, &s);
	s = raw_frame(21 << 3); /* 2^31 */
	assert_fails(CODEC_ZSTD, &s);
	s = raw_frame(0xff);
	assert_fails(CODEC_ZSTD, &s);
}

static void zstd_that_needs_more_than_the_frame_fails(void **state)
{
	/* LEN bytes in a single segment, dictionary 7; then the block. */
	const uint8_t dictionary[] = {0x28, 0xb5, 0x2f, 0xfd, 0x61, 0x07,
				      0x00, 0x0f, 0x01, 0x80, 0x00};
	/* The same without a dictionary; and the format before the standard. */
	const uint8_t none[] = {0x28, 0xb5, 0x2f, 0xfd, 0x60,
				0x00, 0x0f, 0x01, 0x80, 0x00};
	struct stream s = {.len = 0};

	(void)state;
	append(&s, none, sizeof(none));
	append(&s, plain, LEN);
	assert_reads(CODEC_ZSTD, &s);
	s.bytes[0] = 0x27;
	assert_fails(CODEC_ZSTD, &s);
	s.len = 0;
	append(&s, dictionary, sizeof(dictionary));
	append(&s, plain, LEN);
	assert_fails(CODEC_ZSTD, &s);
}

/* --- all kinds ---------------------------------------------------------------
 */

static struct stream good_stream(enum codec_kind kind)
{
	switch (kind) {
	case CODEC_DEFLATE:
		return deflated(LEN, -12, Z_FINISH);
	case CODEC_ZLIB:
		return deflated(LEN, 15, Z_FINISH);
	case CODEC_ZSTD:
		break;
	}
	return zstd_frame(LEN, false);
}

static void cut_streams_fail_or_are_right(void **state)
{
	(void)state;
	for (int k = CODEC_DEFLATE; k <= CODEC_ZLIB; k++) {
		enum codec_kind kind = (enum codec_kind)k;
		struct stream s = good_stream(kind);

		assert_reads(kind, &s);
		for (size_t len = 0; len < s.len; len++) {
			bool right;
			int ret = unpack(kind, s.bytes, len, &right);

			/* The end mark of deflate may be dispensable. */
			if (ret) {
				assert_int_equal(ret, -EIO);
			} else {
				assert_int_equal(kind, CODEC_DEFLATE);
				assert_true(len + 3 > s.len && right);
			}
		}
	}
}

static void damaged_streams_stay_in_bounds(void **state)
{
	uint32_t seed = 3;

	(void)state;
	for (int k = CODEC_DEFLATE; k <= CODEC_ZLIB; k++) {
		enum codec_kind kind = (enum codec_kind)k;
		const struct stream good = good_stream(kind);

		for (size_t bit = 0; bit < 8 * good.len; bit += 3) {
			struct stream s = good;
			int ret;

			s.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
			seed = seed * 1664525 + 1013904223;
			if (seed >> 31)
				s.bytes[(seed >> 8) % s.len] = (uint8_t)seed;
			ret = unpack(kind, s.bytes, s.len, NULL);
			assert_true(ret == 0 || ret == -EIO);
			/* Checksums see one flipped bit. */
			if (kind == CODEC_ZLIB && !(seed >> 31) && bit >= 16)
				assert_int_equal(ret, -EIO);
		}
	}
}

static void rubbish_stays_in_bounds(void **state)
{
	uint32_t seed = 5;

	(void)state;
	for (int round = 0; round < 3000; round++) {
		struct stream s = {.len = 0};
		size_t len = (seed >> 7) % 600;

		for (size_t i = 0; i < len; i++) {
			seed = seed * 1664525 + 1013904223;
			s.bytes[s.len++] = (uint8_t)(seed >> 24);
		}
		for (int k = CODEC_DEFLATE; k <= CODEC_ZLIB; k++) {
			int ret = unpack((enum codec_kind)k, s.bytes, s.len,
					 NULL);

			assert_true(ret == 0 || ret == -EIO);
		}
	}
}

/* 64 MiB from a few KiB: no more than LEN may come out of it. */
static void bombs_do_not_go_off(void **state)
{
	enum { BOMB = 64 << 20 };
	uint8_t *zeros = calloc(1, BOMB), *packed = malloc(1 << 20);
	static uint8_t out[LEN + 64];
	struct libdeflate_compressor *c = libdeflate_alloc_compressor(1);
	size_t n;

	(void)state;
	assert_true(zeros && packed && c);
	memset(out, GUARD, sizeof(out));
	n = libdeflate_deflate_compress(c, zeros, BOMB, packed, 1 << 20);
	assert_true(n > 0);
	assert_int_equal(
		codec_unpack(codecs[CODEC_DEFLATE], packed, n, out, LEN), 0);
	assert_memory_equal(out, zeros, LEN);
	n = libdeflate_zlib_compress(c, zeros, BOMB, packed, 1 << 20);
	assert_true(n > 0);
	assert_int_equal(codec_unpack(codecs[CODEC_ZLIB], packed, n, out, LEN),
			 -EIO);
	n = ZSTD_compress(packed, 1 << 20, zeros, BOMB, 1);
	assert_false(ZSTD_isError(n));
	assert_int_equal(codec_unpack(codecs[CODEC_ZSTD], packed, n, out, LEN),
			 -EIO);
	for (size_t i = LEN; i < sizeof(out); i++)
		assert_int_equal(out[i], GUARD);
	libdeflate_free_compressor(c);
	free(zeros);
	free(packed);
}

/* One bad cluster must not spoil the next: contexts are kept. */
static void good_streams_are_read_after_bad_ones(void **state)
{
	(void)state;
	for (int k = CODEC_DEFLATE; k <= CODEC_ZLIB; k++) {
		enum codec_kind kind = (enum codec_kind)k;
		struct stream good = good_stream(kind), bad = good;

		bad.len = bad.len / 2;
		assert_fails(kind, &bad);
		assert_reads(kind, &good);
		bad.len = 0;
		append_rubbish(&bad, 200);
		assert_fails(kind, &bad);
		assert_reads(kind, &good);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(deflate_ends_with_its_output),
		cmocka_unit_test(deflate_surplus_is_ignored),
		cmocka_unit_test(deflate_that_is_short_fails),
		cmocka_unit_test(deflate_without_final_block_counts_once_full),
		cmocka_unit_test(deflate_from_any_window_is_read),
		cmocka_unit_test(wrappers_are_not_mixed_up),
		cmocka_unit_test(zlib_streams_have_to_be_whole),
		cmocka_unit_test(zstd_frames_are_read_until_full),
		cmocka_unit_test(zstd_of_another_length_fails),
		cmocka_unit_test(zstd_with_a_wrong_checksum_fails),
		cmocka_unit_test(zstd_windows_are_bounded),
		cmocka_unit_test(zstd_that_needs_more_than_the_frame_fails),
		cmocka_unit_test(cut_streams_fail_or_are_right),
		cmocka_unit_test(damaged_streams_stay_in_bounds),
		cmocka_unit_test(rubbish_stays_in_bounds),
		cmocka_unit_test(bombs_do_not_go_off),
		cmocka_unit_test(good_streams_are_read_after_bad_ones),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
