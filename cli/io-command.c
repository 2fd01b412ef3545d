/* SPDX-License-Identifier: BSD-3-Clause */
/* The commands of `platter io`: their table, lines, and help. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/io.h"
#include "cli/message.h"

/* Longer vectors are cut off with a message; qemu-io's own limit is similar. */
#define WORDS_MAX 128

/* Sorted by name, as help prints them; ended by a NULL name. */
static const struct io_command io_commands[];

/* ---- the small ones ---- */

bool io_quit(struct io_session *io, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	io->quit = true;
	return true;
}

bool io_flush(struct io_session *io, int argc, char **argv)
{
	int ret = image_flush(io->img);

	(void)argc;
	return ret < 0 ? io_failed(argv[0], ret) : true;
}

bool io_sleep(struct io_session *io, int argc, char **argv)
{
	char *end;
	long ms = strtol(argv[1], &end, 0);
	struct timespec rest = {.tv_sec = ms / 1000,
				.tv_nsec = ms % 1000 * 1000000};

	(void)io;
	(void)argc;
	if (end == argv[1] || *end || ms < 0 || ms > INT32_MAX) {
		printf("%s is not a valid number\n", argv[1]);
		return false;
	}
	fflush(stdout);
	while (nanosleep(&rest, &rest)) {
	}
	return true;
}

bool io_sigraise(struct io_session *io, int argc, char **argv)
{
	char *end;
	long number = strtol(argv[1], &end, 0);

	(void)io;
	(void)argc;
	if (end == argv[1] || *end || number < 1 || number > SIGRTMAX) {
		printf("%s is not a valid signal number\n", argv[1]);
		return false;
	}
	/* What was printed is known to whoever looks at the remains. */
	fflush(stdout);
	raise((int)number);
	return true;
}

/* ---- help ---- */

static const struct io_command *find(const char *name)
{
	for (const struct io_command *c = io_commands; c->name; c++)
		if (!strcmp(c->name, name) ||
		    (c->alias && !strcmp(c->alias, name)))
			return c;
	return NULL;
}

static void print_line(const struct io_command *c, const char *name)
{
	printf("%s%s%s -- %s\n", name, c->synopsis ? " " : "",
	       c->synopsis ? c->synopsis : "", c->summary);
}

bool io_usage(const char *name)
{
	const struct io_command *c = find(name);

	print_line(c, c->name);
	return false;
}

bool io_help(struct io_session *io, int argc, char **argv)
{
	const struct io_command *c;

	(void)io;
	if (argc == 1) {
		for (c = io_commands; c->name; c++)
			print_line(c, c->name);
		puts("\nUse 'help commandname' for extended help.");
		return true;
	}
	c = find(argv[1]);
	if (!c) {
		printf("command %s not found\n", argv[1]);
		return false;
	}
	print_line(c, argv[1]);
	if (c->help)
		puts(c->help);
	return true;
}

/* ---- the table ---- */

#define COMMON_HELP                                \
	" -C, -- report statistics for programs\n" \
	" -q, -- do not report statistics\n"

static const char read_help[] =
	"\n Reads a range, 'read -v 512 1k' say.\n"
	" -P, -- verify that every byte is this pattern\n"
	" -s, -- verify only from here on, counted from the start (with -P)\n"
	" -l, -- verify only so many bytes (with -P)\n"
	" -v, -- dump what was read\n" COMMON_HELP " -a, -p, -- no effect";

static const char readv_help[] =
	"\n Reads a range whose length is the sum of all that are given.\n"
	" -P, -- verify that every byte is this pattern\n"
	" -v, -- dump what was read\n" COMMON_HELP;

static const char write_help[] =
	"\n Writes a range, 'write -P 0x55 512 1k' say, with bytes of 0xcd "
	"unless told else.\n"
	" -P, -- the byte to write\n"
	" -s, -- write what is in this file, again and again\n"
	" -c, -- write compressed clusters\n"
	" -z, -- write zeros the cheap way\n"
	" -u, -- with -z, space may be given back\n"
	" -n, -- with -z, lengths above 2 GiB are fine\n"
	" -f, -- be durable before reporting\n" COMMON_HELP " -p, -- no effect";

static const char writev_help[] =
	"\n Writes a range whose length is the sum of all that are given.\n"
	" -P, -- the byte to write\n"
	" -f, -- be durable before reporting\n" COMMON_HELP;

static const char aio_help[] =
	"\n The same as without aio_, but on a thread of its own. aio_flush "
	"waits for\n all that are under way. Failures are reported but do not "
	"count.";

static const char discard_help[] = "\n Tells that the data of a range is not "
				   "needed any more.\n" COMMON_HELP;

static const char open_help[] =
	"\n Opens an image for the commands that follow.\n"
	" -r, -- read-only\n"
	" -U, -- do not lock it (with -r)\n"
	" -n, -- bypass the page cache, short for -t none\n"
	" -t, -- cache mode\n"
	" -o, -- options of the format, a=b,c=d\n"
	" -d, -i, -k, -- checked, no effect";

static const char reopen_help[] = "\n Closes the image and opens it anew.\n"
				  " -r, -w, -- read-only, or for writing\n"
				  " -c, -- cache mode\n"
				  " -o, -- options of the format, a=b,c=d";

#define RANGE_ARGS "off len"
#define READ_ARGS  "[-abCqv] [-P pattern [-s off] [-l len]] " RANGE_ARGS
#define WRITE_ARGS "[-bcCfnquz] [-P pattern | -s source_file] " RANGE_ARGS

