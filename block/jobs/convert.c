/* SPDX-License-Identifier: BSD-3-Clause */
/* The convert job: what it needs, its threads, and its end. See convert.h. */
#include "block/jobs/convert.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "block/bytes.h"
#include "block/clock.h"
#include "block/codec.h"
#include "block/jobs/content-hash.h"
#include "block/jobs/convert-private.h"
#include "block/jobs/workers.h"
#include "block/progress.h"
#include "block/storage.h"

/* What O_DIRECT may want of buffers. */
#define BUFFER_ALIGN 4096u
/*
 * Plain copies are bound by memory, so two threads do all that more could; with
 * O_DIRECT each waits for the disk, which wants many requests at once.
 */
#define THREADS_CACHED 2u
#define THREADS_DIRECT 8u
/* For targets without clusters: smaller holes are found by looking at bytes. */
#define GRAIN_MIN (64 * 1024u)

#define NS_PER_SEC 1000000000ull

/* ---- shared with the parts ---- */

void convert_fail(struct convert *job, int ret, const char *text, uint64_t off)
{
	assert(ret < 0);
	pthread_mutex_lock(&job->mutex);
	if (!convert_failed(job)) {
		job->ret = ret;
		if (ret == -ECANCELED)
			error_set(&job->error, ECANCELED, "cancelled");
		else
			error_set(&job->error, -ret,
				  "error while %s at byte %llu: %s", text,
				  (unsigned long long)off, strerror(-ret));
		atomic_store(&job->failed, true);
	}
	pthread_mutex_unlock(&job->mutex);
}

void convert_turn_wait(struct convert *job, const struct piece *piece)
{
	if (job->ordered)
		ticket_wait(&job->placing, piece->ticket);
}

void convert_turn_pass(struct convert *job, const struct piece *piece)
{
	if (job->ordered)
		ticket_pass(&job->placing, piece->ticket);
}

void convert_progress(struct convert *job, const struct piece *piece)
{
	if (piece->kind != PIECE_ZERO || !job->args->count_data)
		progress_advance(job->args->progress, piece->len);
}

/* ---- lanes ---- */

static void lane_release(struct lane *lane)
{
	codec_free(lane->codec);
	free(lane->vectors);
	free(lane->slots);
	free(lane->packed);
	free(lane->digests);
	free(lane->places);
	free(lane->segments);
	free(lane->base);
	free(lane->buf);
}

static int lane_init_pack(struct lane *lane, const struct convert *job)
{
	size_t clusters = job->chunk_size / job->target->cluster_size;

	lane->packed = malloc(job->chunk_size);
	lane->slots = calloc(clusters, sizeof(*lane->slots));
	lane->vectors = calloc(clusters, sizeof(*lane->vectors));
	if (!lane->packed || !lane->slots || !lane->vectors)
		return -ENOMEM;
	return codec_new(&lane->codec, &job->pack_params);
}

static int lane_init(struct lane *lane, const struct convert *job)
{
	const struct convert_args *args = job->args;

	lane->buf = aligned_alloc(BUFFER_ALIGN, job->chunk_size);
	lane->segments = calloc(job->unit_max, sizeof(*lane->segments));
	lane->places = calloc(job->place_max, sizeof(*lane->places));
	if (!lane->buf || !lane->segments || !lane->places)
		return -ENOMEM;
	if (args->target_state == CONVERT_TARGET_DIFFERENCE) {
		lane->base = aligned_alloc(BUFFER_ALIGN, job->chunk_size);
		if (!lane->base)
			return -ENOMEM;
	}
	if (args->hash) {
		lane->digests = malloc(job->chunk_size / CONTENT_HASH_BLOCK *
				       CONTENT_HASH_DIGEST);
		if (!lane->digests)
			return -ENOMEM;
	}
	return args->pack ? lane_init_pack(lane, job) : 0;
}

/* ---- working ---- */

/* Sleeps until the piece is due, in steps that let a wish to stop through. */
static void keep_pace(const struct convert *job, const struct piece *piece)
{
	const uint64_t step_ns = NS_PER_SEC / 10;
	uint64_t due, now;

	if (!job->args->rate)
		return;
	due = job->start_ns +
	      (uint64_t)((double)(piece->pace_bytes - piece->len) /
			 (double)job->args->rate * NS_PER_SEC);
	while ((now = clock_now_ns()) < due && !convert_failed(job) &&
	       !progress_cancelled(job->args->progress)) {
		struct timespec t = {
			.tv_nsec = (long)min_u64(due - now, step_ns),
		};

		clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
	}
}

static void zero_piece(struct convert *job, struct lane *lane,
		       const struct piece *piece)
{
	int ret = 0;

	convert_hash(job, lane, piece, true);
	convert_turn_wait(job, piece);
	if (job->zeroing && !convert_failed(job))
		ret = convert_zero(job, piece->off, piece->len);
	convert_turn_pass(job, piece);
	if (ret < 0)
		convert_fail(job, ret, "writing", piece->off);
	else
		convert_progress(job, piece);
}

static void convert_work(void *opaque)
{
	struct convert *job = opaque;
	struct lane lane = {0};
	struct piece piece;
	int ret = lane_init(&lane, job);

	if (ret < 0)
		convert_fail(job, ret, "preparing", 0);
	while (!ret && convert_take(job, &lane, &piece)) {
		keep_pace(job, &piece);
		if (piece.kind == PIECE_ZERO)
			zero_piece(job, &lane, &piece);
		else if (piece.kind == PIECE_SHARE)
			convert_share_piece(job, &lane, &piece);
		else if (job->args->pack)
			convert_pack_piece(job, &lane, &piece);
		else
			convert_copy_piece(job, &lane, &piece);
	}
	lane_release(&lane);
}

