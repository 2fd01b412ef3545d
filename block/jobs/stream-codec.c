/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The packings of whole streams. Each file may hold several frames (or gzip
 * members) behind each other, as parallel packers write them.
 */
#include "block/jobs/stream-private.h"

#include <lz4frame.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "block/bytes.h"
#include "block/storage.h"

/* ---- gzip ---- */

struct gzip {
	z_stream z;
	bool inside;
};

static void *gzip_open(void)
{
	struct gzip *g = calloc(1, sizeof(*g));

	/* 15 bits of window, and 16 for the wrapper of gzip. */
	if (g && inflateInit2(&g->z, 15 + 16) != Z_OK) {
		free(g);
		return NULL;
	}
	return g;
}

static void gzip_close(void *state)
{
	struct gzip *g = state;

	inflateEnd(&g->z);
	free(g);
}

static const char *gzip_step(void *state, struct stream_input *in, void *buf,
			     size_t len, size_t *out, bool *inside)
{
	struct gzip *g = state;
	int ret;

	if (!g->inside && in->left > 0) {
		if (inflateReset(&g->z) != Z_OK)
			return "not a gzip stream";
		g->inside = true;
	}
	/* zlib takes no const; it does not write there. */
	g->z.next_in = (Bytef *)(uintptr_t)in->bytes;
	g->z.avail_in = (uInt)in->left;
	g->z.next_out = buf;
	g->z.avail_out = (uInt)len;
	ret = inflate(&g->z, Z_NO_FLUSH);
	in->bytes += in->left - g->z.avail_in;
	in->left = g->z.avail_in;
	*out = len - g->z.avail_out;
	if (ret == Z_STREAM_END)
		g->inside = false;
	*inside = g->inside;
	if (ret == Z_OK || ret == Z_STREAM_END || ret == Z_BUF_ERROR)
		return NULL;
	return g->z.msg ? g->z.msg : "the gzip stream is broken";
}

/* ---- zstd ---- */

#define ZSTD_FRAME_HEAD_MAX 18u

struct zstd {
	ZSTD_DCtx *ctx;
	/* Of the frame that is being read. */
	uint8_t head[ZSTD_FRAME_HEAD_MAX];
	size_t head_len;
	uint64_t made;
};

static void *zstd_open(void)
{
	struct zstd *z = calloc(1, sizeof(*z));

	if (z)
		z->ctx = ZSTD_createDCtx();
	if (z && !z->ctx) {
		free(z);
		return NULL;
	}
	return z;
}

static void zstd_close(void *state)
{
	struct zstd *z = state;

	ZSTD_freeDCtx(z->ctx);
	free(z);
}

static void zstd_note(struct zstd *z, const uint8_t *taken, size_t taken_len,
		      size_t made)
{
	size_t len = min_u64(taken_len, sizeof(z->head) - z->head_len);

	if (len)
		memcpy(z->head + z->head_len, taken, len);
	z->head_len += len;
	z->made += made;
}

/*
 * A frame whose last block is empty may have made less than its head says: the
 * library lets that pass, depending on how much is read at a time.
 */
static const char *zstd_frame_end(struct zstd *z)
{
	unsigned long long content =
		ZSTD_getFrameContentSize(z->head, z->head_len);
	bool whole = content == ZSTD_CONTENTSIZE_UNKNOWN ||
		     content == ZSTD_CONTENTSIZE_ERROR || content == z->made;

	z->head_len = 0;
	z->made = 0;
	return whole ? NULL : "a frame is shorter than it says";
}

static const char *zstd_step(void *state, struct stream_input *in, void *buf,
			     size_t len, size_t *out, bool *inside)
{
	struct zstd *z = state;
	ZSTD_inBuffer from = {.src = in->bytes, .size = in->left};
	ZSTD_outBuffer to = {.dst = buf, .size = len};
	size_t hint = ZSTD_decompressStream(z->ctx, &to, &from);

	zstd_note(z, in->bytes, from.pos, to.pos);
	in->bytes += from.pos;
	in->left -= from.pos;
	*out = to.pos;
	/* Nothing went in or out between two frames: still between them. */
	if (from.pos > 0 || to.pos > 0 || hint == 0)
		*inside = hint != 0;
	if (ZSTD_isError(hint))
		return ZSTD_getErrorName(hint);
	return hint == 0 ? zstd_frame_end(z) : NULL;
}