static const struct io_command io_commands[] = {
	{"aio_flush", NULL, io_aio_flush, 0, 0, 0, NULL,
	 "completes all outstanding aio requests", NULL},
	{"aio_read", NULL, io_aio_read, 2, 0, IO_ANY_ARGS,
	 "[-Ciqv] [-P pattern] off len [len..]",
	 "asynchronously reads a number of bytes", aio_help},
	{"aio_write", NULL, io_aio_write, 2, 0, IO_ANY_ARGS | IO_WRITES,
	 "[-Cfiquz] [-P pattern] off len [len..]",
	 "asynchronously writes a number of bytes", aio_help},
	{"alloc", "a", io_alloc, 1, 2, 0, "offset [count]",
	 "checks if offset is allocated in the file", NULL},
	{"close", "c", io_close, 0, 0, 0, NULL, "close the current open file",
	 NULL},
	{"discard", "d", io_discard, 2, 0, IO_ANY_ARGS | IO_WRITES,
	 "[-Cq] " RANGE_ARGS,
	 "discards a number of bytes at a specified offset", discard_help},
	{"flush", "f", io_flush, 0, 0, 0, NULL,
	 "flush all in-core file state to disk", NULL},
	{"help", "?", io_help, 0, 1, IO_NO_IMAGE, "[command]",
	 "help for one or all commands", NULL},
	{"info", "i", io_info, 0, 0, 0, NULL,
	 "prints information about the current file", NULL},
	{"length", "l", io_length, 0, 0, 0, NULL,
	 "gets the length of the current file", NULL},
	{"map", NULL, io_map, 0, 0, 0, "",
	 "prints the allocated areas of a file", NULL},
	{"open", "o", io_open, 1, 0, IO_ANY_ARGS | IO_NO_IMAGE,
	 "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]",
	 "open the file specified by path", open_help},
	{"quit", "q", io_quit, 0, 0, IO_ANY_ARGS | IO_NO_IMAGE, NULL,
	 "exit the program", NULL},
	{"read", "r", io_read, 2, 0, IO_ANY_ARGS, READ_ARGS,
	 "reads a number of bytes at a specified offset", read_help},
	{"readv", NULL, io_readv, 2, 0, IO_ANY_ARGS,
	 "[-Cqv] [-P pattern] off len [len..]",
	 "reads a number of bytes at a specified offset", readv_help},
	{"reopen", NULL, io_reopen, 0, 0, IO_ANY_ARGS,
	 "[(-r|-w)] [-c cache] [-o options]",
	 "reopens an image with new options", reopen_help},
	{"sigraise", NULL, io_sigraise, 1, 1, IO_NO_IMAGE, "signal",
	 "raises a signal", NULL},
	{"sleep", NULL, io_sleep, 1, 1, IO_NO_IMAGE, NULL,
	 "waits for the given value in milliseconds", NULL},
	{"truncate", "t", io_truncate, 1, 3, IO_WRITES,
	 "[-m prealloc_mode] off",
	 "truncates the current file at the given offset", NULL},
	{"write", "w", io_write, 2, 0, IO_ANY_ARGS | IO_WRITES, WRITE_ARGS,
	 "writes a number of bytes at a specified offset", write_help},
	{"writev", NULL, io_writev, 2, 0, IO_ANY_ARGS | IO_WRITES,
	 "[-Cfq] [-P pattern] off len [len..]",
	 "writes a number of bytes at a specified offset", writev_help},
	{NULL, NULL, NULL, 0, 0, 0, NULL, NULL, NULL},
};

/* ---- running a line ---- */

static bool check_count(const struct io_command *c, const char *name, int count)
{
	if (count >= c->args_min &&
	    (count <= c->args_max || (c->flags & IO_ANY_ARGS)))
		return true;
	fprintf(stderr, "bad argument count %d to %s, expected ", count, name);
	if (c->flags & IO_ANY_ARGS)
		fprintf(stderr, "at least %d arguments\n", c->args_min);
	else if (c->args_min == c->args_max)
		fprintf(stderr, "%d arguments\n", c->args_min);
	else
		fprintf(stderr, "between %d and %d arguments\n", c->args_min,
			c->args_max);
	return false;
}

static bool check_image(const struct io_session *io, const struct io_command *c)
{
	if (c->flags & IO_NO_IMAGE)
		return true;
	if (!io->img) {
		fputs("no file open, try 'help open'\n", stderr);
		return false;
	}
	if ((c->flags & IO_WRITES) && !io->img->writable) {
		message_error("Block node is read-only");
		return false;
	}
	return true;
}

static bool run_words(struct io_session *io, int argc, char **argv)
{
	const struct io_command *c = find(argv[0]);

	if (!c) {
		fprintf(stderr, "command \"%s\" not found\n", argv[0]);
		return false;
	}
	return check_count(c, argv[0], argc - 1) && check_image(io, c) &&
	       c->run(io, argc, argv);
}

bool io_run_line(struct io_session *io, char *line)
{
	char *argv[WORDS_MAX + 1];
	char *rest = line, *word;
	int argc = 0;

	while ((word = strtok_r(rest, " ", &rest))) {
		if (argc == WORDS_MAX) {
			fprintf(stderr, "more than %d words in a line\n",
				WORDS_MAX);
			return false;
		}
		argv[argc++] = word;
	}
	argv[argc] = NULL;
	/* Both streams tell the story in order. */
	fflush(stdout);
	return argc == 0 || run_words(io, argc, argv);
}
