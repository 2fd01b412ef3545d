/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of commands, and the texts of --help that come out of it. */
#include "cli/command.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/format.h"
#include "block/image.h"
#include "cli/guard.h"
#include "formats/registry.h"

const struct command commands[] = {
	{"bench", "time reads or writes of an image",
	 "[-c count] [-d depth] [-f fmt] [--flush-interval=flush_interval] "
	 "[-i aio] [-n] [--no-drain] [-o offset] [--pattern=pattern] [-q] "
	 "[-s buffer_size] [-S step_size] [-t cache] [-w] [-U] filename",
	 command_bench},
	{"check", "check an image for errors, and repair it on request",
	 "[--object objectdef] [--image-opts] [-q] [-f fmt] [--output=ofmt] "
	 "[-r [leaks | all]] [--dry-run] [-T src_cache] [-p] [-U] filename",
	 command_check},
	{"compare", "compare the contents of two images",
	 "[--object objectdef] [--image-opts] [-f fmt] [-F fmt] "
	 "[-T src_cache] [-p] [-q] [-s] [-U] filename1 filename2",
	 command_compare},
	{"convert", "copy disks into an image of another format",
	 "[--object objectdef] [--image-opts] [--target-image-opts] "
	 "[--target-is-zero] [-U] [-C] [-c] [--compression-level N] "
	 "[--compression-window size] [-p] [-q] [-n] [-f fmt] [-t cache] "
	 "[-T src_cache] [-O output_fmt] [-b backing_file [-F backing_fmt]] "
	 "[-o options] [-S sparse_size] [-r rate_limit] [-m threads] [-W] "
	 "[--salvage] [--source-size size] [--hash[=sha256 | tree]] "
	 "filename [filename2 [...]] output_filename",
	 command_convert},
	{"create", "create a new image",
	 "[--object objectdef] [-q] [-f fmt] [-b backing_file "
	 "[-F backing_fmt]] [-u] [-o options] filename [size]",
	 command_create},
	{"dd", "copy a part of a disk, in the words of dd(1)",
	 "[--object objectdef] [--image-opts] [-U] [-f fmt] [-O output_fmt] "
	 "[bs=block_size] [count=blocks] [skip=blocks] if=input of=output",
	 command_dd},
	{"info", "show what an image says about itself",
	 "[--object objectdef] [--image-opts] [-f fmt] [--output=ofmt] "
	 "[--backing-chain] [--limits] [-U] filename",
	 command_info},
	{"inspect", "tell whether an image from strangers is safe to open",
	 "[-f fmt] [--output=ofmt] [--max-virtual-size size] "
	 "[--max-ratio ratio] [-q] [-U] filename",
	 command_inspect},
	{"io", "read and write parts of an image by small commands",
	 "[--object objectdef] [--image-opts] [-f fmt] [-c command [-c ...]] "
	 "[-r] [-n] [-t cache] [-d discard] [-i aio] [-U] [filename]",
	 command_io},
	{"map", "show where the data of an image is",
	 "[--object objectdef] [--image-opts] [-f fmt] "
	 "[--start-offset=offset] [--max-length=len] [--output=ofmt] [-U] "
	 "filename",
	 command_map},
	{"measure", "tell how much space a new image would take",
	 "[--output=ofmt] [-O output_fmt] [-o options] [--size N | "
	 "[--object objectdef] [--image-opts] [-f fmt] [-U] filename]",
	 command_measure},
	{"resize", "change the virtual size of an image",
	 "[--object objectdef] [--image-opts] [-f fmt] "
	 "[--preallocation=prealloc] [-q] [--shrink] filename [+ | -]size",
	 command_resize},
	{"serve", "serve images to NBD clients",
	 "[--object objectdef] [--image-opts] [-f fmt] [-r] [-s] [-t cache] "
	 "[-U] [-x export_name] [-D description] [-A] "
	 "[--backing policy] [-B bitmap ...] "
	 "[-l snapshot] [-E name=filename[,key=value]... ...] [--config file] "
	 "[--discard mode] [--detect-zeroes mode] [--resize] [-e clients] "
	 "[-k socket ...] [-b address] [-p port] [--vsock port] "
	 "[--max-clients n] [--threads n] [--handshake-timeout seconds] "
	 "[--stall-timeout seconds] [--stats[=ofmt]] "
	 "[-v | --log[=ofmt]] [--fork] [--pid-file file] [filename]",
	 command_serve},
	{NULL, NULL, NULL, NULL},
};

const struct command *command_find(const char *name)
{
	for (const struct command *c = commands; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

static void open_nothing(struct command_context *ctx)
{
	ctx->trust.policy = OPENER_NONE;
	ctx->trust.allow_devices = false;
	ctx->trust.allow_probing = false;
}

bool command_trust_nothing(struct command_context *ctx, const char *word)
{
	open_nothing(ctx);
	return guard_activate(ctx->guard, word);
}

void command_trust_directory(struct command_context *ctx, const char *dir)
{
	open_nothing(ctx);
	ctx->trust.policy = OPENER_BENEATH;
	ctx->trust.directory = dir;
}

void command_distrust_holes(struct command_context *ctx)
{
	ctx->open_flags |= IMAGE_DISTRUST_HOLES;
}

static void print_formats(void)
{
	printf("Supported formats:");
	for (size_t i = 0; format_registry[i]; i++)
		printf(" %s", format_registry[i]->name);
	putchar('\n');
}

static const char parameters_help[] =
	"Command parameters:\n"
	"  filename    a path, file:PATH, or json:{...}; with --image-opts "
	"the\n"
	"              words driver=FORMAT,file.filename=PATH\n"
	"  fmt         a format named below; guessed from the content if left "
	"out\n"
	"  size        bytes, or a number with one of the units K M G T P E\n"
	"  cache       none, writeback, writethrough, directsync or unsafe\n"
	"  options     name=value,name=value; -o help lists what a format has\n"
	"  ofmt        human or json\n"
	"  -U          do not lock the image: it may change meanwhile\n"
	"  -q, -p      say nothing, show progress; SIGUSR1 shows it once\n"
	"\n"
	"Trust, for any command:\n"
	"  --untrusted      inspect images first, refuse what is not safe, and "
	"read\n"
	"                   them in a sandbox (=best-effort: as far as the "
	"kernel can)\n"
	"  --max-cpu N, --max-memory SIZE  bounds of that sandbox\n"
	"  --trust-dir DIR  open what images name only below DIR\n"
	"  --no-trust-holes read every byte, whatever the file system says of "
	"holes\n"
	"\n";

void command_print_overview(void)
{
	command_print_version();
	printf("usage: %s [standard options] command [command options]\n"
	       "Disk image utility\n\n"
	       "    '-h', '--help'       display this help and exit\n"
	       "    '-V', '--version'    output version information and exit\n"
	       "    '-T', '--trace'      accepted and ignored\n\n"
	       "Command syntax:\n",
	       program_invocation_short_name);
	/* One line each: callers search these lines to learn what exists. */
	for (const struct command *c = commands; c->name; c++)
		printf("  %s %s\n", c->name, c->synopsis);
	putchar('\n');
	fputs(parameters_help, stdout);
	print_formats();
}

void command_print_help(const struct command *command)
{
	printf("usage: %s %s %s\n\n%s: %s.\n\n", program_invocation_short_name,
	       command->name, command->synopsis, command->name,
	       command->summary);
	fputs(parameters_help, stdout);
	print_formats();
}

void command_print_version(void)
{
	printf("%s version " PLATTER_VERSION " (platter)\n",
	       program_invocation_short_name);
}
