/* SPDX-License-Identifier: BSD-3-Clause */
/* Words about TLS, made into keys and rules: see serve-tls.h. */
#include "cli/serve-tls.h"

#include <stdlib.h>
#include <string.h>

#include "cli/message.h"
#include "cli/serve-run.h"

static bool has_keys(const struct serve_tls_words *words)
{
	return words->certificates || words->psk_file;
}

bool serve_tls_is_given(const struct serve_tls_words *words)
{
	return words->mode || has_keys(words) || words->verify_peer ||
	       words->names.count;
}

bool serve_tls_add_name(struct serve_tls_words *words, const char *name)
{
	struct arg_list *names = &words->names;
	const char **longer = reallocarray((void *)names->items,
					   names->count + 1, sizeof(*longer));

	if (!longer)
		return false;
	names->items = longer;
	names->items[names->count++] = name;
	return true;
}

/* A server that was given keys and no mode lets nobody in without TLS. */
static bool take_mode(const struct serve_tls_words *words,
		      struct serve_plan *plan)
{
	const char *mode = words->mode;

	if (!mode)
		mode = has_keys(words) ? "require" : "off";
	plan->tls_required = !strcmp(mode, "require");
	if (!plan->tls_required && strcmp(mode, "on") && strcmp(mode, "off")) {
		message_usage("--tls is off, on or require, not '%s'", mode);
		return false;
	}
	if (has_keys(words) == (strcmp(mode, "off") != 0))
		return true;
	message_usage(has_keys(words) ? "--tls off goes with no keys"
				      : "--tls %s needs --tls-certificates or "
					"--tls-psk",
		      mode);
	return false;
}

static bool go_together(const struct serve_tls_words *words, bool required)
{
	const char *text = NULL;

	if (words->certificates && words->psk_file)
		text = "--tls-certificates and --tls-psk exclude each other";
	else if (words->verify_peer && !words->certificates)
		text = "--tls-verify-peer needs --tls-certificates";
	else if ((words->verify_peer || words->names.count) && !required)
		text = "--tls-verify-peer and --tls-authz need --tls require: "
		       "whoever comes in the clear is not asked";
	else if (words->names.count && !words->verify_peer && !words->psk_file)
		text = "--tls-authz needs --tls-verify-peer or --tls-psk";
	if (text)
		message_usage("%s", text);
	return !text;
}

static bool take_names(struct serve_tls_words *words)
{
	size_t count = words->names.count;

	words->rules = calloc(count, sizeof(*words->rules));
	if (!words->rules) {
		message_error("No memory for %zu names", count);
		return false;
	}
	for (size_t i = 0; i < count; i++)
		words->rules[i] = (struct tls_rule){
			.match = words->names.items[i], .allow = true};
	words->authz =
		(struct tls_authz){.rules = words->rules, .rule_count = count};
	return true;
}

bool serve_tls_take(struct serve_tls_words *words, struct serve_plan *plan)
{
	if (!take_mode(words, plan) || !go_together(words, plan->tls_required))
		return false;
	plan->tls = (struct tls_args){
		.certificates = words->certificates,
		.psk_file = words->psk_file,
		.verify_peer = words->verify_peer,
	};
	if (!words->names.count)
		return true;
	plan->tls.authz = &words->authz;
	return take_names(words);
}

void serve_tls_release(struct serve_tls_words *words)
{
	free(words->names.items);
	free(words->rules);
	*words = (struct serve_tls_words){0};
}
