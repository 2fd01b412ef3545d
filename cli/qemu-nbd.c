/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The program under the name qemu-nbd: that one's words, defaults and exit
 * statuses, made into a plan to serve one image.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/storage/nbd-address.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/listen.h"
#include "cli/message.h"
#include "cli/qemu-nbd-list.h"
#include "cli/qemu-nbd-tls.h"
#include "cli/serve-exports.h"
#include "cli/serve-run.h"

#define CLIENTS_MAX 1024u

struct words {
	struct serve_plan plan;
	struct serve_export export;
	struct qemu_nbd_tls tls;
	struct serve_snapshot shown;
	bool version, list, verbose, nocache;
	const char *cache, *aio, *discard, *detect_zeroes;
	const char *shared, *offset;
	const char *socket, *address, *port;
	/* known, so that the message is not that they are unknown */
	bool disconnect;
	const char *connect, *bitmap, *load_snapshot, *selinux_label;
	const char *trace; /* ignored */
	char offset_text[24];
};

static const char help_text[] =
	"Usage: qemu-nbd [OPTIONS] FILE\n"
	"  or:  qemu-nbd -L [OPTIONS]\n"
	"Serves a disk image to NBD clients (platter)\n"
	"\n"
	"  -h, --help                this text\n"
	"  -V, --version             the version\n"
	"\n"
	"Connections:\n"
	"  -p, --port=PORT           listen on this port (default 10809)\n"
	"  -b, --bind=ADDRESS        listen on this address (default 0.0.0.0)\n"
	"  -k, --socket=PATH         listen on a Unix socket; an absolute "
	"path\n"
	"  -e, --shared=NUM          clients at a time, 0: any (default 1);\n"
	"                            others wait\n"
	"  -t, --persistent          go on when the last client has left\n"
	"  -x, --export-name=NAME    name of the export (default: empty)\n"
	"  -D, --description=TEXT    what clients are told about it\n"
	"  -v, --verbose             tell of clients on stderr, also behind "
	"--fork\n"
	"      --tls-creds=ID        TLS, with these credentials: an --object\n"
	"                            tls-creds-x509 or tls-creds-psk\n"
	"      --tls-authz=ID        who may come: an --object authz-simple "
	"or\n"
	"                            authz-list\n"
	"      --tls-hostname=NAME   with -L, the name that the server has to "
	"have\n"
	"\n"
	"The image:\n"
	"  -f, --format=FORMAT       its format; guessed if left out\n"
	"      --image-opts          FILE is in words: driver=...,"
	"file.filename=...\n"
	"  -r, --read-only           clients may only read\n"
	"  -l, --load-snapshot=SNAP  show an internal snapshot, by its id or\n"
	"                            name, or snapshot.id=ID,"
	"snapshot.name=NAME\n"
	"  -B, --bitmap=NAME         offer qemu:dirty-bitmap:NAME\n"
	"  -s, --snapshot            forget what is written at the end\n"
	"  -o, --offset=OFFSET       where the disk begins in FILE (-f raw)\n"
	"  -A, --allocation-depth    offer qemu:allocation-depth\n"
	"  -n, --nocache             the same as --cache=none\n"
	"      --cache=MODE          none, writeback (default), writethrough,\n"
	"                            directsync or unsafe\n"
	"      --aio=MODE            threads, native or io_uring: accepted,\n"
	"                            the best that works is taken\n"
	"      --discard=MODE        ignore (default) or unmap\n"
	"      --detect-zeroes=MODE  off (default), on or unmap\n"
	"\n"
	"The process:\n"
	"  -L, --list                list the exports of a server\n"
	"      --fork                return when clients may come\n"
	"      --pid-file=PATH       keep the process number there\n"
	"      --object DEF          TLS credentials, or who may come by them\n"
	"  -T, --trace               accepted and ignored\n";

static void print_help(void)
{
	fputs(help_text, stdout);
}

/* ---- words with values ---- */

/* A whole number of at most `max`, in any base that C knows. */
static bool parse_number(const char *text, unsigned long long max,
			 unsigned long long *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 0);
	return !errno && end != text && !*end && !strchr(text, '-') &&
	       *out <= max;
}

static bool take_shared(struct words *words)
{
	struct serve_plan *plan = &words->plan;
	unsigned long long count = 1;

	if (words->shared && !parse_number(words->shared, INT32_MAX, &count)) {
		message_error("Invalid shared device number '%s'",
			      words->shared);
		return false;
	}
	words->export.max_clients = (unsigned)count;
	/* A client that is one too many is not refused: it waits. */
	plan->max_clients =
		count && count < CLIENTS_MAX ? (unsigned)count : CLIENTS_MAX;
	return true;
}

static bool take_offset(struct words *words)
{
	unsigned long long offset;

	if (!words->offset)
		return true;
	if (!parse_number(words->offset, INT64_MAX, &offset)) {
		message_error("Invalid offset '%s'", words->offset);
		return false;
	}
	if (!offset)
		return true;
	snprintf(words->offset_text, sizeof(words->offset_text), "%llu",
		 offset);
	words->export.image.offset = words->offset_text;
	return true;
}

