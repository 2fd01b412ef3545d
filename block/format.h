/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a format driver is: a constant descriptor and about a dozen operations.
 *
 * A driver answers where the bytes of a guest range are, and makes ranges
 * writable. It never moves guest data, packed clusters aside: reading, writing,
 * copy-on-write, chains, sparse copying and parallelism are written once, above
 * all drivers (image.c). formats/raw is the one to read first.
 *
 * The caller (image.c) has checked ranges, alignment and state, and drivers
 * assert them. It holds the guest range (range-lock.h): shared around map and
 * unpack, exclusively around reserve..commit, zero and discard. Unless a line
 * says otherwise an operation may run on several threads at once, on ranges
 * that do not overlap.
 *
 * Operations that are NULL are not offered; image.c says so to the user or
 * supplies the obvious: a driver without reserve has all of its disk mapped and
 * writable in place, one without zero or discard leaves both to the storage.
 */
#ifndef PLATTER_BLOCK_FORMAT_H
#define PLATTER_BLOCK_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/codec.h"
#include "block/mapping.h"
#include "block/storage.h"

struct bitmap_ops;
struct error;
struct image;
struct image_info;
struct inspection;
struct option_def;
struct options;
struct progress;

/* What a probe sees: the head of the file and its last sector. */
struct probe_input {
	const uint8_t *head; /* PROBE_HEAD_BYTES, zeros past the file's end */
	const uint8_t *tail; /* the last 512 bytes, or NULL if shorter */
	uint64_t file_size;
	const char *filename;
};

#define PROBE_HEAD_BYTES (64 * 1024)

/*
 * Space that was found for guest bytes but that nothing points to yet: the
 * first of the two steps in which a mapping changes.
 */
struct reservation {
	uint64_t guest_off, len; /* whole clusters; covers the asked offset */
	struct storage *storage; /* one contiguous host run; borrowed */
	uint64_t host_off;
	bool in_place;	    /* the clusters were the guest's already */
	uint64_t cookie[2]; /* the driver's own */
};

/* zero flags */
#define FORMAT_ZERO_MAY_UNMAP 1u /* may give the clusters back */
/* -ENOTSUP rather than write zeros; drivers, who write none, ignore it. */
#define FORMAT_ZERO_NO_FALLBACK 2u

struct check_args {
	bool fix_leaks, fix_errors;
	struct progress *progress; /* may be NULL */
	/*
	 * Called for each finding, one line without newline, on the calling
	 * thread; may be NULL. At most CHECK_FINDINGS_MAX are reported, then
	 * one line says that there are more.
	 */
	void (*finding)(void *opaque, const char *text);
	void *opaque;
};

#define CHECK_FINDINGS_MAX 100000

struct check_result {
	uint64_t check_errors;	     /* places that could not be checked */
	uint64_t corruptions, leaks; /* those that are left */
	uint64_t corruptions_fixed, leaks_fixed;
	uint64_t image_end_offset; /* host; 0 if not known */
	bool has_counts;
	uint64_t total_clusters, allocated_clusters;
	uint64_t fragmented_clusters, compressed_clusters;
};

struct measure_result {
	uint64_t required, fully_allocated;
	bool has_bitmaps;
	uint64_t bitmaps;
};

struct create_args {
	struct storage *storage; /* empty and writable; borrowed */
	const char *filename;	 /* of the storage, for messages */
	uint64_t size_bytes;	 /* virtual size, already rounded */
	/* checked against create_options; "size" and backing_* included */
	const struct options *options;
	struct progress *progress; /* may be NULL */
};

/*
 * One packed or plain cluster on its way into the image. `packed_len` 0 means
 * that the cluster is stored plain, whole.
 */
struct pack_slot {
	uint64_t guest_off;
	uint32_t packed_len;
	uint64_t host_off; /* out: where its bytes go */
};

/* Writing packed clusters; a driver may lack it. */
struct pack_ops {
	/* How clusters are packed in this image, level aside. */
	void (*params)(const struct image *img, struct codec_params *out);
	/*
	 * Finds places for `count` clusters in order, packed ones byte by byte
	 * behind each other. The clusters must not be allocated: -EEXIST.
	 * Callers serialise: the order of calls decides the layout.
	 */
	int (*reserve)(struct image *img, struct pack_slot *slots,
		       size_t count);
	/* Links what has been written. Any order. */
	int (*commit)(struct image *img, const struct pack_slot *slots,
		      size_t count);
	void (*abort)(struct image *img, const struct pack_slot *slots,
		      size_t count);
};

