/* SPDX-License-Identifier: BSD-3-Clause */
/* The command `serve`: images for NBD clients. */
#include <stdlib.h>
#include <string.h>

#include "block/image-spec.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/message.h"
#include "cli/serve-exports.h"
#include "cli/serve-run.h"
#include "cli/serve-tls.h"

struct serve_words {
	struct serve_plan plan;
	struct serve_export first; /* what all exports have in common */
	struct arg_list exports;   /* NAME=FILE */
	struct arg_list bitmaps;
	struct arg_list sockets;
	struct serve_snapshot shown;
	struct serve_tls_words tls;
	const char *address, *port, *vsock_port;
	const char *cache, *discard, *detect_zeroes, *shared;
	const char *max_clients, *threads, *handshake, *stall;
	const char *stats, *load_snapshot, *backing;
};

/* `text` is NAME=FILE; cuts it, so that both are strings. */
static bool parse_export(const char *text, const struct serve_export *common,
			 struct serve_export *out)
{
	char *copy = strdup(text);
	char *equals = copy ? strchr(copy, '=') : NULL;

	*out = *common;
	if (!equals || !equals[1]) {
		message_error("--export '%s' is not NAME=FILE", text);
		free(copy);
		return false;
	}
	*equals = '\0';
	out->words = copy;
	out->name = copy;
	out->image.name = equals + 1;
	return true;
}

/* The operand, if there is one, and all of --export. */
static bool make_exports(struct serve_words *words, const struct args *args)
{
	struct serve_plan *plan = &words->plan;
	size_t count = (size_t)args->count + words->exports.count;

	if (!count || count > SERVE_EXPORTS_MAX || args->count > 1) {
		message_usage("Expecting one image file name, or exports by "
			      "--export NAME=FILE (at most %d)",
			      SERVE_EXPORTS_MAX);
		return false;
	}
	plan->exports = calloc(count, sizeof(*plan->exports));
	if (!plan->exports) {
		message_error("Out of memory");
		return false;
	}
	if (args->count) {
		words->first.image.name = args->operands[0];
		plan->exports[plan->export_count++] = words->first;
	}
	for (size_t i = 0; i < words->exports.count; i++)
		if (!parse_export(words->exports.items[i], &words->first,
				  &plan->exports[plan->export_count++]))
			return false;
	return true;
}

/* ---- words with values ---- */

/* `text` NULL: `*out` stays. */
static bool take_count(const char *text, const char *what, unsigned min,
		       unsigned max, unsigned *out)
{
	uint64_t count = *out;

	if (text && !args_size(text, what, min, max, &count))
		return false;
	*out = (unsigned)count;
	return true;
}

/* Seconds become milliseconds. */
static bool take_seconds(const char *text, const char *what, unsigned *out_ms)
{
	unsigned seconds = *out_ms / 1000;

	if (!take_count(text, what, 1, SERVE_DEADLINE_MAX, &seconds))
		return false;
	if (text)
		*out_ms = seconds * 1000;
	return true;
}

static bool take_limits(const struct serve_words *words,
			struct serve_plan *plan)
{
	return take_count(words->max_clients, "number of clients", 1,
			  SERVE_CLIENTS_MAX, &plan->max_clients) &&
	       take_count(words->threads, "number of threads", 0,
			  SERVE_THREADS_MAX, &plan->threads) &&
	       take_seconds(words->handshake, "handshake timeout",
			    &plan->limits.handshake_ms) &&
	       take_seconds(words->stall, "stall timeout",
			    &plan->limits.stall_ms);
}

/* What all exports of the command line have in common. */
static bool take_settings(struct serve_words *words,
			  struct serve_export *export)
{
	if (words->discard &&
	    serve_discard_parse(words->discard, &export->discard)) {
		message_error("Invalid discard mode '%s' (expecting 'unmap' or "
			      "'ignore')",
			      words->discard);
		return false;
	}
	if (words->detect_zeroes &&
	    serve_zeroes_parse(words->detect_zeroes, &export->zeroes)) {
		message_error("Invalid --detect-zeroes mode '%s' (expecting "
			      "'off', 'on' or 'unmap')",
			      words->detect_zeroes);
		return false;
	}
	if (words->bitmaps.count > NBD_BITMAPS_MAX) {
		message_error("%zu bitmaps are too many, allowed are %u",
			      words->bitmaps.count, NBD_BITMAPS_MAX);
		return false;
	}
	export->bitmaps = words->bitmaps.items;
	export->bitmap_count = words->bitmaps.count;
	export->read_only |= words->load_snapshot != NULL;
	export->shown = &words->shown;
	return take_count(words->shared, "number of clients", 0,
			  SERVE_CLIENTS_MAX, &export->max_clients) &&
	       serve_backing_parse(words->backing, &export->backing) &&
	       serve_take_snapshot(&words->shown, words->load_snapshot) &&
	       open_cache_mode(words->cache, "cache mode",
			       &export->image.cache);
}

