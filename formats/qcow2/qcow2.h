/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The qcow2 driver's inside: one image's state, and who does what.
 *
 *  layout*.c          bytes <-> structs, pure
 *  header.c           reading and writing the header
 *  open.c             open, close, the dirty and the corrupt bit
 *  create*.c          new images; prealloc.c lays out whole ones
 *  map.c              where guest bytes are
 *  write.c            reserve and commit
 *  zero.c             zero, discard
 *  pack.c             compressed clusters
 *  alloc.c            free clusters, the quarantine
 *  refcount.c         counts and their tables; refcount-trim.c
 *  metadata.c         which clusters hold tables; cluster-set.c
 *  flush.c            the order of write-back
 *  resize.c           grow, shrink
 *  check*.c           check and repair
 *  info.c, measure.c, snapshot.c, bitmaps.c
 *
 * Invariants, at any moment and after any crash (spec: qcow2 15; W1-W7):
 *  - On disk nothing refers to a cluster whose count on disk is too low; counts
 *    that are too high (leaks) are the only damage a crash may leave.
 *  - A pointer reaches the disk only after a sync that followed the writing of
 *    what it points to: data, and counts, before L2; L2 before L1.
 *  - A cluster that was freed keeps its count, and so cannot be handed out,
 *    until the flush that makes its unmapping durable (the quarantine).
 *
 * Tables in memory are in host byte order where they are arrays (l1, reftable),
 * and in disk order inside the caches.
 */
#ifndef PLATTER_FORMATS_QCOW2_H
#define PLATTER_FORMATS_QCOW2_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/format.h"
#include "block/options.h"
#include "block/table-cache.h"
#include "formats/qcow2/layout.h"

struct error;
struct image;
struct storage;

/* A run of host clusters. */
struct qcow2_run {
	uint64_t first, count;
	bool punch; /* give the space back to the host once it is free */
};

struct qcow2_run_list {
	struct qcow2_run *items;
	size_t count, capacity;
};

/* A range of a table in memory that differs from the disk; empty: first>=end */
struct qcow2_dirty_range {
	uint64_t first, end; /* entries */
};

struct qcow2 {
	struct image *img;
	struct storage *file; /* borrowed from img */
	struct qcow2_header header;
	struct qcow2_header_tail tail;

	unsigned cluster_bits;
	uint32_t cluster_size;
	unsigned l2_bits; /* log2 of entries per L2 table */
	unsigned refcount_order;
	unsigned refblock_bits; /* log2 of counts per refcount block */
	uint64_t refcount_max;	/* largest count of this width */
	bool discards_to_zero;	/* version 3: there is a zero flag */

	/*
	 * Lock order: change_lock, then table_lock (block/locks.h).
	 * change_lock: every operation that changes a mapping, a count or the
	 * header, and flush, which holds it over its syncs.
	 * table_lock: the fields below and the caches' contents; readers of
	 * mappings take only this one, so a sync never delays them.
	 */
	pthread_mutex_t change_lock, table_lock;

	uint64_t *l1; /* l1_entries, as on disk with flags */
	uint32_t l1_entries;
	struct qcow2_dirty_range l1_dirty;
	struct table_cache *l2_cache;

	uint64_t *reftable; /* host offsets of refcount blocks, or 0 */
	uint64_t reftable_entries;
	struct qcow2_dirty_range reftable_dirty;
	struct table_cache *refblock_cache;

	/* change_lock */
	uint64_t free_hint; /* no free cluster index below it */
	uint64_t pack_off;  /* next packed byte, host; 0: none open */
	struct qcow2_run_list quarantine;
	struct qcow2_cluster_set *metadata; /* host clusters of tables */
	/* Of snapshots: their L1 tables and the table of them; in order. */
	struct qcow2_run_list snapshot_runs;
	bool dirty_bit;		     /* set on disk: counts may be stale */
	bool lazy;		     /* counts may lag behind the dirty bit */
	_Atomic bool corrupt;	     /* found to be: no more changes are made */
	pthread_mutex_t header_lock; /* leaf: the feature bits on disk */
};

static inline uint64_t qcow2_cluster_index(const struct qcow2 *q,
					   uint64_t host_off)
{
	return host_off >> q->cluster_bits;
}

/* ---- header.c ---- */

/* Reads, decodes and validates into q->header and q->tail. */
int qcow2_header_read(struct qcow2 *q, struct storage *file, unsigned flags,
		      struct error *err);
/* Rewrites the whole header area; keeps what it does not understand. No sync.
 */
int qcow2_header_write(struct qcow2 *q, struct error *err);
/* Writes incompatible..autoclear (24 bytes at 72) and syncs. v3 only. */
int qcow2_header_write_features(struct qcow2 *q);

