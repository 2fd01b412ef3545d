/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. */
#include "tests/support/borrowed-storage.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/log-storage.h"

struct borrowed_storage {
	struct storage base;
	const uint8_t *data;
};

static int borrowed_readv(struct storage *s, const struct iovec *iov,
			  int iov_count, uint64_t off)
{
	const struct borrowed_storage *self = (struct borrowed_storage *)s;

	for (int i = 0; i < iov_count; i++) {
		memcpy(iov[i].iov_base, self->data + off, iov[i].iov_len);
		off += iov[i].iov_len;
	}
	return 0;
}

static void borrowed_close(struct storage *s)
{
	storage_release(s);
	free(s);
}

static const struct storage_ops borrowed_ops = {
	.name = "borrowed",
	.readv = borrowed_readv,
	.close = borrowed_close,
};

struct storage *storage_borrow(const struct flat_disk *disk)
{
	struct borrowed_storage *self = calloc(1, sizeof(*self));

	if (!self || storage_init(&self->base, &borrowed_ops, "state") < 0)
		abort();
	self->data = disk->data;
	self->base.size_bytes = disk->size;
	return &self->base;
}
