/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tables of args.h, turned into what getopt_long() wants.
 *
 * Long options come back as LONG_BASE plus their row, short ones as their
 * letter. This file cannot include block/options.h: getopt has a struct option
 * of its own.
 */
#include "cli/args.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/guard.h"
#include "cli/message.h"
#include "cli/object.h"

#define ROWS_MAX  48
#define LONG_BASE 256

enum {
	OPT_HELP = LONG_BASE + ROWS_MAX,
	OPT_OBJECT,
	OPT_UNTRUSTED,
	OPT_MAX_CPU,
	OPT_MAX_MEMORY,
	OPT_TRUST,
	OPT_DISTRUST_HOLES,
};

/* Of block/options.h, which cannot be included here. */
int size_parse(const char *text, uint64_t *out);

struct getopt_table {
	const struct arg_def *defs;
	char letters[2 * ROWS_MAX + 8];
	struct option longs[ROWS_MAX + 16];
};

static bool takes_value(enum arg_kind kind)
{
	return kind != ARG_FLAG && kind != ARG_PROGRESS && kind != ARG_OPTIONAL;
}

static int value_mode(enum arg_kind kind)
{
	if (kind == ARG_PROGRESS || kind == ARG_OPTIONAL)
		return optional_argument;
	return takes_value(kind) ? required_argument : no_argument;
}

static void table_build(struct getopt_table *table, const struct arg_def *defs)
{
	static const struct option common[] = {
		{"help", no_argument, NULL, OPT_HELP},
		{"object", required_argument, NULL, OPT_OBJECT},
		{"untrusted", optional_argument, NULL, OPT_UNTRUSTED},
		{"max-cpu", required_argument, NULL, OPT_MAX_CPU},
		{"max-memory", required_argument, NULL, OPT_MAX_MEMORY},
		{"trust-dir", required_argument, NULL, OPT_TRUST},
		{"no-trust-holes", no_argument, NULL, OPT_DISTRUST_HOLES},
		{NULL, 0, NULL, 0},
	};
	struct option *row = table->longs;
	char *letter = table->letters;
	int i;

	table->defs = defs;
	*letter++ = ':';
	*letter++ = 'h';
	for (i = 0; defs[i].target; i++) {
		assert(i < ROWS_MAX);
		if (defs[i].letter) {
			*letter++ = defs[i].letter;
			if (takes_value(defs[i].kind))
				*letter++ = ':';
		}
		if (defs[i].name)
			*row++ = (struct option){defs[i].name,
						 value_mode(defs[i].kind), NULL,
						 LONG_BASE + i};
	}
	*letter = '\0';
	memcpy(row, common, sizeof(common));
}

/* getopt answers only what the table holds, so there is such a row. */
static const struct arg_def *row_of(const struct getopt_table *table, int opt)
{
	const struct arg_def *def = table->defs;

	if (opt >= LONG_BASE)
		return &def[opt - LONG_BASE];
	while (def->target && def->letter != opt)
		def++;
	assert(def->target);
	return def;
}

/* Every comma that is no separator is doubled; no word may be empty. */
static bool well_formed_options(const char *text)
{
	size_t len = strlen(text);

	if (len == 0 || (text[0] == ',' && text[1] != ','))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] != ',')
			continue;
		if (i + 1 == len)
			return false;
		if (text[i + 1] == ',')
			i++;
	}
	return true;
}

static bool append_options(char **joined, const char *text)
{
	char *longer;

	if (!well_formed_options(text)) {
		message_error("Invalid option list: %s", text);
		return false;
	}
	if (asprintf(&longer, "%s%s%s", *joined ? *joined : "",
		     *joined ? "," : "", text) < 0) {
		message_error("Out of memory");
		return false;
	}
	free(*joined);
	*joined = longer;
	return true;
}

static bool append_item(struct arg_list *list, const char *text)
{
	const char **longer = reallocarray((void *)list->items, list->count + 1,
					   sizeof(*longer));

	if (!longer) {
		message_error("Out of memory");
		return false;
	}
	list->items = longer;
	list->items[list->count++] = text;
	return true;
}

static bool set_output(bool *json, const char *text)
{
	if (strcmp(text, "json") && strcmp(text, "human")) {
		message_error("--output must be used with human or json as "
			      "argument.");
		return false;
	}
	*json = text[0] == 'j';
	return true;
}

static bool set_progress(struct progress_wish *wish, const char *text)
{
	if (!text) {
		wish->percent = true;
	} else if (!strcmp(text, "json")) {
		wish->json = true;
	} else {
		message_error("--progress knows only the value json, not '%s'",
			      text);
		return false;
	}
	return true;
}