/* ---- open.c ---- */

int qcow2_open(struct image *img, const struct options *opts,
	       struct error *err);
int qcow2_close(struct image *img);
extern const struct option_def qcow2_open_options[];
/* Changes incompatible feature bits on disk, durably. Any thread. */
int qcow2_features_change(struct qcow2 *q, uint64_t set, uint64_t clear);
/* Re-reads L1 and refcount table and forgets caches: after a repair. */
int qcow2_reload_tables(struct qcow2 *q, struct error *err);
/*
 * The image contradicts itself: sets the corrupt bit if it can, once, and
 * refuses changes from here on. Returns -EIO.
 */
int qcow2_mark_corrupt(struct qcow2 *q);

/* ---- map.c ---- */

int qcow2_map(struct image *img, uint64_t guest_off, uint64_t len,
	      struct mapping *out);

/* ---- refcount.c: change_lock held, table_lock taken inside ---- */

int qcow2_refcount_read(struct qcow2 *q, uint64_t cluster, uint64_t *out);
/*
 * Adds `delta` (+1 or -1) to every count of the run, which is covered: all or
 * nothing. -EOVERFLOW past the width's maximum; -ERANGE below zero, which means
 * that the image contradicts itself.
 */
int qcow2_refcount_change(struct qcow2 *q, struct qcow2_run run, int delta);
/* Whether a refcount block describes the cluster. */
bool qcow2_refcount_covered(const struct qcow2 *q, uint64_t cluster);
/*
 * Makes the block that describes the cluster, or, where the table is full,
 * a larger table and the next block behind everything: look again afterwards.
 */
int qcow2_refcount_cover(struct qcow2 *q, uint64_t cluster);
/* `want` contiguous clusters behind everything that is counted, counted once.
 */
int qcow2_refcount_append(struct qcow2 *q, uint64_t want,
			  struct qcow2_run *out);
/* Changes a table entry; the disk follows with the flush. table_lock held. */
void qcow2_refcount_set_block(struct qcow2 *q, uint64_t block,
			      uint64_t host_off);
/* Lets go of blocks that count nothing: refcount-trim.c. Flushes. */
int qcow2_refcount_trim(struct qcow2 *q);
/* A refcount block that nothing points to any more. table_lock held. */
void qcow2_refcount_forget_block(struct qcow2 *q, uint64_t cluster);
/*
 * The first run of free clusters at or behind `from`, at most `want` long; past
 * the end of what is covered everything is free.
 */
int qcow2_refcount_find_free(struct qcow2 *q, uint64_t from, uint64_t want,
			     struct qcow2_run *out);

/* ---- alloc.c: change_lock held ---- */

/* Host clusters that the file may have: a device does not grow. */
uint64_t qcow2_host_clusters_max(const struct qcow2 *q);
/* `want` clusters or fewer, contiguous, counted once. */
int qcow2_alloc(struct qcow2 *q, uint64_t want, struct qcow2_run *out);
/* Exactly `want`, contiguous. */
int qcow2_alloc_exact(struct qcow2 *q, uint64_t want, struct qcow2_run *out);
/* Takes back at once: nothing on disk ever pointed here. */
void qcow2_alloc_undo(struct qcow2 *q, struct qcow2_run run);
/* Drops one count once the next flush has made the unmapping durable. */
int qcow2_free_later(struct qcow2 *q, struct qcow2_run run);
/* What an L2 entry refers to goes the same way; `punch` as in qcow2_run. */
int qcow2_free_entry_later(struct qcow2 *q, uint64_t l2_entry, bool punch);
/* After the flush: counts go down, space may be punched. */
int qcow2_quarantine_release(struct qcow2 *q);
int qcow2_run_list_add(struct qcow2_run_list *list, struct qcow2_run run);
void qcow2_run_list_release(struct qcow2_run_list *list);

/* ---- metadata.c: change_lock held, but for the first two ---- */

/* Of an image that is written. Refused, with `err`, if tables lie in a way that
 * a change of one would change another. */
int qcow2_metadata_collect(struct qcow2 *q, struct error *err);
void qcow2_metadata_release(struct qcow2 *q);
/* Whether the run holds the header, L1 or refcount table. */
bool qcow2_run_hits_tables(const struct qcow2 *q, struct qcow2_run run);
/* The same, or an L2 table, a refcount block or what snapshots need. */
bool qcow2_run_hits_metadata(const struct qcow2 *q, struct qcow2_run run);

/* ---- cluster-set.c: which host clusters hold tables ---- */

