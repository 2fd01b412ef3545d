/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Copying whole disks from one format into another.
 *
 * Many threads read, look for zeros and pack, in any order; where the bytes go
 * in the target is decided in the order of the disk (block/ticket.h). So the
 * target is the same, byte for byte, whatever the number of threads.
 *
 * Zeros are not copied but left out or zeroed, as the target needs; whole
 * extents are shared where the file system can (reflinks).
 */
#ifndef PLATTER_BLOCK_JOBS_CONVERT_H
#define PLATTER_BLOCK_JOBS_CONVERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct content_hash;
struct error;
struct image;
struct progress;
struct stream;

/* The part [off, off + len) of a disk, or a stream of `len` bytes. */
struct convert_source {
	struct image *img;     /* nobody writes to it meanwhile */
	struct stream *stream; /* if img is NULL: read once, in order */
	uint64_t off, len;
};

/* What the bytes of the target are that nothing is written to. */
enum convert_target_state {
	CONVERT_TARGET_ZERO,	/* a new image, or known to be zero */
	CONVERT_TARGET_UNKNOWN, /* zeros have to be written */
	/*
	 * Those of its backing file, which also is layer `shared_depth` of the
	 * one source: what the source has from there on is not copied.
	 */
	CONVERT_TARGET_SHARED,
	/* Those of another backing file: only what differs is written. */
	CONVERT_TARGET_DIFFERENCE,
};

#define CONVERT_SPARSE_DEFAULT 4096u
#define CONVERT_SPARSE_MAX     (16 * 1024 * 1024u)

struct convert_args {
	const struct convert_source *sources; /* copied behind each other */
	size_t source_count;
	struct image *target; /* writable, large enough; nobody else's */
	enum convert_target_state target_state;
	unsigned shared_depth;

	unsigned threads; /* 0: as many as pay */
	/*
	 * Zeros are left out in runs of at least so many bytes. 0: not at all,
	 * every byte is written.
	 */
	uint32_t sparse_size;
	bool pack;	      /* the target's driver has pack_ops */
	int pack_level;	      /* as codec_params.level */
	int pack_window_bits; /* as codec_params.window_bits */
	bool share;	   /* try reflinks; these are not searched for zeros */
	bool write_behind; /* keep the amount of dirty cache low */
	uint64_t rate;	   /* bytes a second to copy at most; 0: no limit */

	/* Read errors become zeros, told by `warning` from any thread. */
	bool salvage;
	void (*warning)(void *opaque, const char *text);
	void *opaque;

	/* Adds all of the disk; not with CONVERT_TARGET_SHARED. May be NULL. */
	struct content_hash *hash;
	/*
	 * May be NULL. Counts bytes of data alone, which takes a look at all of
	 * the map in advance, or else all bytes.
	 */
	struct progress *progress;
	bool count_data;
};

/* The sum of all sources' lengths; -EFBIG if that is over IMAGE_SIZE_MAX. */
int convert_size(const struct convert_source *sources, size_t count,
		 uint64_t *out);

/*
 * Copies. The target has not been flushed when it returns. -ECANCELED if
 * `progress` said so; after any failure the target is good for nothing.
 */
int convert_images(const struct convert_args *args, struct error *err);

#endif
