/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packing clusters with zstd (spec: qcow2 5).
 *
 * Written: one frame that holds the content size and no checksum.
 *
 * Read: frames, skippable ones among them, until exactly `len` bytes are out
 * and the frame that brought the last of them is complete. Each frame's end is
 * found first, by its block headers; then the frame is decoded in one go into
 * the caller's buffer, which serves as the window. So no claim in a header
 * makes anything be allocated. Frames with a larger window than the limit are
 * refused all the same: a reader that streams would have to allocate it.
 */
#include "block/codec-impl.h"

#include <errno.h>
#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "block/bytes.h"

#define ZSTD_LEVEL_DEFAULT    3
#define ZSTD_WINDOW_BYTES_MAX (8u << 20)

/* RFC 8878, 3.1: magic numbers; skippable frames differ in the low 4 bits. */
#define FRAME_MAGIC_SKIPPABLE	   0x184d2a50u
#define FRAME_MAGIC_SKIPPABLE_MASK 0xfffffff0u
#define FRAME_MAGIC		   0xfd2fb528u
#define FRAME_MAGIC_LEN		   4
#define FRAME_SINGLE_SEGMENT	   0x20u

struct zstd_packer {
	ZSTD_CCtx *ctx;
};

struct zstd_unpacker {
	ZSTD_DCtx *ctx;
};

int zstd_packer_new(struct zstd_packer **out, int level)
{
	struct zstd_packer *packer = calloc(1, sizeof(*packer));

	if (!packer)
		return -ENOMEM;
	packer->ctx = ZSTD_createCCtx();
	if (!packer->ctx || ZSTD_isError(ZSTD_CCtx_setParameter(
				    packer->ctx, ZSTD_c_compressionLevel,
				    level ? level : ZSTD_LEVEL_DEFAULT))) {
		zstd_packer_free(packer);
		return -ENOMEM;
	}
	*out = packer;
	return 0;
}

void zstd_packer_free(struct zstd_packer *packer)
{
	if (!packer)
		return;
	ZSTD_freeCCtx(packer->ctx);
	free(packer);
}

int64_t zstd_packer_run(struct zstd_packer *packer, const void *src, size_t len,
			void *dst, size_t cap)
{
	size_t n = ZSTD_compress2(packer->ctx, dst, cap, src, len);

	if (!ZSTD_isError(n))
		return (int64_t)n;
	if (ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation)
		return -ENOMEM;
	return -ENOSPC;
}

int zstd_unpacker_new(struct zstd_unpacker **out)
{
	struct zstd_unpacker *unpacker = calloc(1, sizeof(*unpacker));

	if (!unpacker)
		return -ENOMEM;
	unpacker->ctx = ZSTD_createDCtx();
	if (!unpacker->ctx) {
		free(unpacker);
		return -ENOMEM;
	}
	*out = unpacker;
	return 0;
}

void zstd_unpacker_free(struct zstd_unpacker *unpacker)
{
	if (!unpacker)
		return;
	ZSTD_freeDCtx(unpacker->ctx);
	free(unpacker);
}

/*
 * Only today's frames: the library may know formats of before the standard
 * too, and their decoders saw less testing. A window is 2^(10 + exponent),
 * plus eighths; in a single segment it is the content, which `len` bounds.
 */
static bool frame_is_allowed(const uint8_t *frame, size_t len)
{
	uint32_t magic;
	le32_t raw;
	uint64_t base;

	if (len < FRAME_MAGIC_LEN)
		return false;
	memcpy(&raw, frame, sizeof(raw));
	magic = le32_get(raw);
	if ((magic & FRAME_MAGIC_SKIPPABLE_MASK) == FRAME_MAGIC_SKIPPABLE)
		return true;
	if (magic != FRAME_MAGIC || len < FRAME_MAGIC_LEN + 2)
		return false;
	if (frame[FRAME_MAGIC_LEN] & FRAME_SINGLE_SEGMENT)
		return true;
	base = UINT64_C(1) << (10 + (frame[FRAME_MAGIC_LEN + 1] >> 3));
	return base + base / 8 * (frame[FRAME_MAGIC_LEN + 1] & 7) <=
	       ZSTD_WINDOW_BYTES_MAX;
}

int zstd_unpacker_run(struct zstd_unpacker *unpacker, const void *src,
		      size_t packed_len, void *dst, size_t len)
{
	const uint8_t *in = src;
	uint8_t *out = dst;
	size_t left = len;

	while (left) {
		size_t frame_len, n;

		if (!frame_is_allowed(in, packed_len))
			return -EIO;
		frame_len = ZSTD_findFrameCompressedSize(in, packed_len);
		if (ZSTD_isError(frame_len))
			return -EIO;
		n = ZSTD_decompressDCtx(unpacker->ctx, out, left, in,
					frame_len);
		if (ZSTD_isError(n))
			return ZSTD_getErrorCode(n) ==
					       ZSTD_error_memory_allocation
				       ? -ENOMEM
				       : -EIO;
		in += frame_len;
		packed_len -= frame_len;
		out += n;
		left -= n;
	}
	return 0;
}