/* Length of the frame header, and what it says of the content; 0: invalid. */
static size_t zstd_frame_header(const uint8_t *head, uint64_t *content,
				bool *checksum)
{
	static const uint8_t dict_bytes[] = {0, 1, 2, 4};
	static const uint8_t size_bytes[] = {0, 2, 4, 8};
	uint8_t flags = head[4];
	bool single = flags & 0x20;
	size_t size_len = size_bytes[flags >> 6];
	size_t at = 5 + !single + dict_bytes[flags & 3];
	uint8_t wide[8] = {0};
	le64_t raw;

	if (single && size_len == 0)
		size_len = 1;
	if (size_len == 0)
		return 0;
	memcpy(wide, head + at, size_len);
	memcpy(&raw, wide, sizeof(raw));
	*content = le64_get(raw) + (size_len == 2 ? 256 : 0);
	*checksum = flags & 4;
	return at + size_len;
}

/* Where the blocks end that start at `off`. */
static bool zstd_skip_blocks(struct storage *file, uint64_t *off)
{
	bool last = false;

	while (!last) {
		uint8_t head[3];
		uint32_t value;

		if (storage_read(file, head, sizeof(head), *off) < 0)
			return false;
		value = head[0] | (uint32_t)head[1] << 8 |
			(uint32_t)head[2] << 16;
		last = value & 1;
		/* A run of one byte (type 1) holds that byte alone. */
		*off += sizeof(head) + ((value >> 1 & 3) == 1 ? 1 : value >> 3);
	}
	return true;
}

bool stream_zstd_size(struct storage *file, uint64_t *size)
{
	uint64_t off = 0, end = storage_size(file);

	*size = 0;
	while (off < end) {
		uint8_t head[ZSTD_FRAME_HEAD_MAX] = {0};
		uint64_t content;
		bool checksum;
		size_t head_len;
		le32_t word;

		if (storage_read(file, head, min_u64(sizeof(head), end - off),
				 off) < 0)
			return false;
		memcpy(&word, head, sizeof(word));
		if ((le32_get(word) & ZSTD_MAGIC_SKIPPABLE_MASK) ==
		    ZSTD_MAGIC_SKIPPABLE_START) {
			memcpy(&word, head + 4, sizeof(word));
			off += 8 + (uint64_t)le32_get(word);
			continue;
		}
		if (le32_get(word) != ZSTD_MAGICNUMBER)
			return false;
		head_len = zstd_frame_header(head, &content, &checksum);
		off += head_len;
		if (!head_len || add_overflows(*size, content, size) ||
		    !zstd_skip_blocks(file, &off))
			return false;
		off += checksum ? 4 : 0;
	}
	return off == end && end > 0;
}

/* ---- lz4 ---- */

static void *lz4_open(void)
{
	LZ4F_dctx *ctx = NULL;

	if (LZ4F_isError(LZ4F_createDecompressionContext(&ctx, LZ4F_VERSION)))
		return NULL;
	return ctx;
}

static void lz4_close(void *state)
{
	LZ4F_freeDecompressionContext(state);
}

static const char *lz4_step(void *state, struct stream_input *in, void *buf,
			    size_t len, size_t *out, bool *inside)
{
	size_t used = in->left, hint;

	*out = len;
	hint = LZ4F_decompress(state, buf, out, in->bytes, &used, NULL);
	if (LZ4F_isError(hint)) {
		*out = 0;
		return LZ4F_getErrorName(hint);
	}
	in->bytes += used;
	in->left -= used;
	if (used > 0 || *out > 0 || hint == 0)
		*inside = hint != 0;
	return NULL;
}

static const struct stream_codec codecs[] = {
	[STREAM_GZIP] = {"gzip", gzip_open, gzip_close, gzip_step},
	[STREAM_ZSTD] = {"zstd", zstd_open, zstd_close, zstd_step},
	[STREAM_LZ4] = {"lz4", lz4_open, lz4_close, lz4_step},
};

const struct stream_codec *stream_codec_of(enum stream_kind kind)
{
	return kind == STREAM_PLAIN ? NULL : &codecs[kind];
}
