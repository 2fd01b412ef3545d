/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench: times a run of like requests.
 *
 * As many threads as the depth says take requests off one counter. Where a
 * flush is due the thread that comes to it waits for the requests under way
 * (unless told not to), flushes, and only then are further ones handed out.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "block/bytes.h"
#include "block/clock.h"
#include "block/image.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/io.h"
#include "cli/message.h"
#include "cli/open.h"

/* Threads; more would measure the scheduler. */
#define DEPTH_MAX 1024

struct bench_words {
	const char *count, *depth, *offset, *buffer, *step, *pattern;
	const char *flush_interval, *cache, *aio;
	bool native, quiet;
};

struct bench {
	struct open_request open;
	bool writes, no_drain;
	uint64_t count, depth, flush_interval;
	uint64_t offset, step, buffer_len;
	uint8_t pattern;

	struct image *img;
	uint8_t *pattern_buf; /* writes: what all of them write */

	/* The lock holds what follows. */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t next, in_flight;
	bool flushing;
	int error; /* the first one ends the run */
};

/* ---- the run ---- */

/* Starts at the offset, goes on in steps, and wraps before the disk's end. */
static uint64_t request_off(const struct bench *b, uint64_t index)
{
	uint64_t off = b->offset + index * b->step;

	if (!index)
		return off;
	if (b->img->size_bytes <= b->buffer_len)
		return 0;
	return off % (b->img->size_bytes - b->buffer_len);
}

static void fail(struct bench *b, int error)
{
	if (error < 0 && !b->error)
		b->error = error;
}

/* With the lock held, which is released while it flushes. */
static void flush_locked(struct bench *b)
{
	int ret;

	b->flushing = true;
	while (b->in_flight && !b->no_drain)
		pthread_cond_wait(&b->changed, &b->lock);
	pthread_mutex_unlock(&b->lock);
	ret = image_flush(b->img);
	pthread_mutex_lock(&b->lock);
	fail(b, ret);
	b->flushing = false;
	pthread_cond_broadcast(&b->changed);
}

/* False: there are no more. */
static bool take_request(struct bench *b, uint64_t *off)
{
	bool more;

	pthread_mutex_lock(&b->lock);
	while (b->flushing && !b->no_drain)
		pthread_cond_wait(&b->changed, &b->lock);
	more = b->next < b->count && !b->error;
	if (more) {
		uint64_t index = b->next++;

		*off = request_off(b, index);
		if (b->flush_interval && index &&
		    index % b->flush_interval == 0)
			flush_locked(b);
		b->in_flight++;
	}
	pthread_mutex_unlock(&b->lock);
	return more;
}

