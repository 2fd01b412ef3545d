/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packed clusters out of hostile images, and clusters that guests write. The
 * first byte chooses the codec, the cluster size, and whether the rest is the
 * stream, or what a cluster is full of. Whatever unpacks must pack again and
 * come back the same.
 */
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "block/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define KINDS 3
#define PACK  0x80u /* in the first byte */

static struct codec *codecs[KINDS];

static struct codec *codec_of(unsigned kind)
{
	static const enum codec_kind kinds[KINDS] = {CODEC_DEFLATE, CODEC_ZSTD,
						     CODEC_ZLIB};
	struct codec_params params = {.kind = kinds[kind]};

	if (!codecs[kind] && codec_new(&codecs[kind], &params) < 0)
		abort();
	return codecs[kind];
}

static void check_round_trip(struct codec *codec, const uint8_t *cluster,
			     size_t len)
{
	uint8_t *packed = malloc(len), *again = malloc(len);
	int64_t packed_len;

	if (!packed || !again)
		abort();
	packed_len = codec_pack(codec, cluster, len, packed, len - 1);
	if (packed_len >= 0) {
		assert((size_t)packed_len < len);
		assert(!codec_unpack(codec, packed, (size_t)packed_len, again,
				     len));
		assert(!memcmp(cluster, again, len));
	}
	free(packed);
	free(again);
}

/* Few streams of a fuzzer are whole: these clusters do get packed. */
static void fill(uint8_t *cluster, size_t len, const uint8_t *data, size_t size)
{
	for (size_t at = 0; size && at < len; at += size)
		memcpy(cluster + at, data, size < len - at ? size : len - at);
	if (!size)
		memset(cluster, 0, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool pack;
	struct codec *codec;
	uint8_t *cluster;
	size_t len;

	if (size < 1)
		return 0;
	pack = data[0] & PACK;
	codec = codec_of(data[0] % KINDS);
	len = (size_t)512 << (data[0] / KINDS % 8); /* 512 B to 64 KiB */
	cluster = malloc(len);
	if (!cluster)
		abort();
	if (pack)
		fill(cluster, len, data + 1, size - 1);
	if (pack || !codec_unpack(codec, data + 1, size - 1, cluster, len))
		check_round_trip(codec, cluster, len);
	free(cluster);
	return 0;
}
