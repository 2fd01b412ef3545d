/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options of a command as a table: each row binds the letter and the long name
 * of one option to a variable. Several rows may share a variable, which is how
 * old and new spellings live side by side.
 *
 *	const char *format = NULL;
 *	bool share = false;
 *	const struct arg_def defs[] = {
 *		{ 'f', "format", ARG_TEXT, &format },
 *		{ 'U', "force-share", ARG_FLAG, &share },
 *		ARGS_END,
 *	};
 *	struct args args;
 *
 *	if (!args_parse(&args, ctx, argc, argv, defs))
 *		return args.status;
 *
 * Options may follow operands, long ones may be shortened, `--` ends them.
 * Every command takes --help, --object, --untrusted, --max-cpu, --max-memory,
 * --trust-dir and --no-trust-holes as well.
 */
#ifndef PLATTER_CLI_ARGS_H
#define PLATTER_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct command_context;

enum arg_kind {
	ARG_FLAG,     /* bool *: becomes true */
	ARG_TEXT,     /* const char **: the last one wins; points into argv */
	ARG_OPTIONAL, /* const char **: "" if given without a value */
	ARG_OPTIONS,  /* char **: joined by commas, the caller frees it */
	ARG_LIST,     /* struct arg_list *: all of them; the caller frees it */
	ARG_SIZE,     /* struct arg_size *: bytes or with a unit */
	ARG_OUTPUT,   /* bool *: true for json, false for human */
	ARG_PROGRESS, /* struct progress_wish * */
	ARG_PROGRESS_FD,
};

struct arg_def {
	char letter;	  /* 0: has no short form */
	const char *name; /* long form; NULL: has none */
	enum arg_kind kind;
	void *target;
	const char *what; /* ARG_SIZE: noun for messages, "image size" */
};

#define ARGS_END                              \
	{                                     \
		0, NULL, ARG_FLAG, NULL, NULL \
	}

/* `items` is malloc'ed, what it points to is argv's. */
struct arg_list {
	const char **items;
	size_t count;
};

struct arg_size {
	bool given;
	uint64_t bytes;
};

/* How a job's progress is to be shown; see progress-view.h. */
struct progress_wish {
	bool percent; /* -p */
	bool json;    /* --progress=json */
	int fd;	      /* --progress-fd, for json; 0: stderr */
};

/* The rows of a command that shows its progress. */
#define ARGS_PROGRESS(wish)                                     \
	{'p', "progress", ARG_PROGRESS, (wish), NULL},          \
	{                                                       \
		0, "progress-fd", ARG_PROGRESS_FD, (wish), NULL \
	}

struct args {
	int count; /* of operands */
	char **operands;
	int status; /* when args_parse() is false: the exit status */
};

/* False: the command ends here, all has been said. */
bool args_parse(struct args *args, struct command_context *ctx, int argc,
		char **argv, const struct arg_def *defs);

/*
 * The number in `text`: leading blanks are fine. False and a message that names
 * `what` if it is no size or not between `min` and `max`.
 */
bool args_size(const char *text, const char *what, uint64_t min, uint64_t max,
	       uint64_t *out);

/* Is there a lone `help` or `?` among the words of -o? `text` may be NULL. */
bool args_options_ask_help(const char *text);

#endif
