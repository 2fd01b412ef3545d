/* SPDX-License-Identifier: BSD-3-Clause */
/* TLS of connections to NBD servers, set up as an address says. */
#ifndef PLATTER_BLOCK_STORAGE_NBD_TLS_H
#define PLATTER_BLOCK_STORAGE_NBD_TLS_H

#include "block/storage/nbd-library.h"

struct error;
struct nbd_address;

/*
 * Before the handle connects. Without TLS in the address it will never be used,
 * with it always. -EINVAL, -ENOTSUP or what cannot be read where the server
 * could not be verified.
 */
int nbd_tls_set_up(const struct nbd_library *lib, struct nbd_handle *handle,
		   const struct nbd_address *address, struct error *err);

#endif
