/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An image: a disk as its reader sees it, whatever the format and however deep
 * the chain. What everyone but the format drivers uses.
 *
 * This is the checked wrapper: range, alignment, read-only and state checks
 * are made here, once, and format drivers assert them.
 *
 * Threads: image_read(), write, zero, discard, flush, map and extents from any
 * thread at any time. image_close(), resize, check and info want to be alone.
 */
#ifndef PLATTER_BLOCK_IMAGE_H
#define PLATTER_BLOCK_IMAGE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/format.h"
#include "block/mapping.h"
#include "block/range-lock.h"

struct error;
struct image_spec;
struct opener;
struct options;

/* Chains that are longer are refused: loops without a name, or an attack. */
#define IMAGE_CHAIN_MAX 200

/* The largest disk: its size rounded up to sectors still fits in int64_t. */
#define IMAGE_SIZE_MAX ((uint64_t)INT64_MAX - 511)

#define IMAGE_WRITE	  0x01u
#define IMAGE_NO_BACKING  0x02u /* this layer only */
#define IMAGE_FORCE_SHARE 0x04u /* -U: no lock is taken */
#define IMAGE_FOR_CHECK	  0x08u /* accept what check can report or mend */
#define IMAGE_INFO_ONLY	  0x10u /* header only: no guest I/O follows */
/* Writing to a disk that was only guessed to be raw is the user's wish. */
#define IMAGE_KEEP_GUESS 0x20u
/* Every byte of every layer is read: file systems may lie about holes. */
#define IMAGE_DISTRUST_HOLES 0x40u
/* Small reads and writes anywhere are to come, as a guest makes them. */
#define IMAGE_GUEST_IO 0x80u

enum cache_mode {
	CACHE_WRITEBACK,    /* durable on flush */
	CACHE_WRITETHROUGH, /* durable on return of each write */
	CACHE_NONE,	    /* O_DIRECT, durable on flush */
	CACHE_DIRECTSYNC,   /* O_DIRECT, durable on return */
	CACHE_UNSAFE,	    /* flushes are ignored */
};

/* "none", "off", "writeback", ... ; -EINVAL for others. */
int cache_mode_parse(const char *text, enum cache_mode *out);

struct image {
	const struct format_driver *driver;
	void *state;	       /* the driver's */
	struct storage *file;  /* owned */
	struct image *backing; /* owned; NULL: none, or not opened */
	char *filename;	       /* as the user or the layer above names it */

	uint64_t size_bytes;
	/* What is allocated at once, a power of two; 512 where nothing is. */
	uint32_t cluster_size;
	unsigned open_flags; /* IMAGE_* */
	enum cache_mode cache;
	bool writable;
	bool format_guessed;

	/* As the image records them; owned, NULL if it has none. */
	char *backing_name;
	char *backing_format;

	struct range_lock holds;
	/* Idle codecs for unpacking, so that each thread finds one warm. */
	pthread_mutex_t codec_lock;
	struct codec_list *codecs;
};

struct image_open_args {
	const struct image_spec *spec; /* file and options; borrowed */
	unsigned flags;
	enum cache_mode cache;
	const struct opener *opener; /* for what the image names; NULL: none */
};

/*
 * Opens an image and, unless told not to, its chain. Messages start with
 * "Could not open 'NAME': ".
 */
int image_open(struct image **out, const struct image_open_args *args,
	       struct error *err);

/*
 * The two halves of image_open(), for callers who look at the file in between:
 * how it opens the file, or what stands for one, with which flags
 * (block/storage/file.h), and what it does with that, which the image owns
 * then, also on failure.
 */
unsigned image_file_flags(const struct image_open_args *args);
int image_open_storage_of(struct storage **out,
			  const struct image_open_args *args,
			  struct error *err);
int image_open_file(struct image **out, struct storage *file,
		    const struct image_open_args *args, struct error *err);

/*
 * The same on a storage that is open already, which the image owns then, also
 * on failure. `driver` NULL: probe. No backing file is opened.
 */
int image_open_storage(struct image **out, struct storage *file,
		       const struct format_driver *driver,
		       const struct options *opts, unsigned flags,
		       struct error *err);

/* Puts `base` below `img`, which owns it then; img had none. */
void image_set_backing(struct image *img, struct image *base);

/*
 * Flushes what is writable and frees everything, the chain too. Returns the
 * error of the flush: data may not be durable. NULL is fine.
 */
int image_close(struct image *img);

/* Any offset and length inside the disk; -EINVAL outside it. */
int image_read(struct image *img, void *buf, size_t len, uint64_t guest_off);
int image_write(struct image *img, const void *buf, size_t len,
		uint64_t guest_off);
/*
 * image_read() where nobody has to wait: not for a hold, not for the data's
 * disk, not for an unpacking. Else -EAGAIN, and `buf` holds anything.
 */
