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

struct tls_args {
	const char *certificates; /* folder; or NULL */
	const char *psk_file;	  /* lines of user:hexkey; or NULL */
	bool verify_peer;	  /* clients need a certificate of our CA */
	/* Who may come; none: all that the keys let in. Borrowed. */
	const char *const *authz;
	size_t authz_count;
};

/* Made before the first client, then read by any thread. */
struct tls_context *tls_context_open(const struct tls_args *args,
				     struct error *err);
void tls_context_close(struct tls_context *tls);

/*
 * Makes `fd` non-blocking and shakes hands until `deadline_ms` (0: none); the
 * peer is authorised when this returns. A send stalls for less than `stall_ms`.
 */
int tls_session_open(struct tls_session **out, const struct tls_context *tls,
		     int fd, int64_t deadline_ms, unsigned stall_ms);
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
