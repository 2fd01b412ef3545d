/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Cutting the disk into pieces: one pass over the sources' maps, in order.
 *
 * Where a piece starts and ends depends on guest offsets and on the maps, never
 * on which thread asks or when, as the layout of the target follows from the
 * pieces. The one thing that is found out on the way, whether extents can be
 * shared, is found out by the first piece that could be, and everybody waits
 * for it.
 */
#include "block/jobs/convert-private.h"

#include <assert.h>

#include "block/bytes.h"
#include "block/jobs/stream.h"
#include "block/progress.h"
#include "block/storage.h"

/* What file systems share: blocks, 4 KiB on all that can. */
#define SHARE_ALIGN 4096u
/* How much of the map is given up for one entry that cannot be read. */
#define SALVAGE_STEP (64 * 1024u)
/* A wish to stop is heard between zeroings of this size. */
#define ZERO_MAX (1024 * 1024 * 1024u)

/* ---- runs ---- */

static enum run_kind classify(const struct convert *job,
			      const struct mapping *map)
{
	const struct convert_args *args = job->args;
	bool based = args->target_state == CONVERT_TARGET_SHARED ||
		     args->target_state == CONVERT_TARGET_DIFFERENCE;

	if (map->kind == MAPPING_ZERO)
		return args->sparse_size > 0 || based ? RUN_ZERO : RUN_DATA;
	if (args->target_state == CONVERT_TARGET_SHARED &&
	    map->depth >= args->shared_depth)
		return RUN_BASE;
	return RUN_DATA;
}

/* Makes the source current that holds the target's offset `off` < size. */
static void enter_source(struct convert *job, uint64_t off)
{
	const struct convert_source *source =
		&job->args->sources[job->source_idx];

	while (off == job->source_base + source->len) {
		job->source_base += source->len;
		job->source_idx++;
		assert(job->source_idx < job->args->source_count);
		source++;
		job->walking = false;
	}
}

/* The run behind job->run. */
static int next_run(struct convert *job)
{
	struct run *run = &job->run;
	uint64_t off = run->end, source_off, left;
	int ret;

	enter_source(job, off);
	run->source = &job->args->sources[job->source_idx];
	run->kind = RUN_DATA;
	run->off = off;
	run->end = job->source_base + run->source->len;
	run->has_map = false;
	if (!run->source->img)
		return 0;

	left = run->end - off;
	source_off = run->source->off + run->source->len - left;
	if (!job->walking)
		image_walk_start(&job->walk, run->source->img, source_off, left,
				 0);
	job->walking = true;
	ret = image_walk_next(&job->walk, &run->map);
	if (ret < 0 && job->args->salvage) {
		/* Left to the reader, who salvages sector by sector. */
		run->end = off + min_u64(left, SALVAGE_STEP);
		job->walking = false;
		return 0;
	}
	if (ret < 0)
		return ret;
	if (run->map.len == 0 || run->map.len > left)
		return -EIO;
	run->end = off + run->map.len;
	run->kind = classify(job, &run->map);
	run->has_map = true;
	return 0;
}

/* Makes job->run the one that holds `off`. */
static int run_at(struct convert *job, uint64_t off)
{
	int ret = 0;

	assert(off < job->size);
	while (!ret && job->run.end <= off)
		ret = next_run(job);
	return ret;
}

/* How far whole grains from `off` on lie in the run, which holds `off`. */
static uint64_t whole_grains_end(const struct convert *job, uint64_t off)
{
	uint64_t end = job->run.end;

	if (end < job->size)
		end = align_down(end, job->grain);
	return end > off ? end : off;
}

/* ---- pieces ---- */

static void piece_from_run(struct piece *piece, const struct run *run)
{
	piece->has_map = run->has_map;
	piece->map = run->map;
	piece->map_img = run->source->img;
	piece->skip = piece->off - run->off;
}

static bool can_share(const struct convert *job, const struct piece *piece)
{
	const struct mapping *map = &piece->map;

	return job->share != SHARE_NEVER && piece->has_map &&
	       map->kind == MAPPING_DATA && !(map->flags & MAPPING_CIPHERED) &&
	       map->storage->fd >= 0 &&
	       is_aligned(map->host_off + piece->skip, SHARE_ALIGN);
}

