/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * TLS in the words of qemu-nbd: credentials and rules are objects, and options
 * name them. Its texts are kept where scripts may look for them.
 */
#ifndef PLATTER_CLI_QEMU_NBD_TLS_H
#define PLATTER_CLI_QEMU_NBD_TLS_H

#include <stdbool.h>

#include "cli/object.h"
#include "nbd-server/tls.h"

struct nbd_address;

struct qemu_nbd_tls {
	const char *creds, *hostname, *authz; /* the words, or NULL */

	char *psk_file;
	struct tls_rule *rules;
	struct tls_authz rules_of; /* what `args` points to */
	struct tls_args args;
	bool required; /* of clients, and so it is of us */
};

/* Both: false after a message. Without the words nothing is done. */
bool qemu_nbd_tls_serve(struct qemu_nbd_tls *tls,
			const struct object_list *objects);
/* Fills what `address` says of TLS; borrowed. */
bool qemu_nbd_tls_list(struct qemu_nbd_tls *tls, struct nbd_address *address);
void qemu_nbd_tls_release(struct qemu_nbd_tls *tls);

#endif
