/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of nbd_transmit(): requests in flight, their buffers, and replies
 * that are gathered and sent together. All of it belongs to one connection's
 * thread, but for nbd_status_call().
 */
#ifndef PLATTER_NBD_SERVER_TRANSMIT_H
#define PLATTER_NBD_SERVER_TRANSMIT_H

#include <sys/uio.h>

#include "block/queue.h"
#include "nbd-server/connection.h"
#include "nbd-server/stats.h"
#include "nbd-server/wire.h"

/* What one connection may have under way; more waits in its socket. */
#define NBD_IN_FLIGHT_MAX    128u
#define NBD_BUFFER_BYTES_MAX (64u * 1024 * 1024)

/* ---- buffers ---- */

/* A buffer that outlives a batch; from nbd_buffers_get(). */
struct nbd_buffer {
	struct nbd_buffer *next;
	size_t capacity;
	uint8_t *bytes; /* page-aligned */
};

/* Buffers are kept for the next request: a fresh one costs more than I/O. */
struct nbd_buffers {
	struct nbd_buffer *idle;
	size_t idle_bytes, used_bytes;
};

struct nbd_buffer *nbd_buffers_get(struct nbd_buffers *pool, size_t len);
void nbd_buffers_put(struct nbd_buffers *pool, struct nbd_buffer *buffer);
void nbd_buffers_release(struct nbd_buffers *pool);

/* ---- block status ---- */

/* Of a reply, or of a chunk of one. */
#define NBD_HEAD_MAX 48u

struct nbd_extent {
	uint64_t len;
	uint32_t flags;
};

/* More are never told at once: the client asks again from there. */
#define NBD_EXTENTS_MAX 8192u

/* What one context says. */
struct nbd_status_part {
	unsigned context;
	unsigned count, room;
	bool full; /* there is more to say than it has room for */
	struct nbd_extent *extents;
};

/* Zeroed is empty. */
struct nbd_status {
	unsigned count;
	struct nbd_status_part *parts; /* in order of their contexts */
	/* For each part NBD_HEAD_MAX bytes, and then its extents. */
	uint8_t *wire;
};

/*
 * Of a range, in the contexts that are wanted, of which there is one at least;
 * `one`: a single extent each. Any thread; -ENOMEM, or the image's error, and
 * then too it is to be released.
 */
int nbd_status_fill(struct nbd_status *status, const struct nbd_export *export,
		    const struct nbd_context_set *wanted, bool one,
		    uint64_t guest_off, uint64_t len);
void nbd_status_release(struct nbd_status *status);

/* ---- requests ---- */

struct nbd_request {
	struct request base; /* first: what the queue gives back is this */
	struct nbd_request *next;
	struct nbd_command_in in;
	struct nbd_buffer *buffer;     /* behind base.buf, if it is its own */
	bool lent;		       /* base.buf is: not for us to look at */
	struct nbd_context_set wanted; /* of a block status */
	struct nbd_status status;
	uint64_t start_ns; /* when it was taken, if that is counted */
	const struct nbd_connection *con;
};

/* 0, or a negative errno of what is wrong with it; sets base's range. */
int nbd_request_check(struct nbd_request *r);
/* What the image is to do; false: nothing, it is done. Once it is checked. */
bool nbd_request_translate(struct nbd_request *r);

/* ---- replies ---- */

#define NBD_BATCH_IOV 1024
/* From here on holes of a read are worth looking for. */
#define NBD_HOLES_WORTH (16u * 1024)
/* Of one reply: a head and data for each piece of it. */
#define NBD_REPLY_PIECES 64
#define NBD_REPLY_IOV	 (2 * NBD_REPLY_PIECES + 4)
/* Buffers of reads that finish on the spot; sent before it is used anew. */
#define NBD_ARENA_BYTES (512u * 1024)

/* Lent at once: what is copied if the client does not take it. */
#define NBD_LENT_MAX (4u * 1024 * 1024)

struct nbd_batch {
	struct nbd_connection *con;
	int error; /* of the channel; nothing is sent any more */
	int iov_count;
	size_t heads_len, arena_len, lent_bytes;
	struct nbd_request *spent; /* to be given back once sent */
	uint8_t *arena;
	struct iovec iov[NBD_BATCH_IOV];
	uint8_t heads[NBD_BATCH_IOV / 2 * NBD_HEAD_MAX];
};

/* Adds the reply; the batch has room for it (nbd_batch_has_room()). */
void nbd_batch_reply(struct nbd_batch *batch, struct nbd_request *r);
bool nbd_batch_has_room(const struct nbd_batch *batch);

#endif