int image_read_nowait(struct image *img, void *buf, size_t len,
		      uint64_t guest_off);
/*
 * Reads as zeros on return. `flags`: FORMAT_ZERO_*. -ENOTSUP only with
 * NO_FALLBACK.
 */
int image_zero(struct image *img, uint64_t guest_off, uint64_t len,
	       unsigned flags);
/* Advisory, rounded inwards to whole clusters. */
int image_discard(struct image *img, uint64_t guest_off, uint64_t len);
/*
 * One whole cluster (the last may be cut by the end of the disk), compressed if
 * that makes it smaller. -EOPNOTSUPP: the format has no such clusters; -EEXIST:
 * the cluster holds data already. `level` as in struct codec_params.
 */
int image_write_packed(struct image *img, const void *buf, size_t len,
		       uint64_t guest_off, int level);
/* Durable on return. */
int image_flush(struct image *img);

/*
 * One run of the flattened chain: DATA, ZERO or PACKED, never BACKING; len is 0
 * only for len 0 or at the end of the disk. Bytes past the end of a short layer
 * are ZERO. The caller keeps writers of the range away while it uses the
 * answer, by a hold or by being alone.
 */
int image_map(struct image *img, uint64_t guest_off, uint64_t len,
	      struct mapping *out);

/*
 * Reads what `m` (from image_map) describes, m->len bytes at most, starting
 * `skip` bytes into it. No hold is taken.
 */
int image_read_mapping(struct image *img, const struct mapping *m,
		       uint64_t skip, void *buf, size_t len);

/*
 * One run of plain bytes in a file, kept where it is until it is dropped: for
 * whoever reads the bytes by other means than image_read(). Writing that way
 * would pass by the locks of the storage.
 */
struct image_run {
	struct image *img;
	struct range_hold hold;
	struct storage *storage;
	uint64_t host_off;
};

/*
 * False, and nothing is held, where the range is no single such run, does not
 * lie in the file whole, or is not free to be held at once.
 */
bool image_run_take(struct image *img, struct image_run *run,
		    uint64_t guest_off, uint64_t len);
void image_run_drop(struct image_run *run);

/*
 * A pass over the whole disk, in order of guest offset: image_map() joined with
 * what the storage knows of holes, answers merged while they continue each
 * other. Meant for quiet images: nobody writes meanwhile.
 */
struct image_walk {
	struct image *img;
	uint64_t guest_off, end;
	unsigned flags;
	struct mapping rest; /* looked up, not yet joined with holes */
	bool has_rest;
	struct mapping ahead; /* ready, but no part of the answer before */
	bool has_ahead;
	/* The last run of holes or data seen in a store: most answers hit it.
	 */
	struct storage *extent_storage;
	uint64_t extent_off, extent_len;
	bool extent_hole;
};

#define IMAGE_WALK_NO_HOLES 1u /* do not ask storages for holes */

void image_walk_start(struct image_walk *walk, struct image *img,
		      uint64_t guest_off, uint64_t len, unsigned flags);
/* Next run; out->len is 0 at the end. A hole is ZERO with HAS_HOST. */
int image_walk_next(struct image_walk *walk, struct mapping *out);

/* Whole-image operations; messages say why not. */
int image_resize(struct image *img, uint64_t new_size, enum prealloc_mode mode,
		 bool may_shrink, struct error *err);
/* -ENOTSUP: the format has no checks. */
int image_check(struct image *img, const struct check_args *args,
		struct check_result *out, struct error *err);

/*
 * Shows the disk of an internal snapshot from here on; to be called right after
 * opening, for reading only. Of `id` and `name` one may be NULL. -ENOENT: there
 * is none; -ENOTSUP: the format offers none.
 */
int image_show_snapshot(struct image *img, const char *id, const char *name,
			struct error *err);

/*
 * The two-step write, for jobs that fix the layout of a target themselves.
 * image_place() finds where the next bytes of [guest_off, +len) go: in place,
 * or reserved. p->len <= len; offsets and lengths in whole clusters, the end of
 * the disk aside. The caller writes p->len bytes (storage_write, storage_clone)
 * to p->storage at p->host_off, fills p->tail_len bytes behind them with zeros,
 * and calls image_link() or image_unplace(). The caller is the only writer.
 */
struct placement {
	struct storage *storage;
	uint64_t guest_off, len, host_off;
	uint64_t tail_len; /* rest of the last cluster past the disk's end */
	bool reserved;
	struct reservation reservation;
};

int image_place(struct image *img, uint64_t guest_off, uint64_t len,
		struct placement *out);
int image_link(struct image *img, const struct placement *p);
void image_unplace(struct image *img, const struct placement *p);

#endif