/*
 * A hole of the file: it is shared as what it is. An explicit zero is not, for
 * what lies at its place may be anything.
 */
static bool is_file_hole(const struct run *run)
{
	return run->kind == RUN_ZERO && run->map.flags & MAPPING_HAS_HOST &&
	       !(run->map.flags & MAPPING_EXPLICIT);
}

/* Whether the target can do without a cluster where the hole is. */
static bool spares_cluster(const struct convert *job, const struct run *hole)
{
	uint64_t step = job->target->driver->reserve ? job->target->cluster_size
						     : job->grain;

	return align_up(hole->off, step) + step <= hole->end;
}

/* Whether `next` goes on in the same file where the run before it ends. */
static bool continues_shared(const struct convert *job,
			     const struct run *before, const struct run *next)
{
	const struct mapping *map = &next->map;

	if (next->source != before->source || !next->has_map ||
	    map->storage != before->map.storage ||
	    map->host_off != before->map.host_off + (before->end - before->off))
		return false;
	if (next->kind == RUN_DATA)
		return map->kind == MAPPING_DATA &&
		       !(map->flags & MAPPING_CIPHERED);
	return is_file_hole(next) && !spares_cluster(job, next);
}

/* Where the walk is; going back costs looking a run up again. */
struct walk_point {
	struct run run;
	size_t source_idx;
	uint64_t source_base;
};

static struct walk_point walk_point(const struct convert *job)
{
	return (struct walk_point){job->run, job->source_idx, job->source_base};
}

static void walk_back(struct convert *job, const struct walk_point *point)
{
	job->run = point->run;
	job->source_idx = point->source_idx;
	job->source_base = point->source_base;
	job->walking = false;
}

/*
 * Walks on while there is more to share, up to the limit or a little further.
 * What ends it may begin inside a grain, which then is copied as a whole: the
 * walk goes back to the run in which that grain starts.
 */
static uint64_t shared_end(struct convert *job, uint64_t limit)
{
	struct walk_point grain_start = walk_point(job);
	uint64_t end = job->run.end;

	while (end < limit) {
		const struct run before = job->run;

		if (run_at(job, end) < 0 ||
		    !continues_shared(job, &before, &job->run)) {
			walk_back(job, &grain_start);
			break;
		}
		end = job->run.end;
		if (align_down(end, job->grain) >= job->run.off)
			grain_start = walk_point(job);
	}
	return end;
}

/* A piece of one file, larger than what would be copied at a time. */
static bool take_shareable(struct convert *job, struct piece *piece)
{
	uint64_t max =
		job->share == SHARE_UNKNOWN ? CONVERT_CHUNK : job->share_max;
	uint64_t end, limit;

	if (!can_share(job, piece))
		return false;
	limit = min_u64(align_down(piece->off + max, job->grain), job->size);
	end = min_u64(shared_end(job, limit), limit);
	if (end < job->size)
		end = align_down(end, job->grain);
	if (end <= piece->off)
		return false;
	piece->kind = PIECE_SHARE;
	piece->len = end - piece->off;
	piece->map.len = piece->skip + piece->len;
	if (job->share == SHARE_UNKNOWN) {
		piece->probe = true;
		job->share = SHARE_PROBING;
	}
	return true;
}

/*
 * Data up to the end of the chunk, or to the next whole grain of anything else.
 * What is smaller than a grain comes along, and is sorted out by looking at the
 * bytes.
 */
static int take_copied(struct convert *job, struct piece *piece)
{
	uint64_t chunk_end =
		align_down(piece->off, job->chunk_size) + job->chunk_size;
	uint64_t limit = min_u64(chunk_end, job->size);
	uint64_t end = piece->off;
	int ret;

	piece->kind = PIECE_COPY;
	while (end < limit) {
		ret = run_at(job, end);
		if (ret < 0)
			return ret;
		if (job->run.kind != RUN_DATA &&
		    whole_grains_end(job, end) > end)
			break;
		/* Up to the grain in which the run ends, walking through it. */
		end = min_u64(limit, align_up(end + 1, job->grain));
		if (job->run.kind == RUN_DATA)
			end = max_u64(end, min_u64(limit,
						   whole_grains_end(job, end)));
		if (job->run.off > piece->off || job->run.end < end)
			piece->has_map = false;
	}
	piece->len = end - piece->off;
	return 0;
}

