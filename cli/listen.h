/* SPDX-License-Identifier: BSD-3-Clause */
/* Sockets that servers listen on. Messages name the address. */
#ifndef PLATTER_CLI_LISTEN_H
#define PLATTER_CLI_LISTEN_H

#include <stdbool.h>
#include <stddef.h>

struct error;

#define LISTENERS_MAX 64

struct listeners {
	int fds[LISTENERS_MAX];
	size_t count;
	const char *unix_path; /* ours to remove; borrowed */
};

/*
 * A Unix socket, for its owner only. One that a server has left behind, and
 * nobody listens on, is replaced.
 */
int listen_unix(struct listeners *out, const char *path, struct error *err);
/* `address` NULL: all of this machine's. `port` is a number or a name. */
int listen_tcp(struct listeners *out, const char *address, const char *port,
	       struct error *err);
/*
 * Sockets that who started us has opened (LISTEN_FDS, LISTEN_PID); none is no
 * error. The variables are gone afterwards.
 */
int listen_inherited(struct listeners *out, struct error *err);

/* Closes all, and removes the path of the Unix socket. */
void listeners_close(struct listeners *listeners);

#endif
