/* SPDX-License-Identifier: BSD-3-Clause */
/* The commands of `platter io` that open an image or change it as a whole. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/error.h"
#include "cli/io.h"
#include "cli/message.h"
#include "cli/open.h"

static bool is_one_of(const char *word, const char *const *words)
{
	for (; *words; words++)
		if (!strcmp(word, *words))
			return true;
	return false;
}

bool io_check_discard_word(const char *word)
{
	static const char *const words[] = {"ignore", "off", "unmap", "on",
					    NULL};

	if (is_one_of(word, words))
		return true;
	message_error("Invalid discard option: %s", word);
	return false;
}

bool io_check_aio_word(const char *word)
{
	static const char *const words[] = {"threads", "native", "io_uring",
					    NULL};

	if (is_one_of(word, words))
		return true;
	message_error("Invalid aio option: %s", word);
	return false;
}

bool io_parse_cache(const char *word, enum cache_mode *out)
{
	return open_cache_mode(word, "cache option", out);
}

bool io_refuse_snapshot(void)
{
	message_error("A temporary snapshot (-s) is not supported; create an "
		      "overlay of the image instead");
	return false;
}

/* False: it is no option of open, or its value is wrong. */
static bool take_open_option(int opt, struct io_open_args *args)
{
	switch (opt) {
	case 'r':
		args->read_only = true;
		return true;
	case 'U':
		args->force_share = true;
		return true;
	case 'n':
		args->cache = CACHE_NONE;
		return true;
	case 't':
		return io_parse_cache(optarg, &args->cache);
	case 'd':
		return io_check_discard_word(optarg);
	case 'i':
		return io_check_aio_word(optarg);
	case 's':
		return io_refuse_snapshot();
	case 'o':
		args->options = optarg;
		return true;
	case 'C':
	case 'k':
		return true;
	default:
		return io_usage("open");
	}
}

bool io_open(struct io_session *io, int argc, char **argv)
{
	struct io_open_args args = {.cache = CACHE_WRITEBACK};
	int opt;

	optind = 0;
	while ((opt = getopt(argc, argv, "snCro:ki:t:d:U")) != -1)
		if (!take_open_option(opt, &args))
			return false;
	if (optind == argc - 1) {
		args.name = argv[optind];
	} else if (optind < argc) {
		return io_usage("open");
	} else if (!args.options) {
		message_error("can't open: Must specify either driver or file");
		return false;
	}
	return io_session_open(io, &args);
}

/* ---- reopen ---- */

struct reopen_words {
	bool read_only, writable;
	const char *cache, *options;
};

static bool parse_reopen(int argc, char **argv, struct reopen_words *out)
{
	int opt;

	optind = 0;
	while ((opt = getopt(argc, argv, "c:o:rw")) != -1) {
		switch (opt) {
		case 'c':
			out->cache = optarg;
			break;
		case 'o':
			out->options = optarg;
			break;
		case 'r':
			out->read_only = true;
			break;
		case 'w':
			out->writable = true;
			break;
		default:
			return io_usage("reopen");
		}
	}
	if (optind != argc)
		return io_usage("reopen");
	if (out->read_only && out->writable) {
		message_error("Only one -r/-w option may be given");
		return false;
	}
	return true;
}

/*
 * Closes and opens with `changed`; if that fails, the image is opened as it
 * was.
 */
static bool reopen_with(struct io_session *io,
			const struct io_open_args *changed)
{
	struct io_open_args before = io->open;
	bool good = io_session_close(io);

	/* The session's texts stay alive until something else is open. */
	io->open = (struct io_open_args){0};
	if (!io_session_open(io, changed)) {
		good = false;
		io_session_open(io, &before);
	}
	io_open_args_release(&before);
	return good;
}

bool io_reopen(struct io_session *io, int argc, char **argv)
{
	struct reopen_words words = {0};
	struct io_open_args changed = io->open;
	char *options = NULL;
	bool good;

	if (!parse_reopen(argc, argv, &words) ||
	    !io_parse_cache(words.cache, &changed.cache))
		return false;
	if (words.read_only || words.writable)
		changed.read_only = words.read_only;
	if (words.options) {
		const char *old = changed.options;

		if (asprintf(&options, "%s%s%s", old ? old : "", old ? "," : "",
			     words.options) < 0) {
			message_error("Out of memory");
			return false;
		}
		changed.options = options;
	}
	good = reopen_with(io, &changed);
	free(options);
	return good;
}

/* ---- truncate ---- */

bool io_truncate(struct io_session *io, int argc, char **argv)
{
	enum prealloc_mode mode = PREALLOC_OFF;
	struct error err = {0};
	uint64_t size;
	int opt;

	optind = 0;
	while ((opt = getopt(argc, argv, "m:")) != -1) {
		if (opt != 'm')
			return io_usage("truncate");
		if (!open_prealloc_mode(optarg, &mode))
			return false;
	}
	if (optind != argc - 1)
		return io_usage("truncate");
	if (!io_parse_number(argv[optind], &size))
		return false;
	io_jobs_wait(io);
	if (image_resize(io->img, size, mode, true, &err) < 0) {
		message_error("%s", err.message);
		return false;
	}
	return true;
}
