/* SPDX-License-Identifier: BSD-3-Clause */
/* Sockets of clients: see channel.h. */
#include "nbd-server/channel.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "block/clock.h"
#include "nbd-server/tls.h"

/* After which somebody may want to know that nothing moves. */
#define PATIENCE_MS 100

void channel_init(struct channel *ch, int fd, unsigned stall_ms)
{
	unsigned patience = stall_ms < PATIENCE_MS ? stall_ms : PATIENCE_MS;
	struct timeval wait = {.tv_usec = patience * 1000};
	int on = 1;

	*ch = (struct channel){
		.fd = fd, .stall_ms = stall_ms, .patience_ms = patience};
	/* Fails on what is no TCP, where nothing is delayed. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
}

int channel_start_tls(struct channel *ch, const struct tls_context *tls,
		      struct error *err)
{
	return tls_session_open(&ch->tls, tls, ch->fd, ch->deadline_ms,
				ch->stall_ms, err);
}

/* Until there is something to read; only handshakes have a deadline. */
static int wait_for_input(const struct channel *ch)
{
	struct pollfd fd = {.fd = ch->fd, .events = POLLIN};

	while (ch->deadline_ms) {
		int64_t left = ch->deadline_ms - clock_now_ms();
		int ret;

		if (left <= 0)
			return -ETIMEDOUT;
		ret = poll(&fd, 1, left > INT_MAX ? INT_MAX : (int)left);
		if (ret > 0)
			break;
		if (ret < 0 && errno != EINTR)
			return -errno;
	}
	return 0;
}

int64_t channel_read_some(struct channel *ch, void *buf, size_t len)
{
	ssize_t done;
	int ret;

	if (ch->tls)
		return tls_session_read(ch->tls, buf, len, ch->deadline_ms);
	ret = wait_for_input(ch);
	if (ret < 0)
		return ret;
	do {
		done = recv(ch->fd, buf, len, 0);
	} while (done < 0 && errno == EINTR);
	return done < 0 ? -errno : done;
}

int channel_read(struct channel *ch, void *buf, size_t len)
{
	uint8_t *at = buf;

	while (len) {
		int64_t done = channel_read_some(ch, at, len);

		if (done <= 0)
			return done ? (int)done : -ECONNRESET;
		at += done;
		len -= (size_t)done;
	}
	return 0;
}

bool channel_may_fault(const struct channel *ch)
{
	/* Enciphering reads the bytes here, in the process. */
	return !ch->tls;
}

bool channel_wait(struct channel *ch, int other_fd, int timeout_ms)
{
	struct pollfd fds[2] = {
		{.fd = ch->fd, .events = POLLIN},
		{.fd = other_fd, .events = POLLIN},
	};

	if (ch->tls && tls_session_has_input(ch->tls))
		return true;
	if (poll(fds, 2, timeout_ms) <= 0 || !fds[0].revents)
		return false;
	/* Half a record is nothing to read yet. */
	return !ch->tls || tls_session_is_ready(ch->tls);
}

static void advance(struct iovec **iov, int *iov_count, size_t done)
{
	while (*iov_count && done >= (*iov)->iov_len) {
		done -= (*iov)->iov_len;
		++*iov;
		--*iov_count;
	}
	if (*iov_count) {
		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + done;
		(*iov)->iov_len -= done;
	}
}

int channel_send(struct channel *ch, struct iovec **iov, int *iov_count)
{
	advance(iov, iov_count, 0);
	while (*iov_count) {
		struct msghdr msg = {
			.msg_iov = *iov,
			.msg_iovlen =
				*iov_count < IOV_MAX ? *iov_count : IOV_MAX,
		};
		ssize_t done = sendmsg(ch->fd, &msg, MSG_NOSIGNAL);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		advance(iov, iov_count, (size_t)done);
	}
	return 0;
}

static bool is_late(const struct channel *ch)
{
	return ch->deadline_ms && clock_now_ms() >= ch->deadline_ms;
}

int channel_writev(struct channel *ch, struct iovec *iov, int iov_count)
{
	unsigned stalled_ms = 0;

	if (ch->tls)
		return tls_session_writev(ch->tls, iov, iov_count,
					  ch->deadline_ms);
	for (;;) {
		const struct iovec before =
			iov_count ? *iov : (struct iovec){0};
		int ret = channel_send(ch, &iov, &iov_count);

		if (ret != -EAGAIN)
			return ret;
		if (iov->iov_base != before.iov_base)
			stalled_ms = 0;
		stalled_ms += ch->patience_ms;
		if (stalled_ms >= ch->stall_ms || is_late(ch))
			return -ETIMEDOUT;
	}
}

int channel_write(struct channel *ch, const void *buf, size_t len)
{
	/* A vector has no const; nothing is written through it. */
	struct iovec iov = {(void *)(uintptr_t)buf, len};

	return channel_writev(ch, &iov, 1);
}

void channel_end_input(struct channel *ch)
{
	shutdown(ch->fd, SHUT_RD);
}

void channel_end(struct channel *ch)
{
	if (ch->tls)
		tls_session_end(ch->tls);
	shutdown(ch->fd, SHUT_RDWR);
}

void channel_close(struct channel *ch)
{
	tls_session_close(ch->tls);
	ch->tls = NULL;
	close(ch->fd);
	ch->fd = -1;
}
