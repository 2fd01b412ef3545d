/* SPDX-License-Identifier: BSD-3-Clause */
/* `qemu-nbd --list`: what an NBD server has to offer, for people. */
#ifndef PLATTER_CLI_QEMU_NBD_LIST_H
#define PLATTER_CLI_QEMU_NBD_LIST_H

/*
 * Of the server at the Unix socket, or else at the address and port; NULL is
 * the default of each. Returns the exit status, after a message if not 0.
 */
int qemu_nbd_list(const char *unix_path, const char *address, const char *port);

#endif