/* A stream is read here, under the lock: it has one order only. */
static int take_streamed(struct convert *job, struct lane *lane,
			 struct piece *piece)
{
	uint64_t end =
		align_down(piece->off, job->chunk_size) + job->chunk_size;
	int64_t got;

	piece->kind = PIECE_COPY;
	piece->streamed = true;
	piece->len = min_u64(end, job->run.end) - piece->off;
	got = stream_read(job->run.source->stream, lane->buf, piece->len);
	if (got < 0)
		return (int)got;
	return (uint64_t)got == piece->len ? 0 : -ENODATA;
}

/*
 * The next piece that there is something to do for. False: at the end, or
 * nothing but what needs no doing is left.
 */
static int take_locked(struct convert *job, struct lane *lane,
		       struct piece *piece, bool *taken)
{
	*taken = false;
	while (job->off < job->size) {
		uint64_t end;
		int ret = run_at(job, job->off);

		if (ret < 0)
			return ret;
		*piece = (struct piece){.off = job->off};
		if (!job->run.source->img)
			ret = take_streamed(job, lane, piece);
		else if (job->run.kind != RUN_DATA &&
			 (end = whole_grains_end(job, job->off)) > job->off) {
			piece->kind = PIECE_ZERO;
			piece->len = min_u64(end - job->off, ZERO_MAX);
		} else {
			piece_from_run(piece, &job->run);
			if (!take_shareable(job, piece))
				ret = take_copied(job, piece);
		}
		if (ret < 0)
			return ret;
		job->off += piece->len;
		if (piece->kind != PIECE_ZERO || job->args->hash ||
		    (job->zeroing && job->run.kind == RUN_ZERO)) {
			*taken = true;
			return 0;
		}
		convert_progress(job, piece);
	}
	return 0;
}

bool convert_take(struct convert *job, struct lane *lane, struct piece *piece)
{
	bool taken = false;
	uint64_t off;
	int ret = 0;

	pthread_mutex_lock(&job->mutex);
	while (job->share == SHARE_PROBING)
		pthread_cond_wait(&job->share_known, &job->mutex);
	if (progress_cancelled(job->args->progress))
		ret = -ECANCELED;
	else if (!convert_failed(job))
		ret = take_locked(job, lane, piece, &taken);
	if (taken) {
		piece->ticket = job->tickets++;
		if (piece->kind != PIECE_ZERO)
			job->pace_bytes += piece->len;
		piece->pace_bytes = job->pace_bytes;
	}
	off = job->off;
	pthread_mutex_unlock(&job->mutex);
	if (ret < 0)
		convert_fail(job, ret, "reading", off);
	return taken;
}

void convert_share_resolve(struct convert *job, bool works)
{
	pthread_mutex_lock(&job->mutex);
	job->share = works ? SHARE_WORKS : SHARE_NEVER;
	pthread_cond_broadcast(&job->share_known);
	pthread_mutex_unlock(&job->mutex);
}

/* ---- counting ---- */

/* Pieces cover each grain that holds data once, and so does this. */
int convert_count_data(struct convert *job, uint64_t *out)
{
	uint64_t counted_end = 0;
	int ret = 0;

	*out = 0;
	while (job->run.end < job->size) {
		uint64_t from, end;

		ret = next_run(job);
		if (ret < 0)
			break;
		if (job->run.kind != RUN_DATA)
			continue;
		from = max_u64(counted_end,
			       align_down(job->run.off, job->grain));
		end = min_u64(job->size, align_up(job->run.end, job->grain));
		if (end > from)
			*out += end - from;
		counted_end = max_u64(counted_end, end);
	}
	job->source_idx = 0;
	job->source_base = 0;
	job->walking = false;
	job->run = (struct run){0};
	return ret;
}
