/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connecting to an NBD server, and what it says of the export. Everything it
 * says is checked here, once: sizes and limits of a hostile server too.
 */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "block/bytes.h"
#include "block/clock.h"
#include "block/error.h"
#include "block/quote.h"
#include "block/storage/nbd-address.h"
#include "block/storage/nbd-connection.h"
#include "block/storage/nbd-tls.h"

/* What every server has to take (spec: nbd 1); libnbd sends at most twice it.
 */
#define DEFAULT_MAX_BYTES (32u << 20)
#define MIN_BLOCK_MAX	  65536

/* ---- errors ---- */

/* The text holds what the server said: any bytes. */
int nbd_connection_error(const struct nbd_connection *conn, const char *what,
			 struct error *err)
{
	int code = conn->lib->get_errno();
	const char *text = conn->lib->get_error();
	struct quoted_name quoted;

	return error_set(err, code > 0 ? code : EIO, "%s: %s", what,
			 text ? quote_name(&quoted, text) : "no reason given");
}

/* ---- connecting ---- */

static bool start(struct nbd_connection *conn,
		  const struct nbd_address *address)
{
	const struct nbd_library *lib = conn->lib;
	struct nbd_handle *h = conn->handle;

	if (lib->set_export_name(h, address->export_name) ||
	    lib->add_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION))
		return false;
	if (address->socket)
		return lib->aio_connect_unix(h, address->socket) == 0;
	if (address->vsock)
		return lib->aio_connect_vsock(
			       h, (uint32_t)strtoul(address->host, NULL, 10),
			       (uint32_t)strtoul(address->port, NULL, 10)) == 0;
	return lib->aio_connect_tcp(h, address->host, address->port) == 0;
}

/* One step of the handshake. False: it has failed, or the time is up. */
static bool step(const struct nbd_connection *conn, int64_t left_ms)
{
	const struct nbd_library *lib = conn->lib;
	struct nbd_handle *h = conn->handle;
	unsigned direction = lib->aio_get_direction(h);
	struct pollfd fds[2] = {
		{.fd = lib->aio_get_fd(h),
		 .events =
			 direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0},
		{.fd = conn->wake_fd, .events = POLLIN},
	};

	if (direction & LIBNBD_AIO_DIRECTION_READ)
		fds[0].events |= POLLIN;
	if (fds[0].fd < 0 || left_ms <= 0 ||
	    (poll(fds, 2, (int)left_ms) < 0 && errno != EINTR) ||
	    atomic_load(&conn->interrupted))
		return false;
	if (!fds[0].revents)
		return true;
	if (direction & LIBNBD_AIO_DIRECTION_READ && fds[0].revents & ~POLLOUT)
		return lib->aio_notify_read(h) == 0;
	return lib->aio_notify_write(h) == 0;
}

/* What libnbd waits for, out of the name of its state: no API tells it. */
static int no_answer(const struct nbd_connection *conn, int timeout_ms,
		     struct error *err)
{
	static const char option[] = "NEWSTYLE.OPT_";
	const char *state = conn->lib->connection_state(conn->handle);
	const char *what = "the end of the handshake";
	int len = 0;

	if (!state)
		state = "";
	if (!strncmp(state, "CONNECT", strlen("CONNECT"))) {
		what = "the connection";
	} else if (!strncmp(state, "MAGIC", strlen("MAGIC"))) {
		what = "its greeting";
	} else if (!strncmp(state, option, strlen(option))) {
		what = "its answer to the option ";
		state += strlen(option);
		len = (int)strcspn(state, ".:");
	}
	return error_set(err, ETIMEDOUT,
			 "The NBD server did not answer within %d.%d seconds: "
			 "%s%.*s is missing",
			 timeout_ms / 1000, timeout_ms % 1000 / 100, what, len,
			 state);
}

static int shake_hands(struct nbd_connection *conn,
		       const struct nbd_address *address, int timeout_ms,
		       struct error *err)
{
	static const char what[] = "Could not connect to the NBD server";
	int64_t end = clock_now_ms() + timeout_ms;
	int ret = nbd_tls_set_up(conn->lib, conn->handle, address, err);

	if (ret)
		return ret;
	if (!start(conn, address))
		return nbd_connection_error(conn, what, err);
	while (conn->lib->aio_is_ready(conn->handle) != 1) {
		int64_t left = end - clock_now_ms();

		if (step(conn, left))
			continue;
		if (atomic_load(&conn->interrupted))
			return error_set(err, ECANCELED,
					 "Connecting to the NBD server was "
					 "interrupted");
		if (left <= 0)
			return no_answer(conn, timeout_ms, err);
		return nbd_connection_error(conn, what, err);
	}
	return 0;
}

/* ---- facts ---- */

