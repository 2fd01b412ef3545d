/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Metadata contexts (spec: nbd 7): what clients may be told about ranges of an
 * export. They are numbered, the same for all clients: two that the disk itself
 * answers, then a bitmap each.
 */
#ifndef PLATTER_NBD_SERVER_CONTEXT_H
#define PLATTER_NBD_SERVER_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>

#define NBD_CONTEXT_ALLOCATION 0u /* base:allocation */
#define NBD_CONTEXT_DEPTH      1u /* qemu:allocation-depth */
#define NBD_CONTEXT_BITMAPS    2u /* the first qemu:dirty-bitmap: */

/* Somebody has to name each bitmap; more than these nobody tells apart. */
#define NBD_CONTEXTS_MAX 1024u
#define NBD_BITMAPS_MAX	 (NBD_CONTEXTS_MAX - NBD_CONTEXT_BITMAPS)

#define NBD_BITMAP_PREFIX "qemu:dirty-bitmap:"

/* Some of them. Zeroed is empty. */
struct nbd_context_set {
	unsigned count;
	uint64_t words[NBD_CONTEXTS_MAX / 64];
};

/* False: it is there already. `number` is below NBD_CONTEXTS_MAX. */
bool nbd_context_add(struct nbd_context_set *set, unsigned number);
bool nbd_context_in(const struct nbd_context_set *set, unsigned number);
/* The first one from `number` on; NBD_CONTEXTS_MAX: there is none. */
unsigned nbd_context_next(const struct nbd_context_set *set, unsigned number);

/* What they are on the wire, where 0 means none. */
static inline uint32_t nbd_context_id(unsigned number)
{
	return number + 1;
}

/* False: no context has this one. */
static inline bool nbd_context_from_id(uint32_t id, unsigned *number)
{
	*number = id - 1;
	return *number < NBD_CONTEXTS_MAX;
}

#endif
