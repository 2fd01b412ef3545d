/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packing of single clusters: parameters, and who does the work.
 *
 * Contexts are large (ISA-L's take some 350 KiB), and most codecs are used in
 * one direction only; so each is made when it is first needed, and kept.
 */
#include "block/codec.h"

#include <assert.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/codec-impl.h"
#include "block/error.h"

#define DEFLATE_LEVEL_MAX 9
#define ZSTD_LEVEL_MAX	  22

/*
 * Below this zstd itself passes over random bytes at 2 GB/s and more; a probe
 * would gain little and lose the clusters that it misjudges.
 */
#define ZSTD_PROBE_LEVEL_MIN 5

#define WINDOW_BITS_MIN 12
#define WINDOW_BITS_MAX 15

/* RFC 1950: CMF and FLG in front, Adler-32 behind. */
#define ZLIB_HEAD_LEN 2
#define ZLIB_TAIL_LEN 4

/* The libraries count in 32 bits; no format has clusters near this. */
#define CODEC_LEN_MAX (1u << 30)

struct codec {
	struct codec_params params;
	struct codec_probe *probe;
	struct deflate_packer *deflate;
	struct inflater *inflater;
	struct zstd_packer *zstd_packer;
	struct zstd_unpacker *zstd_unpacker;
};

static int level_max(enum codec_kind kind)
{
	return kind == CODEC_ZSTD ? ZSTD_LEVEL_MAX : DEFLATE_LEVEL_MAX;
}

static const char *kind_name(enum codec_kind kind)
{
	return kind == CODEC_ZSTD ? "zstd" : "deflate";
}

int codec_params_check(const struct codec_params *params, struct error *err)
{
	if (params->level < 0 || params->level > level_max(params->kind))
		return error_set(
			err, EINVAL,
			"compression level %d is not between 1 and %d, "
			"the range of %s",
			params->level, level_max(params->kind),
			kind_name(params->kind));
	if (!params->window_bits)
		return 0;
	if (params->kind == CODEC_ZSTD)
		return error_set(err, EINVAL,
				 "a deflate window is given, but the "
				 "compression type is zstd");
	if (params->window_bits < WINDOW_BITS_MIN ||
	    params->window_bits > WINDOW_BITS_MAX)
		return error_set(err, EINVAL,
				 "a deflate window of %d bits is not between "
				 "%d (4 KiB) and %d (32 KiB)",
				 params->window_bits, WINDOW_BITS_MIN,
				 WINDOW_BITS_MAX);
	return 0;
}

/* A zlib wrapper names its window, so its readers have to have it. */
static int window_bits_default(enum codec_kind kind)
{
	return kind == CODEC_ZLIB ? WINDOW_BITS_MAX : WINDOW_BITS_MIN;
}

int codec_new(struct codec **out, const struct codec_params *params)
{
	struct codec *codec;
	int ret = codec_params_check(params, NULL);

	if (ret)
		return ret;
	codec = calloc(1, sizeof(*codec));
	if (!codec)
		return -ENOMEM;
	codec->params = *params;
	if (!codec->params.window_bits)
		codec->params.window_bits = window_bits_default(params->kind);
	*out = codec;
	return 0;
}

void codec_free(struct codec *codec)
{
	if (!codec)
		return;
	codec_probe_free(codec->probe);
	deflate_packer_free(codec->deflate);
	inflater_free(codec->inflater);
	zstd_packer_free(codec->zstd_packer);
	zstd_unpacker_free(codec->zstd_unpacker);
	free(codec);
}

size_t codec_pack_bound(size_t len)
{
	/*
	 * zlib with a small window cannot always fall back to stored blocks and
	 * may then grow by one eighth; the others grow by less than 1/64.
	 */
	return len + len / 8 + len / 64 + 256;
}

static int64_t pack_deflate(struct codec *codec, const void *src, size_t len,
			    void *dst, size_t cap)
{
	if (!codec->deflate) {
		int ret =
			deflate_packer_new(&codec->deflate, codec->params.level,
					   codec->params.window_bits);

		if (ret)
			return ret;
	}
	return deflate_packer_run(codec->deflate, src, len, dst, cap);
}

/* The header is a multiple of 31; it claims the default level. */
static be16_t zlib_head(int window_bits)
{
	unsigned head = (unsigned)(window_bits - 8) << 12 | 8u << 8 | 2u << 6;

	return be16_make((uint16_t)(head + 31 - head % 31));
}

static int64_t pack_zlib(struct codec *codec, const void *src, size_t len,
			 void *dst, size_t cap)
{
	be16_t head = zlib_head(codec->params.window_bits);
	uint8_t *out = dst;
	be32_t tail;
	int64_t n;

	if (cap < ZLIB_HEAD_LEN + ZLIB_TAIL_LEN)
		return -ENOSPC;
	n = pack_deflate(codec, src, len, out + ZLIB_HEAD_LEN,
			 cap - ZLIB_HEAD_LEN - ZLIB_TAIL_LEN);
	if (n < 0)
		return n;
	tail = be32_make(libdeflate_adler32(1, src, len));
	memcpy(out, &head, sizeof(head));
	memcpy(out + ZLIB_HEAD_LEN + n, &tail, sizeof(tail));
	return n + ZLIB_HEAD_LEN + ZLIB_TAIL_LEN;
}

static int64_t pack_zstd(struct codec *codec, const void *src, size_t len,
			 void *dst, size_t cap)
{
	if (!codec->zstd_packer) {
		int ret = zstd_packer_new(&codec->zstd_packer,
					  codec->params.level);

		if (ret)
			return ret;
	}
	return zstd_packer_run(codec->zstd_packer, src, len, dst, cap);
}

/* 1 if packing is not worth trying, 0 if it is, or -ENOMEM. */
static int judge_hopeless(struct codec *codec, const void *src, size_t len)
{
	if (codec->params.kind == CODEC_ZSTD &&
	    codec->params.level < ZSTD_PROBE_LEVEL_MIN)
		return 0;
	if (!codec->probe) {
		int ret = codec_probe_new(&codec->probe);

		if (ret)
			return ret;
	}
	return codec_probe_is_hopeless(codec->probe, src, len);
}

int64_t codec_pack(struct codec *codec, const void *src, size_t len, void *dst,
		   size_t cap)
{
	assert(len > 0 && len <= CODEC_LEN_MAX);
	/* With room for growth the caller wants a stream in any case. */
	if (cap < len) {
		int hopeless = judge_hopeless(codec, src, len);

		if (hopeless)
			return hopeless < 0 ? hopeless : -ENOSPC;
	}
	switch (codec->params.kind) {
	case CODEC_DEFLATE:
		return pack_deflate(codec, src, len, dst, cap);
	case CODEC_ZLIB:
		return pack_zlib(codec, src, len, dst, cap);
	case CODEC_ZSTD:
		return pack_zstd(codec, src, len, dst, cap);
	}
	assert(!"codec kind outside its enum");
	return -EINVAL;
}

static int unpack_deflate(struct codec *codec, const void *src,
			  size_t packed_len, void *dst, size_t len)
{
	if (!codec->inflater) {
		int ret = inflater_new(&codec->inflater);

		if (ret)
			return ret;
	}
	if (codec->params.kind == CODEC_ZLIB)
		return inflater_run_zlib(codec->inflater, src, packed_len, dst,
					 len);
	return inflater_run_raw(codec->inflater, src, packed_len, dst, len);
}

static int unpack_zstd(struct codec *codec, const void *src, size_t packed_len,
		       void *dst, size_t len)
{
	if (!codec->zstd_unpacker) {
		int ret = zstd_unpacker_new(&codec->zstd_unpacker);

		if (ret)
			return ret;
	}
	return zstd_unpacker_run(codec->zstd_unpacker, src, packed_len, dst,
				 len);
}

int codec_unpack(struct codec *codec, const void *src, size_t packed_len,
		 void *dst, size_t len)
{
	assert(len > 0 && len <= CODEC_LEN_MAX);
	if (codec->params.kind == CODEC_ZSTD)
		return unpack_zstd(codec, src, packed_len, dst, len);
	return unpack_deflate(codec, src, packed_len, dst, len);
}
