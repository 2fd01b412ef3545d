/* SPDX-License-Identifier: BSD-3-Clause */
/* The lives of clients, told to whoever wants to know them. */
#ifndef PLATTER_NBD_SERVER_EVENTS_H
#define PLATTER_NBD_SERVER_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

struct nbd_connection;
struct nbd_export;
struct nbd_peer;

enum nbd_event_kind {
	NBD_CLIENT_CAME,
	NBD_CLIENT_CHOSE, /* an export */
	NBD_CLIENT_LEFT,
};

/* Why a client is not there any more. */
enum nbd_end {
	NBD_END_DISCONNECT, /* it said so */
	NBD_END_EOF,	    /* it did not */
	NBD_END_PROTOCOL,   /* it did not keep to the protocol */
	NBD_END_DEADLINE,   /* of the handshake, or of a stalled reader */
	NBD_END_STOP,	    /* the server stops */
	NBD_END_ERROR,	    /* ours, or of the connection */
};

/* What one client has cost. */
struct nbd_tally {
	uint64_t requests; /* answered */
	uint64_t read_bytes, written_bytes;
};

/* Borrowed, all of it, for the time of the call. */
struct nbd_event {
	enum nbd_event_kind kind;
	uint64_t client; /* counted from 1 */
	const struct nbd_peer *peer;
	const struct nbd_export *export; /* NULL: not chosen */
	/* Of NBD_CLIENT_LEFT: */
	enum nbd_end end;
	const char *cause; /* printable; NULL: nothing to add */
	bool tls_failed;   /* it was not let in: the cause says why */
	uint64_t duration_ms;
	struct nbd_tally tally;
};

struct nbd_observer {
	/* On the clients' own threads, at the same time. */
	void (*tell)(void *opaque, const struct nbd_event *event);
	void *opaque;
};

/* ---- for the server ---- */

/* Keeps why the connection is of no more use; returns `negative_errno`. */
int nbd_fault(struct nbd_connection *con, int negative_errno, const char *fmt,
	      ...) __attribute__((format(printf, 3, 4)));

/* These do nothing if nobody observes. */
void nbd_tell_came(struct nbd_connection *con);
void nbd_tell_chose(struct nbd_connection *con);
/* `ret`: as from nbd_negotiate() or nbd_transmit(). */
void nbd_tell_left(struct nbd_connection *con, int ret);

#endif
