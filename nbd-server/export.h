/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is offered under a name: an image, and how it may be used. Exports are
 * made before the server starts and stay as they are until it has ended, so any
 * thread reads them. Only the count of clients changes, and the size, if the
 * one client that there may be is allowed to change it.
 */
#ifndef PLATTER_NBD_SERVER_EXPORT_H
#define PLATTER_NBD_SERVER_EXPORT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nbd-server/context.h"
#include "nbd-server/wire.h"

struct image;
struct image_bitmap;
struct nbd_stats;

/* A bitmap that clients may see. */
struct nbd_bitmap {
	const char *name;	  /* behind NBD_BITMAP_PREFIX; borrowed */
	struct image_bitmap *map; /* borrowed */
};

/* What becomes of a write whose bytes are all zero. */
enum nbd_zeroes {
	NBD_ZEROES_WRITE, /* what becomes of any other */
	NBD_ZEROES_ZERO,  /* a request to zero the range, which keeps its space
			   */
	NBD_ZEROES_UNMAP, /* the same, and the space may go */
};

struct nbd_export {
	const char *name;	 /* "" is the default; borrowed */
	const char *description; /* NULL: none; borrowed */
	struct image *img;	 /* borrowed */
	/* Of the disk, for those who have not chosen the export. */
	_Atomic uint64_t size_bytes;
	bool read_only;
	bool resizable; /* may be made larger; then max_clients is 1 */
	bool discard;	/* trims give space back; else they do nothing */
	enum nbd_zeroes zeroes;
	bool offers_depth;	    /* qemu:allocation-depth */
	struct nbd_bitmap *bitmaps; /* borrowed */
	unsigned bitmap_count;	    /* up to NBD_BITMAPS_MAX */
	unsigned max_clients;	    /* 0: no limit of its own */
	struct nbd_stats *stats;    /* NULL: nothing is counted; borrowed */
	atomic_uint client_count;
};

struct nbd_exports {
	struct nbd_export *items;
	size_t count;
};

/*
 * NULL: there is none of that name. "" is the export of that name or, if there
 * is only one export, that one.
 */
struct nbd_export *nbd_export_find(const struct nbd_exports *exports,
				   const struct nbd_string *name);

/* One more client, or false where there are too many. */
bool nbd_export_enter(struct nbd_export *export);
void nbd_export_leave(struct nbd_export *export);

/*
 * Makes the disk larger, and its size durable if `fua`. Only for the client
 * that has entered a resizable export, with no request under way. Negative
 * errno: -EINVAL where it would become smaller, or as from image_resize(), and
 * then the size is what it was.
 */
int nbd_export_grow(struct nbd_export *export, uint64_t size_bytes, bool fua);

/* The transmission flags that a client of this kind is told. */
uint16_t nbd_export_flags(const struct nbd_export *export, bool structured,
			  bool status_payload);

/* Whether it has a metadata context; numbers as in context.h. */
bool nbd_export_offers(const struct nbd_export *export, unsigned context);
/* Of a context that it offers and that is a bitmap's. */
const struct nbd_bitmap *nbd_export_bitmap(const struct nbd_export *export,
					   unsigned context);

/* The name of a context, in two parts. */
struct nbd_context_name {
	const char *start, *rest;
};
struct nbd_context_name nbd_export_context_name(const struct nbd_export *export,
						unsigned context);

#endif
