/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Telling the service manager how far a server is: sd_notify(3).
 *
 * The protocol is one datagram of lines NAME=value to the socket that
 * NOTIFY_SOCKET names, and promised to stay that. A library for these few bytes
 * would be loaded, and have to be trusted, at every start of the program.
 *
 * All functions: one thread at a time.
 */
#ifndef PLATTER_CLI_NOTIFY_H
#define PLATTER_CLI_NOTIFY_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

struct error;

struct notify {
	int fd; /* -1: nobody wants to know */
	struct sockaddr_un address;
	socklen_t address_len;
	bool ready, stopping; /* have been said */
};

/*
 * Takes NOTIFY_SOCKET, a path or '@' and a name without one, out of the
 * environment: what we start later has nothing to say about us. Before there
 * are threads. Unset is no error.
 */
int notify_open(struct notify *notify, struct error *err);

/*
 * Clients may come. `status`: one line for people. `is_child`: the manager has
 * started another process than this one.
 */
void notify_ready(struct notify *notify, const char *status, bool is_child);
/*
 * No more clients are taken. Says it once, however often it is called, and
 * nothing if no client could ever come.
 */
void notify_stopping(struct notify *notify);
void notify_close(struct notify *notify);

#endif