/* ---- where to listen ---- */

static bool add_address(struct serve_plan *plan, enum listen_kind kind,
			const char *name, const char *port)
{
	if (plan->address_count == LISTENERS_MAX) {
		message_error("More than %d addresses to listen on",
			      LISTENERS_MAX);
		return false;
	}
	plan->addresses[plan->address_count++] =
		(struct listen_address){kind, name, port};
	return true;
}

static bool take_addresses(const struct serve_words *words,
			   struct serve_plan *plan)
{
	const char *port = words->port ? words->port : SERVE_DEFAULT_PORT;

	for (size_t i = 0; i < words->sockets.count; i++)
		if (!add_address(plan, LISTEN_UNIX, words->sockets.items[i],
				 NULL))
			return false;
	if ((words->address || words->port) &&
	    !add_address(plan, LISTEN_TCP, words->address, port))
		return false;
	return !words->vsock_port ||
	       add_address(plan, LISTEN_VSOCK, NULL, words->vsock_port);
}

static bool take_words(struct serve_words *words)
{
	struct serve_plan *plan = &words->plan;

	return take_limits(words, plan) && take_addresses(words, plan) &&
	       take_settings(words, &words->first) &&
	       serve_tls_take(&words->tls, plan) &&
	       serve_stats_parse(words->stats, &plan->stats);
}

int command_serve(struct command_context *ctx, int argc, char **argv)
{
	struct serve_words words = {.first = serve_export_default};
	struct serve_plan *plan = &words.plan;
	struct serve_export *first = &words.first;
	struct serve_tls_words *tls = &words.tls;
	const struct arg_def defs[] = {
		{'f', "format", ARG_TEXT, &first->image.format, NULL},
		{0, "image-opts", ARG_FLAG, &first->image.image_opts, NULL},
		{'r', "read-only", ARG_FLAG, &first->read_only, NULL},
		{'t', "cache", ARG_TEXT, &words.cache, NULL},
		{'U', "force-share", ARG_FLAG, &first->image.force_share, NULL},
		{0, "backing", ARG_TEXT, &words.backing, NULL},
		{'B', "bitmap", ARG_LIST, &words.bitmaps, NULL},
		{'l', "load-snapshot", ARG_TEXT, &words.load_snapshot, NULL},
		{'s', "snapshot", ARG_FLAG, &first->snapshot, NULL},
		{'E', "export", ARG_LIST, &words.exports, NULL},
		{'x', "export-name", ARG_TEXT, &first->name, NULL},
		{'D', "description", ARG_TEXT, &first->description, NULL},
		{'A', "allocation-depth", ARG_FLAG, &first->offers_depth, NULL},
		{0, "discard", ARG_TEXT, &words.discard, NULL},
		{0, "detect-zeroes", ARG_TEXT, &words.detect_zeroes, NULL},
		{'e', "shared", ARG_TEXT, &words.shared, NULL},
		{'k', "socket", ARG_LIST, &words.sockets, NULL},
		{'b', "bind", ARG_TEXT, &words.address, NULL},
		{'p', "port", ARG_TEXT, &words.port, NULL},
		{0, "vsock", ARG_TEXT, &words.vsock_port, NULL},
		{0, "max-clients", ARG_TEXT, &words.max_clients, NULL},
		{0, "threads", ARG_TEXT, &words.threads, NULL},
		{0, "handshake-timeout", ARG_TEXT, &words.handshake, NULL},
		{0, "stall-timeout", ARG_TEXT, &words.stall, NULL},
		{0, "stats", ARG_OPTIONAL, &words.stats, NULL},
		{0, "fork", ARG_FLAG, &plan->fork, NULL},
		{0, "pid-file", ARG_TEXT, &plan->pid_file, NULL},
		{0, "tls", ARG_TEXT, &tls->mode, NULL},
		{0, "tls-certificates", ARG_TEXT, &tls->certificates, NULL},
		{0, "tls-psk", ARG_TEXT, &tls->psk_file, NULL},
		{0, "tls-verify-peer", ARG_FLAG, &tls->verify_peer, NULL},
		{0, "tls-authz", ARG_LIST, &tls->names, NULL},
		ARGS_END,
	};
	struct args args;
	int status = 1;

	serve_plan_init(plan);
	plan->persistent = true;
	plan->needs_format = true;
	if (!args_parse(&args, ctx, argc, argv, defs))
		return args.status;
	if (take_words(&words) && make_exports(&words, &args))
		status = serve_run(ctx, plan);
	for (size_t i = 0; i < plan->export_count; i++)
		free(plan->exports[i].words);
	free(plan->exports);
	free(words.exports.items);
	free(words.bitmaps.items);
	free(words.sockets.items);
	options_release(&words.shown.words);
	serve_tls_release(tls);
	return status;
}
