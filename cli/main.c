/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The program: finds the command and runs it.
 *
 * A link named qemu-img is the same program under another name, one named
 * qemu-io runs the command `io`, and qemu-nbd has words of its own.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "block/notice.h"
#include "cli/command.h"
#include "cli/guard.h"
#include "cli/json.h"
#include "cli/message.h"

enum {
	OPT_UNTRUSTED = 256,
	OPT_MAX_CPU,
	OPT_MAX_MEMORY,
	OPT_TRUST_DIR,
	OPT_NO_TRUST_HOLES,
};

static const struct option global_options[] = {
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{"trace", required_argument, NULL, 'T'},
	{"untrusted", optional_argument, NULL, OPT_UNTRUSTED},
	{"max-cpu", required_argument, NULL, OPT_MAX_CPU},
	{"max-memory", required_argument, NULL, OPT_MAX_MEMORY},
	{"trust-dir", required_argument, NULL, OPT_TRUST_DIR},
	{"no-trust-holes", no_argument, NULL, OPT_NO_TRUST_HOLES},
	{NULL, 0, NULL, 0},
};

/* What a person's own images may name: what they always could. */
static void trust_init(struct opener *trust)
{
	trust->policy = OPENER_ANY;
	trust->allow_devices = true;
	trust->allow_probing = true;
}

static int run_command(struct command_context *ctx, int argc, char **argv)
{
	const struct command *command = command_find(argv[0]);

	if (!command)
		return message_usage("Command not found: %s", argv[0]);
	ctx->name = command->name;
	optind = 0; /* start getopt anew */
	return command->run(ctx, argc, argv);
}

static int run_program(struct command_context *ctx, int argc, char **argv)
{
	int opt;

	while ((opt = getopt_long(argc, argv, "+:hVT:", global_options,
				  NULL)) != -1) {
		switch (opt) {
		case 'h':
			command_print_overview();
			return 0;
		case 'V':
			command_print_version();
			return 0;
		case 'T':
			break;
		case OPT_UNTRUSTED:
			if (!command_trust_nothing(ctx, optarg))
				return 1;
			break;
		case OPT_MAX_CPU:
			if (!guard_limit_cpu(ctx->guard, optarg))
				return 1;
			break;
		case OPT_MAX_MEMORY:
			if (!guard_limit_memory(ctx->guard, optarg))
				return 1;
			break;
		case OPT_TRUST_DIR:
			command_trust_directory(ctx, optarg);
			break;
		case OPT_NO_TRUST_HOLES:
			command_distrust_holes(ctx);
			break;
		case ':':
			return message_usage("missing argument for option '%s'",
					     argv[optind - 1]);
		default:
			return message_usage("unrecognized option '%s'",
					     argv[optind - 1]);
		}
	}
	if (optind >= argc)
		return message_usage("Not enough arguments");
	return run_command(ctx, argc - optind, argv + optind);
}

/* A full disk below stdout must not look like success. */
static int finish_output(int status)
{
	int failed = ferror(stdout);

	if (fflush(stdout) || failed) {
		message_error("Could not write to standard output: %s",
			      strerror(errno));
		return status ? status : 1;
	}
	return status;
}

static void tell(const char *text)
{
	message_error("%s", text);
}

int main(int argc, char **argv)
{
	static struct guard guard;
	struct command_context ctx = {.guard = &guard};
	static char io_name[] = "io";
	int status;

	/* A write over a limit of file sizes is to fail, not to kill. */
	signal(SIGXFSZ, SIG_IGN);
	json_init();
	notice_set(tell);
	trust_init(&ctx.trust);
	if (!strcmp(program_invocation_short_name, "qemu-io")) {
		argv[0] = io_name;
		status = run_command(&ctx, argc, argv);
	} else if (!strcmp(program_invocation_short_name, "qemu-nbd")) {
		status = command_qemu_nbd(&ctx, argc, argv);
	} else {
		status = run_program(&ctx, argc, argv);
	}
	objects_release(&ctx.objects);
	guard_release(&guard);
	return finish_output(status);
}
