/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * aio_read and aio_write: each request has a thread of its own, so that
 * overlapping requests really meet in the block layer. As in qemu-io a request
 * that fails says so, but its command has succeeded.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "block/bytes.h"
#include "cli/io.h"

/* More wait for the oldest: bounds threads and memory. */
#define JOBS_MAX	32u
#define PATTERN_DEFAULT 0xcd

struct io_job {
	pthread_t thread;
	struct image *img;
	struct io_request req;
	bool writes;
};

struct io_jobs {
	struct io_job *jobs[JOBS_MAX]; /* a ring, oldest at `first` */
	size_t first, count;
};

static void *run_job(void *opaque)
{
	struct io_job *job = opaque;

	if (job->writes)
		io_do_write(job->img, &job->req, "aio_write");
	else
		io_do_read(job->img, &job->req, "readv");
	return NULL;
}

static void join_oldest(struct io_jobs *jobs)
{
	struct io_job *job = jobs->jobs[jobs->first];

	pthread_join(job->thread, NULL);
	free(job);
	jobs->first = (jobs->first + 1) % JOBS_MAX;
	jobs->count--;
}

void io_jobs_wait(struct io_session *io)
{
	if (!io->jobs)
		return;
	while (io->jobs->count)
		join_oldest(io->jobs);
	free(io->jobs);
	io->jobs = NULL;
}

static bool start_job(struct io_session *io, const struct io_request *req,
		      bool writes)
{
	struct io_jobs *jobs = io->jobs;
	struct io_job *job = malloc(sizeof(*job));
	int ret;

	if (!jobs)
		jobs = io->jobs = calloc(1, sizeof(*jobs));
	if (!jobs || !job) {
		free(job);
		return io_failed(writes ? "aio_write" : "aio_read", -ENOMEM);
	}
	if (jobs->count == JOBS_MAX)
		join_oldest(jobs);
	*job = (struct io_job){.img = io->img, .req = *req, .writes = writes};
	ret = pthread_create(&job->thread, NULL, run_job, job);
	if (ret) {
		free(job);
		return io_failed(writes ? "aio_write" : "aio_read", -ret);
	}
	jobs->jobs[(jobs->first + jobs->count++) % JOBS_MAX] = job;
	return true;
}

bool io_aio_flush(struct io_session *io, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	io_jobs_wait(io);
	return true;
}

struct aio_words {
	struct io_request req;
	bool invalid; /* -i: only pretend */
};

static bool take_option(int opt, struct aio_words *out)
{
	struct io_request *req = &out->req;

	switch (opt) {
	case 'C':
		req->compact = true;
		break;
	case 'f':
		req->durable = true;
		break;
	case 'i':
		out->invalid = true;
		break;
	case 'P':
		req->verify = true;
		return io_parse_pattern(optarg, &req->pattern);
	case 'q':
		req->quiet = true;
		break;
	case 'u':
		req->unmap = true;
		break;
	case 'v':
		req->dump = true;
		break;
	case 'z':
		req->zero = true;
		break;
	default:
		return false;
	}
	return true;
}

static bool parse_place(struct aio_words *words, char **texts, int count)
{
	if (!io_parse_number(texts[0], &words->req.off) ||
	    !io_parse_vector(texts + 1, count - 1, &words->req.len))
		return false;
	words->req.verify_len = words->req.len;
	return true;
}

bool io_aio_read(struct io_session *io, int argc, char **argv)
{
	struct aio_words words = {0};
	int opt;

	optind = 0;
	while ((opt = getopt(argc, argv, "CP:iqv")) != -1) {
		if (opt == '?')
			return io_usage("aio_read");
		if (!take_option(opt, &words))
			return false;
	}
	if (words.invalid) {
		puts("injecting invalid read request");
		return true;
	}
	if (optind > argc - 2)
		return io_usage("aio_read");
	return parse_place(&words, argv + optind, argc - optind) &&
	       start_job(io, &words.req, false);
}

static const char *aio_write_conflict(const struct aio_words *words, int count)
{
	if (words->req.unmap && !words->req.zero)
		return "-u requires -z to be specified";
	if (words->req.zero && count != 2)
		return "-z supports only a single length parameter";
	return NULL;
}

bool io_aio_write(struct io_session *io, int argc, char **argv)
{
	struct aio_words words = {.req.pattern = PATTERN_DEFAULT};
	const char *conflict;
	int opt;

	optind = 0;
	while ((opt = getopt(argc, argv, "CfiP:quz")) != -1) {
		if (opt == '?')
			return io_usage("aio_write");
		if (!take_option(opt, &words))
			return false;
	}
	if (optind > argc - 2)
		return io_usage("aio_write");
	conflict = aio_write_conflict(&words, argc - optind);
	if (conflict) {
		puts(conflict);
		return false;
	}
	if (words.invalid) {
		puts("injecting invalid write request");
		return true;
	}
	return parse_place(&words, argv + optind, argc - optind) &&
	       start_job(io, &words.req, true);
}
