/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What one client and we say by TLS. The socket does not block, so that
 * deadlines and stalls are ours to keep: whenever OpenSSL lacks something,
 * poll() waits for it.
 */
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "block/clock.h"
#include "nbd-server/tls-private.h"

/* Until the deadline, if there is one, and no longer than a stall to send. */
static int wait_for(const struct tls_session *session, short events,
		    int64_t deadline_ms)
{
	struct pollfd fd = {.fd = session->fd, .events = events};
	int64_t left = events == POLLOUT ? session->stall_ms : INT_MAX;
	int64_t until = deadline_ms ? deadline_ms - clock_now_ms() : left;
	int ret;

	if (until < left)
		left = until;
	if (left <= 0)
		return -ETIMEDOUT;
	ret = poll(&fd, 1, left == INT_MAX ? -1 : (int)left);
	if (ret < 0 && errno != EINTR)
		return -errno;
	return ret ? 0 : -ETIMEDOUT;
}

int tls_session_after(struct tls_session *session, int result,
		      int64_t deadline_ms)
{
	int error = errno;

	switch (session->lib->SSL_get_error(session->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		return wait_for(session, POLLIN, deadline_ms);
	case SSL_ERROR_WANT_WRITE:
		return wait_for(session, POLLOUT, deadline_ms);
	case SSL_ERROR_ZERO_RETURN:
		return 1;
	case SSL_ERROR_SYSCALL:
		return error ? -error : -ECONNRESET;
	default:
		return -EPROTO;
	}
}

void tls_session_end(struct tls_session *session)
{
	ERR_clear_error();
	session->lib->SSL_shutdown(session->ssl);
	ERR_clear_error();
}

void tls_session_close(struct tls_session *session)
{
	if (!session)
		return;
	session->lib->SSL_free(session->ssl);
	OPENSSL_cleanse(session->record, sizeof(session->record));
	free(session);
}

int64_t tls_session_read(struct tls_session *session, void *buf, size_t len,
			 int64_t deadline_ms)
{
	for (;;) {
		size_t done;
		int result, ret;

		ERR_clear_error();
		result = session->lib->SSL_read_ex(session->ssl, buf, len,
						   &done);
		if (result == 1)
			return (int64_t)done;
		ret = tls_session_after(session, result, deadline_ms);
		if (ret)
			return ret < 0 ? ret : 0;
	}
}

bool tls_session_has_input(struct tls_session *session)
{
	return session->lib->SSL_pending(session->ssl) > 0;
}

bool tls_session_is_ready(struct tls_session *session)
{
	uint8_t byte;
	size_t done;
	int result;

	ERR_clear_error();
	result = session->lib->SSL_peek_ex(session->ssl, &byte, 1, &done);
	return result == 1 ||
	       session->lib->SSL_get_error(session->ssl, result) !=
		       SSL_ERROR_WANT_READ;
}

static int write_all(struct tls_session *session, const uint8_t *buf,
		     size_t len, int64_t deadline_ms)
{
	while (len) {
		size_t done;
		int result, ret;

		ERR_clear_error();
		result = session->lib->SSL_write_ex(session->ssl, buf, len,
						    &done);
		if (result == 1) {
			buf += done;
			len -= done;
			continue;
		}
		ret = tls_session_after(session, result, deadline_ms);
		if (ret)
			return ret < 0 ? ret : -ECONNRESET;
	}
	return 0;
}

/* Large pieces go as they are; what is smaller shares a record. */
int tls_session_writev(struct tls_session *session, const struct iovec *iov,
		       int iov_count, int64_t deadline_ms)
{
	size_t used = 0;
	int ret = 0;

	for (; iov_count && !ret; iov++, iov_count--) {
		const uint8_t *at = iov->iov_base;
		size_t left = iov->iov_len;

		while (left && !ret) {
			bool whole = !used && left >= TLS_RECORD_BYTES;
			size_t len = whole ? left - left % TLS_RECORD_BYTES
					   : TLS_RECORD_BYTES - used;

			if (len > left)
				len = left;
			if (whole) {
				ret = write_all(session, at, len, deadline_ms);
			} else {
				memcpy(session->record + used, at, len);
				used += len;
			}
			at += len;
			left -= len;
			if (used == TLS_RECORD_BYTES) {
				ret = write_all(session, session->record, used,
						deadline_ms);
				used = 0;
			}
		}
	}
	return ret ? ret
		   : write_all(session, session->record, used, deadline_ms);
}
