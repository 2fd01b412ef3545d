/* SPDX-License-Identifier: BSD-3-Clause */
/* The lives of clients: see events.h. */
#include "nbd-server/events.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "block/clock.h"
#include "nbd-server/connection.h"

int nbd_fault(struct nbd_connection *con, int negative_errno, const char *fmt,
	      ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(con->cause, sizeof(con->cause), fmt, args);
	va_end(args);
	return negative_errno;
}

static void tell(struct nbd_connection *con, struct nbd_event *event)
{
	const struct nbd_observer *observer = con->observer;

	event->client = con->number;
	event->peer = &con->peer;
	event->export = con->export;
	observer->tell(observer->opaque, event);
}

void nbd_tell_came(struct nbd_connection *con)
{
	struct nbd_event event = {.kind = NBD_CLIENT_CAME};

	con->start_ms = clock_now_ms();
	if (con->observer)
		tell(con, &event);
}

void nbd_tell_chose(struct nbd_connection *con)
{
	struct nbd_event event = {.kind = NBD_CLIENT_CHOSE};

	if (con->observer)
		tell(con, &event);
}

/* What stopping does to a connection looks like the client's own end. */
static enum nbd_end end_of(const struct nbd_connection *con, int ret)
{
	switch (-ret) {
	case -1:
		return NBD_END_DISCONNECT;
	case ECONNRESET:
	case EPIPE:
		return atomic_load(con->stopping) ? NBD_END_STOP : NBD_END_EOF;
	case EPROTO:
		return NBD_END_PROTOCOL;
	case ETIMEDOUT:
		return NBD_END_DEADLINE;
	default:
		return NBD_END_ERROR;
	}
}

void nbd_tell_left(struct nbd_connection *con, int ret)
{
	struct nbd_event event = {
		.kind = NBD_CLIENT_LEFT,
		.end = end_of(con, ret),
		.duration_ms = (uint64_t)(clock_now_ms() - con->start_ms),
		.tally = con->tally,
		.tls_failed = con->tls_failed,
	};

	if (!con->observer)
		return;
	if (event.end == NBD_END_ERROR && !con->cause[0])
		nbd_fault(con, ret, "%s", strerror(-ret));
	event.cause = con->cause[0] ? con->cause : NULL;
	tell(con, &event);
}
