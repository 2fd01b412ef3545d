/* SPDX-License-Identifier: BSD-3-Clause */
/* What --stats prints: see serve-stats.h. */
#include "cli/serve-stats.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/json.h"
#include "cli/message.h"
#include "nbd-server/export.h"
#include "nbd-server/stats.h"

int serve_stats_word(const char *word, enum serve_stats *out)
{
	bool json = !strcmp(word, "json");

	if (!json && *word && strcmp(word, "human"))
		return -EINVAL;
	*out = json ? SERVE_STATS_JSON : SERVE_STATS_HUMAN;
	return 0;
}

bool serve_stats_parse(const char *word, enum serve_stats *out)
{
	if (!word || serve_stats_word(word, out) == 0)
		return true;
	message_error("Unknown option value for --stats (expecting 'human' or "
		      "'json'): %s",
		      word);
	return false;
}

/* The latency that `share` of all requests stayed below, in microseconds. */
static unsigned long long below_us(const struct nbd_counts *counts,
				   double share)
{
	uint64_t all = 0, seen = 0;

	for (unsigned i = 0; i < NBD_STATS_BUCKETS; i++)
		all += counts->latency[i];
	for (unsigned i = 0; i < NBD_STATS_BUCKETS; i++) {
		seen += counts->latency[i];
		if ((double)seen >= share * (double)all)
			return 1ull << i;
	}
	return 0;
}

static void print_human(const char *name, const struct nbd_counts *counts,
			uint64_t clients)
{
	char text[SIZE_TEXT_MAX];

	fprintf(stderr,
		"export '%s': %llu clients, at most %llu requests of "
		"one at once\n",
		name, (unsigned long long)clients,
		(unsigned long long)counts->depth_max);
	for (unsigned i = 0; i < NBD_STATS_OPS; i++) {
		const struct nbd_op_counts *op = &counts->ops[i];

		if (op->requests)
			fprintf(stderr,
				"  %-7s %llu requests, %s, %llu failed\n",
				nbd_stats_op_name(i),
				(unsigned long long)op->requests,
				size_text(text, op->bytes),
				(unsigned long long)op->errors);
	}
	fprintf(stderr,
		"  half took less than %llu us, 99 %% less than %llu "
		"us\n",
		below_us(counts, 0.5), below_us(counts, 0.99));
}

static json_t *count_json(uint64_t count)
{
	return json_integer((json_int_t)count);
}

static json_t *latency_json(const struct nbd_counts *counts)
{
	json_t *out = json_array();

	for (unsigned i = 0; i < NBD_STATS_BUCKETS; i++)
		if (counts->latency[i])
			json_array_append_new(
				out, json_pack("{s:o,s:o}", "below-us",
					       count_json(1ull << i), "count",
					       count_json(counts->latency[i])));
	return out;
}

static void print_json(const char *name, const struct nbd_counts *counts,
		       uint64_t clients)
{
	json_t *out = json_object();

	json_object_set_new(out, "export", json_text(name));
	json_object_set_new(out, "clients", count_json(clients));
	json_object_set_new(out, "depth-max", count_json(counts->depth_max));
	for (unsigned i = 0; i < NBD_STATS_OPS; i++) {
		const struct nbd_op_counts *op = &counts->ops[i];

		if (op->requests)
			json_object_set_new(
				out, nbd_stats_op_name(i),
				json_pack("{s:o,s:o,s:o}", "requests",
					  count_json(op->requests), "errors",
					  count_json(op->errors), "bytes",
					  count_json(op->bytes)));
	}
	json_object_set_new(out, "latency", latency_json(counts));
	if (json_is_whole()) {
		json_dumpf(out, stderr, JSON_COMPACT | JSON_ENSURE_ASCII);
		fputc('\n', stderr);
	}
	json_decref(out);
}

void serve_stats_print(const struct nbd_exports *exports, enum serve_stats how)
{
	for (size_t i = 0; i < exports->count; i++) {
		const struct nbd_export *export = &exports->items[i];
		struct nbd_counts counts;
		uint64_t clients;

		if (!export->stats)
			continue;
		nbd_stats_read(export->stats, &counts, &clients);
		if (how == SERVE_STATS_JSON)
			print_json(export->name, &counts, clients);
		else
			print_human(export->name, &counts, clients);
	}
	fflush(stderr);
}
