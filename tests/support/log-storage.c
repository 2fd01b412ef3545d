/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. The live contents and the log's copies are kept apart. */
#include "tests/support/log-storage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"

struct log_storage {
	struct storage base;
	struct storage_log *log;
	unsigned file;
	struct flat_disk disk;
};

static struct log_storage *self_of(struct storage *s)
{
	return (struct log_storage *)s;
}

static void flat_disk_grow(struct flat_disk *disk, uint64_t size)
{
	if (size > disk->capacity) {
		uint64_t capacity = max_u64(size, disk->capacity * 2);

		disk->data = realloc(disk->data, capacity);
		if (!disk->data)
			abort();
		disk->capacity = capacity;
	}
	if (size > disk->size) {
		memset(disk->data + disk->size, 0, size - disk->size);
		disk->size = size;
	}
}

void flat_disk_read(struct flat_disk *dst, struct storage *storage)
{
	flat_disk_grow(dst, storage_size(storage));
	if (storage_read(storage, dst->data, dst->size, 0) < 0)
		abort();
}

void flat_disk_copy(struct flat_disk *dst, const struct flat_disk *src)
{
	flat_disk_grow(dst, src->size);
	dst->size = src->size;
	if (src->size)
		memcpy(dst->data, src->data, src->size);
}

void flat_disk_release(struct flat_disk *disk)
{
	free(disk->data);
	*disk = (struct flat_disk){0};
}

static void apply_bytes(struct flat_disk *disk, const struct log_entry *e,
			uint64_t from, uint64_t len)
{
	flat_disk_grow(disk, e->off + from + len);
	if (e->kind == LOG_WRITE)
		memcpy(disk->data + e->off + from, e->data + from, len);
	else
		memset(disk->data + e->off + from, 0, len);
}

void flat_disk_apply(struct flat_disk *disk, const struct log_entry *e)
{
	switch (e->kind) {
	case LOG_WRITE:
	case LOG_ZERO:
		apply_bytes(disk, e, 0, e->len);
		break;
	case LOG_DISCARD:
		if (e->off < disk->size)
			memset(disk->data + e->off, 0,
			       min_u64(e->len, disk->size - e->off));
		break;
	case LOG_RESIZE:
		if (e->len < disk->size)
			disk->size = e->len;
		else
			flat_disk_grow(disk, e->len);
		break;
	case LOG_SYNC:
		break;
	}
}

void flat_disk_apply_torn(struct flat_disk *disk, const struct log_entry *e,
			  uint64_t mask)
{
	unsigned sector = 0;

	if (e->kind != LOG_WRITE && e->kind != LOG_ZERO) {
		flat_disk_apply(disk, e);
		return;
	}
	for (uint64_t at = 0; at < e->len; sector++) {
		uint64_t n = min_u64(512 - (e->off + at) % 512, e->len - at);

		if (mask >> sector % 64 & 1)
			apply_bytes(disk, e, at, n);
		at += n;
	}
}

static struct log_entry *log_add(struct log_storage *self, enum log_kind kind,
				 uint64_t off, uint64_t len)
{
	struct storage_log *log = self->log;

	if (log->count == log->capacity) {
		log->capacity = log->capacity ? log->capacity * 2 : 256;
		log->entries = reallocarray(log->entries, log->capacity,
					    sizeof(*log->entries));
		if (!log->entries)
			abort();
	}
	log->entries[log->count] = (struct log_entry){
		.kind = kind, .file = self->file, .off = off, .len = len};
	return &log->entries[log->count++];
}

static int log_readv(struct storage *s, const struct iovec *iov, int iov_count,
		     uint64_t off)
{
	const struct flat_disk *disk = &self_of(s)->disk;

	for (int i = 0; i < iov_count; i++) {
		memcpy(iov[i].iov_base, disk->data + off, iov[i].iov_len);
		off += iov[i].iov_len;
	}
	return 0;
}

static int log_writev(struct storage *s, const struct iovec *iov, int iov_count,
		      uint64_t off)
{
	struct log_storage *self = self_of(s);
	struct log_entry *e;
	size_t len = 0;

	for (int i = 0; i < iov_count; i++)
		len += iov[i].iov_len;
	e = log_add(self, LOG_WRITE, off, len);
	e->data = malloc(len);
	if (!e->data)
		abort();
	len = 0;
	for (int i = 0; i < iov_count; i++) {
		memcpy(e->data + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	flat_disk_apply(&self->disk, e);
	return 0;
}

static int log_zero(struct storage *s, uint64_t off, uint64_t len,
		    unsigned flags)
{
	struct log_storage *self = self_of(s);

	(void)flags;
	flat_disk_apply(&self->disk, log_add(self, LOG_ZERO, off, len));
	return 0;
}

static int log_discard(struct storage *s, uint64_t off, uint64_t len)
{
	struct log_storage *self = self_of(s);

	flat_disk_apply(&self->disk, log_add(self, LOG_DISCARD, off, len));
	return 0;
}

static int log_resize(struct storage *s, uint64_t new_size,
		      enum prealloc_mode mode, struct error *err)
{
	struct log_storage *self = self_of(s);

	(void)mode;
	(void)err;
	flat_disk_apply(&self->disk, log_add(self, LOG_RESIZE, 0, new_size));
	return 0;
}

static int log_sync(struct storage *s)
{
	log_add(self_of(s), LOG_SYNC, 0, 0);
	return 0;
}

static void log_close(struct storage *s)
{
	flat_disk_release(&self_of(s)->disk);
	storage_release(s);
	free(s);
}

static const struct storage_ops log_ops = {
	.name = "log",
	.readv = log_readv,
	.writev = log_writev,
	.zero = log_zero,
	.discard = log_discard,
	.resize = log_resize,
	.sync = log_sync,
	.close = log_close,
};

int storage_log_new_file(struct storage **out, struct storage_log *log,
			 unsigned file, const struct flat_disk *base)
{
	struct log_storage *self = calloc(1, sizeof(*self));

	if (!self || storage_init(&self->base, &log_ops, "log") < 0) {
		free(self);
		return -ENOMEM;
	}
	self->log = log;
	self->file = file;
	flat_disk_copy(&self->disk, base);
	self->base.size_bytes = base->size;
	self->base.writable = true;
	self->base.can_grow = true;
	self->base.can_punch = true;
	*out = &self->base;
	return 0;
}

int storage_log_new(struct storage **out, struct storage_log *log,
		    const struct flat_disk *base)
{
	return storage_log_new_file(out, log, 0, base);
}

void storage_log_release(struct storage_log *log)
{
	for (size_t i = 0; i < log->count; i++)
		free(log->entries[i].data);
	free(log->entries);
	*log = (struct storage_log){0};
}
