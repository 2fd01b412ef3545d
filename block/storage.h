/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A storage: a linear byte store that image files live in.
 *
 * Transfers are whole or an error, never short. Facts are plain fields, not
 * callbacks. An operation that is NULL is "not offered", and storage.c supplies
 * the fallback; so callers use the storage_*() functions, never ops directly.
 * I/O is positional: no shared cursor exists.
 *
 * Any storage can stand under any format driver; tests put storages that
 * record or fail there (tests/support/).
 *
 * Threads: every function may be called from any thread at any time, except
 * storage_close(), which wants to be the last. Writes to overlapping ranges at
 * the same time leave one or the other, in no order.
 *
 * Errors: negative errno. After one failed sync every later sync fails with
 * -EIO until the storage is opened anew (W11): the kernel may have dropped the
 * pages, and a retry that succeeds would lie.
 */
#ifndef PLATTER_BLOCK_STORAGE_H
#define PLATTER_BLOCK_STORAGE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct error;
struct storage;

enum prealloc_mode {
	PREALLOC_OFF,
	PREALLOC_METADATA, /* formats only */
	PREALLOC_FALLOC,   /* space reserved, reads as zeros */
	PREALLOC_FULL,	   /* zeros really written */
};

/* storage_zero() flags */
#define STORAGE_ZERO_MAY_UNMAP	 1u /* may give the space back */
#define STORAGE_ZERO_NO_FALLBACK 2u /* -EOPNOTSUPP rather than write zeros */

/* One run of like bytes. */
struct storage_extent {
	uint64_t len; /* > 0; clipped to what was asked */
	bool hole;    /* reads as zeros and holds no space */
};

/*
 * What an implementer gets: sums that fit 63 bits, len > 0, stores that are
 * writable for changes, and offsets and lengths that are multiples of `align`.
 * So at a store whose end is no multiple of it, reads and writes reach over the
 * end: there a read gives zeros, and a write extends (storage.c cuts back).
 */
struct storage_ops {
	const char *name; /* "file", "host_device", "memory", ... */

	/* Whole transfer, inside the store but for what is said above. */
	int (*readv)(struct storage *s, const struct iovec *iov, int iov_count,
		     uint64_t off);
	/*
	 * The same of what is in memory already: -EAGAIN for the rest, and
	 * then `buf` holds anything. Inside the store, align 1.
	 */
	int (*read_nowait)(struct storage *s, void *buf, size_t len,
			   uint64_t off);
	/* See storage_lend(). Inside the store, align 1, len > 0. */
	const void *(*lend)(struct storage *s, uint64_t off, size_t len);
	/*
	 * May extend a store that can grow; storage.c keeps size_bytes. If a
	 * failed write has extended the store, the implementer calls
	 * storage_raise_size() itself: bytes past size_bytes read as zeros
	 * once the store grows over them.
	 */
	int (*writev)(struct storage *s, const struct iovec *iov, int iov_count,
		      uint64_t off);
	/*
	 * Makes the range read as zeros, or -EOPNOTSUPP. Never past the end;
	 * `len` may be odd if the range ends there, also for discard.
	 */
	int (*zero)(struct storage *s, uint64_t off, uint64_t len,
		    unsigned flags);
	/* Advisory: contents undefined after. -EOPNOTSUPP is fine. */
	int (*discard)(struct storage *s, uint64_t off, uint64_t len);
	/* Shares (reflinks) bytes between two files, or -EOPNOTSUPP. */
	int (*clone)(struct storage *dst, uint64_t dst_off, struct storage *src,
		     uint64_t src_off, uint64_t len);
	/* Starts writing back dirty pages, waits for nothing; advisory. */
	void (*write_behind)(struct storage *s, uint64_t off, uint64_t len);
	/* Of two stores of this kind: are their bytes the same ones? */
	bool (*same)(const struct storage *a, const struct storage *b);
	int (*sync)(struct storage *s);
	int (*resize)(struct storage *s, uint64_t new_size,
		      enum prealloc_mode mode, struct error *err);
	/*
	 * The run that starts at `off`; [off, off + len) is inside. All errors
	 * mean that it is not known, but -ESHUTDOWN: the store is gone.
	 */
	int (*extent)(struct storage *s, uint64_t off, uint64_t len,
		      struct storage_extent *out);
	/* Bytes of disk in use, or -errno. */
	int64_t (*allocated_bytes)(struct storage *s);
	void (*close)(struct storage *s);
};

struct storage {
	const struct storage_ops *ops;
	char *name; /* for messages: the path as the user gave it; owned */

