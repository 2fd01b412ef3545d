/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files tls*.c share. */
#ifndef PLATTER_NBD_SERVER_TLS_PRIVATE_H
#define PLATTER_NBD_SERVER_TLS_PRIVATE_H

#include "block/quote.h"
#include "nbd-server/tls-library.h"
#include "nbd-server/tls.h"

struct tls_psk {
	char *user;
	uint8_t *key;
	size_t key_len;
};

struct tls_context {
	const struct tls_library *lib;
	SSL_CTX *ctx;
	struct tls_psk *psks;
	size_t psk_count;
	const struct tls_authz *authz; /* borrowed */
};

int tls_psk_load(struct tls_context *tls, const char *path, struct error *err);
void tls_psk_release(struct tls_context *tls);
const struct tls_psk *tls_psk_find(const struct tls_context *tls,
				   const char *user);

/*
 * tls-authz.c: once the handshake is done, by the key of `user`, or NULL. The
 * error names who was refused.
 */
int tls_authorise(const struct tls_context *tls, const SSL *ssl, char *user,
		  struct error *err);

/* tls-handshake.c; for TLS 1.2 and, called by OpenSSL, 1.3 as well. */
unsigned tls_session_psk(SSL *ssl, const char *user, unsigned char *key,
			 unsigned key_max);

#define TLS_RECORD_BYTES (16u * 1024)

struct tls_session {
	const struct tls_library *lib;
	SSL *ssl;
	const struct tls_context *tls;
	int fd;
	int stall_ms;
	char *user;		    /* whose key was taken; of the context */
	struct quoted_name unknown; /* who has no key; empty: nobody asked */
	uint8_t record[TLS_RECORD_BYTES];
};

/*
 * After a call of OpenSSL's that returned `result`: 0: again, once what it
 * waited for is there; 1: the end; or a negative errno.
 */
int tls_session_after(struct tls_session *session, int result,
		      int64_t deadline_ms);

#endif
