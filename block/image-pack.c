/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writing one packed cluster: for tools that write here and there. Jobs over
 * whole images pack many at once and keep their codecs (jobs/convert-pack.c).
 *
 * As in every change of a mapping the bytes are there before the link is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/codec.h"
#include "block/image.h"
#include "block/storage.h"

/* Whole clusters only; the last one of the disk may be cut by its end. */
static int check_cluster(const struct image *img, size_t len,
			 uint64_t guest_off)
{
	if (!img->writable)
		return -EROFS;
	if (!img->driver->pack)
		return -EOPNOTSUPP;
	if (!range_inside(guest_off, len, img->size_bytes) || !len ||
	    !is_aligned(guest_off, img->cluster_size))
		return -EINVAL;
	if (len != img->cluster_size &&
	    (len > img->cluster_size || guest_off + len != img->size_bytes))
		return -EINVAL;
	return 0;
}

/* Packed into `out`, cluster_size bytes; 0 if it is to be stored plain. */
static int64_t pack(const struct image *img, const void *cluster, void *out,
		    int level)
{
	struct codec_params params;
	struct codec *codec;
	int64_t len;
	int ret;

	img->driver->pack->params(img, &params);
	params.level = level;
	ret = codec_new(&codec, &params);
	if (ret < 0)
		return ret;
	len = codec_pack(codec, cluster, img->cluster_size, out,
			 img->cluster_size - 1);
	codec_free(codec);
	return len == -ENOSPC ? 0 : len;
}

/* With the cluster held. */
static int place(struct image *img, uint64_t guest_off, const void *plain,
		 const void *packed, uint32_t packed_len)
{
	const struct pack_ops *ops = img->driver->pack;
	struct pack_slot slot = {
		.guest_off = guest_off,
		.packed_len = packed_len,
	};
	int ret = ops->reserve(img, &slot, 1);

	if (ret < 0)
		return ret;
	if (packed_len)
		ret = storage_write(img->file, packed, packed_len,
				    slot.host_off);
	else
		ret = storage_write(img->file, plain, img->cluster_size,
				    slot.host_off);
	if (!ret)
		ret = ops->commit(img, &slot, 1);
	if (ret < 0)
		ops->abort(img, &slot, 1);
	return ret;
}

int image_write_packed(struct image *img, const void *buf, size_t len,
		       uint64_t guest_off, int level)
{
	struct range_hold hold;
	uint8_t *cluster;
	int64_t packed_len;
	int ret = check_cluster(img, len, guest_off);

	if (ret < 0)
		return ret;
	cluster = malloc(2 * (size_t)img->cluster_size);
	if (!cluster)
		return -ENOMEM;
	memcpy(cluster, buf, len);
	memset(cluster + len, 0, img->cluster_size - len);
	packed_len = pack(img, cluster, cluster + img->cluster_size, level);
	if (packed_len < 0) {
		free(cluster);
		return (int)packed_len;
	}
	range_hold_take(&img->holds, &hold, guest_off, img->cluster_size,
			RANGE_EXCLUSIVE);
	ret = place(img, guest_off, cluster, cluster + img->cluster_size,
		    (uint32_t)packed_len);
	range_hold_drop(&img->holds, &hold);
	free(cluster);
	if (!ret && (img->cache == CACHE_WRITETHROUGH ||
		     img->cache == CACHE_DIRECTSYNC))
		ret = image_flush(img);
	return ret;
}
