/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading a piece, hashing it, and finding out what of it has to be written. */
#include "block/jobs/convert-private.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "block/bytes.h"
#include "block/jobs/content-hash.h"
#include "block/zero.h"

/* Where reading fails, first these, and in those that fail sectors. */
#define SALVAGE_BLOCK  4096u
#define SALVAGE_SECTOR 512u

/* ---- reading ---- */

/* Any range of the disk, which may cross from one source into the next. */
static int read_range(const struct convert *job, uint8_t *buf, size_t len,
		      uint64_t off)
{
	const struct convert_args *args = job->args;
	uint64_t base = 0;

	for (size_t i = 0; i < args->source_count && len > 0; i++) {
		const struct convert_source *source = &args->sources[i];
		uint64_t end = base + source->len;

		if (off < end) {
			size_t step = min_u64(len, end - off);
			int ret = image_read(source->img, buf, step,
					     source->off + off - base);

			if (ret < 0)
				return ret;
			buf += step;
			off += step;
			len -= step;
		}
		base = end;
	}
	return 0;
}

static void warn_lost(const struct convert *job, uint64_t off, uint64_t len,
		      int ret)
{
	char text[160];

	if (!job->args->warning)
		return;
	snprintf(text, sizeof(text),
		 "error while reading at byte %llu: %s; %llu bytes are zeros "
		 "in the target",
		 (unsigned long long)off, strerror(-ret),
		 (unsigned long long)len);
	job->args->warning(job->args->opaque, text);
}

/* Reads `len` bytes in steps; those that fail become zeros. */
static void salvage(const struct convert *job, uint8_t *buf, size_t len,
		    uint64_t off, size_t step)
{
	for (size_t done = 0; done < len; done += step) {
		size_t n = min_u64(step, len - done);
		int ret = read_range(job, buf + done, n, off + done);

		if (ret == 0)
			continue;
		if (step > SALVAGE_SECTOR) {
			salvage(job, buf + done, n, off + done, SALVAGE_SECTOR);
			continue;
		}
		memset(buf + done, 0, n);
		warn_lost(job, off + done, n, ret);
	}
}

int convert_read(struct convert *job, struct lane *lane,
		 const struct piece *piece)
{
	int ret;

	assert(piece->len <= job->chunk_size);
	if (piece->streamed)
		return 0;
	if (piece->has_map)
		ret = image_read_mapping(piece->map_img, &piece->map,
					 piece->skip, lane->buf, piece->len);
	else
		ret = read_range(job, lane->buf, piece->len, piece->off);
	if (ret == 0)
		return 0;
	if (job->args->salvage) {
		salvage(job, lane->buf, piece->len, piece->off, SALVAGE_BLOCK);
		return 0;
	}
	convert_fail(job, ret, "reading", piece->off);
	return ret;
}

/* ---- hashing ---- */

void convert_hash(struct convert *job, struct lane *lane,
		  const struct piece *piece, bool good)
{
	struct content_hash *hash = job->args->hash;
	int ret = 0;

	if (!hash)
		return;
	if (good && piece->kind != PIECE_ZERO &&
	    content_hash_kind(hash) == CONTENT_HASH_TREE)
		ret = content_hash_blocks(hash, lane->buf, piece->len,
					  lane->digests);
	ticket_wait(&job->hashing, piece->ticket);
	if (good && !ret && !convert_failed(job)) {
		if (piece->kind == PIECE_ZERO)
			content_hash_add_zeros(hash, piece->len);
		else
			content_hash_add(hash, lane->buf, piece->len,
					 lane->digests);
	}
	ticket_pass(&job->hashing, piece->ticket);
	if (ret < 0)
		convert_fail(job, ret, "hashing", piece->off);
}

/* ---- scanning ---- */

/* Joins what continues the last segment. */
static void add_segment(struct lane *lane, enum segment_kind kind, size_t off,
			size_t len)
{
	struct segment *last =
		lane->segment_count ? &lane->segments[lane->segment_count - 1]
				    : NULL;

	if (last && last->kind == kind && last->off + last->len == off)
		last->len += len;
	else
		lane->segments[lane->segment_count++] =
			(struct segment){kind, off, len};
}

static void scan_zeros(const struct convert *job, struct lane *lane,
		       const struct piece *piece)
{
	size_t off = 0;

	while (off < piece->len) {
		bool zero;
		size_t run = zero_run(lane->buf + off, piece->len - off,
				      job->unit, &zero);

		if (!zero)
			add_segment(lane, SEGMENT_DATA, off, run);
		else if (job->zeroing)
			add_segment(lane, SEGMENT_ZERO, off, run);
		off += run;
	}
}

/* What the backing file of the target has where the piece goes. */
static int read_base(const struct convert *job, struct lane *lane,
		     const struct piece *piece)
{
	struct image *base = job->target->backing;
	size_t inside = 0;

	if (piece->off < base->size_bytes)
		inside = min_u64(piece->len, base->size_bytes - piece->off);
	memset(lane->base + inside, 0, piece->len - inside);
	if (inside == 0)
		return 0;
	return image_read(base, lane->base, inside, piece->off);
}

static int scan_differences(struct convert *job, struct lane *lane,
			    const struct piece *piece)
{
	size_t off, step;
	int ret = read_base(job, lane, piece);

	if (ret < 0) {
		convert_fail(job, ret, "reading the backing file", piece->off);
		return ret;
	}
	for (off = 0; off < piece->len; off += step) {
		step = min_u64(job->unit, piece->len - off);
		if (!memcmp(lane->buf + off, lane->base + off, step))
			continue;
		add_segment(lane,
			    is_zero(lane->buf + off, step) ? SEGMENT_ZERO
							   : SEGMENT_DATA,
			    off, step);
	}
	return 0;
}

int convert_scan(struct convert *job, struct lane *lane,
		 const struct piece *piece)
{
	lane->segment_count = 0;
	if (job->args->target_state == CONVERT_TARGET_DIFFERENCE)
		return scan_differences(job, lane, piece);
	if (job->args->sparse_size > 0)
		scan_zeros(job, lane, piece);
	else
		add_segment(lane, SEGMENT_DATA, 0, piece->len);
	assert(lane->segment_count <= job->unit_max);
	return 0;
}
