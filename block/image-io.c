/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading and writing images: the one place where guest data moves.
 *
 * A write looks at the mapping under a shared hold. What may be written in
 * place is; for the rest it takes an exclusive hold, rounded to clusters, looks
 * again, and goes through reserve, copy and commit. The copied head and tail of
 * a cluster are read through the whole chain, as a guest would.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "block/bytes.h"
#include "block/codec-pool.h"
#include "block/error.h"
#include "block/image.h"
#include "block/probe.h"
#include "block/zero.h"

/* Zeros that have to be written as data go out in pieces of this size. */
#define ZERO_PIECE (1024 * 1024)

static int check_range(const struct image *img, uint64_t guest_off,
		       uint64_t len)
{
	if (img->open_flags & IMAGE_INFO_ONLY)
		return -EINVAL;
	return range_inside(guest_off, len, img->size_bytes) ? 0 : -EINVAL;
}

static int check_writable(const struct image *img, uint64_t guest_off,
			  uint64_t len)
{
	if (!img->writable)
		return -EROFS;
	return check_range(img, guest_off, len);
}

/* ---- reading ---- */

static int read_packed(const struct mapping *m, uint64_t skip, uint8_t *buf,
		       size_t len)
{
	struct image *layer = m->layer;
	uint32_t cluster_size = layer->cluster_size;
	uint64_t in_cluster = (m->guest_off + skip) & (cluster_size - 1);
	struct codec *codec;
	uint8_t *whole;
	int ret;

	ret = codec_pool_take(layer, &codec);
	if (ret < 0)
		return ret;
	if (!in_cluster && len == cluster_size) {
		ret = layer->driver->unpack(layer, m, codec, buf);
		codec_pool_give(layer, codec);
		return ret;
	}
	whole = malloc(cluster_size);
	ret = whole ? layer->driver->unpack(layer, m, codec, whole) : -ENOMEM;
	if (!ret)
		memcpy(buf, whole + in_cluster, len);
	free(whole);
	codec_pool_give(layer, codec);
	return ret;
}

int image_read_mapping(struct image *img, const struct mapping *m,
		       uint64_t skip, void *buf, size_t len)
{
	(void)img;
	assert(range_inside(skip, len, m->len));
	switch (m->kind) {
	case MAPPING_DATA:
		return storage_read_padded(m->storage, buf, len,
					   m->host_off + skip);
	case MAPPING_PACKED:
		return read_packed(m, skip, buf, len);
	case MAPPING_ZERO:
		memset(buf, 0, len);
		return 0;
	case MAPPING_BACKING:
		break;
	}
	assert(!"image_map() resolves backing");
	return -EIO;
}

/* The caller holds the range. Past the end of the disk there are zeros. */
static int read_held(struct image *img, uint8_t *buf, size_t len,
		     uint64_t guest_off)
{
	while (len) {
		struct mapping m;
		size_t n;
		int ret;

		if (guest_off >= img->size_bytes) {
			memset(buf, 0, len);
			return 0;
		}
		ret = image_map(img, guest_off,
				min_u64(len, img->size_bytes - guest_off), &m);
		if (ret < 0)
			return ret;
		n = m.len;
		ret = image_read_mapping(img, &m, 0, buf, n);
		if (ret < 0)
			return ret;
		buf += n;
		guest_off += n;
		len -= n;
	}
	return 0;
}

int image_read(struct image *img, void *buf, size_t len, uint64_t guest_off)
{
	struct range_hold hold;
	int ret = check_range(img, guest_off, len);

	if (ret < 0 || !len)
		return ret;
	range_hold_take(&img->holds, &hold, guest_off, len, RANGE_SHARED);
	ret = read_held(img, buf, len, guest_off);
	range_hold_drop(&img->holds, &hold);
	return ret;
}

/* ---- writing ---- */

/* Writes what the mapping allows in place; 0 if nothing at guest_off. */
static int64_t write_in_place(struct image *img, const uint8_t *buf, size_t len,
			      uint64_t guest_off)
{
	size_t done = 0;

	while (done < len) {
		struct mapping m;
		int ret =
			img->driver->map(img, guest_off + done, len - done, &m);

		if (ret < 0)
			return ret;
		if (m.kind != MAPPING_DATA || (m.flags & MAPPING_SHARED))
			break;
		ret = storage_write(m.storage, buf + done, m.len, m.host_off);
		if (ret < 0)
			return ret;
		done += m.len;
	}
	return (int64_t)done;
}

/*
 * Writes the reserved clusters whole: old head, new data, old tail. `data` is
 * what the guest writes at guest_off, inside the reservation.
 */