/* ---- set up ---- */

static bool uses_direct_io(const struct convert_args *args)
{
	bool direct = args->target->file->align > 1;

	for (size_t i = 0; i < args->source_count; i++)
		if (args->sources[i].img)
			direct =
				direct || args->sources[i].img->file->align > 1;
	return direct;
}

static unsigned thread_count(const struct convert_args *args)
{
	unsigned count = args->threads;

	if (!count && uses_direct_io(args))
		count = THREADS_DIRECT;
	else if (!count && args->pack)
		count = workers_cpu_count();
	else if (!count)
		count = THREADS_CACHED;
	return count < WORKERS_MAX ? count : WORKERS_MAX;
}

static bool based(const struct convert_args *args)
{
	return args->target_state == CONVERT_TARGET_SHARED ||
	       args->target_state == CONVERT_TARGET_DIFFERENCE;
}

/* In what steps the disk is cut, read and looked at. */
static void choose_sizes(struct convert *job)
{
	const struct convert_args *args = job->args;
	uint32_t cluster = job->target->cluster_size;
	uint32_t unit = min_u64(args->sparse_size, CONVERT_CHUNK);

	job->chunk_size = max_u64(CONVERT_CHUNK, cluster);
	/* Small holes come along, unless the base shows through them. */
	job->grain = based(args) ? cluster : max_u64(cluster, GRAIN_MIN);
	if (args->pack || args->target_state == CONVERT_TARGET_DIFFERENCE)
		unit = cluster;
	job->unit = align_up(max_u64(unit, cluster), cluster);
	job->unit_max = job->chunk_size / cluster;
	job->place_max = job->unit_max;
	job->share_max = CONVERT_SHARE_MAX;
	if (job->target->driver->reserve) {
		job->place_max = max_u64(job->place_max, CONVERT_PLACES_MAX);
		job->share_max = min_u64(CONVERT_SHARE_MAX,
					 (uint64_t)job->place_max * cluster);
	}
}

static int init_packing(struct convert *job, struct error *err)
{
	const struct convert_args *args = job->args;

	assert(job->target->driver->pack);
	job->target->driver->pack->params(job->target, &job->pack_params);
	job->pack_params.level = args->pack_level;
	if (args->pack_window_bits)
		job->pack_params.window_bits = args->pack_window_bits;
	return codec_params_check(&job->pack_params, err);
}

static int init_progress(struct convert *job, struct error *err)
{
	uint64_t total = job->size;
	int ret;

	if (job->args->progress && job->args->count_data) {
		ret = convert_count_data(job, &total);
		if (ret < 0 && !job->args->salvage)
			return error_set_errno(
				err, -ret,
				"error while reading the map of "
				"the source at byte %llu",
				(unsigned long long)job->run.end);
	}
	progress_total(job->args->progress, total);
	return 0;
}

static void check_args(const struct convert_args *args)
{
	assert(args->source_count > 0);
	assert(args->target->writable);
	assert(!based(args) || args->target->backing);
	assert(!args->hash || args->target_state != CONVERT_TARGET_SHARED);
	for (size_t i = 0; i < args->source_count; i++)
		assert(args->sources[i].img || args->source_count == 1);
}

int convert_size(const struct convert_source *sources, size_t count,
		 uint64_t *out)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++)
		if (add_overflows(sum, sources[i].len, &sum) ||
		    sum > IMAGE_SIZE_MAX)
			return -EFBIG;
	*out = sum;
	return 0;
}

static int run(struct convert *job, struct error *err)
{
	const struct convert_args *args = job->args;
	int ret = args->pack ? init_packing(job, err) : 0;

	if (!ret)
		ret = init_progress(job, err);
	if (ret < 0)
		return ret;
	job->start_ns = clock_now_ns();
	workers_run(thread_count(args), convert_work, job);
	if (!convert_failed(job))
		return 0;
	return error_set(err, -job->ret, "%s", job->error.message);
}

int convert_images(const struct convert_args *args, struct error *err)
{
	struct convert *job;
	int ret;

	check_args(args);
	job = calloc(1, sizeof(*job));
	if (!job)
		return error_set(err, ENOMEM, "out of memory");
	job->args = args;
	job->target = args->target;
	ret = convert_size(args->sources, args->source_count, &job->size);
	if (ret < 0 || job->size > args->target->size_bytes) {
		free(job);
		return error_set(err, EINVAL,
				 "output file is smaller than input file");
	}
	choose_sizes(job);
	job->ordered = args->target->driver->reserve || args->pack;
	job->zeroing = args->target_state != CONVERT_TARGET_ZERO;
	job->share = args->share && !args->pack && !args->hash &&
				     args->target_state !=
					     CONVERT_TARGET_DIFFERENCE &&
				     args->target->file->fd >= 0
			     ? SHARE_UNKNOWN
			     : SHARE_NEVER;
	pthread_mutex_init(&job->mutex, NULL);
	pthread_cond_init(&job->share_known, NULL);
	ticket_order_init(&job->placing);
	ticket_order_init(&job->hashing);

	ret = run(job, err);

	ticket_order_release(&job->hashing);
	ticket_order_release(&job->placing);
	pthread_cond_destroy(&job->share_known);
	pthread_mutex_destroy(&job->mutex);
	free(job);
	return ret;
}
