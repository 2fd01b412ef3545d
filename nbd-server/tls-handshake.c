/* SPDX-License-Identifier: BSD-3-Clause */
/* The beginning of a client's TLS: who it is, or why it may not come in. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "nbd-server/tls-private.h"

/* OpenSSL knows no more than this of whose session it calls us for. */
#define SESSION_SLOT 0

unsigned tls_session_psk(SSL *ssl, const char *user, unsigned char *key,
			 unsigned key_max)
{
	struct tls_session *session =
		tls_library_get(NULL)->SSL_get_ex_data(ssl, SESSION_SLOT);
	const struct tls_psk *psk = tls_psk_find(session->tls, user);

	if (!psk || psk->key_len > key_max) {
		quote_name(&session->unknown, user);
		return 0;
	}
	session->user = psk->user;
	memcpy(key, psk->key, psk->key_len);
	return (unsigned)psk->key_len;
}

/* What went wrong, of what OpenSSL has seen. */
static int refuse(const struct tls_session *session, struct error *err)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());
	long verdict = session->lib->SSL_get_verify_result(session->ssl);

	if (!reason)
		reason = "unknown reason";
	if (*session->unknown.text)
		return error_set(err, EPROTO, "no key of '%s': %s",
				 session->unknown.text, reason);
	if (verdict != X509_V_OK)
		return error_set(err, EPROTO, "%s: %s", reason,
				 X509_verify_cert_error_string(verdict));
	return error_set(err, EPROTO, "%s", reason);
}

static int fail(const struct tls_session *session, int ret, struct error *err)
{
	switch (ret) {
	case -EPROTO:
		ret = refuse(session, err);
		break;
	case -ETIMEDOUT:
		error_set(err, ETIMEDOUT, "it took too long");
		break;
	case -ECONNRESET:
	case -EPIPE:
		error_set(err, -ret, "the client has gone");
		break;
	default:
		error_default(err, ret, "the socket failed");
	}
	error_prefix(err, "TLS handshake failed: ");
	return ret;
}

static int shake_hands(struct tls_session *session, int64_t deadline_ms,
		       struct error *err)
{
	for (;;) {
		int result, ret;

		ERR_clear_error();
		result = session->lib->SSL_accept(session->ssl);
		if (result == 1)
			break;
		ret = tls_session_after(session, result, deadline_ms);
		if (ret)
			return fail(session, ret < 0 ? ret : -ECONNRESET, err);
	}
	return tls_authorise(session->tls, session->ssl, session->user, err);
}

static int set_up(struct tls_session *session, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	session->fd = fd;
	session->ssl = session->lib->SSL_new(session->tls->ctx);
	if (!session->ssl)
		return -ENOMEM;
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		return -errno;
	if (session->lib->SSL_set_ex_data(session->ssl, SESSION_SLOT,
					  session) != 1 ||
	    session->lib->SSL_set_fd(session->ssl, fd) != 1)
		return -ENOMEM;
	return 0;
}

int tls_session_open(struct tls_session **out, const struct tls_context *tls,
		     int fd, int64_t deadline_ms, unsigned stall_ms,
		     struct error *err)
{
	struct tls_session *session = calloc(1, sizeof(*session));
	int ret;

	if (!session)
		return error_set_errno(err, ENOMEM, "No TLS session");
	session->lib = tls->lib;
	session->tls = tls;
	session->stall_ms = (int)stall_ms;
	ret = set_up(session, fd);
	if (ret < 0)
		error_set_errno(err, -ret, "No TLS session");
	else
		ret = shake_hands(session, deadline_ms, err);
	if (ret < 0) {
		tls_session_close(session);
		return ret;
	}
	*out = session;
	return 0;
}
