/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The parts that a codec is made of; nobody but codec*.c includes this.
 *
 * A packer or unpacker holds the contexts of one library. All are used by one
 * thread at a time. Packers return the packed length, -ENOSPC where `cap` is
 * too small, or -ENOMEM; unpackers 0, -EIO or -ENOMEM.
 */
#ifndef PLATTER_BLOCK_CODEC_IMPL_H
#define PLATTER_BLOCK_CODEC_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* codec-deflate.c: raw deflate out, raw and wrapped in */
struct deflate_packer;
int deflate_packer_new(struct deflate_packer **out, int level, int window_bits);
void deflate_packer_free(struct deflate_packer *packer);
int64_t deflate_packer_run(struct deflate_packer *packer, const void *src,
			   size_t len, void *dst, size_t cap);

struct inflater;
int inflater_new(struct inflater **out);
void inflater_free(struct inflater *inflater);
int inflater_run_raw(struct inflater *inflater, const void *src,
		     size_t packed_len, void *dst, size_t len);
int inflater_run_zlib(struct inflater *inflater, const void *src,
		      size_t packed_len, void *dst, size_t len);

/* codec-zstd.c */
struct zstd_packer;
int zstd_packer_new(struct zstd_packer **out, int level);
void zstd_packer_free(struct zstd_packer *packer);
int64_t zstd_packer_run(struct zstd_packer *packer, const void *src, size_t len,
			void *dst, size_t cap);

struct zstd_unpacker;
int zstd_unpacker_new(struct zstd_unpacker **out);
void zstd_unpacker_free(struct zstd_unpacker *unpacker);
int zstd_unpacker_run(struct zstd_unpacker *unpacker, const void *src,
		      size_t packed_len, void *dst, size_t len);

/* codec-probe.c */
struct codec_probe;
int codec_probe_new(struct codec_probe **out);
void codec_probe_free(struct codec_probe *probe);
/* True if samples of the bytes say that packing would gain next to nothing. */
bool codec_probe_is_hopeless(struct codec_probe *probe, const void *src,
			     size_t len);

#endif
