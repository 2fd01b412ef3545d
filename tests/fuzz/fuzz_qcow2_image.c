/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A whole qcow2 image from a stranger: looked at, read, walked, checked, and
 * written to. Nothing may crash or hang, whatever the tables say; what was
 * written into one cluster must be read back, unless an error was reported.
 *
 * The work is bounded by the input, not by what the image claims to be.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/image-info.h"
#include "block/image.h"
#include "block/options.h"
#include "block/storage/memory.h"
#include "formats/registry.h"

#define INPUT_MAX   (1u << 20)
#define READ_MAX    (256ull << 10)
#define WALK_MAX    2000
#define PIECE	    (64u * 1024)
#define PATTERN_MAX 3000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* With caches so small that tables are evicted all the time. */
static struct image *open_copy(const uint8_t *data, size_t size, unsigned flags)
{
	struct options opts = {0};
	struct storage *s;
	struct image *img = NULL;

	options_set(&opts, "l2-cache-size", "4096");
	options_set(&opts, "refcount-cache-size", "4096");
	if (!storage_memory_from(&s, "fuzz.qcow2", data, size) &&
	    image_open_storage(&img, s, format_find("qcow2"), &opts, flags,
			       NULL) < 0)
		img = NULL;
	options_release(&opts);
	return img;
}

static void look(const uint8_t *data, size_t size)
{
	struct image *img = open_copy(data, size, IMAGE_INFO_ONLY);
	struct image_info info = {0};

	if (!img)
		return;
	image_info_get(img, &info, NULL);
	image_info_release(&info);
	image_close(img);
}

/* The head of the disk and its end, through the data path. */
static void read_some(struct image *img)
{
	uint64_t size = img->size_bytes, head = min_u64(size, READ_MAX), off;
	uint8_t *buf = malloc(PIECE);

	assert(buf);
	for (off = 0; off < head; off += PIECE)
		image_read(img, buf, min_u64(PIECE, head - off), off);
	off = size - min_u64(size, PIECE);
	image_read(img, buf, (size_t)(size - off), off);
	free(buf);
}

static void walk_some(struct image *img)
{
	struct image_walk walk;
	struct mapping m;
	uint64_t at = 0;

	image_walk_start(&walk, img, 0, img->size_bytes, 0);
	for (int i = 0; i < WALK_MAX; i++) {
		if (image_walk_next(&walk, &m) < 0 || !m.len)
			return;
		assert(m.guest_off == at);
		at += m.len;
		assert(at <= img->size_bytes);
	}
}

static void read_only(const uint8_t *data, size_t size)
{
	struct image *img = open_copy(data, size, 0);

	if (!img)
		return;
	read_some(img);
	walk_some(img);
	image_close(img);
}

static void check(const uint8_t *data, size_t size, bool fix)
{
	struct image *img = open_copy(
		data, size, IMAGE_FOR_CHECK | (fix ? IMAGE_WRITE : 0));
	struct check_args args = {.fix_leaks = fix, .fix_errors = fix};
	struct check_result result;

	if (!img)
		return;
	image_check(img, &args, &result, NULL);
	image_close(img);
}

/* What goes into two clusters of a bad image may share one of the host. */
static void write_and_read(struct image *img, uint8_t byte, size_t len,
			   uint64_t off)
{
	uint8_t pattern[PATTERN_MAX], back[PATTERN_MAX];
	uint64_t left = img->cluster_size - off % img->cluster_size;

	memset(pattern, byte, sizeof(pattern));
	if (!image_write(img, pattern, len, off) && len <= left &&
	    !image_read(img, back, len, off))
		assert(!memcmp(pattern, back, len));
}

/* Operations that the end of the input chooses: four bytes each. */
static void change(struct image *img, const uint8_t *script, size_t len)
{
	for (size_t i = 0; i + 4 <= len; i += 4) {
		uint64_t off = (uint64_t)script[i + 1] << 16 |
			       script[i + 2] << 8 | script[i + 3];
		size_t n = 1 + script[i + 3] * 11u;

		off %= max_u64(img->size_bytes, 1);
		n = (size_t)min_u64(n, img->size_bytes - off);
		switch (script[i] % 5) {
		case 0:
			write_and_read(img, (uint8_t)(script[i] + 1), n, off);
			break;
		case 1:
			image_zero(img, off, n, 0);
			break;
		case 2:
			image_zero(img, off, img->size_bytes - off,
				   FORMAT_ZERO_MAY_UNMAP);
			break;
		case 3:
			image_discard(img, off, img->size_bytes - off);
			break;
		default:
			image_flush(img);
		}
	}
}

static void write_to(const uint8_t *data, size_t size)
{
	struct image *img = open_copy(data, size, IMAGE_WRITE);
	size_t len = (size_t)min_u64(size, 64);

	if (!img)
		return;
	/* Zeroing a huge disk is honest work, but not what is tested here. */
	if (img->size_bytes <= 64u << 20)
		change(img, data + size - len, len);
	image_close(img);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > INPUT_MAX)
		return 0;
	look(data, size);
	read_only(data, size);
	check(data, size, false);
	check(data, size, true);
	write_to(data, size);
	return 0;
}
