/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bytes between us and one client, plain or enciphered. Transfers are whole
 * or an error; a client that has gone is -ECONNRESET, one that does not move
 * in time, or is not done by the deadline if there is one, -ETIMEDOUT.
 *
 * One thread uses a channel; channel_end_input() may come from another.
 */
#ifndef PLATTER_NBD_SERVER_CHANNEL_H
#define PLATTER_NBD_SERVER_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct error;
struct tls_context;
struct tls_session;

struct channel {
	int fd;
	struct tls_session *tls; /* NULL: in the clear */
	int64_t deadline_ms;	 /* of the handshake, clock_now_ms(); 0: none */
	unsigned stall_ms;
	unsigned patience_ms; /* of one call to send */
};

/* Sets the socket up; a send that stalls for `stall_ms` (> 0) fails. */
void channel_init(struct channel *ch, int fd, unsigned stall_ms);

/*
 * From here on all is enciphered, and the peer is authorised; an error leaves
 * the channel of no use. Nothing was read ahead, so nothing is left over.
 */
int channel_start_tls(struct channel *ch, const struct tls_context *tls,
		      struct error *err);

/* All of `len`, and not a byte more. */
int channel_read(struct channel *ch, void *buf, size_t len);
/* What there is, at most `len`; waits for the first byte. 0: the end. */
int64_t channel_read_some(struct channel *ch, void *buf, size_t len);
/*
 * Whether there is something to read, waiting for it, for `other_fd` to be
 * readable, or for so long; -1: for ever.
 */
bool channel_wait(struct channel *ch, int other_fd, int timeout_ms);
/*
 * Whether what is sent is read by the kernel only, so that bytes which have
 * gone (storage_lend()) fail a call and not the process.
 */
bool channel_may_fault(const struct channel *ch);
/*
 * Sends until all is gone, or nothing moves for a moment: -EAGAIN, and what is
 * left is in `*iov`. For senders who hold something that others wait for.
 */
int channel_send(struct channel *ch, struct iovec **iov, int *iov_count);
/* Changes `iov`. */
int channel_writev(struct channel *ch, struct iovec *iov, int iov_count);
int channel_write(struct channel *ch, const void *buf, size_t len);

/* What has arrived can be read, then comes the end. */
void channel_end_input(struct channel *ch);
/* Says goodbye to the peer; the descriptor stays ours until closed. */
void channel_end(struct channel *ch);
void channel_close(struct channel *ch);

#endif
