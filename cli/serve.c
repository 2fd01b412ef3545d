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

#define CLIENTS_MAX	   1024
#define CLIENTS_DEFAULT	   128
#define PER_EXPORT_DEFAULT 16

struct serve_words {
	struct serve_plan plan;
	struct serve_export first; /* what all exports have in common */
	struct arg_list exports;   /* NAME=FILE */
	struct arg_list bitmaps;
	struct serve_tls_words tls;
	const char *cache, *shared, *stats, *load_snapshot, *backing;
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

static bool has_twins(const struct serve_plan *plan)
{
	for (size_t i = 0; i < plan->export_count; i++)
		for (size_t j = 0; j < i; j++)
			if (!strcmp(plan->exports[i].name,
				    plan->exports[j].name)) {
				message_error("Two exports are called '%s'",
					      plan->exports[i].name);
				return true;
			}
	return false;
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
	return !has_twins(plan);
}

static bool check_words(struct serve_words *words)
{
	struct serve_plan *plan = &words->plan;
	uint64_t count = PER_EXPORT_DEFAULT;

	if (words->shared && !args_size(words->shared, "number of clients", 0,
					CLIENTS_MAX, &count))
		return false;
	plan->clients_per_export = (unsigned)count;
	plan->max_clients = CLIENTS_DEFAULT;
	plan->persistent = true;
	plan->needs_format = true;
	plan->backing = SERVE_BACKING_BENEATH;
	plan->discard = true;
	if (plan->unix_path && (plan->address || plan->port)) {
		message_usage("--socket and --bind or --port exclude each "
			      "other");
		return false;
	}
	if (words->bitmaps.count > NBD_BITMAPS_MAX) {
		message_error("%zu bitmaps are too many, allowed are %u",
			      words->bitmaps.count, NBD_BITMAPS_MAX);
		return false;
	}
	plan->bitmaps = words->bitmaps.items;
	plan->bitmap_count = words->bitmaps.count;
	words->first.read_only |= words->load_snapshot != NULL;
	return serve_backing_parse(words->backing, &plan->backing) &&
	       serve_take_snapshot(&plan->shown, words->load_snapshot) &&
	       serve_stats_parse(words->stats, &plan->stats) &&
	       open_cache_mode(words->cache, "cache mode",
			       &words->first.image.cache);
}

int command_serve(struct command_context *ctx, int argc, char **argv)
{
	struct serve_words words = {.first = {.name = ""}};
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
		{'s', "snapshot", ARG_FLAG, &plan->snapshot, NULL},
		{'E', "export", ARG_LIST, &words.exports, NULL},
		{'x', "export-name", ARG_TEXT, &first->name, NULL},
		{'D', "description", ARG_TEXT, &first->description, NULL},
		{'A', "allocation-depth", ARG_FLAG, &plan->offers_depth, NULL},
		{'k', "socket", ARG_TEXT, &plan->unix_path, NULL},
		{'b', "bind", ARG_TEXT, &plan->address, NULL},
		{'p', "port", ARG_TEXT, &plan->port, NULL},
		{'e', "shared", ARG_TEXT, &words.shared, NULL},
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

	if (!args_parse(&args, ctx, argc, argv, defs))
		return args.status;
	if (check_words(&words) && serve_tls_take(tls, plan) &&
	    make_exports(&words, &args))
		status = serve_run(ctx, plan);
	for (size_t i = 0; i < plan->export_count; i++)
		free(plan->exports[i].words);
	free(plan->exports);
	free(words.exports.items);
	free(words.bitmaps.items);
	options_release(&plan->shown.words);
	serve_tls_release(tls);
	return status;
}
