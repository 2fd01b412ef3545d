/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands on one connection: see nbd-connection.h.
 *
 * libnbd holds its own lock while it polls, which would keep all others from
 * sending; so we poll, without any lock, and tell it what the socket can do.
 * A thread that has sent something meanwhile wakes the one that polls, if that
 * does not wait for room in the socket yet and has to.
 */
#include "block/storage/nbd-connection.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Commands of one call on their way; enough to hide what a round trip takes. */
#define CALL_PENDING_MAX 16
/* Steps for the answers of others, while one's own may be there. */
#define AT_ONCE_MAX 64

/* ---- answers ---- */

/*
 * libnbd calls this for each command, with the errno of the server's error, or
 * ENOTCONN once the connection is gone.
 */
static int command_done(void *opaque, int *error)
{
	struct nbd_call *call = opaque;

	assert(call->pending > 0 && call->conn->waiting[call->command] > 0);
	call->pending--;
	call->conn->waiting[call->command]--;
	nbd_silence_over(call->conn);
	if (*error && !call->ret)
		call->ret = *error == ENOTCONN ? call->conn->lost_ret : -*error;
	if (call->asleep && !call->is_due) {
		call->is_due = true;
		call->next_due = call->conn->due;
		call->conn->due = call;
	}
	return 1; /* libnbd forgets the command */
}

/*
 * After anything that may have brought answers, and not in the midst of it:
 * those who wake want the lock at once.
 */
static void wake_due_locked(struct nbd_connection *conn)
{
	while (conn->due) {
		struct nbd_call *call = conn->due;

		conn->due = call->next_due;
		call->is_due = false;
		pthread_cond_signal(&call->woken);
	}
}

/* Of the bytes in [off, off + len), modulo 2^64. */
static uint64_t sum_of_offsets(uint64_t off, uint64_t len)
{
	uint64_t steps = len % 2 ? len * ((len - 1) / 2) : len / 2 * (len - 1);

	return off * len + steps;
}

/*
 * Called for each part of an answer. libnbd sees that parts lie inside the
 * request; that nothing is left out is for us to see, or its buffer, which has
 * zeros in it, would be taken for the disk. Nor does it mind a part that comes
 * twice, so the offsets are added up as well: that of one byte in place of
 * another's is noticed.
 */
static int part_came(void *opaque, const void *part, size_t len, uint64_t off,
		     unsigned status, int *error)
{
	struct nbd_call *call = opaque;

	(void)part;
	(void)error;
	if (status != LIBNBD_READ_ERROR) {
		call->missing -= len;
		call->missing_at -= sum_of_offsets(off, len);
	}
	return 0;
}

static void check_alive(struct nbd_connection *conn)
{
	if (conn->lib->aio_is_dead(conn->handle) != 0 ||
	    conn->lib->aio_is_closed(conn->handle) != 0)
		conn->broken = true;
}

/* ---- moving bytes ---- */

static void drain_wake(struct nbd_connection *conn)
{
	eventfd_t count;

	eventfd_read(conn->wake_fd, &count); /* nothing there is fine */
}

