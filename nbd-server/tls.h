/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * TLS for channels: keys and rules that all clients share, and one session for
 * each client. TLS 1.2 and 1.3; no tickets, renegotiation, compression or
 * early data. Errors are negative errno; secrets are cleansed when released.
 */
#ifndef PLATTER_NBD_SERVER_TLS_H
#define PLATTER_NBD_SERVER_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct error;
struct tls_context;
struct tls_session;

struct tls_rule {
	const char *match;
	bool glob; /* `*` and `?` stand for any characters and for one */
	bool allow;
};

/*
 * For those whom the keys let in; the first rule that matches decides. It is
 * about the user of a key, or the distinguished name of a certificate (RFC
 * 4514: the most special part first), or, if it holds no `=`, the common name.
 */
struct tls_authz {
	const struct tls_rule *rules;
	size_t rule_count;
	bool otherwise; /* whether those may come whom no rule matches */
	/* As QEMU has it: only the first, in the order of the certificate. */
	bool as_qemu;
};

struct tls_args {
	const char *certificates; /* folder; or NULL */
	const char *psk_file;	  /* lines of user:hexkey; or NULL */
	bool verify_peer;	  /* clients need a certificate of our CA */
	const struct tls_authz *authz; /* NULL: all may come; borrowed */
};

/* Made before the first client, then read by any thread. */
struct tls_context *tls_context_open(const struct tls_args *args,
				     struct error *err);
void tls_context_close(struct tls_context *tls);

/*
 * Makes `fd` non-blocking and shakes hands until `deadline_ms` (0: none); the
 * peer is authorised when this returns. A send stalls for less than `stall_ms`.
 * The error says what a log should tell, and quotes the peer's words.
 */
int tls_session_open(struct tls_session **out, const struct tls_context *tls,
		     int fd, int64_t deadline_ms, unsigned stall_ms,
		     struct error *err);
/* Tells the peer that this is the end; does not wait. */
void tls_session_end(struct tls_session *session);
void tls_session_close(struct tls_session *session);

/* At most `len`; waits for the first byte. 0: the end. */
int64_t tls_session_read(struct tls_session *session, void *buf, size_t len,
			 int64_t deadline_ms);
/* Whether bytes are deciphered and wait in memory, where poll() sees none. */
bool tls_session_has_input(struct tls_session *session);
/* Whether a read would return at once; takes what the socket has. */
bool tls_session_is_ready(struct tls_session *session);
/* All of it, in full records. */
int tls_session_writev(struct tls_session *session, const struct iovec *iov,
		       int iov_count, int64_t deadline_ms);

#endif
