/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * When a server that has commands to answer is given up: if none is done within
 * the time that the address says, and no fair number of bytes has moved either;
 * one byte a second would keep a command alive for ever. And at once, if the
 * program is to stop.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "block/bytes.h"
#include "block/clock.h"
#include "block/storage/nbd-connection.h"

/* In the time of a timeout; a line that brings less is none. */
#define MOVING_BYTES (64u << 10)
/* What a socket has sent before it has room again, at the least. */
#define ROOM_BYTES 4096
/* A server writes out what it has, which the disk's speed bounds. */
#define SLOW_FACTOR 10

const char *nbd_command_text(enum nbd_call_kind command)
{
	static const char *const texts[] = {
		[NBD_READ] = "a read",	 [NBD_WRITE] = "a write",
		[NBD_ZERO] = "zeroing",	 [NBD_TRIM] = "a discard",
		[NBD_FLUSH] = "a flush", [NBD_STATUS] = "a question for holes",
	};

	assert(command < NBD_COMMANDS);
	return texts[command];
}

static int64_t limit_ms(const struct nbd_connection *conn)
{
	bool slow = conn->waiting[NBD_FLUSH] || conn->waiting[NBD_ZERO] ||
		    conn->waiting[NBD_TRIM];

	return (int64_t)conn->timeout_ms * (slow ? SLOW_FACTOR : 1);
}

int nbd_silence_left_ms(struct nbd_connection *conn)
{
	int64_t left = conn->still_ms + limit_ms(conn) - clock_now_ms();

	if (left <= 0 || atomic_load(&conn->interrupted))
		return -1;
	/* poll() may come back a little early. */
	return (int)min_u64((uint64_t)left + 1, INT32_MAX);
}

void nbd_silence_over(struct nbd_connection *conn)
{
	conn->still_ms = clock_now_ms();
	conn->still_bytes = 0;
}

/* Costs a call, so that a connection which moves has none of it. */
void nbd_silence_count(struct nbd_connection *conn, short revents)
{
	int bytes = 0;

	if (clock_now_ms() < conn->still_ms + conn->timeout_ms / 4)
		return;
	if (revents & POLLOUT)
		conn->still_bytes += ROOM_BYTES;
	if (revents & POLLIN &&
	    !ioctl(conn->lib->aio_get_fd(conn->handle), FIONREAD, &bytes))
		conn->still_bytes += (unsigned)bytes;
	if (conn->still_bytes >= MOVING_BYTES)
		nbd_silence_over(conn);
}

/*
 * libnbd answers all commands when it finds the connection closed, and has no
 * other way to give them up. What has arrived before comes first, an answer in
 * each step; that is no more than the socket holds, and nothing comes after it.
 */
static void cut(struct nbd_connection *conn)
{
	const struct nbd_library *lib = conn->lib;
	struct nbd_handle *h = conn->handle;
	int fd = lib->aio_get_fd(h);

	if (fd >= 0)
		shutdown(fd, SHUT_RDWR);
	while (!lib->aio_is_dead(h) && !lib->aio_is_closed(h)) {
		if (lib->aio_get_direction(h) & LIBNBD_AIO_DIRECTION_READ)
			lib->aio_notify_read(h);
		else
			lib->aio_notify_write(h);
	}
	conn->broken = true;
}

void nbd_silence_give_up(struct nbd_connection *conn)
{
	bool interrupted = atomic_load(&conn->interrupted);

	conn->lost_ret = interrupted ? -ECANCELED : -ETIMEDOUT;
	conn->silence.ms = (int)min_u64((uint64_t)limit_ms(conn), INT32_MAX);
	for (int i = 0; !interrupted && i < NBD_COMMANDS; i++)
		if (conn->waiting[i])
			conn->silence.command = (enum nbd_call_kind)i;
	cut(conn);
}
