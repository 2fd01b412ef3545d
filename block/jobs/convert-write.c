/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writing a piece: its places are found in turn, its bytes are written when the
 * turn is over, side by side with those of other pieces, and linked.
 */
#include "block/jobs/convert-private.h"

#include <assert.h>
#include <string.h>
#include <sys/uio.h>

#include "block/bytes.h"
#include "block/storage.h"

/* Vectors of one write; longer runs take several. */
#define WRITE_VECTORS 64

/* ---- zeros ---- */

int convert_zero(struct convert *job, uint64_t off, uint64_t len)
{
	/*
	 * A backing file is quiet, and its holes count as zeros. Those of an
	 * old target are left to the file system: it may be wrong about what
	 * was written a moment ago, and punching a hole again costs little.
	 */
	unsigned flags = job->args->target_state == CONVERT_TARGET_UNKNOWN
				 ? IMAGE_WALK_NO_HOLES
				 : 0;
	struct image_walk walk;
	struct mapping map;
	int ret;

	image_walk_start(&walk, job->target, off, len, flags);
	while (!(ret = image_walk_next(&walk, &map)) && map.len > 0) {
		if (map.kind == MAPPING_ZERO)
			continue;
		ret = image_zero(job->target, map.guest_off, map.len,
				 FORMAT_ZERO_MAY_UNMAP);
		if (ret < 0)
			break;
	}
	return ret;
}

/* ---- places ---- */

static int place_range(struct convert *job, struct lane *lane, uint64_t off,
		       uint64_t len)
{
	while (len > 0) {
		struct placement *place = &lane->places[lane->place_count];
		int ret;

		assert(lane->place_count < job->place_max);
		ret = image_place(job->target, off, len, place);
		if (ret < 0)
			return ret;
		lane->place_count++;
		off += place->len;
		len -= place->len;
	}
	return 0;
}

static void unplace_from(struct convert *job, struct lane *lane, size_t first)
{
	for (size_t i = first; i < lane->place_count; i++)
		image_unplace(job->target, &lane->places[i]);
	lane->place_count = first;
}

static int place_segments(struct convert *job, struct lane *lane,
			  const struct piece *piece)
{
	int ret = 0;

	for (size_t i = 0; i < lane->segment_count && !ret; i++) {
		const struct segment *s = &lane->segments[i];

		if (s->kind == SEGMENT_DATA)
			ret = place_range(job, lane, piece->off + s->off,
					  s->len);
		else
			ret = convert_zero(job, piece->off + s->off, s->len);
	}
	return ret;
}

/* Only what is written; returns the index of the first that was not. */
static int link_places(struct convert *job, struct lane *lane)
{
	for (size_t i = 0; i < lane->place_count; i++) {
		int ret = image_link(job->target, &lane->places[i]);

		if (ret < 0) {
			/* A link that fails gives its own place back. */
			unplace_from(job, lane, i + 1);
			return ret;
		}
	}
	lane->place_count = 0;
	return 0;
}

/* ---- bytes ---- */

void convert_wrote(struct convert *job, struct storage *storage,
		   uint64_t host_off, uint64_t len)
{
	uint64_t from = 0, dirty = 0;

	if (!job->args->write_behind || storage != job->target->file)
		return;
	pthread_mutex_lock(&job->mutex);
	if (job->dirty_bytes == 0) {
		job->dirty_from = host_off;
		job->dirty_end = host_off;
	}
	job->dirty_bytes += len;
	job->dirty_from = min_u64(job->dirty_from, host_off);
	job->dirty_end = max_u64(job->dirty_end, host_off + len);
	if (job->dirty_bytes >= CONVERT_DIRTY_MAX) {
		from = job->dirty_from;
		dirty = job->dirty_end - from;
		job->dirty_bytes = 0;
	}
	pthread_mutex_unlock(&job->mutex);
	if (dirty > 0)
		storage_write_behind(storage, from, dirty);
}

static bool continues(const struct placement *a, const struct placement *b)
{
	return a->storage == b->storage && a->tail_len == 0 &&
	       a->host_off + a->len == b->host_off;
}

/*
 * Writes the places from `first` on that follow each other in the host, with
 * one call; returns how many, or an error.
 */
static int write_run(struct convert *job, struct lane *lane,
		     const struct piece *piece, size_t first)
{
	const struct placement *place = &lane->places[first];
	struct iovec iov[WRITE_VECTORS];
	uint64_t total = 0;
	int count = 0, ret;

	do {
		const struct placement *p = &place[count];

		/*
		 * The tail lies behind the end of the disk: the buffer, a
		 * whole chunk, holds zeros there (convert_copy_piece).
		 */
		iov[count].iov_base = lane->buf + (p->guest_off - piece->off);
		iov[count].iov_len = p->len + p->tail_len;
		total += iov[count].iov_len;
		count++;
	} while (count < WRITE_VECTORS &&
		 first + (size_t)count < lane->place_count &&
		 continues(&place[count - 1], &place[count]));
	ret = storage_writev(place->storage, iov, count, place->host_off);
	if (ret < 0)
		return ret;
	convert_wrote(job, place->storage, place->host_off, total);
	return count;
}

