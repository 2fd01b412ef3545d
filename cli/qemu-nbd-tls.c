/* SPDX-License-Identifier: BSD-3-Clause */
/* Objects, made into keys and rules: see qemu-nbd-tls.h. */
#include "cli/qemu-nbd-tls.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/options.h"
#include "block/storage/nbd-address.h"
#include "block/tls-creds.h"
#include "cli/message.h"

/* ---- credentials ---- */

static const struct tls_creds *find_creds(const char *id, bool server)
{
	const struct tls_creds *creds = tls_creds_find(id);

	if (!creds)
		message_error("Failed to get TLS creds: No TLS credentials "
			      "with id '%s'",
			      id);
	else if (creds->kind == TLS_CREDS_OTHER)
		message_error("Failed to get TLS creds: Object with id '%s' is "
			      "not TLS credentials",
			      id);
	else if (creds->is_server != server)
		message_error("Failed to get TLS creds: Expected TLS "
			      "credentials for a %s endpoint",
			      server ? "server" : "client");
	else
		return creds;
	return NULL;
}

/* The username is set with the keys of a client only. */
static bool take_creds(struct qemu_nbd_tls *tls, bool server,
		       const char **username)
{
	const struct tls_creds *creds = find_creds(tls->creds, server);

	if (!creds)
		return false;
	tls->required = true;
	tls->args.verify_peer = creds->verify_peer;
	*username = creds->username;
	if (creds->kind == TLS_CREDS_X509) {
		tls->args.certificates = creds->dir;
		return true;
	}
	if (asprintf(&tls->psk_file, "%s/keys.psk", creds->dir) < 0) {
		tls->psk_file = NULL;
		message_error("Out of memory");
		return false;
	}
	tls->args.psk_file = tls->psk_file;
	return true;
}

/* ---- who may come ---- */

static bool refuse_value(const char *key, const char *value)
{
	message_error("Parameter '%s' does not accept value '%s'", key, value);
	return false;
}

static bool take_policy(const char *value, bool *allow)
{
	*allow = value && !strcmp(value, "allow");
	return !value || *allow || !strcmp(value, "deny") ||
	       refuse_value("policy", value);
}

static const char *rule_word(const struct options *object, size_t i,
			     const char *word)
{
	char key[64];

	snprintf(key, sizeof(key), "rules.%zu.%s", i, word);
	return options_get(object, key);
}

static bool take_rule(struct tls_rule *rule, const struct options *object,
		      size_t i)
{
	const char *format = rule_word(object, i, "format");
	const char *policy = rule_word(object, i, "policy");

	rule->match = rule_word(object, i, "match");
	if (!rule->match || !policy) {
		message_error("Parameter 'rules.%zu.%s' is missing", i,
			      rule->match ? "policy" : "match");
		return false;
	}
	rule->glob = format && !strcmp(format, "glob");
	if (format && !rule->glob && strcmp(format, "exact"))
		return refuse_value("format", format);
	return take_policy(policy, &rule->allow);
}

static size_t words_of_rule(const struct options *object, size_t i)
{
	return !!rule_word(object, i, "match") +
	       !!rule_word(object, i, "policy") +
	       !!rule_word(object, i, "format");
}

/* Rules that are counted on, one after the other, and nothing else. */
static bool count_rules(const struct options *object, size_t *count)
{
	size_t words = 0, taken = 0, more;

	for (size_t i = 0; i < object->count; i++)
		words += !strncmp(object->items[i].name, "rules.", 6);
	for (*count = 0; (more = words_of_rule(object, *count)); ++*count)
		taken += more;
	if (taken != words)
		message_error("The rules of an authz-list are rules.0, "
			      "rules.1, ..., of the words match, policy and "
			      "format, each once");
	return taken == words;
}

static bool take_list(struct qemu_nbd_tls *tls, const struct options *object)
{
	struct tls_authz *authz = &tls->rules_of;

	if (!take_policy(options_get(object, "policy"), &authz->otherwise) ||
	    !count_rules(object, &authz->rule_count))
		return false;
	tls->rules = calloc(authz->rule_count + 1, sizeof(*tls->rules));
	if (!tls->rules) {
		message_error("No memory for %zu rules", authz->rule_count);
		return false;
	}
	for (size_t i = 0; i < authz->rule_count; i++)
		if (!take_rule(&tls->rules[i], object, i))
			return false;
	return true;
}

static bool take_name(struct qemu_nbd_tls *tls, const struct options *object)
{
	const char *identity = options_get(object, "identity");

	if (!identity) {
		message_error("Parameter 'identity' is missing");
		return false;
	}
	tls->rules = calloc(1, sizeof(*tls->rules));
	if (!tls->rules) {
		message_error("Out of memory");
		return false;
	}
	tls->rules[0] = (struct tls_rule){.match = identity, .allow = true};
	tls->rules_of.rule_count = 1;
	return true;
}

static bool take_authz(struct qemu_nbd_tls *tls,
		       const struct object_list *objects)
{
	const struct options *object = object_find(objects, tls->authz);
	const char *type = object ? object_type(object) : "";
	bool good = false;

	if (!object)
		message_error("No authorization object with id '%s'",
			      tls->authz);
	else if (!strcmp(type, "authz-simple"))
		good = take_name(tls, object);
	else if (!strcmp(type, "authz-list"))
		good = take_list(tls, object);
	else
		message_error("--tls-authz takes authz-simple and authz-list, "
			      "not %s",
			      type);
	tls->rules_of.rules = tls->rules;
	tls->rules_of.as_qemu = true;
	tls->args.authz = &tls->rules_of;
	return good;
}

/* ---- both uses ---- */

static bool has_creds(const struct qemu_nbd_tls *tls)
{
	if (!tls->creds && (tls->authz || tls->hostname))
		message_error("%s is not permitted without --tls-creds",
			      tls->hostname ? "--tls-hostname" : "--tls-authz");
	return tls->creds || (!tls->authz && !tls->hostname);
}

bool qemu_nbd_tls_serve(struct qemu_nbd_tls *tls,
			const struct object_list *objects)
{
	const char *username;

	if (!has_creds(tls))
		return false;
	if (!tls->creds)
		return true;
	if (tls->hostname) {
		message_error("TLS hostname is only supported with export "
			      "list");
		return false;
	}
	return take_creds(tls, true, &username) &&
	       (!tls->authz || take_authz(tls, objects));
}

/* The address only borrows them; it has no const. */
static char *borrow(const char *text)
{
	return (char *)(uintptr_t)text;
}

bool qemu_nbd_tls_list(struct qemu_nbd_tls *tls, struct nbd_address *address)
{
	const char *username;

	if (!has_creds(tls))
		return false;
	if (!tls->creds)
		return true;
	if (tls->authz) {
		message_error("TLS authorization is incompatible with export "
			      "list");
		return false;
	}
	if (!take_creds(tls, false, &username))
		return false;
	address->tls = true;
	address->tls_trust_any = !tls->args.verify_peer;
	address->tls_certificates = borrow(tls->args.certificates);
	address->tls_psk_file = tls->psk_file;
	address->tls_username = borrow(username);
	address->tls_hostname = borrow(tls->hostname);
	return true;
}

void qemu_nbd_tls_release(struct qemu_nbd_tls *tls)
{
	free(tls->psk_file);
	free(tls->rules);
}