static int check_blocks(int64_t min_block, int64_t max_bytes,
			struct nbd_facts *facts, struct error *err)
{
	if (min_block < 1 || min_block > MIN_BLOCK_MAX ||
	    !is_power_of_2((uint64_t)min_block))
		return error_set(err, EPROTO,
				 "The NBD server's smallest block is %lld, "
				 "which is no power of two up to %d",
				 (long long)min_block, MIN_BLOCK_MAX);
	if (max_bytes < min_block)
		return error_set(err, EPROTO,
				 "The NBD server's largest request is %lld, "
				 "its smallest block is %lld",
				 (long long)max_bytes, (long long)min_block);
	facts->min_block = (uint32_t)min_block;
	facts->max_bytes = (uint32_t)align_down(
		min_u64((uint64_t)max_bytes, DEFAULT_MAX_BYTES),
		(uint64_t)min_block);
	return 0;
}

static int read_sizes(const struct nbd_connection *conn,
		      struct nbd_facts *facts, struct error *err)
{
	const struct nbd_library *lib = conn->lib;
	int64_t size = lib->get_size(conn->handle);
	int64_t min_block =
		lib->get_block_size(conn->handle, LIBNBD_SIZE_MINIMUM);
	int64_t max_bytes =
		lib->get_block_size(conn->handle, LIBNBD_SIZE_MAXIMUM);
	int ret;

	if (size < 0)
		return nbd_connection_error(
			conn, "The size of the NBD export is not usable", err);
	if (min_block < 0 || max_bytes < 0)
		return nbd_connection_error(
			conn,
			"The block size of the NBD server is not "
			"usable",
			err);
	/* Nothing said is 1 and 32 MiB. */
	ret = check_blocks(min_block ? min_block : 1,
			   max_bytes ? max_bytes : DEFAULT_MAX_BYTES, facts,
			   err);
	if (ret)
		return ret;
	if (!is_aligned((uint64_t)size, facts->min_block))
		return error_set(err, EPROTO,
				 "The NBD export has %lld bytes, which is no "
				 "multiple of its smallest block of %u",
				 (long long)size, facts->min_block);
	facts->size_bytes = (uint64_t)size;
	return 0;
}

static int read_facts(const struct nbd_connection *conn,
		      struct nbd_facts *facts, struct error *err)
{
	const struct nbd_library *lib = conn->lib;
	struct nbd_handle *h = conn->handle;

	/* Whatever cannot be told is not offered. */
	*facts = (struct nbd_facts){
		.read_only = lib->is_read_only(h) != 0,
		.can_flush = lib->can_flush(h) == 1,
		.can_trim = lib->can_trim(h) == 1,
		.can_zero = lib->can_zero(h) == 1,
		.can_fast_zero = lib->can_fast_zero(h) == 1,
		.can_multi_conn = lib->can_multi_conn(h) == 1,
		.has_extents = lib->can_meta_context(
				       h, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1,
	};
	return read_sizes(conn, facts, err);
}

/* ---- all of it ---- */

static void stop_waiting(struct interrupt *interrupt)
{
	struct nbd_connection *conn =
		(struct nbd_connection *)((char *)interrupt -
					  offsetof(struct nbd_connection,
						   interrupt));

	atomic_store(&conn->interrupted, true);
	eventfd_write(conn->wake_fd, 1);
}

static int set_up(struct nbd_connection *conn,
		  const struct nbd_address *address, struct error *err)
{
	conn->timeout_ms = (int)address->timeout_seconds * 1000;
	conn->lost_ret = -EIO;
	conn->silence.command = NBD_COMMANDS;
	pthread_mutex_init(&conn->mutex, NULL);
	conn->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (conn->wake_fd < 0)
		return error_set_errno(err, errno, "connecting");
	conn->interrupt.raise = stop_waiting;
	interrupt_join(&conn->interrupt);
	conn->handle = conn->lib->create();
	return conn->handle ? 0 : nbd_connection_error(conn, "libnbd", err);
}

int nbd_connection_open(struct nbd_connection **out,
			const struct nbd_address *address, int timeout_ms,
			struct nbd_facts *facts, struct error *err)
{
	const struct nbd_library *lib = nbd_library_get(err);
	struct nbd_connection *conn;
	int ret;

	if (!lib)
		return -ENOTSUP;
	conn = calloc(1, sizeof(*conn));
	if (!conn)
		return error_set_errno(err, ENOMEM, "connecting");
	conn->lib = lib;
	ret = set_up(conn, address, err);
	if (!ret)
		ret = shake_hands(conn, address, timeout_ms, err);
	if (!ret)
		ret = read_facts(conn, facts, err);
	if (ret) {
		nbd_connection_close(conn);
		return ret;
	}
	*out = conn;
	return 0;
}

/*
 * Says goodbye, and does not wait for an answer, which a server may not give.
 */
void nbd_connection_close(struct nbd_connection *conn)
{
	if (!conn)
		return;
	if (conn->handle && conn->lib->aio_is_ready(conn->handle) == 1)
		conn->lib->aio_disconnect(conn->handle, 0);
	if (conn->handle)
		conn->lib->close(conn->handle);
	if (conn->wake_fd >= 0) {
		interrupt_leave(&conn->interrupt);
		close(conn->wake_fd);
	}
	pthread_mutex_destroy(&conn->mutex);
	free(conn);
}
