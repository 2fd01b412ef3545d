/* SPDX-License-Identifier: BSD-3-Clause */
/* What tls.c, tls-psk.c and tls-session.c share. */
#ifndef PLATTER_NBD_SERVER_TLS_PRIVATE_H
#define PLATTER_NBD_SERVER_TLS_PRIVATE_H

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
	const char *const *authz; /* borrowed */
	size_t authz_count;
};

int tls_psk_load(struct tls_context *tls, const char *path, struct error *err);
void tls_psk_release(struct tls_context *tls);
const struct tls_psk *tls_psk_find(const struct tls_context *tls,
				   const char *user);

/* Of the handshake that is done; `user`: of the PSK, or NULL. */
bool tls_is_authorised(const struct tls_context *tls, const SSL *ssl,
		       const char *user);

/* tls-session.c; for TLS 1.2 and, called by OpenSSL, 1.3 as well. */
unsigned tls_session_psk(SSL *ssl, const char *user, unsigned char *key,
			 unsigned key_max);

#endif
