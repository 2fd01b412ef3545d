/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packing clusters with deflate (spec: qcow2 5, performance 2).
 *
 * Which library writes, by level and window:
 *
 *	level    window 12 to 14         window 15
 *	0        ISA-L 3                 ISA-L 3
 *	1..3     ISA-L 1..3              ISA-L 1..3
 *	4..9     zlib 4..9               libdeflate 4, 5, 6, 7, 9, 12
 *
 * ISA-L is 4 to 10 times as fast as zlib and the only fast one whose window can
 * be set; its level 3 writes 5 to 8 percent more bytes than zlib 6 does.
 * libdeflate always refers back up to 32 KiB, so it serves only that window.
 * The default window is 4 KiB: some readers inflate in pieces with no more.
 *
 * Every stream ends with a final block. A packer's bytes depend on nothing but
 * the input, the level and the window: state is reset between clusters, not
 * carried over.
 *
 * Reading raw deflate: libdeflate first, being fastest. It wants the end of the
 * stream to agree with the end of the output, which images in the field do not
 * promise; so whatever it refuses goes to zlib, and what counts then is that
 * the output is full. What follows its last byte is not looked at: it may be a
 * neighbour's. A zlib wrapper has a checksum, so there the stream has to end
 * with the output, and the sum to be right.
 */
#include "block/codec-impl.h"

#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <libdeflate.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#define ZLIB_CONST
#include <zlib.h>

#define ISAL_LEVEL_DEFAULT 3
#define ISAL_LEVEL_MAX	   3

/* The most state that zlib offers: worth it for clusters. */
#define ZLIB_MEM_LEVEL 9

/* Raw deflate with the largest window there is: accept what others wrote. */
#define INFLATE_RAW_WINDOW_BITS (-15)

/*
 * A packer uses one of three libraries. Members of the others stay unset.
 */
struct deflate_packer {
	int64_t (*run)(struct deflate_packer *packer, const void *src,
		       size_t len, void *dst, size_t cap);

	struct isal_zstream isal;
	uint32_t isal_level;
	uint16_t isal_window_bits;
	uint8_t *isal_buf;
	uint32_t isal_buf_len;

	z_stream zlib;
	bool zlib_ready;

	struct libdeflate_compressor *libdeflate;
};

struct inflater {
	struct libdeflate_decompressor *libdeflate;
	z_stream zlib; /* made at its first use: rarely needed */
	bool zlib_ready;
};

static uint32_t clamp_u32(size_t v)
{
	return v < UINT32_MAX ? (uint32_t)v : UINT32_MAX;
}

static int64_t isal_run(struct deflate_packer *packer, const void *src,
			size_t len, void *dst, size_t cap)
{
	struct isal_zstream *s = &packer->isal;

	isal_deflate_stateless_init(s);
	s->level = packer->isal_level;
	s->level_buf = packer->isal_buf;
	s->level_buf_size = packer->isal_buf_len;
	s->hist_bits = packer->isal_window_bits;
	s->gzip_flag = IGZIP_DEFLATE;
	s->flush = NO_FLUSH;
	s->end_of_stream = 1;
	/* Only read from, whatever its type says. */
	s->next_in = (uint8_t *)(uintptr_t)src;
	s->avail_in = (uint32_t)len;
	s->next_out = dst;
	s->avail_out = clamp_u32(cap);
	return isal_deflate_stateless(s) == COMP_OK ? (int64_t)s->total_out
						    : -ENOSPC;
}

static int isal_prepare(struct deflate_packer *packer, int level,
			int window_bits)
{
	static const uint32_t buf_len[ISAL_LEVEL_MAX + 1] = {
		[1] = ISAL_DEF_LVL1_DEFAULT,
		[2] = ISAL_DEF_LVL2_DEFAULT,
		[3] = ISAL_DEF_LVL3_DEFAULT,
	};

	packer->run = isal_run;
	packer->isal_level = (uint32_t)level;
	packer->isal_window_bits = (uint16_t)window_bits;
	packer->isal_buf_len = buf_len[level];
	packer->isal_buf = calloc(1, packer->isal_buf_len);
	return packer->isal_buf ? 0 : -ENOMEM;
}

static int64_t zlib_run(struct deflate_packer *packer, const void *src,
			size_t len, void *dst, size_t cap)
{
	z_stream *s = &packer->zlib;

	deflateReset(s);
	s->next_in = src;
	s->avail_in = (uInt)len;
	s->next_out = dst;
	s->avail_out = clamp_u32(cap);
	return deflate(s, Z_FINISH) == Z_STREAM_END ? (int64_t)s->total_out
						    : -ENOSPC;
}