static int fill_reservation(struct image *img, const struct reservation *r,
			    const uint8_t *data, size_t len, uint64_t guest_off)
{
	size_t head = guest_off - r->guest_off;
	size_t tail = r->len - head - len;
	struct iovec iov[3];
	uint8_t *edges = NULL;
	int count = 0, ret = 0;

	if (head + tail) {
		edges = malloc(head + tail);
		if (!edges)
			return -ENOMEM;
	}
	if (head) {
		ret = read_held(img, edges, head, r->guest_off);
		iov[count++] = (struct iovec){edges, head};
	}
	/* writev takes no const; it does not write there. */
	iov[count++] = (struct iovec){(void *)(uintptr_t)data, len};
	if (!ret && tail) {
		ret = read_held(img, edges + head, tail, guest_off + len);
		iov[count++] = (struct iovec){edges + head, tail};
	}
	if (!ret)
		ret = storage_writev(r->storage, iov, count, r->host_off);
	free(edges);
	return ret;
}

/* One reservation's worth; returns the bytes of `buf` that are written. */
static int64_t write_allocating(struct image *img, const uint8_t *buf,
				size_t len, uint64_t guest_off)
{
	struct reservation r;
	size_t n;
	int ret;

	ret = img->driver->reserve(img, guest_off, len, &r);
	if (ret < 0)
		return ret;
	n = min_u64(len, r.guest_off + r.len - guest_off);
	ret = fill_reservation(img, &r, buf, n, guest_off);
	if (!ret)
		ret = img->driver->commit(img, &r);
	if (ret < 0) {
		img->driver->abort(img, &r);
		return ret;
	}
	return (int64_t)n;
}

