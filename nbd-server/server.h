/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server: takes clients from listening sockets, gives each a thread, and
 * sees to it that all have ended when it returns.
 */
#ifndef PLATTER_NBD_SERVER_SERVER_H
#define PLATTER_NBD_SERVER_SERVER_H

#include <stdbool.h>
#include <stddef.h>

#include "nbd-server/connection.h"

struct error;

struct nbd_server_args {
	const int *listen_fds; /* non-blocking; borrowed */
	size_t listen_count;
	const struct nbd_exports *exports;
	const struct nbd_observer *observer; /* NULL: nobody; borrowed */
	const struct tls_context *tls; /* NULL: all in the clear; borrowed */
	bool tls_required;
	struct nbd_limits limits;
	unsigned max_clients; /* others wait to be accepted */
	unsigned stop_ms;     /* then what is still under way is cut off */
	unsigned threads;     /* for requests that wait; 0: serial */
	bool persistent;      /* goes on when the last client has left */
	/*
	 * Called, on the thread that runs the server, when wake_fd is readable,
	 * which it has to put an end to. True: no more clients.
	 */
	bool (*wake)(void *opaque);
	void *opaque;
	int wake_fd; /* borrowed */
};

/*
 * Serves until wake() says so or, unless persistent, the last client that
 * chose an export has left. Requests under way are finished; images are
 * neither flushed nor closed.
 */
int nbd_server_run(const struct nbd_server_args *args, struct error *err);

#endif
