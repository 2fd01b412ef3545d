/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * io: small commands on an image, from -c or line by line from stdin. A link
 * named qemu-io runs it too. All commands are run, whatever became of those
 * before; the exit status tells whether any has failed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/command.h"
#include "cli/io.h"
#include "cli/message.h"

struct io_options {
	struct io_open_args open;
	struct arg_list commands;
	const char *format;
	const char *cache, *discard, *aio, *trace;
	bool no_cache, native_aio, misalign, copy_on_read, snapshot, version;
};

static bool check_words(struct io_options *opts)
{
	if (opts->no_cache)
		opts->open.cache = CACHE_NONE;
	if (!io_parse_cache(opts->cache, &opts->open.cache) ||
	    (opts->discard && !io_check_discard_word(opts->discard)) ||
	    (opts->aio && !io_check_aio_word(opts->aio)))
		return false;
	if (opts->snapshot)
		return io_refuse_snapshot();
	if (opts->open.image_opts && opts->format) {
		message_error("--image-opts and -f are mutually exclusive");
		return false;
	}
	return true;
}

static bool run_text(struct io_session *io, const char *text)
{
	char *line = strdup(text);
	bool good;

	if (!line) {
		message_error("Out of memory");
		return false;
	}
	good = io_run_line(io, line);
	free(line);
	return good;
}

static bool run_list(struct io_session *io, const struct arg_list *lines)
{
	bool good = true;

	for (size_t i = 0; i < lines->count && !io->quit; i++)
		good = run_text(io, lines->items[i]) && good;
	return good;
}

static bool run_stdin(struct io_session *io)
{
	char *line = NULL;
	size_t cap = 0;
	bool good = true;

	while (!io->quit) {
		ssize_t len;

		printf("%s> ", program_invocation_short_name);
		fflush(stdout);
		len = getline(&line, &cap, stdin);
		if (len < 0)
			break;
		if (len && line[len - 1] == '\n')
			line[len - 1] = '\0';
		good = io_run_line(io, line) && good;
	}
	free(line);
	return good;
}

static int run(struct command_context *ctx, const struct io_options *opts)
{
	struct io_session io = {.ctx = ctx};
	bool good;

	if (opts->open.name && !io_session_open(&io, &opts->open))
		return 1;
	if (opts->commands.count)
		good = run_list(&io, &opts->commands);
	else
		good = run_stdin(&io);
	good = io_session_close(&io) && good;
	io_open_args_release(&io.open);
	return good ? 0 : 1;
}

static int run_with(struct command_context *ctx, struct io_options *opts,
		    const struct args *args)
{
	if (opts->version) {
		command_print_version();
		return 0;
	}
	if (args->count > 1)
		return message_usage("Expecting one image file name");
	if (!check_words(opts))
		return 1;
	/* The session copies both. */
	opts->open.name = args->count ? args->operands[0] : NULL;
	opts->open.format = (char *)(uintptr_t)opts->format;
	return run(ctx, opts);
}

int command_io(struct command_context *ctx, int argc, char **argv)
{
	struct io_options opts = {.open.cache = CACHE_WRITEBACK};
	const struct arg_def defs[] = {
		{'f', "format", ARG_TEXT, &opts.format, NULL},
		{0, "image-opts", ARG_FLAG, &opts.open.image_opts, NULL},
		{'c', "cmd", ARG_LIST, &opts.commands, NULL},
		{'r', "read-only", ARG_FLAG, &opts.open.read_only, NULL},
		{'s', "snapshot", ARG_FLAG, &opts.snapshot, NULL},
		{'n', "nocache", ARG_FLAG, &opts.no_cache, NULL},
		{'C', "copy-on-read", ARG_FLAG, &opts.copy_on_read, NULL},
		{'m', "misalign", ARG_FLAG, &opts.misalign, NULL},
		{'k', "native-aio", ARG_FLAG, &opts.native_aio, NULL},
		{'i', "aio", ARG_TEXT, &opts.aio, NULL},
		{'t', "cache", ARG_TEXT, &opts.cache, NULL},
		{'d', "discard", ARG_TEXT, &opts.discard, NULL},
		{'T', "trace", ARG_TEXT, &opts.trace, NULL},
		{'U', "force-share", ARG_FLAG, &opts.open.force_share, NULL},
		{'V', "version", ARG_FLAG, &opts.version, NULL},
		ARGS_END,
	};
	struct args args;
	int status;

	if (args_parse(&args, ctx, argc, argv, defs))
		status = run_with(ctx, &opts, &args);
	else
		status = args.status;
	free((void *)opts.commands.items);
	return status;
}
