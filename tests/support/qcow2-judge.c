/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. */
#include "tests/support/qcow2-judge.h"

#include <assert.h>
#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/image.h"
#include "block/options.h"
#include "block/storage/memory.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/layout.h"

#define GUEST_MAX	   (256u * 1024)
#define PIECE		   4096u
#define FAULTS_MAX	   1000u
#define BORNE_ALL_THE_SAME 16u /* one of so many */
/* New counts lie behind the huge table that a snapshot claims to have. */
#define CLAIMED_MAX (64u * 1024)

struct image *qcow2_judge_open(const struct qcow2_bytes *b, unsigned flags)
{
	struct options opts = {0};
	struct storage *s;
	struct image *img = NULL;

	options_set(&opts, "l2-cache-size", "4096");
	options_set(&opts, "refcount-cache-size", "4096");
	if (!storage_memory_from(&s, "judged.qcow2", b->data, b->len) &&
	    image_open_storage(&img, s, &qcow2_driver, &opts, flags, NULL) < 0)
		img = NULL;
	options_release(&opts);
	return img;
}

struct qcow2_bytes qcow2_judge_copy(struct storage *s)
{
	struct qcow2_bytes b = {.len = (size_t)storage_size(s)};

	b.data = malloc(b.len + 1);
	assert(b.data && !storage_read(s, b.data, b.len, 0));
	return b;
}

/* Of the last check. */
static uint64_t missing_flags, claimed_bytes;

uint64_t qcow2_judge_missing_flags(void)
{
	return missing_flags;
}

static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text), end_len = strlen(end);

	return len >= end_len && !strcmp(text + len - end_len, end);
}

/* The length of an L1 table that the file does not have; other texts: 0. */
static uint64_t claim_of(const char *text)
{
	const char *at = NULL;

	if (!strncmp(text, "ERROR L1 table", 14))
		at = strstr(text, " bytes exceeds the file's end");
	if (!at)
		return 0;
	while (isdigit((unsigned char)at[-1]))
		at--;
	return strtoull(at, NULL, 10);
}

static void count_finding(void *opaque, const char *text)
{
	assert(*text && !strchr(text, '\n'));
	missing_flags += ends_with(text, " refcount=1") &&
			 strstr(text, "OFLAG_COPIED data cluster");
	claimed_bytes = max_u64(claimed_bytes, claim_of(text));
	++*(uint64_t *)opaque;
}

bool qcow2_judge_check(const struct qcow2_bytes *b, bool fix_leaks,
		       bool fix_errors, struct check_result *result,
		       struct qcow2_bytes *after)
{
	struct image *img = qcow2_judge_open(
		b,
		IMAGE_FOR_CHECK | (fix_leaks || fix_errors ? IMAGE_WRITE : 0));
	uint64_t findings = 0;
	struct check_args args = {
		.fix_leaks = fix_leaks,
		.fix_errors = fix_errors,
		.finding = count_finding,
		.opaque = &findings,
	};
	int ret;

	missing_flags = claimed_bytes = 0;
	if (!img)
		return false;
	ret = image_check(img, &args, result, NULL);
	if (!ret && (result->corruptions || result->leaks))
		assert(findings);
	*after = qcow2_judge_copy(img->file);
	image_close(img);
	if (ret < 0)
		free(after->data);
	return !ret;
}

bool qcow2_judge_is_bearable(const struct check_result *found)
{
	if (found->corruptions % BORNE_ALL_THE_SAME == 0)
		return true;
	return found->corruptions + found->leaks + found->check_errors <=
		       FAULTS_MAX &&
	       claimed_bytes <= CLAIMED_MAX;
}

/* The head of the disk, with one byte for each piece: whether it was read. */
static void read_guest(const struct qcow2_bytes *b, uint8_t *buf, bool *good)
{
	struct image *img = qcow2_judge_open(b, 0);

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

static void assert_same_guest(const struct qcow2_bytes *before,
			      const struct qcow2_bytes *after)
{
	bool could[GUEST_MAX / PIECE], can[GUEST_MAX / PIECE];
	/* Kept: to map so much for every input is slow. */
	static uint8_t was[GUEST_MAX], is[GUEST_MAX];

	read_guest(before, was, could);
	read_guest(after, is, can);
	for (unsigned i = 0; i < GUEST_MAX / PIECE; i++) {
		if (!could[i])
			continue;
		assert(can[i]);
		assert(!memcmp(was + i * PIECE, is + i * PIECE, PIECE));
	}
}

static bool same_state(const struct check_result *a,
		       const struct check_result *b)
{
	return a->corruptions == b->corruptions && a->leaks == b->leaks &&
	       a->check_errors == b->check_errors &&
	       a->image_end_offset == b->image_end_offset &&
	       a->allocated_clusters == b->allocated_clusters;
}

/*
 * The widest counts take as much as the smallest clusters they count; and a
 * place for them is not where a pointer leads, so it may be behind as many
 * clusters as there are pointers.
 */
static uint64_t length_max(const struct qcow2_bytes *in)
{
	struct qcow2_header_disk header;
	uint64_t cluster_size;

	assert(in->len >= sizeof(be32_t) + offsetof(struct qcow2_header_disk,
						    cluster_bits));
	memset(&header, 0, sizeof(header));
	memcpy(&header, in->data, min_u64(in->len, sizeof(header)));
	cluster_size = 1ull << be32_get(header.cluster_bits);
	return 4 * in->len + (32u << 20) +
	       in->len / sizeof(be64_t) * cluster_size;
}

static void repair(const struct qcow2_bytes *in,
		   const struct check_result *found, bool errors)
{
	struct check_result fixed, left, again;
	struct qcow2_bytes mended, looked, twice;

	if (!qcow2_judge_check(in, true, errors, &fixed, &mended))
		return;
	assert(mended.len >= in->len);
	assert(mended.len <= length_max(in));
	assert(fixed.corruptions_fixed <= found->corruptions);
	assert(fixed.leaks_fixed <= found->leaks);
	/* Guest clusters that lie in tables which are mended do change. */
	if (!found->corruptions && !found->check_errors)
		assert_same_guest(in, &mended);

	assert(qcow2_judge_check(&mended, false, false, &left, &looked));
	assert(same_state(&fixed, &left));
	assert(looked.len == mended.len &&
	       !memcmp(looked.data, mended.data, looked.len));
	free(looked.data);

	/*
	 * Pointers past the end may lead into the file after it has grown, and
	 * to wherever new counts are put if header fields are among them: then
	 * there is no place for counts at all.
	 */
	if (qcow2_judge_check(&mended, true, errors, &again, &twice)) {
		if (!left.corruptions && !left.leaks)
			assert(same_state(&again, &left));
		free(twice.data);
	} else {
		assert(left.corruptions);
	}
	free(mended.data);
}

void qcow2_judge_repairs(const struct qcow2_bytes *b)
{
	struct check_result found;
	struct qcow2_bytes after;

	if (!qcow2_judge_check(b, false, false, &found, &after))
		return;
	assert(after.len == b->len && !memcmp(after.data, b->data, b->len));
	free(after.data);
	if (!qcow2_judge_is_bearable(&found))
		return;
	if (found.leaks)
		repair(b, &found, false);
	repair(b, &found, true);
}
