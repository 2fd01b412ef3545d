/* SPDX-License-Identifier: BSD-3-Clause */
/* `qemu-nbd --list`: what an NBD server has to offer, for people. */
#ifndef PLATTER_CLI_QEMU_NBD_LIST_H
#define PLATTER_CLI_QEMU_NBD_LIST_H

struct nbd_address;

/*
 * Of the server at that address: a socket, or a host and a port, and TLS. What
 * it says of an export does not matter. Returns the exit status, after a
 * message if it is not 0.
 */
int qemu_nbd_list(const struct nbd_address *address);

#endif
