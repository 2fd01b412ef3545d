/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packing of single clusters: deflate and zstd (spec: qcow2 5, performance 2).
 *
 * A codec object holds the library contexts of one thread and is reused for
 * every cluster: making them anew costs more than small clusters do. Results
 * depend on nothing but the input and the parameters, so output is the same
 * whatever the number of threads.
 */
#ifndef PLATTER_BLOCK_CODEC_H
#define PLATTER_BLOCK_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct codec;

enum codec_kind {
	CODEC_DEFLATE, /* raw deflate, RFC 1951 */
	CODEC_ZSTD,    /* whole zstd frames */
	CODEC_ZLIB,    /* deflate in a zlib wrapper, RFC 1950 (VMDK) */
};

struct codec_params {
	enum codec_kind kind;
	/* 1..9 for deflate, 1..22 for zstd; 0: the default of the kind */
	int level;
	/*
	 * Deflate back-reference window, 12 (4 KiB) to 15; 0: the default, 12,
	 * but 15 for CODEC_ZLIB, whose header tells readers what they need.
	 */
	int window_bits;
};

/* Checks the parameters; used before any file is touched. */
int codec_params_check(const struct codec_params *params, struct error *err);

/* -ENOMEM or -EINVAL. One codec: one thread at a time. */
int codec_new(struct codec **out, const struct codec_params *params);
void codec_free(struct codec *codec);

/*
 * Packs `len` bytes (1 to 2^30) into at most `cap` bytes; returns the packed
 * length, or -ENOSPC if it does not fit or is judged not worth trying
 * (incompressible by samples): store the bytes plain then. With `cap` >= `len`
 * nothing is judged, and with codec_pack_bound() everything fits. -ENOMEM only
 * at the first call of a codec, or with zstd: contexts are made when needed.
 */
int64_t codec_pack(struct codec *codec, const void *src, size_t len, void *dst,
		   size_t cap);

/* For formats that have no other place for incompressible bytes. */
size_t codec_pack_bound(size_t len);

/*
 * Unpacks until exactly `len` bytes (1 to 2^30) are out. `src` may be followed
 * by foreign bytes: packed_len is an upper bound. -EIO for a stream that is
 * broken, too short, or (zstd, zlib) too long; a raw deflate stream that goes
 * on once `len` bytes are out is fine, ended or not. Never writes past `len`,
 * though `dst` may hold rubbish after an error; never allocates more than a
 * bounded window (8 MiB), whatever the stream claims. -ENOMEM as above.
 */
int codec_unpack(struct codec *codec, const void *src, size_t packed_len,
		 void *dst, size_t len);

#endif
