/* SPDX-License-Identifier: BSD-3-Clause */
/* Who is at the other end of a client's socket, in words for a log. */
#ifndef PLATTER_NBD_SERVER_PEER_H
#define PLATTER_NBD_SERVER_PEER_H

#include <stdbool.h>
#include <sys/types.h>

struct nbd_peer {
	char text[96];
	bool is_process; /* whose credentials these are: */
	pid_t pid;	 /* 0: not of this namespace */
	uid_t uid;
	gid_t gid;
};

/*
 * Of a connected socket: "pid 4711, uid 1000, gid 1000" of whoever called
 * connect() on a Unix socket, "192.0.2.1:4711", "[2001:db8::1]:4711" or "vsock
 * 3:4711"; what the system does not tell is "unknown". Any thread; ask while it
 * is there.
 */
void nbd_peer_describe(struct nbd_peer *peer, int fd);

#endif