static bool take_cache(struct words *words)
{
	enum cache_mode *mode = &words->export.image.cache;

	if (words->nocache && words->cache) {
		message_error("-n and --cache can only be specified once");
		return false;
	}
	if (words->nocache)
		*mode = CACHE_NONE;
	if (words->cache && cache_mode_parse(words->cache, mode) < 0) {
		message_error("Invalid cache mode `%s'", words->cache);
		return false;
	}
	return true;
}

/* What is used is what works; the words are checked as scripts expect it. */
static bool check_aio(const struct words *words)
{
	enum cache_mode cache = words->export.image.cache;
	const char *aio = words->aio;

	if (!aio || !strcmp(aio, "threads") || !strcmp(aio, "io_uring"))
		return true;
	if (strcmp(aio, "native")) {
		message_error("Invalid aio mode '%s'", aio);
		return false;
	}
	if (cache == CACHE_NONE || cache == CACHE_DIRECTSYNC)
		return true;
	message_error("aio=native was specified, but it requires "
		      "cache.direct=on, which was not specified.");
	return false;
}

static bool take_discard(struct words *words)
{
	const char *word = words->discard;

	if (!word || !serve_discard_parse(word, &words->export.discard))
		return true;
	message_error("Invalid discard mode `%s'", word);
	return false;
}

static bool take_detect_zeroes(struct words *words)
{
	struct serve_export *export = &words->export;
	const char *word = words->detect_zeroes;

	if (word && serve_zeroes_parse(word, &export->zeroes)) {
		message_error("Failed to parse detect_zeroes mode: invalid "
			      "parameter value: %s",
			      word);
		return false;
	}
	if (export->zeroes != NBD_ZEROES_UNMAP || export->discard)
		return true;
	message_error("setting detect-zeroes to unmap is not allowed without "
		      "setting discard operation to unmap");
	return false;
}

/* A path comes before an address, as there. */
static void take_address(struct words *words)
{
	struct serve_plan *plan = &words->plan;

	plan->default_host = "0.0.0.0";
	if (words->socket)
		plan->addresses[plan->address_count++] =
			(struct listen_address){.kind = LISTEN_UNIX,
						.name = words->socket};
	else if (words->address || words->port)
		plan->addresses[plan->address_count++] =
			(struct listen_address){
				.kind = LISTEN_TCP,
				.name = words->address ? words->address
						       : plan->default_host,
				.port = words->port,
				.number = SERVE_DEFAULT_PORT};
}

static bool take_snapshot(struct words *words)
{
	words->export.read_only |= words->load_snapshot != NULL;
	words->export.shown = &words->shown;
	return serve_take_snapshot(&words->shown, words->load_snapshot);
}

static bool take_values(struct words *words)
{
	return take_shared(words) && take_offset(words) && take_cache(words) &&
	       check_aio(words) && take_discard(words) &&
	       take_detect_zeroes(words) && take_snapshot(words);
}

/* ---- what is not there ---- */

static bool is_supported(const struct words *words)
{
	const struct {
		bool given;
		const char *text;
	} missing[] = {
		{words->connect, "--connect is not supported; use nbd-client"},
		{words->disconnect,
		 "--disconnect is not supported; use nbd-client -d"},
		{words->selinux_label, "--selinux-label is not supported"},
	};

	for (size_t i = 0; i < sizeof(missing) / sizeof(missing[0]); i++) {
		if (missing[i].given) {
			message_error("%s", missing[i].text);
			return false;
		}
	}
	return true;
}

/* ---- the two things to do ---- */

static bool is_for_images(const struct words *words)
{
	const struct serve_export *export = &words->export;

	return *export->name || export->description || export->read_only ||
	       export->image.format || export->image.image_opts ||
	       words->offset || words->export.offers_depth || words->aio ||
	       words->discard || words->nocache || words->cache ||
	       words->bitmap || words->load_snapshot;
}

/* Somebody has opened sockets for us to listen on. */
static bool was_activated(void)
{
	struct listeners listeners = {0};
	struct error err = {0};
	bool activated =
		listen_inherited(&listeners, &err) < 0 || listeners.count;

	listeners_close(&listeners);
	return activated;
}

/* An address that only borrows has no const either. */
static char *borrow(const char *text)
{
	return (char *)(uintptr_t)text;
}

static int list(struct words *words, const struct args *args)
{
	const struct serve_plan *plan = &words->plan;
	struct nbd_address address = {
		.socket = borrow(words->socket),
		.host = borrow(words->address ? words->address : "0.0.0.0"),
		.port = borrow(words->port ? words->port : "10809"),
	};

	if (was_activated())
		message_error("List mode is incompatible with socket "
			      "activation");
	else if (args->count)
		message_error("List mode is incompatible with a file name");
	else if (is_for_images(words))
		message_error("List mode is incompatible with per-device "
			      "settings");
	else if (plan->fork)
		message_error("List mode is incompatible with forking");
	else if (qemu_nbd_tls_list(&words->tls, &address))
		return qemu_nbd_list(&address);
	return 1;
}