/* Disks as they once were, kept inside the image; a driver may lack them. */
struct snapshot_ops {
	/*
	 * From here on the image, opened for reading only and not used yet,
	 * shows the disk of a snapshot. Of `id` and `name` one may be NULL; if
	 * none is, both have to fit. -ENOENT: there is none, and nothing has
	 * changed.
	 */
	int (*show)(struct image *img, const char *id, const char *name,
		    struct error *err);
};

/* capability bits */
#define FORMAT_BACKING	   0x01u /* can have a backing file */
#define FORMAT_NO_METADATA 0x02u /* raw: nothing to check */
#define FORMAT_SIZE_IN_512 0x04u /* virtual sizes are multiples of 512 */

struct format_driver {
	const char *name;
	unsigned caps;
	/* NULL: cannot be created. Sorted as `-o help` prints them. */
	const struct option_def *create_options;
	/* Run-time options of open beyond `driver` and `file`; may be NULL. */
	const struct option_def *open_options;

	/*
	 * 0: not this format. 100: certainly. In between: a guess. Pure: no
	 * I/O, fuzzed. raw answers 1.
	 */
	int (*probe)(const struct probe_input *in);
	/* Judges what is about to be opened: see inspect-rule.h. */
	void (*inspect)(struct inspection *in);

	/*
	 * img->file is open; sets img->state and img's size, cluster_size and
	 * backing names. Opens no file itself. Must leave nothing behind on
	 * failure. Writable images are made safe to write here (dirty bit,
	 * unknown autoclear bits). `opts`: checked against open_options.
	 */
	int (*open)(struct image *img, const struct options *opts,
		    struct error *err);
	int (*create)(const struct create_args *args, struct error *err);
	/* Size of a new image; `source` may be NULL (then size_bytes). */
	int (*measure)(const struct options *opts, struct image *source,
		       uint64_t size_bytes, struct measure_result *out,
		       struct error *err);

	/*
	 * The run of like mapping at guest_off: out->len <= len, > 0. May stop
	 * early, at a table's end say; never reads extra metadata only to
	 * answer longer. -EIO for metadata that makes no sense.
	 */
	int (*map)(struct image *img, uint64_t guest_off, uint64_t len,
		   struct mapping *out);
	/*
	 * Finds space for the clusters that hold [guest_off, guest_off + len),
	 * or the first of them. The caller writes every byte of the host run
	 * and then calls commit, which links it, or abort. Both are to be
	 * called under the same hold.
	 */
	int (*reserve)(struct image *img, uint64_t guest_off, uint64_t len,
		       struct reservation *out);
	int (*commit)(struct image *img, const struct reservation *r);
	void (*abort)(struct image *img, const struct reservation *r);
	/*
	 * Whole clusters (the last may be cut by the end of the disk) read as
	 * zeros afterwards. -ENOTSUP: cannot, the caller writes zeros.
	 */
	int (*zero)(struct image *img, uint64_t guest_off, uint64_t len,
		    unsigned flags);
	/* Whole clusters; advisory. */
	int (*discard)(struct image *img, uint64_t guest_off, uint64_t len);
	/* The whole cluster that holds m->guest_off, into cluster_size bytes.
	 */
	int (*unpack)(struct image *img, const struct mapping *m,
		      struct codec *codec, void *buf);
	void (*unpack_params)(const struct image *img,
			      struct codec_params *out);
	/* Durable on return: data, then metadata in its order. */
	int (*flush)(struct image *img);

	/* The following four: nothing else runs on the image. */
	int (*resize)(struct image *img, uint64_t new_size,
		      enum prealloc_mode mode, struct error *err);
	int (*check)(struct image *img, const struct check_args *args,
		     struct check_result *out, struct error *err);
	/* Fills the fields of format.h's business; opens nothing. */
	int (*info)(struct image *img, struct image_info *out,
		    struct error *err);
	/* Flushes if writable; frees img->state. The error is the flush's. */
	int (*close)(struct image *img);

	const struct pack_ops *pack;
	const struct bitmap_ops *bitmaps; /* block/bitmap.h */
	const struct snapshot_ops *snapshots;
};

#endif