static void finish_request(struct bench *b, int result)
{
	pthread_mutex_lock(&b->lock);
	fail(b, result);
	b->in_flight--;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

static void *work(void *opaque)
{
	struct bench *b = opaque;
	uint8_t *buf = b->pattern_buf;
	uint64_t off;

	if (!b->writes)
		buf = aligned_alloc(4096, align_up(b->buffer_len + 1, 4096));
	while (take_request(b, &off)) {
		int ret;

		if (!buf)
			ret = -ENOMEM;
		else if (!range_inside(off, b->buffer_len, b->img->size_bytes))
			ret = -EIO;
		else if (b->writes)
			ret = image_write(b->img, buf, b->buffer_len, off);
		else
			ret = image_read(b->img, buf, b->buffer_len, off);
		finish_request(b, ret);
	}
	if (!b->writes)
		free(buf);
	return NULL;
}

static int run_threads(struct bench *b)
{
	uint64_t wanted = min_u64(b->depth, max_u64(b->count, 1));
	pthread_t *threads = calloc(wanted, sizeof(*threads));
	uint64_t started = 0;

	if (!threads)
		return -ENOMEM;
	while (started < wanted) {
		int ret = pthread_create(&threads[started], NULL, work, b);

		if (ret) {
			pthread_mutex_lock(&b->lock);
			fail(b, -ret);
			pthread_mutex_unlock(&b->lock);
			break;
		}
		started++;
	}
	for (uint64_t i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	free(threads);
	return b->error;
}

static int make_pattern(struct bench *b)
{
	if (!b->writes)
		return 0;
	b->pattern_buf = aligned_alloc(4096, align_up(b->buffer_len + 1, 4096));
	if (!b->pattern_buf)
		return -ENOMEM;
	memset(b->pattern_buf, b->pattern, b->buffer_len);
	return 0;
}

static void announce(const struct bench *b)
{
	printf("Sending %llu %s requests, %llu bytes each, %llu in parallel "
	       "(starting at offset %llu, step size %llu)\n",
	       (unsigned long long)b->count, b->writes ? "write" : "read",
	       (unsigned long long)b->buffer_len, (unsigned long long)b->depth,
	       (unsigned long long)b->offset, (unsigned long long)b->step);
	if (b->flush_interval)
		printf("Sending flush every %llu requests\n",
		       (unsigned long long)b->flush_interval);
}

static int run(struct command_context *ctx, struct bench *b)
{
	uint64_t start_ns, took_ns;
	int ret;

	b->img = open_image(ctx, &b->open);
	if (!b->img)
		return 1;
	announce(b);
	ret = make_pattern(b);
	start_ns = clock_now_ns();
	if (!ret)
		ret = run_threads(b);
	took_ns = clock_now_ns() - start_ns;
	free(b->pattern_buf);
	if (ret < 0)
		message_error("Failed request: %s", strerror(-ret));
	else
		printf("Run completed in %3.3f seconds.\n",
		       (double)took_ns / 1e9);
	return open_close(b->img) && !ret ? 0 : 1;
}

/* ---- the arguments ---- */

static bool parse_count(const char *text, const char *what, uint64_t min,
			uint64_t max, uint64_t *out)
{
	unsigned long long value;
	char *end;

	if (!text)
		return true;
	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno || end == text || *end || strchr(text, '-') || value < min ||
	    value > max) {
		message_error("Invalid %s specified", what);
		return false;
	}
	*out = value;
	return true;
}

static bool parse_size(const char *text, const char *what, uint64_t max,
		       uint64_t *out)
{
	return !text || args_size(text, what, 0, max, out);
}

static bool parse_modes(struct bench *b, const struct bench_words *words)
{
	if (words->aio && !io_check_aio_word(words->aio))
		return false;
	if (words->cache && cache_mode_parse(words->cache, &b->open.cache)) {
		message_error("Invalid cache mode");
		return false;
	}
	return true;
}

static bool parse_words(struct bench *b, const struct bench_words *words)
{
	uint64_t pattern = 0;

	if (!parse_count(words->count, "request count", 0, INT32_MAX,
			 &b->count) ||
	    !parse_count(words->depth, "queue depth", 1, DEPTH_MAX,
			 &b->depth) ||
	    !parse_size(words->offset, "offset", INT64_MAX, &b->offset) ||
	    !parse_size(words->buffer, "buffer size", INT32_MAX,
			&b->buffer_len) ||
	    !parse_size(words->step, "step_size", INT32_MAX, &b->step) ||
	    !parse_count(words->pattern, "pattern byte", 0, UINT8_MAX,
			 &pattern) ||
	    !parse_count(words->flush_interval, "flush interval", 0, INT32_MAX,
			 &b->flush_interval) ||
	    !parse_modes(b, words))
		return false;
	b->pattern = (uint8_t)pattern;
	if (!b->step)
		b->step = b->buffer_len;
	if (b->flush_interval && !b->writes) {
		message_error("--flush-interval is only available in write "
			      "tests");
		return false;
	}
	if (b->flush_interval && b->flush_interval < b->depth) {
		message_error("Flush interval can't be smaller than depth");
		return false;
	}
	return true;
}

int command_bench(struct command_context *ctx, int argc, char **argv)
{
	struct bench b = {
		.open.cache = CACHE_WRITEBACK,
		.count = 75000,
		.depth = 64,
		.buffer_len = 4096,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.changed = PTHREAD_COND_INITIALIZER,
	};
	struct bench_words words = {0};
	const struct arg_def defs[] = {
		{'f', "format", ARG_TEXT, &b.open.format, NULL},
		{0, "image-opts", ARG_FLAG, &b.open.image_opts, NULL},
		{'t', "cache", ARG_TEXT, &words.cache, NULL},
		{'c', "count", ARG_TEXT, &words.count, NULL},
		{'d', "depth", ARG_TEXT, &words.depth, NULL},
		{'o', "offset", ARG_TEXT, &words.offset, NULL},
		{'s', "buffer-size", ARG_TEXT, &words.buffer, NULL},
		{'S', "step-size", ARG_TEXT, &words.step, NULL},
		{'w', "write", ARG_FLAG, &b.writes, NULL},
		{0, "pattern", ARG_TEXT, &words.pattern, NULL},
		{0, "flush-interval", ARG_TEXT, &words.flush_interval, NULL},
		{0, "no-drain", ARG_FLAG, &b.no_drain, NULL},
		{'i', "aio", ARG_TEXT, &words.aio, NULL},
		{'n', "native", ARG_FLAG, &words.native, NULL},
		{'U', "force-share", ARG_FLAG, &b.open.force_share, NULL},
		{'q', "quiet", ARG_FLAG, &words.quiet, NULL},
		ARGS_END,
	};
	struct args args;

	if (!args_parse(&args, ctx, argc, argv, defs))
		return args.status;
	if (args.count != 1)
		return message_usage("Expecting one image file name");
	if (!parse_words(&b, &words))
		return 1;
	b.open.name = args.operands[0];
	b.open.flags = b.writes ? IMAGE_WRITE : 0;
	return run(ctx, &b);
}
