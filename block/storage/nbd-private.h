/* SPDX-License-Identifier: BSD-3-Clause */
/* Shared by the parts of the NBD storage only: nbd*.c. */
#ifndef PLATTER_BLOCK_STORAGE_NBD_PRIVATE_H
#define PLATTER_BLOCK_STORAGE_NBD_PRIVATE_H

#include "block/storage.h"
#include "block/storage/nbd-address.h"
#include "block/storage/nbd-connection.h"

/* As many as nbdcopy opens. */
#define NBD_CONNECTIONS_MAX 4

/* Of the time of a handshake; a server that is slower is taken for dead. */
#define NBD_HANDSHAKE_MS 30000
/* Of those that come later: there are others, which can do without. */
#define NBD_MORE_MS 5000
/* Between two attempts, with open-timeout. */
#define NBD_AGAIN_MS 200

struct nbd_runs; /* nbd-extents.c */

struct nbd {
	struct storage base;
	struct nbd_address address;
	struct nbd_facts facts;
	bool distrust_holes;
	atomic_bool broken; /* only ever set */
	/* Goes up before and after each change of the contents. */
	_Atomic uint64_t changes;

	/* [0, count) are open and stay; count only grows, under grow_mutex. */
	struct nbd_connection *connections[NBD_CONNECTIONS_MAX];
	_Atomic unsigned count;
	unsigned count_max; /* under grow_mutex: one more may have failed */
	pthread_mutex_t grow_mutex;

	/* Held over a request: a connection's lock comes below it. */
	pthread_mutex_t runs_mutex;
	struct nbd_runs *runs; /* made when first asked for */
};

static inline struct nbd *to_nbd(struct storage *s)
{
	return (struct nbd *)s;
}

/* nbd.c: a call on the connection that has least to do; -EIO: broken. */
int nbd_begin(struct nbd *nbd, struct nbd_call *call);
/*
 * The same on the first connection of all. A later one may lead to a server
 * that has started anew and lost what its predecessor had not flushed, while
 * the first one still waits for that: only there an answer tells that it is
 * the one which took the writes.
 */
int nbd_begin_flush(struct nbd *nbd, struct nbd_call *call);
int nbd_end(struct nbd *nbd, struct nbd_call *call);

/* nbd-io.c */
int nbd_store_readv(struct storage *s, const struct iovec *iov, int iov_count,
		    uint64_t off);
int nbd_store_writev(struct storage *s, const struct iovec *iov, int iov_count,
		     uint64_t off);
int nbd_store_zero(struct storage *s, uint64_t off, uint64_t len,
		   unsigned flags);
int nbd_store_discard(struct storage *s, uint64_t off, uint64_t len);
int nbd_store_sync(struct storage *s);

/* nbd-extents.c */
int nbd_store_extent(struct storage *s, uint64_t off, uint64_t len,
		     struct storage_extent *out);

#endif
