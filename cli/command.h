/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The commands of the program: one table, one function and one file for each.
 *
 * A command parses its arguments with args.h, opens images with open.h, reports
 * through message.h and shows how far it is with progress-view.h. It returns
 * the exit status of the program and never exits by itself.
 */
#ifndef PLATTER_CLI_COMMAND_H
#define PLATTER_CLI_COMMAND_H

#include <stdbool.h>

#include "block/opener.h"
#include "cli/object.h"

struct guard;

/* What holds for any command, given before or behind its name. */
struct command_context {
	const char *name;    /* of the command, as in the table */
	struct opener trust; /* what images may make us open */
	unsigned open_flags; /* IMAGE_* for every image that is read */
	struct object_list objects;
	struct guard *guard; /* of --untrusted; may be inactive, never NULL */
	/* Of a program that is no command of the table; else NULL. */
	void (*print_help)(void);
};

/*
 * --untrusted (`word`: what is behind its equals sign, or NULL; false after a
 * message), and --trust-dir. `dir` is borrowed.
 */
bool command_trust_nothing(struct command_context *ctx, const char *word);
void command_trust_directory(struct command_context *ctx, const char *dir);
/* --no-trust-holes */
void command_distrust_holes(struct command_context *ctx);

/* argv[0] is the name of the command; options and operands follow. */
typedef int command_function(struct command_context *ctx, int argc,
			     char **argv);

struct command {
	const char *name;
	const char *summary;  /* one line of `platter COMMAND --help` */
	const char *synopsis; /* options and operands, one line */
	command_function *run;
};

/* Sorted by name; ended by a NULL name. */
extern const struct command commands[];

/* NULL if there is no such command. */
const struct command *command_find(const char *name);

/* `platter --help`, and `platter COMMAND --help`, to stdout. */
void command_print_overview(void);
void command_print_help(const struct command *command);
void command_print_version(void);

command_function command_bench;
command_function command_check;
command_function command_compare;
command_function command_convert;
command_function command_create;
command_function command_dd;
command_function command_info;
command_function command_inspect;
command_function command_io;
command_function command_map;
command_function command_measure;
command_function command_qemu_nbd; /* not in the table: a program's name */
command_function command_resize;
command_function command_serve;

#endif
