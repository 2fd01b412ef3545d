/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. */
#include "tests/support/fault-storage.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "block/error.h"

struct fault_storage {
	struct storage base;
	struct storage *below;
	struct fault_plan *plan;
};

static struct fault_storage *self_of(struct storage *s)
{
	return (struct fault_storage *)s;
}

/* Whether this call is to fail. */
static bool strikes(struct fault_storage *self)
{
	struct fault_plan *plan = self->plan;

	uint64_t call = atomic_fetch_add(&plan->calls, 1) + 1;

	if (!plan->nth || call < plan->nth ||
	    (call > plan->nth && !plan->for_ever))
		return false;
	atomic_store(&plan->fired, true);
	return true;
}

static int failure(struct fault_storage *self)
{
	atomic_store(&self->plan->mattered, true);
	return -self->plan->code;
}

/* Of a call that puts something onto the disk. */
static int loss(struct fault_storage *self)
{
	atomic_store(&self->plan->lost, true);
	return failure(self);
}

static int fault_readv(struct storage *s, const struct iovec *iov,
		       int iov_count, uint64_t off)
{
	struct fault_storage *self = self_of(s);

	/* A full disk, or quota, reads well. */
	if (strikes(self) && self->plan->code != ENOSPC &&
	    self->plan->code != EDQUOT)
		return failure(self);
	return storage_readv(self->below, iov, iov_count, off);
}

static int fault_writev(struct storage *s, const struct iovec *iov,
			int iov_count, uint64_t off)
{
	struct fault_storage *self = self_of(s);

	return strikes(self) ? loss(self)
			     : storage_writev(self->below, iov, iov_count, off);
}

static int fault_zero(struct storage *s, uint64_t off, uint64_t len,
		      unsigned flags)
{
	struct fault_storage *self = self_of(s);

	return strikes(self) ? loss(self)
			     : storage_zero(self->below, off, len, flags);
}

static int fault_discard(struct storage *s, uint64_t off, uint64_t len)
{
	struct fault_storage *self = self_of(s);

	return strikes(self) ? -self->plan->code
			     : storage_discard(self->below, off, len);
}

static int fault_sync(struct storage *s)
{
	struct fault_storage *self = self_of(s);

	return strikes(self) ? loss(self) : storage_sync(self->below);
}

static int fault_resize(struct storage *s, uint64_t new_size,
			enum prealloc_mode mode, struct error *err)
{
	struct fault_storage *self = self_of(s);

	if (strikes(self))
		return error_set(err,
				 new_size < storage_size(s) ? -failure(self)
							    : -loss(self),
				 "injected fault");
	return storage_resize(self->below, new_size, mode, err);
}

static void fault_close(struct storage *s)
{
	struct fault_storage *self = self_of(s);

	if (self->plan->keep)
		*self->plan->keep = self->below;
	else
		storage_close(self->below);
	storage_release(s);
	free(s);
}

static const struct storage_ops fault_ops = {
	.name = "fault",
	.readv = fault_readv,
	.writev = fault_writev,
	.zero = fault_zero,
	.discard = fault_discard,
	.resize = fault_resize,
	.sync = fault_sync,
	.close = fault_close,
};

int storage_fault_new(struct storage **out, struct storage *base,
		      struct fault_plan *plan)
{
	struct fault_storage *self = calloc(1, sizeof(*self));

	if (!self || storage_init(&self->base, &fault_ops, "fault") < 0) {
		free(self);
		storage_close(base);
		return -ENOMEM;
	}
	self->below = base;
	self->plan = plan;
	self->base.size_bytes = storage_size(base);
	self->base.writable = true;
	self->base.can_grow = base->can_grow;
	self->base.can_punch = base->can_punch;
	*out = &self->base;
	return 0;
}