static bool set_progress_fd(struct progress_wish *wish, const char *text)
{
	char *end;
	long fd;

	errno = 0;
	fd = strtol(text, &end, 10);
	if (errno || end == text || *end || fd < 1 || fd > INT16_MAX) {
		message_error("--progress-fd wants the number of an open "
			      "descriptor, not '%s'",
			      text);
		return false;
	}
	wish->json = true;
	wish->fd = (int)fd;
	return true;
}

static bool set_size(struct arg_size *size, const char *what, const char *text)
{
	size->given = true;
	return args_size(text, what, 0, INT64_MAX, &size->bytes);
}

static bool set_target(const struct arg_def *def, char *value)
{
	switch (def->kind) {
	case ARG_FLAG:
		*(bool *)def->target = true;
		return true;
	case ARG_TEXT:
		*(const char **)def->target = value;
		return true;
	case ARG_OPTIONAL:
		*(const char **)def->target = value ? value : "";
		return true;
	case ARG_OPTIONS:
		return append_options(def->target, value);
	case ARG_LIST:
		return append_item(def->target, value);
	case ARG_SIZE:
		return set_size(def->target, def->what, value);
	case ARG_OUTPUT:
		return set_output(def->target, value);
	case ARG_PROGRESS:
		return set_progress(def->target, value);
	case ARG_PROGRESS_FD:
		return set_progress_fd(def->target, value);
	}
	return false;
}

/* Returns the exit status to end with, or -1 to go on. */
static int handle(const struct getopt_table *table, struct command_context *ctx,
		  int opt, char **argv)
{
	switch (opt) {
	case 'h':
	case OPT_HELP:
		if (ctx->print_help)
			ctx->print_help();
		else
			command_print_help(command_find(ctx->name));
		return 0;
	case OPT_OBJECT:
		return object_accept(&ctx->objects, optarg) ? -1 : 1;
	case OPT_UNTRUSTED:
		return command_trust_nothing(ctx, optarg) ? -1 : 1;
	case OPT_MAX_CPU:
		return guard_limit_cpu(ctx->guard, optarg) ? -1 : 1;
	case OPT_MAX_MEMORY:
		return guard_limit_memory(ctx->guard, optarg) ? -1 : 1;
	case OPT_TRUST:
		command_trust_directory(ctx, optarg);
		return -1;
	case OPT_DISTRUST_HOLES:
		command_distrust_holes(ctx);
		return -1;
	case ':':
		return message_usage("missing argument for option '%s'",
				     argv[optind - 1]);
	case '?':
		return message_usage("unrecognized option '%s'",
				     argv[optind - 1]);
	default:
		return set_target(row_of(table, opt), optarg) ? -1 : 1;
	}
}

bool args_parse(struct args *args, struct command_context *ctx, int argc,
		char **argv, const struct arg_def *defs)
{
	struct getopt_table table;
	int opt;

	table_build(&table, defs);
	optind = 0;
	while ((opt = getopt_long(argc, argv, table.letters, table.longs,
				  NULL)) != -1) {
		args->status = handle(&table, ctx, opt, argv);
		if (args->status >= 0)
			return false;
	}
	args->count = argc - optind;
	args->operands = argv + optind;
	args->status = 0;
	return true;
}

bool args_size(const char *text, const char *what, uint64_t min, uint64_t max,
	       uint64_t *out)
{
	int rc;

	while (isspace((unsigned char)*text))
		text++;
	/* One sign is allowed in front, none behind it. */
	rc = size_parse(
		text + (text[0] == '+' && isdigit((unsigned char)text[1])),
		out);
	if (rc == -ERANGE || (!rc && (*out < min || *out > max))) {
		message_error("Invalid %s specified. Must be between %llu and "
			      "%llu.",
			      what, (unsigned long long)min,
			      (unsigned long long)max);
		return false;
	}
	if (rc) {
		message_error("Invalid %s specified. You may use k, M, G, T, P "
			      "or E suffixes for",
			      what);
		message_error("kilobytes, megabytes, gigabytes, terabytes, "
			      "petabytes and exabytes.");
		return false;
	}
	return true;
}

bool args_options_ask_help(const char *text)
{
	while (text && *text) {
		size_t len = strcspn(text, ",");

		if ((len == 1 && *text == '?') ||
		    (len == 4 && !strncmp(text, "help", 4)))
			return true;
		text += len;
		text += *text == ',';
	}
	return false;
}
