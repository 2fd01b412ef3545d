/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Storage in an export of an NBD server, through libnbd (spec: nbd).
 *
 * The length is fixed, and in whole sectors: what an export lacks in its last
 * one reads as zeros, and only zeros can be written there. Several connections
 * are in use where the server says that they all see the same.
 *
 * A connection that breaks is not made again, since nobody knows which of the
 * writes before have been kept: everything fails from then on with -EIO. So it
 * is with a server that is silent for too long, -ETIMEDOUT for what waits then,
 * and after interrupt_all() (block/interrupt.h), -ECANCELED.
 */
#ifndef PLATTER_BLOCK_STORAGE_NBD_H
#define PLATTER_BLOCK_STORAGE_NBD_H

#include "block/storage.h"

struct nbd_address;

/*
 * Of the flags in file.h, WRITE and DISTRUST_HOLES have a meaning here; a
 * server has no locks. The messages do not name the export.
 */
int storage_nbd_open(struct storage **out, const struct nbd_address *address,
		     unsigned flags, struct error *err);

#endif
