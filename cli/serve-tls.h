/* SPDX-License-Identifier: BSD-3-Clause */
/* The words of `serve` about TLS. */
#ifndef PLATTER_CLI_SERVE_TLS_H
#define PLATTER_CLI_SERVE_TLS_H

#include <stdbool.h>

#include "cli/args.h"
#include "nbd-server/tls.h"

struct serve_plan;

struct serve_tls_words {
	const char *mode, *certificates, *psk_file;
	bool verify_peer;
	struct arg_list names; /* who may come */
	struct tls_rule *rules;
	struct tls_authz authz;
};

/* Has any of them been said? */
bool serve_tls_is_given(const struct serve_tls_words *words);
/* One more who may come; false: no memory. */
bool serve_tls_add_name(struct serve_tls_words *words, const char *name);

/* Fills the plan, which borrows the words. False after a message. */
bool serve_tls_take(struct serve_tls_words *words, struct serve_plan *plan);
void serve_tls_release(struct serve_tls_words *words);

#endif
