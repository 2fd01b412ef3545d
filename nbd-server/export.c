/* SPDX-License-Identifier: BSD-3-Clause */
/* Exports: see export.h. */
#include "nbd-server/export.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "block/image.h"

static bool is_called(const struct nbd_export *export,
		      const struct nbd_string *name)
{
	return strlen(export->name) == name->len &&
	       !memcmp(export->name, name->text, name->len);
}

struct nbd_export *nbd_export_find(const struct nbd_exports *exports,
				   const struct nbd_string *name)
{
	for (size_t i = 0; i < exports->count; i++)
		if (is_called(&exports->items[i], name))
			return &exports->items[i];
	if (!name->len && exports->count == 1)
		return &exports->items[0];
	return NULL;
}

bool nbd_export_enter(struct nbd_export *export)
{
	unsigned count = atomic_fetch_add(&export->client_count, 1);

	if (!export->max_clients || count < export->max_clients)
		return true;
	nbd_export_leave(export);
	return false;
}

void nbd_export_leave(struct nbd_export *export)
{
	atomic_fetch_sub(&export->client_count, 1);
}

int nbd_export_grow(struct nbd_export *export, uint64_t size_bytes, bool fua)
{
	struct image *img = export->img;
	int ret;

	assert(export->resizable && export->max_clients == 1);
	if (size_bytes < img->size_bytes)
		return -EINVAL;
	ret = image_resize(img, size_bytes, PREALLOC_OFF, false, NULL);
	atomic_store(&export->size_bytes, img->size_bytes);
	return !ret && fua ? image_flush(img) : ret;
}

/*
 * All connections share one image, so what one has flushed is durable for all,
 * and what one has written is read by all: CAN_MULTI_CONN is true. Where a
 * second client would have to wait for the first to leave it is not said,
 * though: a client that opens several connections would wait for itself.
 */
uint16_t nbd_export_flags(const struct nbd_export *export, bool structured,
			  bool status_payload)
{
	uint16_t flags = NBD_TFLAG_HAS_FLAGS | NBD_TFLAG_SEND_FLUSH |
			 NBD_TFLAG_SEND_FUA | NBD_TFLAG_SEND_CACHE;

	if (export->max_clients != 1)
		flags |= NBD_TFLAG_CAN_MULTI_CONN;
	if (export->read_only)
		flags |= NBD_TFLAG_READ_ONLY;
	else
		flags |= NBD_TFLAG_SEND_TRIM | NBD_TFLAG_SEND_WRITE_ZEROES |
			 NBD_TFLAG_SEND_FAST_ZERO;
	if (export->resizable)
		flags |= NBD_TFLAG_SEND_RESIZE;
	if (structured)
		flags |= NBD_TFLAG_SEND_DF;
	if (status_payload)
		flags |= NBD_TFLAG_BLOCK_STATUS_PAYLOAD;
	return flags;
}

bool nbd_export_offers(const struct nbd_export *export, unsigned context)
{
	if (context == NBD_CONTEXT_DEPTH)
		return export->offers_depth;
	return context == NBD_CONTEXT_ALLOCATION ||
	       context - NBD_CONTEXT_BITMAPS < export->bitmap_count;
}

const struct nbd_bitmap *nbd_export_bitmap(const struct nbd_export *export,
					   unsigned context)
{
	assert(context >= NBD_CONTEXT_BITMAPS &&
	       nbd_export_offers(export, context));
	return export->bitmaps + (context - NBD_CONTEXT_BITMAPS);
}

struct nbd_context_name nbd_export_context_name(const struct nbd_export *export,
						unsigned context)
{
	switch (context) {
	case NBD_CONTEXT_ALLOCATION:
		return (struct nbd_context_name){"base:allocation", ""};
	case NBD_CONTEXT_DEPTH:
		return (struct nbd_context_name){"qemu:allocation-depth", ""};
	default:
		return (struct nbd_context_name){
			NBD_BITMAP_PREFIX,
			nbd_export_bitmap(export, context)->name};
	}
}
