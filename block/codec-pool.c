/* SPDX-License-Identifier: BSD-3-Clause */
/* A stack of idle codecs: the one that was used last is the warmest. */
#include <errno.h>
#include <stdlib.h>

#include "block/codec-pool.h"
#include "block/codec.h"
#include "block/image.h"

struct codec_list {
	struct codec_list *next;
	struct codec *codec;
};

int codec_pool_take(struct image *img, struct codec **out)
{
	struct codec_params params;
	struct codec_list *idle;

	pthread_mutex_lock(&img->codec_lock);
	idle = img->codecs;
	if (idle)
		img->codecs = idle->next;
	pthread_mutex_unlock(&img->codec_lock);
	if (idle) {
		*out = idle->codec;
		free(idle);
		return 0;
	}
	img->driver->unpack_params(img, &params);
	return codec_new(out, &params);
}

void codec_pool_give(struct image *img, struct codec *codec)
{
	struct codec_list *idle = malloc(sizeof(*idle));

	if (!idle) {
		codec_free(codec);
		return;
	}
	idle->codec = codec;
	pthread_mutex_lock(&img->codec_lock);
	idle->next = img->codecs;
	img->codecs = idle;
	pthread_mutex_unlock(&img->codec_lock);
}

void codec_pool_drain(struct image *img)
{
	while (img->codecs) {
		struct codec_list *idle = img->codecs;

		img->codecs = idle->next;
		codec_free(idle->codec);
		free(idle);
	}
}