static short poll_events(unsigned direction)
{
	return (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
		       (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
}

/* What the socket can do, as far as the connection wants that by now. */
static void notify(struct nbd_connection *conn, short revents)
{
	unsigned wanted = conn->lib->aio_get_direction(conn->handle);
	short broken = revents & (POLLERR | POLLHUP | POLLNVAL);

	nbd_silence_count(conn, revents);
	if ((revents & POLLIN || broken) && wanted & LIBNBD_AIO_DIRECTION_READ)
		conn->lib->aio_notify_read(conn->handle);
	else if ((revents & POLLOUT || broken) &&
		 wanted & LIBNBD_AIO_DIRECTION_WRITE)
		conn->lib->aio_notify_write(conn->handle);
	check_alive(conn);
}

static bool is_idle(const struct nbd_connection *conn)
{
	for (int i = 0; i < NBD_COMMANDS; i++)
		if (conn->waiting[i])
			return false;
	return true;
}

/*
 * libnbd stops behind each answer. What else has come is taken as well, before
 * those are woken whose answers these are. Where none is waited for nothing is
 * taken: it would be an answer to nothing.
 */
static void take_more(struct nbd_connection *conn, int fd)
{
	int bytes;

	for (int i = 0; i < AT_ONCE_MAX && !conn->broken && !is_idle(conn);
	     i++) {
		if (ioctl(fd, FIONREAD, &bytes) || bytes <= 0)
			return;
		notify(conn, POLLIN);
	}
}

/* Waits for the socket, once, and does what it allows. */
static void pump_locked(struct nbd_connection *conn)
{
	struct pollfd fds[2] = {
		{.fd = conn->lib->aio_get_fd(conn->handle)},
		{.fd = conn->wake_fd, .events = POLLIN},
	};
	int ready, left_ms;

	assert(!conn->polling);
	if (fds[0].fd < 0) {
		conn->broken = true;
		return;
	}
	left_ms = nbd_silence_left_ms(conn);
	if (left_ms < 0) {
		nbd_silence_give_up(conn);
		wake_due_locked(conn);
		return;
	}
	conn->polling = true;
	conn->polled_for = conn->lib->aio_get_direction(conn->handle);
	fds[0].events = poll_events(conn->polled_for);
	pthread_mutex_unlock(&conn->mutex);
	ready = poll(fds, 2, left_ms);
	if (ready > 0 && fds[1].revents)
		drain_wake(conn);
	pthread_mutex_lock(&conn->mutex);
	conn->polling = false;
	if (ready > 0 && fds[0].revents)
		notify(conn, fds[0].revents);
	if (ready > 0 && fds[0].revents & POLLIN)
		take_more(conn, fds[0].fd);
	wake_due_locked(conn);
}

/* What was sent may have to wait for room that nobody waits for. */
static void wake_poller_locked(struct nbd_connection *conn)
{
	unsigned wanted;

	if (!conn->polling)
		return;
	wanted = conn->lib->aio_get_direction(conn->handle);
	if (wanted == conn->polled_for && !conn->broken)
		return;
	conn->polled_for = wanted;
	/* Full means that it is awake already. */
	eventfd_write(conn->wake_fd, 1);
}

/* ---- waiting ---- */

static void sleep_locked(struct nbd_call *call)
{
	struct nbd_connection *conn = call->conn;
	struct nbd_call **at;

	call->asleep = true;
	call->next = conn->sleepers;
	conn->sleepers = call;
	pthread_cond_wait(&call->woken, &conn->mutex);
	for (at = &conn->sleepers; *at != call; at = &(*at)->next)
		;
	*at = call->next;
	call->asleep = false;
	if (conn->heir == call)
		conn->heir = NULL;
}

/* Somebody has to poll as long as anybody waits. */
static void hand_over_locked(struct nbd_connection *conn)
{
	if (conn->polling || conn->heir || !conn->sleepers)
		return;
	conn->heir = conn->sleepers;
	pthread_cond_signal(&conn->heir->woken);
}

static void wait_locked(struct nbd_call *call, unsigned pending_max)
{
	struct nbd_connection *conn = call->conn;

	while (call->pending > pending_max && !conn->broken) {
		if (conn->polling)
			sleep_locked(call);
		else
			pump_locked(conn);
	}
	if (!conn->broken)
		return;
	/* libnbd has answered all commands when it gave the connection up. */
	assert(call->pending == 0);
	if (!call->ret)
		call->ret = conn->lost_ret;
}

void nbd_call_begin(struct nbd_call *call, struct nbd_connection *conn)
{
	*call = (struct nbd_call){.conn = conn};
	pthread_cond_init(&call->woken, NULL);
	pthread_mutex_lock(&conn->mutex);
}

int nbd_call_end(struct nbd_call *call)
{
	struct nbd_connection *conn = call->conn;

	wait_locked(call, 0);
	if (!call->ret && (call->missing || call->missing_at))
		call->ret = -EIO;
	hand_over_locked(conn);
	pthread_mutex_unlock(&conn->mutex);
	pthread_cond_destroy(&call->woken);
	return call->ret;
}

/* ---- commands ---- */

/* Before a command: counted first, as its answer may come while it is sent. */
static bool prepare(struct nbd_call *call, enum nbd_call_kind command)
{
	struct nbd_connection *conn = call->conn;

	assert(!call->pending || call->command == command);
	wait_locked(call, CALL_PENDING_MAX - 1);
	if (call->ret)
		return false;
	if (conn->broken) {
		call->ret = conn->lost_ret;
		return false;
	}
	if (is_idle(conn))
		nbd_silence_over(conn);
	call->command = command;
	call->pending++;
	conn->waiting[command]++;
	return true;
}

/* After it; `cookie` < 0 if it was not sent, and then has no answer. */
static bool sent(struct nbd_call *call, int64_t cookie)
{
	struct nbd_connection *conn = call->conn;

	check_alive(conn);
	wake_due_locked(conn);
	if (cookie < 0) {
		int code = conn->lib->get_errno();
		/* If sending broke the connection it has an answer as well. */
		unsigned left = conn->broken ? call->pending : 1;

		call->pending -= left;
		conn->waiting[call->command] -= left;
		if (!call->ret)
			call->ret =
				conn->broken || !code ? conn->lost_ret : -code;
	}
	wake_poller_locked(conn);
	return call->ret == 0;
}

static nbd_completion_callback when_done(struct nbd_call *call)
{
	return (nbd_completion_callback){
		.callback = command_done,
		.user_data = call,
	};
}

bool nbd_call_read(struct nbd_call *call, void *buf, size_t len, uint64_t off)
{
	const struct nbd_connection *conn = call->conn;
	const nbd_chunk_callback chunk = {
		.callback = part_came,
		.user_data = call,
	};

	if (!prepare(call, NBD_READ))
		return false;
	call->missing += len;
	call->missing_at += sum_of_offsets(off, len);
	return sent(call,
		    conn->lib->aio_pread_structured(conn->handle, buf, len, off,
						    chunk, when_done(call), 0));
}

bool nbd_call_write(struct nbd_call *call, const void *buf, size_t len,
		    uint64_t off)
{
	const struct nbd_connection *conn = call->conn;

	return prepare(call, NBD_WRITE) &&
	       sent(call, conn->lib->aio_pwrite(conn->handle, buf, len, off,
						when_done(call), 0));
}

bool nbd_call_zero(struct nbd_call *call, uint64_t len, uint64_t off,
		   uint32_t flags)
{
	const struct nbd_connection *conn = call->conn;

	return prepare(call, NBD_ZERO) &&
	       sent(call, conn->lib->aio_zero(conn->handle, len, off,
					      when_done(call), flags));
}

bool nbd_call_trim(struct nbd_call *call, uint64_t len, uint64_t off)
{
	const struct nbd_connection *conn = call->conn;

	return prepare(call, NBD_TRIM) &&
	       sent(call, conn->lib->aio_trim(conn->handle, len, off,
					      when_done(call), 0));
}

bool nbd_call_flush(struct nbd_call *call)
{
	const struct nbd_connection *conn = call->conn;

	return prepare(call, NBD_FLUSH) &&
	       sent(call,
		    conn->lib->aio_flush(conn->handle, when_done(call), 0));
}

bool nbd_call_status(struct nbd_call *call, uint64_t len, uint64_t off,
		     nbd_extent_callback extent)
{
	const struct nbd_connection *conn = call->conn;

	return prepare(call, NBD_STATUS) &&
	       sent(call,
		    conn->lib->aio_block_status(conn->handle, len, off, extent,
						when_done(call), 0));
}

bool nbd_connection_is_broken(struct nbd_connection *conn,
			      struct nbd_silence *silence)
{
	bool broken;

	pthread_mutex_lock(&conn->mutex);
	broken = conn->broken;
	*silence = conn->silence;
	pthread_mutex_unlock(&conn->mutex);
	return broken;
}
