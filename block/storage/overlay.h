/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Storage that keeps every change in memory above another storage, which it
 * only reads: what `check --dry-run` repairs, so that the preview is the repair
 * itself and not a guess at it.
 */
#ifndef PLATTER_BLOCK_STORAGE_OVERLAY_H
#define PLATTER_BLOCK_STORAGE_OVERLAY_H

#include "block/storage.h"

/* Takes over `base`, also on failure; closing the overlay closes it. */
int storage_overlay_new(struct storage **out, struct storage *base);

#endif
