/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Check and repair of an image from a stranger.
 *
 * What must hold, whatever the image: a check writes nothing. A repair says
 * truly what is left, so that a check after it finds the same; if nothing was,
 * a second repair finds nothing to do. Guest bytes of an image that has leaks
 * at most read the same after it. The file grows by no more than new refcounts
 * for what it had.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/image.h"
#include "block/storage/memory.h"
#include "formats/registry.h"

#define INPUT_MAX (1u << 20)
#define GUEST_MAX (256u * 1024)
#define PIECE	  4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct bytes {
	uint8_t *data;
	size_t len;
};

static struct image *open_bytes(const struct bytes *b, unsigned flags)
{
	struct storage *s;
	struct image *img;

	if (storage_memory_from(&s, "fuzz.qcow2", b->data, b->len) < 0 ||
	    image_open_storage(&img, s, format_find("qcow2"), NULL, flags,
			       NULL) < 0)
		return NULL;
	return img;
}

static struct bytes copy_of(struct storage *s)
{
	struct bytes b = {.len = (size_t)storage_size(s)};

	b.data = malloc(b.len + 1);
	assert(b.data && !storage_read(s, b.data, b.len, 0));
	return b;
}

static void count_finding(void *opaque, const char *text)
{
	assert(*text && !strchr(text, '\n'));
	++*(uint64_t *)opaque;
}

/* Checks or repairs; false if the image cannot be. *after: its bytes then. */
static bool check(const struct bytes *b, bool leaks, bool errors,
		  struct check_result *result, struct bytes *after)
{
	struct image *img = open_bytes(
		b, IMAGE_FOR_CHECK | (leaks || errors ? IMAGE_WRITE : 0));
	uint64_t findings = 0;
	struct check_args args = {
		.fix_leaks = leaks,
		.fix_errors = errors,
		.finding = count_finding,
		.opaque = &findings,
	};
	int ret;

	if (!img)
		return false;
	ret = image_check(img, &args, result, NULL);
	if (!ret && (result->corruptions || result->leaks))
		assert(findings);
	*after = copy_of(img->file);
	image_close(img);
	if (ret < 0)
		free(after->data);
	return !ret;
}

/* The head of the disk, with one byte for each piece: whether it was read. */
static void read_guest(const struct bytes *b, uint8_t *buf, bool *good)
{
	struct image *img = open_bytes(b, 0);

	memset(good, 0, GUEST_MAX / PIECE);
	if (!img)
		return;
	for (unsigned i = 0; i < GUEST_MAX / PIECE; i++) {
		uint64_t off = (uint64_t)i * PIECE;

		if (off + PIECE <= img->size_bytes)
			good[i] = !image_read(img, buf + off, PIECE, off);
	}
	image_close(img);
}

static void assert_same_guest(const struct bytes *before,
			      const struct bytes *after)
{
	bool could[GUEST_MAX / PIECE], can[GUEST_MAX / PIECE];
	uint8_t *was = malloc(GUEST_MAX), *is = malloc(GUEST_MAX);

	assert(was && is);
	read_guest(before, was, could);
	read_guest(after, is, can);
	for (unsigned i = 0; i < GUEST_MAX / PIECE; i++) {
		if (!could[i])
			continue;
		assert(can[i]);
		assert(!memcmp(was + i * PIECE, is + i * PIECE, PIECE));
	}
	free(was);
	free(is);
}

static bool same_state(const struct check_result *a,
		       const struct check_result *b)
{
	return a->corruptions == b->corruptions && a->leaks == b->leaks &&
	       a->check_errors == b->check_errors &&
	       a->image_end_offset == b->image_end_offset &&
	       a->allocated_clusters == b->allocated_clusters;
}

static void repair(const struct bytes *in, const struct check_result *found,
		   bool errors)
{
	struct check_result fixed, left, again;
	struct bytes mended, looked, twice;

	if (!check(in, true, errors, &fixed, &mended))
		return;
	assert(mended.len >= in->len);
	/* The widest counts take as much as the smallest clusters they count */
	assert(mended.len <= 4 * in->len + (32u << 20));
	assert(fixed.corruptions_fixed <= found->corruptions);
	assert(fixed.leaks_fixed <= found->leaks);
	/* Guest clusters that lie in tables which are mended do change. */
	if (!found->corruptions && !found->check_errors)
		assert_same_guest(in, &mended);

	assert(check(&mended, false, false, &left, &looked));
	assert(same_state(&fixed, &left));
	assert(looked.len == mended.len &&
	       !memcmp(looked.data, mended.data, looked.len));
	free(looked.data);

	/* Pointers past the end may lead into the file after it has grown. */
	assert(check(&mended, true, errors, &again, &twice));
	if (!left.corruptions && !left.leaks)
		assert(same_state(&again, &left));
	free(twice.data);
	free(mended.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = {.len = size}, after;
	struct check_result found;

	if (size > INPUT_MAX)
		return 0;
	in.data = malloc(size + 1);
	assert(in.data);
	memcpy(in.data, data, size);
	if (check(&in, false, false, &found, &after)) {
		assert(after.len == size && !memcmp(after.data, data, size));
		free(after.data);
		repair(&in, &found, false);
		repair(&in, &found, true);
	}
	free(in.data);
	return 0;
}
