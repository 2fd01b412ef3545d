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
	const char
		*paths[LISTENERS_MAX]; /* ours to remove; borrowed, or NULL */
	size_t count;
};

enum listen_kind {
	LISTEN_UNIX,
	LISTEN_TCP,
	LISTEN_VSOCK, /* from virtual machines of this host, or from the host */
};

struct listen_address {
	enum listen_kind kind;
	const char *name; /* a path; a host, NULL: all of this machine's */
	const char *port; /* a number or, for TCP, a name; NULL: `number` */
	unsigned number;
};

/*
 * A Unix socket is for its owner only; one that a server has left behind, and
 * nobody listens on, is replaced. A host may stand for several sockets.
 */
int listen_at(struct listeners *out, const struct listen_address *address,
	      struct error *err);
/*
 * Sockets that who started us has opened (LISTEN_FDS, LISTEN_PID); none is no
 * error. The variables are gone afterwards.
 */
int listen_inherited(struct listeners *out, struct error *err);

/* Closes all, and removes the paths of Unix sockets. */
void listeners_close(struct listeners *listeners);

#endif
