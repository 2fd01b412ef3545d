/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Credentials for TLS that images name by an id, as QEMU has it: what the user
 * described with --object before. Those of a kind that is not for TLS are in
 * the list as well, so that a wrong name is told from an unknown one.
 *
 * The list is of the process: filled before there are threads, never emptied.
 */
#ifndef PLATTER_BLOCK_TLS_CREDS_H
#define PLATTER_BLOCK_TLS_CREDS_H

#include <stdbool.h>

enum tls_creds_kind {
	TLS_CREDS_OTHER, /* an object of another use */
	TLS_CREDS_X509,	 /* dir: ca-cert.pem, client-cert.pem, ... */
	TLS_CREDS_PSK,	 /* dir: keys.psk */
};

struct tls_creds {
	enum tls_creds_kind kind;
	bool is_server; /* for the server's end of a connection */
	bool verify_peer;
	const char *id, *dir, *username; /* the last two may be NULL */
};

/* Copies all of it. -EEXIST, -ENOMEM. */
int tls_creds_add(const struct tls_creds *creds);

/* NULL: nothing has this id. Good until the program ends. */
const struct tls_creds *tls_creds_find(const char *id);

#endif