/* With the clusters of the range held exclusively. */
static int write_exclusive(struct image *img, const uint8_t *buf, size_t len,
			   uint64_t guest_off)
{
	while (len) {
		int64_t n = write_in_place(img, buf, len, guest_off);

		if (n == 0)
			n = write_allocating(img, buf, len, guest_off);
		if (n < 0)
			return (int)n;
		buf += n;
		guest_off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static void hold_clusters(struct image *img, struct range_hold *hold,
			  uint64_t guest_off, uint64_t len)
{
	uint64_t start = align_down(guest_off, img->cluster_size);
	uint64_t end = align_up(guest_off + len, img->cluster_size);

	range_hold_take(&img->holds, hold, start, end - start, RANGE_EXCLUSIVE);
}

static int write_through(struct image *img)
{
	if (img->cache == CACHE_WRITETHROUGH || img->cache == CACHE_DIRECTSYNC)
		return image_flush(img);
	return 0;
}

/*
 * A disk whose format was only guessed to be raw must not become another
 * format by what its guest writes into the first sector.
 */
static int guard_first_sector(struct image *img, const uint8_t *buf, size_t len,
			      uint64_t guest_off)
{
	uint8_t sector[512] = {0};
	size_t room = sizeof(sector);
	int ret;

	if (!img->format_guessed || (img->open_flags & IMAGE_KEEP_GUESS) ||
	    guest_off >= sizeof(sector))
		return 0;
	ret = image_read(img, sector, min_u64(room, img->size_bytes), 0);
	if (ret < 0)
		return ret;
	memcpy(sector + guest_off, buf, min_u64(len, room - guest_off));
	return probe_would_recognise(sector, sizeof(sector)) ? -EPERM : 0;
}

int image_write(struct image *img, const void *data, size_t len,
		uint64_t guest_off)
{
	const uint8_t *buf = data;
	struct range_hold hold;
	int64_t done;
	int ret = check_writable(img, guest_off, len);

	if (ret < 0 || !len)
		return ret;
	ret = guard_first_sector(img, buf, len, guest_off);
	if (ret < 0)
		return ret;
	range_hold_take(&img->holds, &hold, guest_off, len, RANGE_SHARED);
	done = write_in_place(img, buf, len, guest_off);
	range_hold_drop(&img->holds, &hold);
	if (done < 0)
		return (int)done;
	if ((size_t)done < len) {
		size_t rest = len - (size_t)done;
		uint64_t from = guest_off + (uint64_t)done;

		if (!img->driver->reserve)
			return -EIO;
		hold_clusters(img, &hold, from, rest);
		ret = write_exclusive(img, buf + done, rest, from);
		range_hold_drop(&img->holds, &hold);
	}
	return ret < 0 ? ret : write_through(img);
}

/* ---- zero and discard ---- */

static const uint8_t zero_piece[ZERO_PIECE];

static int write_zeros(struct image *img, uint64_t guest_off, uint64_t len)
{
	while (len) {
		size_t n = min_u64(len, sizeof(zero_piece));
		int ret = image_write(img, zero_piece, n, guest_off);

		if (ret < 0)
			return ret;
		guest_off += n;
		len -= n;
	}
	return 0;
}

/* As data, but nothing where zeros are read already. */
static int zero_by_writing(struct image *img, uint64_t guest_off, uint64_t len)
{
	while (len) {
		struct mapping m;
		int ret = image_map(img, guest_off, len, &m);

		if (ret < 0)
			return ret;
		if (m.kind != MAPPING_ZERO) {
			ret = write_zeros(img, guest_off, m.len);
			if (ret < 0)
				return ret;
		}
		guest_off += m.len;
		len -= m.len;
	}
	return 0;
}

static unsigned storage_zero_flags(unsigned flags)
{
	return (flags & FORMAT_ZERO_MAY_UNMAP ? STORAGE_ZERO_MAY_UNMAP : 0) |
	       (flags & FORMAT_ZERO_NO_FALLBACK ? STORAGE_ZERO_NO_FALLBACK : 0);
}

/* For drivers that leave zeroing and discarding to the storage. */
static int storage_part(struct image *img, uint64_t guest_off, uint64_t len,
			bool discard, unsigned flags)
{
	while (len) {
		struct mapping m;
		int ret = img->driver->map(img, guest_off, len, &m);

		if (ret < 0)
			return ret;
		if (m.kind == MAPPING_DATA && discard)
			ret = storage_discard(m.storage, m.host_off, m.len);
		else if (m.kind == MAPPING_DATA)
			ret = storage_zero(m.storage, m.host_off, m.len,
					   storage_zero_flags(flags));
		if (ret < 0)
			return ret;
		guest_off += m.len;
		len -= m.len;
	}
	return 0;
}

/* Whole clusters, the end of the disk counting as one. */
static int zero_clusters(struct image *img, uint64_t guest_off, uint64_t len,
			 unsigned flags)
{
	struct range_hold hold;
	int ret;

	hold_clusters(img, &hold, guest_off, len);
	if (img->driver->zero)
		ret = img->driver->zero(img, guest_off, len, flags);
	else
		ret = storage_part(img, guest_off, len, false, flags);
	range_hold_drop(&img->holds, &hold);
	if (ret != -ENOTSUP || (flags & FORMAT_ZERO_NO_FALLBACK))
		return ret;
	/* A backing file that is not open now may show data later. */
	if (img->backing_name)
		return write_zeros(img, guest_off, len);
	return zero_by_writing(img, guest_off, len);
}

/* [*start, *end): the whole clusters inside the range; empty if none. */
static void inner_clusters(const struct image *img, uint64_t guest_off,
			   uint64_t len, uint64_t *start, uint64_t *end)
{
	uint64_t range_end = guest_off + len;

	*start = align_up(guest_off, img->cluster_size);
	*end = range_end == img->size_bytes
		       ? range_end
		       : align_down(range_end, img->cluster_size);
	if (*start > range_end)
		*start = range_end;
	if (*end < *start)
		*end = *start;
}

int image_zero(struct image *img, uint64_t guest_off, uint64_t len,
	       unsigned flags)
{
	uint64_t start, end;
	int ret = check_writable(img, guest_off, len);

	if (ret < 0 || !len)
		return ret;
	inner_clusters(img, guest_off, len, &start, &end);
	/* Clusters first: they may be refused, and then nothing has changed. */
	if (end > start)
		ret = zero_clusters(img, start, end - start, flags);
	if (!ret)
		ret = zero_by_writing(img, guest_off, start - guest_off);
	if (!ret)
		ret = zero_by_writing(img, end, guest_off + len - end);
	return ret < 0 ? ret : write_through(img);
}

int image_discard(struct image *img, uint64_t guest_off, uint64_t len)
{
	struct range_hold hold;
	uint64_t start, end;
	int ret = check_writable(img, guest_off, len);

	if (ret < 0)
		return ret;
	inner_clusters(img, guest_off, len, &start, &end);
	if (start == end)
		return 0;
	hold_clusters(img, &hold, start, end - start);
	if (img->driver->discard)
		ret = img->driver->discard(img, start, end - start);
	else
		ret = storage_part(img, start, end - start, true, 0);
	range_hold_drop(&img->holds, &hold);
	return ret;
}

int image_flush(struct image *img)
{
	if (!img->writable)
		return 0;
	if (img->driver->flush)
		return img->driver->flush(img);
	return storage_sync(img->file);
}

/* ---- the two-step write of whole-image jobs ---- */

int image_place(struct image *img, uint64_t guest_off, uint64_t len,
		struct placement *out)
{
	struct mapping m;
	int ret = check_writable(img, guest_off, len);

	if (ret < 0)
		return ret;
	assert(len && is_aligned(guest_off, img->cluster_size));
	*out = (struct placement){.guest_off = guest_off};
	ret = img->driver->map(img, guest_off, len, &m);
	if (ret < 0)
		return ret;
	if (m.kind == MAPPING_DATA && !(m.flags & MAPPING_SHARED)) {
		out->storage = m.storage;
		out->host_off = m.host_off;
		out->len = m.len;
		return 0;
	}
	if (!img->driver->reserve)
		return -EIO;
	ret = img->driver->reserve(img, guest_off, len, &out->reservation);
	if (ret < 0)
		return ret;
	out->reserved = true;
	out->storage = out->reservation.storage;
	out->host_off = out->reservation.host_off;
	out->len = min_u64(len, out->reservation.len);
	out->tail_len = out->reservation.len - out->len;
	return 0;
}

int image_link(struct image *img, const struct placement *p)
{
	int ret;

	if (!p->reserved)
		return 0;
	ret = img->driver->commit(img, &p->reservation);
	if (ret < 0)
		img->driver->abort(img, &p->reservation);
	return ret;
}

void image_unplace(struct image *img, const struct placement *p)
{
	if (p->reserved)
		img->driver->abort(img, &p->reservation);
}