	_Atomic uint64_t size_bytes; /* current length */
	uint32_t align;	    /* of offsets and lengths; 1 when unrestricted */
	uint32_t mem_align; /* of buffers; 1 when unrestricted */
	bool writable;
	bool can_grow;	   /* regular files and memory; not devices */
	bool can_punch;	   /* storage_zero with MAY_UNMAP gives space back */
	bool zero_is_fast; /* zeroing costs no writing of data */
	bool is_device;
	bool ignore_sync; /* cache mode "unsafe": syncs do nothing */
	int fd; /* if the kernel may move its bytes directly, else -1 */

	/*
	 * Private to storage.c. Both locks are innermost: nothing else is
	 * locked under them.
	 *
	 * edge_lock keeps size changes and read-modify-write of partial blocks
	 * apart from other writes. In-place writes to a store without alignment
	 * do not take it.
	 */
	pthread_rwlock_t edge_lock;
	pthread_mutex_t sync_lock; /* holds the fields below */
	pthread_cond_t sync_ended;
	uint64_t sync_started_count; /* a sync covers what was written before */
	uint64_t sync_ended_count;   /* it started, so waiters share the next */
	int sync_error; /* of the first failed sync; never cleared */
};

/* For implementers: sets every field to a harmless start; copies `name`. */
int storage_init(struct storage *s, const struct storage_ops *ops,
		 const char *name);
/* Undoes storage_init(); implementers call it at the end of ->close. */
void storage_release(struct storage *s);
/* For implementers: the store is at least this long. */
void storage_raise_size(struct storage *s, uint64_t size_bytes);

/* Inside the store only: past the end is -EIO. Any alignment. */
int storage_read(struct storage *s, void *buf, size_t len, uint64_t off);
int storage_readv(struct storage *s, const struct iovec *iov, int iov_count,
		  uint64_t off);
/*
 * Reads only what needs no waiting, else -EAGAIN: then `buf` holds anything,
 * and the caller reads in another way. For -EIO too somebody else may ask.
 */
int storage_read_nowait(struct storage *s, void *buf, size_t len, uint64_t off);
/*
 * Where the bytes lie in memory, for system calls to read them from, until the
 * store is closed; NULL if they are not at hand. They are what the store holds
 * at each moment: the caller keeps writers away while it uses them. Never look
 * at them: if somebody cuts the file, reading them ends the process, while a
 * system call only fails with EFAULT.
 */
const void *storage_lend(struct storage *s, uint64_t off, size_t len);
/* Bytes past the end read as zeros: for files that end inside a cluster. */
int storage_read_padded(struct storage *s, void *buf, size_t len, uint64_t off);

/*
 * Any alignment; extends the store if it can grow, else -ENOSPC. Everything
 * that changes a store that is not writable fails with -EACCES.
 */
int storage_write(struct storage *s, const void *buf, size_t len, uint64_t off);
int storage_writev(struct storage *s, const struct iovec *iov, int iov_count,
		   uint64_t off);

/*
 * Makes [off, off + len) read as zeros, extending the store if needed. Tries
 * what the store offers, then writes zeros (unless NO_FALLBACK).
 */
int storage_zero(struct storage *s, uint64_t off, uint64_t len, unsigned flags);

/* Advisory: 0 also when the store cannot. Range clipped to the store. */
int storage_discard(struct storage *s, uint64_t off, uint64_t len);
void storage_write_behind(struct storage *s, uint64_t off, uint64_t len);

/* 0, or -EOPNOTSUPP/-EXDEV/-EINVAL when the caller has to copy by hand. */
int storage_clone(struct storage *dst, uint64_t dst_off, struct storage *src,
		  uint64_t src_off, uint64_t len);

/*
 * Durable on return: data and length. Sticky failure, see above. Callers that
 * come while a sync runs share the next one.
 */
int storage_sync(struct storage *s);

/*
 * What is added reads as zeros. A failed resize leaves the old size. The caller
 * keeps writes off the part that is cut away.
 */
int storage_resize(struct storage *s, uint64_t new_size,
		   enum prealloc_mode mode, struct error *err);

/*
 * The like run at `off`. Never an error because of the file system: what is not
 * known to be a hole is data. -EIO: a store that is gone for good has no runs.
 * `len` > 0; past the end is a hole.
 */
int storage_extent_at(struct storage *s, uint64_t off, uint64_t len,
		      struct storage_extent *out);

/* Bytes of disk in use, or a negative errno. */
int64_t storage_allocated_bytes(struct storage *s);

/* Whether both lead to the same bytes, as far as their kind can tell. */
bool storage_same(const struct storage *a, const struct storage *b);

/* NULL is fine. Does not sync. */
void storage_close(struct storage *s);

static inline uint64_t storage_size(const struct storage *s)
{
	return atomic_load_explicit(&s->size_bytes, memory_order_acquire);
}

#endif
