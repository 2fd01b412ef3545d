/* SPDX-License-Identifier: BSD-3-Clause */
/* The command `serve`: images for NBD clients. */
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/message.h"
#include "cli/serve-config.h"
#include "cli/serve-exports.h"
#include "cli/serve-run.h"

struct serve_words {
	struct serve_plan plan;
	struct serve_export first; /* what all exports have in common */
	struct arg_list exports;   /* NAME=FILE */
	struct arg_list bitmaps;
	struct arg_list sockets;
	struct serve_snapshot shown;
	struct serve_tls_words tls;
	const char *config, *address, *port, *vsock_port;
	const char *cache, *discard, *detect_zeroes, *shared;
	const char *max_clients, *threads, *handshake, *stall;
	const char *stats, *log, *pid_file, *load_snapshot, *backing;
};

/* The operand, if there is one, and all of --export. */
static int add_exports(struct serve_words *words, const struct args *args,
		       struct error *err)
{
	struct serve_plan *plan = &words->plan;
	int ret = 0;

	if (args->count) {
		words->first.image.name = args->operands[0];
		ret = serve_plan_add_export(plan, &words->first, err);
	}
	for (size_t i = 0; i < words->exports.count && !ret; i++)
		ret = serve_config_add_export(plan, &words->first,
					      words->exports.items[i], err);
	return ret;
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

static bool take_words(struct serve_words *words)
{
	struct serve_plan *plan = &words->plan;

	if (words->log && serve_log_word(words->log, &plan->log)) {
		message_error("Unknown option value for --log (expecting "
			      "'text' or 'json'): %s",
			      words->log);
		return false;
	}
	if (words->pid_file)
		plan->pid_file = words->pid_file;
	/* Keys of one place and rules of another would be nobody's wish. */
	if (serve_tls_is_given(&words->tls)) {
		serve_tls_release(&plan->tls_words);
		plan->tls_words = words->tls;
		words->tls = (struct serve_tls_words){0};
	}
	return take_limits(words, plan) &&
	       serve_tls_take(&plan->tls_words, plan) &&
	       serve_stats_parse(words->stats, &plan->stats);
}

/* ---- where to listen ---- */

static int add_addresses(const struct serve_words *words,
			 struct serve_plan *plan, struct error *err)
{
	struct listen_address tcp = {LISTEN_TCP, words->address, words->port,
				     SERVE_DEFAULT_PORT};
	struct listen_address vsock = {LISTEN_VSOCK, NULL, words->vsock_port,
				       0};
	int ret = 0;

	for (size_t i = 0; i < words->sockets.count && !ret; i++) {
		struct listen_address at = {LISTEN_UNIX,
					    words->sockets.items[i], NULL, 0};

		ret = serve_plan_add_address(plan, &at, err);
	}
	if (!ret && (words->address || words->port))
		ret = serve_plan_add_address(plan, &tcp, err);
	if (!ret && words->vsock_port)
		ret = serve_plan_add_address(plan, &vsock, err);
	return ret;
}

/* ---- the plan ---- */

/*
 * The file first: what the command line says once comes instead, exports come
 * in addition. Addresses of the command line come instead, all of them, so that
 * a file can be tried out beside the server that it is for.
 */
static int make_plan(struct serve_words *words, const struct args *args,
		     struct error *err)
{
	struct serve_plan *plan = &words->plan;
	int ret = 0;

	if (words->config)
		ret = serve_config_load(plan, words->config, err);
	if (ret < 0)
		return ret;
	if (words->sockets.count || words->address || words->port ||
	    words->vsock_port)
		plan->address_count = 0;
	ret = add_addresses(words, plan, err);
	return ret ? ret : add_exports(words, args, err);
}

/* The first option that is about exports of the command line, or NULL. */
static const char *export_option(const struct serve_words *words)
{
	const struct serve_export *first = &words->first;
	const struct {
		bool given;
		const char *name;
	} options[] = {
		{first->read_only, "read-only"},
		{first->snapshot, "snapshot"},
		{words->backing, "backing"},
		{words->cache, "cache"},
		{words->discard, "discard"},
		{words->detect_zeroes, "detect-zeroes"},
		{words->shared, "shared"},
		{words->load_snapshot, "load-snapshot"},
		{words->bitmaps.count, "bitmap"},
		{first->image.format, "format"},
		{first->image.image_opts, "image-opts"},
		{first->image.force_share, "force-share"},
		{*first->name, "export-name"},
		{first->description, "description"},
		{first->offers_depth, "allocation-depth"},
		{first->resize, "resize"},
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		if (options[i].given)
			return options[i].name;
	return NULL;
}

/* Whoever has said -r or -s relies on it. */
static bool has_use_for_options(const struct serve_words *words,
				const struct args *args)
{
	const char *name = export_option(words);

	if (!name || args->count || words->exports.count)
		return true;
	message_error("--%s is about exports of the command line, and there "
		      "are none: those of '%s' have keys of their own",
		      name, words->config);
	return false;
}

static int carry_out(struct command_context *ctx, struct serve_words *words,
		     const struct args *args)
{
	struct serve_plan *plan = &words->plan;
	struct error err = {0};

	if (args->count > 1 ||
	    (!args->count && !words->exports.count && !words->config))
		return message_usage("Expecting one image file name, or "
				     "exports by --export NAME=FILE or "
				     "--config FILE");
	if (!has_use_for_options(words, args) ||
	    !take_settings(words, &words->first))
		return 1;
	if (make_plan(words, args, &err) < 0) {
		message_error("%s", err.message);
		return 1;
	}
	if (!plan->export_count) {
		message_error("Configuration '%s' has no exports",
			      words->config);
		return 1;
	}
	return take_words(words) ? serve_run(ctx, plan) : 1;
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
		{0, "config", ARG_TEXT, &words.config, NULL},
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
		{0, "resize", ARG_FLAG, &first->resize, NULL},
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
		{'v', "log", ARG_OPTIONAL, &words.log, NULL},
		{0, "fork", ARG_FLAG, &plan->fork, NULL},
		{0, "pid-file", ARG_TEXT, &words.pid_file, NULL},
		{0, "tls", ARG_TEXT, &tls->mode, NULL},
		{0, "tls-certificates", ARG_TEXT, &tls->certificates, NULL},
		{0, "tls-psk", ARG_TEXT, &tls->psk_file, NULL},
		{0, "tls-verify-peer", ARG_FLAG, &tls->verify_peer, NULL},
		{0, "tls-authz", ARG_LIST, &tls->names, NULL},
		ARGS_END,
	};
	struct args args;
	int status;

	serve_plan_init(plan);
	plan->persistent = true;
	plan->needs_format = true;
	if (!args_parse(&args, ctx, argc, argv, defs))
		return args.status;
	status = carry_out(ctx, &words, &args);
	serve_plan_release(plan);
	free(words.exports.items);
	free(words.bitmaps.items);
	free(words.sockets.items);
	options_release(&words.shown.words);
	serve_tls_release(tls);
	return status;
}
