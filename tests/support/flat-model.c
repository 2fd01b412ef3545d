/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. */
#include "tests/support/flat-model.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/image.h"

#define SCRIPT_STRIDE 37u /* unequal to all sizes of sectors and clusters */

static uint8_t kept_bytes[FLAT_MODEL_MAX], kept_sure[FLAT_MODEL_MAX];

struct range {
	uint64_t off, len;
};

/* The part of a range that the model holds. */
static struct range clip(const struct flat_model *m, struct range r)
{
	uint64_t end = min_u64(m->size_bytes, FLAT_MODEL_MAX);

	r.off = min_u64(r.off, end);
	r.len = min_u64(r.len, end - r.off);
	return r;
}

static struct range whole_clusters(const struct image *img, struct range r)
{
	uint64_t end = align_up(r.off + r.len, img->cluster_size);

	r.off = align_down(r.off, img->cluster_size);
	r.len = end - r.off;
	return r;
}

static void set(struct flat_model *m, struct range r, int value)
{
	r = clip(m, r);
	memset(m->bytes + r.off, value, r.len);
	memset(m->sure + r.off, 1, r.len);
}

static void doubt(struct flat_model *m, struct range r)
{
	r = clip(m, r);
	memset(m->sure + r.off, 0, r.len);
}

void flat_model_load(struct flat_model *m, struct image *img)
{
	uint64_t piece = img->cluster_size, off, end;

	*m = (struct flat_model){
		.bytes = kept_bytes,
		.sure = kept_sure,
		.size_bytes = img->size_bytes,
	};
	end = min_u64(m->size_bytes, FLAT_MODEL_MAX);
	for (off = 0; off < end; off += piece) {
		size_t len = min_u64(piece, end - off);

		memset(m->sure + off,
		       !image_read(img, m->bytes + off, len, off), len);
	}
}

void flat_model_doubt(struct flat_model *m, uint64_t guest_off, uint64_t len)
{
	doubt(m, (struct range){guest_off, len});
}

static bool same(const struct flat_model *m, const uint8_t *buf, struct range r)
{
	if (!memcmp(m->bytes + r.off, buf, r.len))
		return true;
	for (uint64_t i = 0; i < r.len; i++)
		if (m->sure[r.off + i] && m->bytes[r.off + i] != buf[i])
			return false;
	return true;
}

static bool all_sure(const struct flat_model *m, struct range r)
{
	return !memchr(m->sure + r.off, 0, r.len);
}

void flat_model_compare(const struct flat_model *m, struct image *img)
{
	uint8_t *buf = malloc(img->cluster_size);
	uint64_t off, end = min_u64(m->size_bytes, FLAT_MODEL_MAX);

	assert(buf && img->size_bytes == m->size_bytes);
	for (off = 0; off < end; off += img->cluster_size) {
		struct range r = {off, min_u64(img->cluster_size, end - off)};

		if (!image_read(img, buf, r.len, r.off))
			assert(same(m, buf, r));
		else
			assert(!all_sure(m, r));
	}
	free(buf);
}

/* ---- operations ---- */

static struct range pick(const struct image *img, const uint8_t script[4])
{
	uint64_t head = min_u64(img->size_bytes, FLAT_MODEL_MAX);
	struct range r = {(uint64_t)(script[1] << 8 | script[2]) *
				  SCRIPT_STRIDE,
			  1 + script[3] * SCRIPT_STRIDE};

	r.off %= max_u64(head, 1);
	if (script[0] & 0x80)
		r = whole_clusters(img, r);
	r.len = min_u64(r.len, img->size_bytes - r.off);
	return r;
}

static int do_write(struct image *img, struct range r, int value, bool packed)
{
	uint8_t *buf = malloc(max_u64(r.len, 1));
	int ret;

	assert(buf);
	memset(buf, value, r.len);
	ret = packed ? image_write_packed(img, buf, r.len, r.off, 0)
		     : image_write(img, buf, r.len, r.off);
	free(buf);
	return ret;
}

static void step_write(struct flat_model *m, struct image *img, struct range r,
		       int value, bool packed)
{
	int ret = do_write(img, r, value, packed);

	if (!ret)
		set(m, r, value);
	else if (!packed)
		doubt(m, whole_clusters(img, r));
	m->failures += ret < 0;
}

static void step_zero(struct flat_model *m, struct image *img, struct range r,
		      unsigned flags)
{
	int ret = image_zero(img, r.off, r.len, flags);

	if (!ret)
		set(m, r, 0);
	else
		doubt(m, whole_clusters(img, r));
	m->failures += ret < 0;
}

static void step_discard(struct flat_model *m, struct image *img,
			 struct range r)
{
	m->failures += image_discard(img, r.off, r.len) < 0;
	doubt(m, r);
}

/*
 * What a larger disk shows more is zeros; what a smaller lost comes not back. A
 * shrink may fail when the size has changed already, while it lets go of what
 * lay behind the new end; a growth that fails leaves the old size.
 */
static void step_resize(struct flat_model *m, struct image *img,
			uint64_t new_size)
{
	uint64_t old_size = img->size_bytes;
	struct range gone = {new_size, FLAT_MODEL_MAX};
	int ret = image_resize(img, new_size, PREALLOC_OFF, true, NULL);

	if (ret < 0) {
		assert(img->size_bytes == old_size ||
		       (img->size_bytes == new_size && new_size < old_size));
		doubt(m, whole_clusters(img, gone));
		m->size_bytes = img->size_bytes;
		m->failures++;
		return;
	}
	assert(img->size_bytes == new_size);
	m->size_bytes = new_size;
	if (new_size > old_size)
		set(m, (struct range){old_size, new_size - old_size}, 0);
}

void flat_model_step(struct flat_model *m, struct image *img,
		     const uint8_t script[4])
{
	struct range r = pick(img, script);
	int value = 1 + script[3] % 255;

	switch (script[0] % 8) {
	case 0:
	case 1:
		step_write(m, img, r, value, false);
		break;
	case 2:
		r = whole_clusters(img, r);
		r.len = min_u64(img->cluster_size, img->size_bytes - r.off);
		step_write(m, img, r, value, true);
		break;
	case 3:
		step_zero(m, img, r, 0);
		break;
	case 4:
		step_zero(m, img, r, FORMAT_ZERO_MAY_UNMAP);
		break;
	case 5:
		step_discard(m, img, r);
		break;
	case 6:
		m->failures += image_flush(img) < 0;
		break;
	default:
		if (img->size_bytes <= FLAT_MODEL_MAX)
			step_resize(m, img, align_down(r.off, 512) + 512);
		break;
	}
}