static int zlib_prepare(struct deflate_packer *packer, int level,
			int window_bits)
{
	packer->run = zlib_run;
	if (deflateInit2(&packer->zlib, level, Z_DEFLATED, -window_bits,
			 ZLIB_MEM_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	packer->zlib_ready = true;
	return 0;
}

static int64_t libdeflate_run(struct deflate_packer *packer, const void *src,
			      size_t len, void *dst, size_t cap)
{
	size_t n = libdeflate_deflate_compress(packer->libdeflate, src, len,
					       dst, cap);

	return n ? (int64_t)n : -ENOSPC;
}

static int libdeflate_prepare(struct deflate_packer *packer, int level)
{
	static const int levels[] = {
		[4] = 4, [5] = 5, [6] = 6, [7] = 7, [8] = 9, [9] = 12,
	};

	packer->run = libdeflate_run;
	packer->libdeflate = libdeflate_alloc_compressor(levels[level]);
	return packer->libdeflate ? 0 : -ENOMEM;
}

static int packer_prepare(struct deflate_packer *packer, int level,
			  int window_bits)
{
	if (!level)
		level = ISAL_LEVEL_DEFAULT;
	if (level <= ISAL_LEVEL_MAX)
		return isal_prepare(packer, level, window_bits);
	if (window_bits == MAX_WBITS)
		return libdeflate_prepare(packer, level);
	return zlib_prepare(packer, level, window_bits);
}

int deflate_packer_new(struct deflate_packer **out, int level, int window_bits)
{
	struct deflate_packer *packer = calloc(1, sizeof(*packer));
	int ret;

	if (!packer)
		return -ENOMEM;
	ret = packer_prepare(packer, level, window_bits);
	if (ret) {
		deflate_packer_free(packer);
		return ret;
	}
	*out = packer;
	return 0;
}

void deflate_packer_free(struct deflate_packer *packer)
{
	if (!packer)
		return;
	free(packer->isal_buf);
	if (packer->zlib_ready)
		deflateEnd(&packer->zlib);
	libdeflate_free_compressor(packer->libdeflate);
	free(packer);
}

int64_t deflate_packer_run(struct deflate_packer *packer, const void *src,
			   size_t len, void *dst, size_t cap)
{
	return packer->run(packer, src, len, dst, cap);
}

int inflater_new(struct inflater **out)
{
	struct inflater *inflater = calloc(1, sizeof(*inflater));

	if (!inflater)
		return -ENOMEM;
	inflater->libdeflate = libdeflate_alloc_decompressor();
	if (!inflater->libdeflate) {
		free(inflater);
		return -ENOMEM;
	}
	*out = inflater;
	return 0;
}

void inflater_free(struct inflater *inflater)
{
	if (!inflater)
		return;
	if (inflater->zlib_ready)
		inflateEnd(&inflater->zlib);
	libdeflate_free_decompressor(inflater->libdeflate);
	free(inflater);
}

static int inflate_until_full(struct inflater *inflater, const void *src,
			      size_t packed_len, void *dst, size_t len)
{
	z_stream *s = &inflater->zlib;

	if (!inflater->zlib_ready) {
		if (inflateInit2(s, INFLATE_RAW_WINDOW_BITS) != Z_OK)
			return -ENOMEM;
		inflater->zlib_ready = true;
	}
	inflateReset(s);
	s->next_in = src;
	s->avail_in = clamp_u32(packed_len);
	s->next_out = dst;
	s->avail_out = (uInt)len;
	/*
	 * zlib may look at the next block's header after the last byte. That it
	 * finds rubbish there says nothing about the bytes that are out.
	 */
	if (inflate(s, Z_FINISH) == Z_MEM_ERROR)
		return -ENOMEM;
	return s->avail_out ? -EIO : 0;
}

int inflater_run_raw(struct inflater *inflater, const void *src,
		     size_t packed_len, void *dst, size_t len)
{
	size_t used, got;

	if (libdeflate_deflate_decompress_ex(inflater->libdeflate, src,
					     packed_len, dst, len, &used,
					     &got) == LIBDEFLATE_SUCCESS &&
	    got == len)
		return 0;
	return inflate_until_full(inflater, src, packed_len, dst, len);
}

int inflater_run_zlib(struct inflater *inflater, const void *src,
		      size_t packed_len, void *dst, size_t len)
{
	size_t used, got;

	if (libdeflate_zlib_decompress_ex(inflater->libdeflate, src, packed_len,
					  dst, len, &used,
					  &got) != LIBDEFLATE_SUCCESS)
		return -EIO;
	return got == len ? 0 : -EIO;
}
