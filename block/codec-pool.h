/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An image's idle codecs: a reader takes one and gives it back, so that
 * contexts are made as often as readers run at once, not as often as they read.
 * Any thread.
 */
#ifndef PLATTER_BLOCK_CODEC_POOL_H
#define PLATTER_BLOCK_CODEC_POOL_H

struct codec;
struct image;

int codec_pool_take(struct image *img, struct codec **out);
void codec_pool_give(struct image *img, struct codec *codec);
/* At close: nobody has one any more. */
void codec_pool_drain(struct image *img);

#endif