static int serve(struct command_context *ctx, struct words *words,
		 const struct args *args)
{
	struct serve_plan *plan = &words->plan;

	if (args->count != 1)
		return message_usage("Invalid number of arguments");
	if (words->export.image.image_opts && words->export.image.format) {
		message_error("--image-opts and -f are mutually exclusive");
		return 1;
	}
	if (!qemu_nbd_tls_serve(&words->tls, &ctx->objects))
		return 1;
	plan->tls = words->tls.args;
	plan->tls_required = words->tls.required;
	words->export.image.name = args->operands[0];
	plan->exports = &words->export;
	plan->export_count = 1;
	take_address(words);
	plan->log = words->verbose ? SERVE_LOG_TEXT : SERVE_LOG_NONE;
	words->export.bitmaps = &words->bitmap;
	words->export.bitmap_count = words->bitmap ? 1 : 0;
	return serve_run(ctx, plan);
}

static int carry_out(struct command_context *ctx, struct words *words,
		     const struct args *args)
{
	const char *path = words->socket;

	if (words->version) {
		printf("qemu-nbd " PLATTER_VERSION " (platter)\n");
		return 0;
	}
	if (!take_values(words) || !is_supported(words))
		return 1;
	if (path && *path != '/') {
		message_error("socket path must be absolute");
		return 1;
	}
	return words->list ? list(words, args) : serve(ctx, words, args);
}

int command_qemu_nbd(struct command_context *ctx, int argc, char **argv)
{
	struct words words = {.export = {.name = ""}};
	struct serve_plan *plan = &words.plan;
	struct serve_export *export = &words.export;
	const struct arg_def defs[] = {
		{'V', "version", ARG_FLAG, &words.version, NULL},
		{'p', "port", ARG_TEXT, &words.port, NULL},
		{'b', "bind", ARG_TEXT, &words.address, NULL},
		{'k', "socket", ARG_TEXT, &words.socket, NULL},
		{'e', "shared", ARG_TEXT, &words.shared, NULL},
		{'t', "persistent", ARG_FLAG, &plan->persistent, NULL},
		{'v', "verbose", ARG_FLAG, &words.verbose, NULL},
		{'x', "export-name", ARG_TEXT, &export->name, NULL},
		{'D', "description", ARG_TEXT, &export->description, NULL},
		{'o', "offset", ARG_TEXT, &words.offset, NULL},
		{'A', "allocation-depth", ARG_FLAG, &export->offers_depth,
		 NULL},
		{'B', "bitmap", ARG_TEXT, &words.bitmap, NULL},
		{'L', "list", ARG_FLAG, &words.list, NULL},
		{0, "tls-creds", ARG_TEXT, &words.tls.creds, NULL},
		{0, "tls-hostname", ARG_TEXT, &words.tls.hostname, NULL},
		{0, "tls-authz", ARG_TEXT, &words.tls.authz, NULL},
		{'T', "trace", ARG_TEXT, &words.trace, NULL},
		{0, "fork", ARG_FLAG, &plan->fork, NULL},
		{0, "pid-file", ARG_TEXT, &plan->pid_file, NULL},
		{0, "selinux-label", ARG_TEXT, &words.selinux_label, NULL},
		{'c', "connect", ARG_TEXT, &words.connect, NULL},
		{'d', "disconnect", ARG_FLAG, &words.disconnect, NULL},
		{'f', "format", ARG_TEXT, &export->image.format, NULL},
		{'r', "read-only", ARG_FLAG, &export->read_only, NULL},
		{'s', "snapshot", ARG_FLAG, &export->snapshot, NULL},
		{'l', "load-snapshot", ARG_TEXT, &words.load_snapshot, NULL},
		{'n', "nocache", ARG_FLAG, &words.nocache, NULL},
		{0, "cache", ARG_TEXT, &words.cache, NULL},
		{0, "aio", ARG_TEXT, &words.aio, NULL},
		{0, "discard", ARG_TEXT, &words.discard, NULL},
		{0, "detect-zeroes", ARG_TEXT, &words.detect_zeroes, NULL},
		{0, "image-opts", ARG_FLAG, &export->image.image_opts, NULL},
		ARGS_END,
	};
	struct args args;
	int status;

	serve_plan_init(plan);
	ctx->name = "qemu-nbd";
	ctx->print_help = print_help;
	if (!args_parse(&args, ctx, argc, argv, defs))
		return args.status;
	status = carry_out(ctx, &words, &args);
	qemu_nbd_tls_release(&words.tls);
	options_release(&words.shown.words);
	return status;
}
