/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One client, from its greeting to its end; a thread of its own does all of it.
 *
 *	nbd_negotiate()	options, until an export is chosen
 *	nbd_transmit()	requests, until the client or the server has enough
 */
#ifndef PLATTER_NBD_SERVER_CONNECTION_H
#define PLATTER_NBD_SERVER_CONNECTION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "nbd-server/channel.h"
#include "nbd-server/events.h"
#include "nbd-server/export.h"
#include "nbd-server/peer.h"
#include "nbd-server/schedule.h"

struct worker_pool;

#define NBD_CAUSE_MAX 512

enum nbd_reply_mode { NBD_SIMPLE, NBD_STRUCTURED, NBD_EXTENDED };

/* What clients may cost; fields as in struct nbd_server_args. */
struct nbd_limits {
	unsigned handshake_ms;
	unsigned stall_ms;
};

struct nbd_connection {
	struct channel channel;
	struct nbd_schedule schedule; /* of this client's thread */
	const struct nbd_exports *exports;
	struct worker_pool *pool;
	const struct nbd_limits *limits;
	struct nbd_peer peer;
	const struct nbd_observer *observer; /* NULL: nobody */
	uint64_t number;		     /* of the client, from 1 */
	int64_t start_ms;
	struct nbd_tally tally;
	char cause[NBD_CAUSE_MAX];     /* of its end; "" */
	const struct tls_context *tls; /* NULL: not offered */
	bool tls_required;
	bool tls_failed;       /* and by whose fault is its cause */
	atomic_bool *stopping; /* the whole server is */

	/* What was agreed; STARTTLS takes all of it back but the first two. */
	bool fixed_newstyle;
	bool no_zeroes;
	enum nbd_reply_mode mode;
	struct nbd_export *meta_export; /* whose contexts were selected */
	struct nbd_context_set meta;	/* those */

	struct nbd_export *export; /* chosen, and entered */
};

/*
 * 0: con->export is chosen; 1: the client is content and leaves; or a negative
 * errno: the connection is of no more use.
 */
int nbd_negotiate(struct nbd_connection *con);

/*
 * Returns when all that was asked for has been answered, or cannot be. 1: the
 * client has said that it leaves; else a negative errno, -ECONNRESET where it
 * has left without.
 */
int nbd_transmit(struct nbd_connection *con);

/* ---- negotiation's parts ---- */

/* One option, its data read whole. */
struct nbd_option {
	uint32_t code;
	uint32_t len;
	uint8_t *data;
};

/* An answer; `data` may be NULL for len 0. */
int nbd_option_reply(struct nbd_connection *con, uint32_t option, uint32_t type,
		     const void *data, uint32_t len);
/* The same, with a text for people. */
int nbd_option_error(struct nbd_connection *con, uint32_t option, uint32_t type,
		     const char *text);

/* option-info.c: INFO, GO, EXPORT_NAME and LIST. 1: con->export is chosen. */
int nbd_option_go(struct nbd_connection *con, const struct nbd_option *opt);
int nbd_option_export_name(struct nbd_connection *con,
			   const struct nbd_option *opt);
int nbd_option_list(struct nbd_connection *con, const struct nbd_option *opt);

/* option-meta.c: LIST_ and SET_META_CONTEXT. */
int nbd_option_meta(struct nbd_connection *con, const struct nbd_option *opt);

#endif
