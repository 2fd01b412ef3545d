/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of the convert job: what its parts share.
 *
 *	convert.c       the job: set up, threads, end
 *	convert-plan.c  cuts the disk into pieces, by guest offsets alone
 *	convert-read.c  reads a piece, hashes it, finds what has to be written
 *	convert-write.c places and writes it; shares extents
 *	convert-pack.c  the same for packed clusters
 *
 * Every piece has a ticket. It passes through each ordered step (hash, place)
 * exactly once, also after a failure, or the threads behind it would wait for
 * ever.
 */
#ifndef PLATTER_BLOCK_JOBS_CONVERT_PRIVATE_H
#define PLATTER_BLOCK_JOBS_CONVERT_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/error.h"
#include "block/format.h"
#include "block/image.h"
#include "block/jobs/convert.h"
#include "block/mapping.h"
#include "block/ticket.h"

/* What one thread reads at a time; larger clusters are one piece each. */
#define CONVERT_CHUNK (1024 * 1024u)
/*
 * What may be shared at a time: large, so that a disk takes few calls, yet a
 * wish to stop is heard.
 */
#define CONVERT_SHARE_MAX (1024 * 1024 * 1024u)
/* Places of one piece that a target with the smallest clusters may take. */
#define CONVERT_PLACES_MAX 4096u
/* So many dirty bytes of cache are written behind at a time. */
#define CONVERT_DIRTY_MAX (16 * 1024 * 1024u)

/* A run of like bytes, in offsets of the target. */
enum run_kind {
	RUN_DATA,
	RUN_ZERO,
	RUN_BASE, /* already there, in the backing file that is shared */
};

struct run {
	enum run_kind kind;
	uint64_t off, end;
	const struct convert_source *source;
	struct mapping map; /* starts at `off` */
	bool has_map;	    /* no: to be read by image_read() or the stream */
};

enum piece_kind {
	PIECE_COPY,
	PIECE_ZERO,
	PIECE_SHARE, /* one DATA mapping that the target could share */
};

struct piece {
	uint64_t ticket;
	enum piece_kind kind;
	uint64_t off, len; /* of the target; whole clusters, the end aside */
	/* The one mapping of the piece from `skip` on, or of several: read. */
	bool has_map;
	struct mapping map;
	uint64_t skip;
	struct image *map_img;
	bool probe;    /* the first of its kind: tells whether sharing works */
	bool streamed; /* the bytes are in the lane's buffer already */
	uint64_t pace_bytes; /* all bytes copied up to its end, for the rate */
};

enum share_state { SHARE_NEVER, SHARE_UNKNOWN, SHARE_PROBING, SHARE_WORKS };

/* Where bytes of a piece go to. */
enum segment_kind { SEGMENT_DATA, SEGMENT_ZERO };

struct segment {
	enum segment_kind kind;
	size_t off, len; /* in the piece */
};

/* What one thread owns. */
struct lane {
	uint8_t *buf;  /* chunk_size */
	uint8_t *base; /* the backing file's bytes, for differences */
	struct segment *segments;
	size_t segment_count;
	struct placement *places;
	size_t place_count;
	uint8_t *digests; /* of the blocks in buf */
	/* packing */
	struct codec *codec;
	uint8_t *packed; /* chunk_size */
	struct pack_slot *slots;
	struct iovec *vectors; /* the bytes of each slot */
	size_t slot_count;
};

struct convert {
	const struct convert_args *args;
	struct image *target;
	uint64_t size;	     /* to copy */
	uint32_t chunk_size; /* a multiple of grain */
	/* Pieces start and end at its multiples: clusters, or for formats
	 * without them what makes small holes worth their own piece. */
	uint32_t grain;
	/* What is data or zero as a whole, and what is written at least. */
	uint32_t unit;
	size_t unit_max;    /* units in a chunk */
	size_t place_max;   /* places of a piece, in the worst case */
	uint32_t share_max; /* the most that one piece may share */
	bool ordered; /* places depend on the order in which they are taken */
	bool zeroing; /* zeros have to be made; else the target has them */
	struct codec_params pack_params;

	struct ticket_order placing, hashing;

	/*
	 * Handing out. A leaf for the job's other locks; reads of metadata and
	 * of streams happen under it.
	 */
	pthread_mutex_t mutex;
	pthread_cond_t share_known;
	size_t source_idx;
	uint64_t source_base; /* target offset of that source's start */
	struct image_walk walk;
	bool walking;
	struct run run; /* the last one looked up */
	uint64_t off;	/* next to hand out */
	uint64_t tickets;
	enum share_state share;
	uint64_t pace_bytes; /* handed out */
	uint64_t start_ns;

	/* Dirty host bytes of the target since the last write-behind; mutex. */
	uint64_t dirty_bytes, dirty_from, dirty_end;

	/* The first failure; mutex, the flag is also read without. */
	_Atomic bool failed;
	int ret;
	struct error error;
};

/* ---- convert.c ---- */

/* Records a failure; the first one stays. `text` is what was being done. */
void convert_fail(struct convert *job, int ret, const char *text, uint64_t off);
static inline bool convert_failed(const struct convert *job)
{
	return atomic_load_explicit(&job->failed, memory_order_relaxed);
}

/* The placing step of a piece; nothing where order does not matter. */
void convert_turn_wait(struct convert *job, const struct piece *piece);
void convert_turn_pass(struct convert *job, const struct piece *piece);
/* The piece is done. */
void convert_progress(struct convert *job, const struct piece *piece);

/* ---- convert-plan.c ---- */

/* The next piece, in order. False: no more, or failed. */
bool convert_take(struct convert *job, struct lane *lane, struct piece *piece);
/* Tells those who wait what the probing piece has found. */
void convert_share_resolve(struct convert *job, bool works);
/* Bytes that are not known to be zero; -errno. For progress only. */
int convert_count_data(struct convert *job, uint64_t *out);

/* ---- convert-read.c ---- */

/* Into lane->buf; failures are recorded. */
int convert_read(struct convert *job, struct lane *lane,
		 const struct piece *piece);
/* Adds the piece to the hash, in turn; also after a failure. */
void convert_hash(struct convert *job, struct lane *lane,
		  const struct piece *piece, bool good);
/* Fills lane->segments; what is in none of them stays as it is. */
int convert_scan(struct convert *job, struct lane *lane,
		 const struct piece *piece);

/* ---- convert-write.c, convert-pack.c ---- */

int convert_zero(struct convert *job, uint64_t off, uint64_t len);
void convert_copy_piece(struct convert *job, struct lane *lane,
			const struct piece *piece);
void convert_share_piece(struct convert *job, struct lane *lane,
			 const struct piece *piece);
void convert_pack_piece(struct convert *job, struct lane *lane,
			const struct piece *piece);
/* Host bytes were written: write-behind, when enough are dirty. */
void convert_wrote(struct convert *job, struct storage *storage,
		   uint64_t host_off, uint64_t len);

#endif