struct qcow2_cluster_set;
int qcow2_cluster_set_new(struct qcow2_cluster_set **out);
void qcow2_cluster_set_free(struct qcow2_cluster_set *set);
int qcow2_cluster_set_add(struct qcow2_cluster_set *set, uint64_t cluster);
void qcow2_cluster_set_remove(struct qcow2_cluster_set *set, uint64_t cluster);
bool qcow2_cluster_set_has(const struct qcow2_cluster_set *set,
			   uint64_t cluster);

/* ---- write.c ---- */

/*
 * The L2 entries of a guest offset, writable: allocates or copies the L2 table
 * where that is needed. The unit of the cache that holds the entry is pinned;
 * *index is the entry in it. change_lock and table_lock held.
 */
int qcow2_l2_get_writable(struct qcow2 *q, uint64_t guest_off,
			  struct table **table, size_t *index);
/* Empties an L1 entry; its table goes the way of freed clusters. As above. */
void qcow2_l1_drop(struct qcow2 *q, uint64_t l1_idx);
/*
 * Before every change, change_lock held: refuses on a corrupt image, sets the
 * dirty bit if counts may lag, keeps the quarantine bounded.
 */
int qcow2_begin_change(struct qcow2 *q);
int qcow2_reserve(struct image *img, uint64_t guest_off, uint64_t len,
		  struct reservation *out);
int qcow2_commit(struct image *img, const struct reservation *r);
void qcow2_abort(struct image *img, const struct reservation *r);

/* ---- zero.c, pack.c, flush.c, resize.c ---- */

int qcow2_zero(struct image *img, uint64_t guest_off, uint64_t len,
	       unsigned flags);
int qcow2_discard(struct image *img, uint64_t guest_off, uint64_t len);
/* For resizing: gives up what the range holds; reads as before, or as zeros.
 */
int qcow2_cut_range(struct qcow2 *q, uint64_t guest_off, uint64_t len);
/* Entries become empty, whatever shows through then. */
int qcow2_forget_range(struct qcow2 *q, uint64_t guest_off, uint64_t len);
int qcow2_unpack(struct image *img, const struct mapping *m,
		 struct codec *codec, void *buf);
extern const struct pack_ops qcow2_pack_ops;
void qcow2_codec_params(const struct image *img, struct codec_params *out);
int qcow2_flush(struct image *img);
/* The same with change_lock held; also what makes room in full caches. */
int qcow2_flush_locked(struct qcow2 *q);
/* Ordered write-back without the last sync: room in the caches. */
int qcow2_write_back_locked(struct qcow2 *q);
int qcow2_resize(struct image *img, uint64_t new_size, enum prealloc_mode mode,
		 struct error *err);

/* ---- create.c, measure.c, info.c, check.c, snapshot.c ---- */

extern const struct option_def qcow2_create_options[];
int qcow2_create(const struct create_args *args, struct error *err);
/*
 * Gives every cluster of [guest_off, guest_end) that has none a place with
 * zeros in it. For an image that nobody else uses, after img->size_bytes was
 * set; not flushed. `mode` is not PREALLOC_OFF; `progress` may be NULL.
 */
int qcow2_preallocate(struct image *img, uint64_t guest_off, uint64_t guest_end,
		      enum prealloc_mode mode, struct progress *progress,
		      struct error *err);
int qcow2_measure(const struct options *opts, struct image *source,
		  uint64_t size_bytes, struct measure_result *out,
		  struct error *err);
int qcow2_info(struct image *img, struct image_info *out, struct error *err);
int qcow2_check(struct image *img, const struct check_args *args,
		struct check_result *out, struct error *err);
/* For opening an image with the dirty bit: all of it mended, or an error. */
int qcow2_repair_dirty(struct qcow2 *q, struct error *err);
/*
 * Each snapshot in turn, decoded and not validated; released after the call, so
 * what a visitor keeps it takes out. Negative ends it. *table_len, if asked
 * for, is then of the table, in bytes.
 */
typedef int qcow2_snapshot_visit(void *opaque, struct qcow2_snapshot *s,
				 struct error *err);
int qcow2_snapshots_each(struct qcow2 *q, qcow2_snapshot_visit *visit,
			 void *opaque, uint64_t *table_len, struct error *err);
/* All snapshots, decoded and validated; the caller releases each and frees. */
int qcow2_snapshots_read(struct qcow2 *q, struct qcow2_snapshot **out,
			 size_t *count, struct error *err);
/* Releases each and frees the list. */
void qcow2_snapshots_free(struct qcow2_snapshot *list, size_t count);

/*
 * bitmaps.c: the directory of persistent bitmaps. Bitmaps that are not valid
 * (autoclear bit clear, fields that make no sense) are none.
 */
int qcow2_bitmaps_read(struct qcow2 *q, struct qcow2_bitmap **out,
		       size_t *count, struct error *err);
void qcow2_bitmaps_free(struct qcow2_bitmap *list, size_t count);

#endif
