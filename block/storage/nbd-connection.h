/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One connection to an NBD server, shared by threads. Shared by the parts of
 * the NBD storage only.
 *
 * A thread starts a call, gives it commands, and ends it, which waits for them.
 * Commands of many calls are on their way at once. Of the threads that wait,
 * one at a time moves bytes for all of them; when its own call is done it
 * leaves that to the next. So there is no thread of our own, and one request
 * alone costs no switch between threads.
 *
 * A connection that breaks fails all calls, for ever. So does one on which
 * commands wait and nothing moves for too long, or too little to be called
 * moving: a server that is silent is a broken one.
 */
#ifndef PLATTER_BLOCK_STORAGE_NBD_CONNECTION_H
#define PLATTER_BLOCK_STORAGE_NBD_CONNECTION_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/interrupt.h"
#include "block/storage/nbd-library.h"

struct error;
struct nbd_address;

/* What a server says of an export. */
struct nbd_facts {
	uint64_t size_bytes;
	uint32_t min_block; /* a power of two: of offsets and lengths */
	uint32_t max_bytes; /* of one read or write; a multiple of min_block */
	bool read_only, can_flush, can_trim, can_zero, can_fast_zero;
	bool can_multi_conn, has_extents;
};

enum nbd_call_kind {
	NBD_READ,
	NBD_WRITE,
	NBD_ZERO,
	NBD_TRIM,
	NBD_FLUSH,
	NBD_STATUS,
	NBD_COMMANDS
};

/* What a server was silent about, and for how long. */
struct nbd_silence {
	enum nbd_call_kind command; /* NBD_COMMANDS: about nothing */
	int ms;
};

struct nbd_connection {
	const struct nbd_library *lib;
	struct nbd_handle *handle;
	_Atomic unsigned load; /* calls that are under way; a hint */
	int wake_fd;
	int timeout_ms;		    /* of silence while commands wait */
	struct interrupt interrupt; /* which sets the next one */
	atomic_bool interrupted;

	pthread_mutex_t mutex; /* holds all below; a leaf */
	bool polling;	       /* a thread waits for the socket, unlocked, */
	unsigned polled_for;   /* for these LIBNBD_AIO_DIRECTION_* */
	struct nbd_call *sleepers;
	struct nbd_call *due;  /* of these: to be woken */
	struct nbd_call *heir; /* of these: woken, to poll next */
	bool broken;
	int lost_ret; /* of the commands that a broken one leaves */
	/* Since when nothing has moved, and what came since, not all counted */
	int64_t still_ms;
	uint64_t still_bytes;
	unsigned waiting[NBD_COMMANDS]; /* commands without an answer */
	struct nbd_silence silence;
};

/* One storage request; on the stack of the thread that makes it. */
struct nbd_call {
	struct nbd_connection *conn;
	unsigned pending;	    /* commands without an answer */
	enum nbd_call_kind command; /* all of them are of this kind */
	/* Bytes that were asked for and did not come, and their offsets' sum */
	uint64_t missing, missing_at;
	int ret; /* the first error */
	pthread_cond_t woken;
	bool asleep, is_due;
	struct nbd_call *next, *next_due; /* while it sleeps */
};

/*
 * `timeout_ms` is for all of the handshake; -ETIMEDOUT: it was not enough. That
 * of the requests is the address's.
 */
int nbd_connection_open(struct nbd_connection **out,
			const struct nbd_address *address, int timeout_ms,
			struct nbd_facts *facts, struct error *err);
/* For its parts: says that `what` has failed, and what libnbd says of it. */
int nbd_connection_error(const struct nbd_connection *conn, const char *what,
			 struct error *err);
void nbd_connection_close(struct nbd_connection *conn);
/* nbd-silence.c: of commands, for users. */
const char *nbd_command_text(enum nbd_call_kind command);

/*
 * nbd-silence.c, for those that wait, with the connection locked. How long
 * poll() may wait; -1: it is time to give the connection up.
 */
int nbd_silence_left_ms(struct nbd_connection *conn);
/* It has moved: a command is done, or the first one is sent. */
void nbd_silence_over(struct nbd_connection *conn);
/* Before the bytes behind `revents` are taken: they may be few. */
void nbd_silence_count(struct nbd_connection *conn, short revents);
/* All of its commands are answered with an error. */
void nbd_silence_give_up(struct nbd_connection *conn);

/* Between these two the connection is locked, and nothing else may block. */
void nbd_call_begin(struct nbd_call *call, struct nbd_connection *conn);
/* 0 or the first error; the buffers are the caller's again. */
int nbd_call_end(struct nbd_call *call);

/*
 * Each sends a command; what is too many waits for room first. False: there was
 * an error already, of this command or of an earlier one, and there is no use
 * in sending more.
 */
bool nbd_call_read(struct nbd_call *call, void *buf, size_t len, uint64_t off);
bool nbd_call_write(struct nbd_call *call, const void *buf, size_t len,
		    uint64_t off);
/* `flags` are LIBNBD_CMD_FLAG_*. */
bool nbd_call_zero(struct nbd_call *call, uint64_t len, uint64_t off,
		   uint32_t flags);
bool nbd_call_trim(struct nbd_call *call, uint64_t len, uint64_t off);
bool nbd_call_flush(struct nbd_call *call);
/* `extent` runs before the call has ended, with the connection locked. */
bool nbd_call_status(struct nbd_call *call, uint64_t len, uint64_t off,
		     nbd_extent_callback extent);

/* Has it broken, and was it because of silence? Any thread. */
bool nbd_connection_is_broken(struct nbd_connection *conn,
			      struct nbd_silence *silence);

#endif