static int write_places(struct convert *job, struct lane *lane,
			const struct piece *piece)
{
	size_t done = 0;

	while (done < lane->place_count) {
		int ret = write_run(job, lane, piece, done);

		if (ret < 0)
			return ret;
		done += (size_t)ret;
	}
	return 0;
}

/* Writes and links what has been placed, or gives it all back. */
static int fill_places(struct convert *job, struct lane *lane,
		       const struct piece *piece, int ret)
{
	if (!ret)
		ret = write_places(job, lane, piece);
	if (ret < 0) {
		unplace_from(job, lane, 0);
		return ret;
	}
	return link_places(job, lane);
}

void convert_copy_piece(struct convert *job, struct lane *lane,
			const struct piece *piece)
{
	int ret = convert_read(job, lane, piece);

	if (!ret) /* the rest of the last cluster of the disk */
		memset(lane->buf + piece->len, 0,
		       align_up(piece->len, job->target->cluster_size) -
			       piece->len);
	convert_hash(job, lane, piece, ret == 0);
	if (!ret)
		ret = convert_scan(job, lane, piece);

	lane->place_count = 0;
	convert_turn_wait(job, piece);
	if (ret < 0 || convert_failed(job)) {
		convert_turn_pass(job, piece);
		return;
	}
	ret = place_segments(job, lane, piece);
	convert_turn_pass(job, piece);
	ret = fill_places(job, lane, piece, ret);
	if (ret < 0)
		convert_fail(job, ret, "writing", piece->off);
	else
		convert_progress(job, piece);
}

/* ---- sharing ---- */

static int share_place(const struct piece *piece, const struct placement *p)
{
	uint64_t skip = piece->skip + (p->guest_off - piece->off);

	return storage_clone(p->storage, p->host_off, piece->map.storage,
			     piece->map.host_off + skip, p->len);
}

/* By hand, through the buffer; the place stays. */
static int copy_place(struct convert *job, struct lane *lane,
		      const struct piece *piece, const struct placement *p)
{
	uint64_t done = 0;
	int ret = 0;

	while (done < p->len && !ret && !convert_failed(job)) {
		size_t n = min_u64(job->chunk_size, p->len - done);

		ret = image_read_mapping(piece->map_img, &piece->map,
					 piece->skip + p->guest_off -
						 piece->off + done,
					 lane->buf, n);
		if (!ret)
			ret = storage_write(p->storage, lane->buf, n,
					    p->host_off + done);
		done += n;
	}
	return ret;
}

static bool must_copy(int ret)
{
	return ret == -EOPNOTSUPP || ret == -EXDEV || ret == -EINVAL ||
	       ret == -EIO;
}

static int fill_shared(struct convert *job, struct lane *lane,
		       const struct piece *piece)
{
	for (size_t i = 0; i < lane->place_count; i++) {
		const struct placement *p = &lane->places[i];
		int ret = share_place(piece, p);

		if (must_copy(ret))
			ret = copy_place(job, lane, piece, p);
		if (!ret && p->tail_len > 0)
			ret = storage_zero(p->storage, p->host_off + p->len,
					   p->tail_len, 0);
		if (ret < 0) {
			unplace_from(job, lane, 0);
			return ret;
		}
	}
	return link_places(job, lane);
}

/*
 * Does sharing work at all? Found out in turn: if it does not the place goes
 * back, and the piece is copied as if nothing had been.
 */
static bool probe_sharing(struct convert *job, struct lane *lane,
			  const struct piece *piece, int placed)
{
	bool works = !placed && !must_copy(share_place(piece, lane->places));

	if (!works)
		unplace_from(job, lane, 0);
	convert_share_resolve(job, works);
	return works;
}

void convert_share_piece(struct convert *job, struct lane *lane,
			 const struct piece *piece)
{
	int ret = 0;

	lane->place_count = 0;
	convert_turn_wait(job, piece);
	if (!convert_failed(job))
		ret = place_range(job, lane, piece->off, piece->len);
	else
		ret = -ECANCELED;
	if (piece->probe && !probe_sharing(job, lane, piece, ret)) {
		/* The turn is still ours; copying passes it. */
		convert_copy_piece(job, lane, piece);
		return;
	}
	convert_turn_pass(job, piece);
	if (ret < 0)
		unplace_from(job, lane, 0);
	else
		ret = fill_shared(job, lane, piece);
	if (ret < 0)
		convert_fail(job, ret, "writing", piece->off);
	else
		convert_progress(job, piece);
}
