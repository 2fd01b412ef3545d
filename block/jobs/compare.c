/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Comparing two images: see compare.h.
 *
 * One lock hands out pieces in the order of their offsets; workers read and
 * compare them. A finding (a difference or a failure) counts only if it is the
 * lowest so far, and nothing behind a finding is handed out. As every piece
 * below it was handed out before, and is finished before the threads end, the
 * lowest finding is the lowest there is.
 */
#include "block/jobs/compare.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/image.h"
#include "block/jobs/workers.h"
#include "block/progress.h"
#include "block/storage.h"
#include "block/zero.h"

/*
 * One read: two have to stay in the processor's own cache until they are
 * compared. Reads that go to the disk itself want to be larger.
 */
#define PIECE_BYTES	   (256 * 1024u)
#define DIRECT_PIECE_BYTES (1024 * 1024u)
#define SECTOR_BYTES	   512u
/* What O_DIRECT may want of buffers. */
#define BUFFER_ALIGN 4096u

/* One of the two, and the run of it that is being handed out. */
struct side {
	struct image *img;
	struct image_walk walk;
	struct mapping run;
	uint64_t used; /* of the run */
};

/* The same range of both disks. */
struct piece {
	uint64_t guest_off, len;
	struct mapping map[2];
	uint64_t skip[2]; /* into map */
};

struct compare {
	const struct compare_args *args;
	uint64_t size; /* of the larger disk */
	uint32_t piece_bytes;
	unsigned threads;

	pthread_mutex_t mutex; /* all below; a leaf, but for the walks' I/O */
	struct side side[2];
	uint64_t guest_off; /* next to hand out */
	bool stopped;
	bool found; /* the finding follows */
	uint64_t found_off;
	enum compare_kind kind;
	enum compare_failure failure;
	const struct image *failed;
	int ret;
};

/* mutex held. The lowest finding stays. */
static void note_locked(struct compare *c, uint64_t off, enum compare_kind kind,
			enum compare_failure failure,
			const struct image *failed, int ret)
{
	c->stopped = true;
	if (c->found && c->found_off <= off)
		return;
	c->found = true;
	c->found_off = off;
	c->kind = kind;
	c->failure = failure;
	c->failed = failed;
	c->ret = ret;
}

static void note_difference(struct compare *c, uint64_t off)
{
	pthread_mutex_lock(&c->mutex);
	note_locked(c, align_down(off, SECTOR_BYTES), COMPARE_CONTENT,
		    COMPARE_FAILED_NONE, NULL, 0);
	pthread_mutex_unlock(&c->mutex);
}

static void note_failure(struct compare *c, uint64_t off,
			 enum compare_failure failure,
			 const struct image *failed, int ret)
{
	pthread_mutex_lock(&c->mutex);
	note_locked(c, off, COMPARE_IDENTICAL, failure, failed, ret);
	pthread_mutex_unlock(&c->mutex);
}

/* ---- handing out ---- */

/* Makes sure that the side's run holds something; zeros follow its end. */
static int side_advance(struct side *side, uint64_t guest_off, uint64_t size)
{
	int ret;

	if (side->used < side->run.len)
		return 0;
	ret = image_walk_next(&side->walk, &side->run);
	if (ret < 0)
		return ret;
	side->used = 0;
	if (side->run.len == 0)
		side->run = (struct mapping){
			.kind = MAPPING_ZERO,
			.flags = MAPPING_ABSENT,
			.guest_off = guest_off,
			.len = size - guest_off,
		};
	return 0;
}

static bool is_absent(const struct mapping *m)
{
	return m->kind == MAPPING_ZERO && (m->flags & MAPPING_ABSENT);
}

static bool status_differs(const struct mapping *a, const struct mapping *b)
{
	return (a->kind == MAPPING_ZERO) != (b->kind == MAPPING_ZERO) ||
	       is_absent(a) != is_absent(b);
}

/* The same bytes of the same file, as under a backing file that both share. */
static bool same_place(const struct piece *p)
{
	const struct mapping *a = &p->map[0], *b = &p->map[1];

	return a->kind == MAPPING_DATA && b->kind == MAPPING_DATA &&
	       !((a->flags | b->flags) & MAPPING_CIPHERED) &&
	       a->host_off + p->skip[0] == b->host_off + p->skip[1] &&
	       storage_same(a->storage, b->storage);
}

/* mutex held. The next range that both describe by one run each. */
static bool step_locked(struct compare *c, struct piece *p)
{
	int i, ret;

	p->guest_off = c->guest_off;
	p->len = c->size - c->guest_off;
	for (i = 0; i < 2; i++) {
		struct side *side = &c->side[i];

		ret = side_advance(side, c->guest_off, c->size);
		if (ret < 0) {
			note_locked(c, c->guest_off, COMPARE_IDENTICAL,
				    COMPARE_FAILED_STATUS, side->img, ret);
			return false;
		}
		p->map[i] = side->run;
		p->skip[i] = side->used;
		p->len = min_u64(p->len, side->run.len - side->used);
	}
	return true;
}

/* The next piece that has to be read; false: no more. */
static bool take_piece(struct compare *c, struct piece *p)
{
	bool found = false;

	pthread_mutex_lock(&c->mutex);
	while (!found && !c->stopped && c->guest_off < c->size) {
		if (progress_cancelled(c->args->progress)) {
			note_locked(c, c->guest_off, COMPARE_IDENTICAL,
				    COMPARE_FAILED_OTHER, NULL, -ECANCELED);
			break;
		}
		if (!step_locked(c, p))
			break;
		if (c->args->strict && status_differs(&p->map[0], &p->map[1])) {
			note_locked(c, c->guest_off, COMPARE_STATUS,
				    COMPARE_FAILED_NONE, NULL, 0);
			break;
		}
		found = (p->map[0].kind != MAPPING_ZERO ||
			 p->map[1].kind != MAPPING_ZERO) &&
			!same_place(p);
		if (found) /* ending where the next whole piece starts */
			p->len = min_u64(p->len,
					 c->piece_bytes -
						 c->guest_off % c->piece_bytes);
		else
			progress_advance(c->args->progress, p->len);
		c->guest_off += p->len;
		c->side[0].used += p->len;
		c->side[1].used += p->len;
	}
	pthread_mutex_unlock(&c->mutex);
	return found;
}

/* ---- comparing ---- */

/* Offset of the first byte that differs, or len. */
static size_t first_difference(const uint8_t *a, const uint8_t *b, size_t len)
{
	size_t off = 0, step;

	if (!memcmp(a, b, len))
		return len;
	for (; off < len; off += step) {
		step = len - off < SECTOR_BYTES ? len - off : SECTOR_BYTES;
		if (memcmp(a + off, b + off, step))
			break;
	}
	while (a[off] == b[off])
		off++;
	return off;
}

static size_t first_nonzero(const uint8_t *buf, size_t len)
{
	bool zero;
	size_t run = zero_run(buf, len, SECTOR_BYTES, &zero);

	if (!zero)
		run = 0;
	while (run < len && buf[run] == 0)
		run++;
	return run;
}

static void compare_piece(struct compare *c, const struct piece *p,
			  uint8_t *const buf[2])
{
	bool zero[2];
	size_t len = p->len, same;
	int i, ret;

	for (i = 0; i < 2; i++) {
		zero[i] = p->map[i].kind == MAPPING_ZERO;
		if (zero[i])
			continue;
		ret = image_read_mapping(c->side[i].img, &p->map[i], p->skip[i],
					 buf[i], len);
		if (ret < 0) {
			note_failure(c, p->guest_off, COMPARE_FAILED_READ,
				     c->side[i].img, ret);
			return;
		}
	}
	assert(!zero[0] || !zero[1]);
	if (!zero[0] && !zero[1])
		same = first_difference(buf[0], buf[1], len);
	else
		same = first_nonzero(buf[zero[0] ? 1 : 0], len);
	if (same < len)
		note_difference(c, p->guest_off + same);
	else
		progress_advance(c->args->progress, len);
}

static void compare_work(void *opaque)
{
	struct compare *c = opaque;
	uint8_t *buf[2] = {NULL, NULL};
	struct piece piece;

	buf[0] = aligned_alloc(BUFFER_ALIGN, c->piece_bytes);
	buf[1] = aligned_alloc(BUFFER_ALIGN, c->piece_bytes);
	if (buf[0] && buf[1])
		while (take_piece(c, &piece))
			compare_piece(c, &piece, buf);
	else
		note_failure(c, 0, COMPARE_FAILED_OTHER, NULL, -ENOMEM);
	free(buf[0]);
	free(buf[1]);
}

/* ---- the job ---- */

static int failure_text(const struct compare *c, struct error *err)
{
	int code = -c->ret;

	switch (c->failure) {
	case COMPARE_FAILED_STATUS:
		return error_set_errno(err, code,
				       "Sector allocation test failed for %s",
				       c->failed->filename);
	case COMPARE_FAILED_READ:
		return error_set_errno(
			err, code, "Error while reading offset %llu of %s",
			(unsigned long long)c->found_off, c->failed->filename);
	case COMPARE_FAILED_NONE:
	case COMPARE_FAILED_OTHER:
		break;
	}
	return error_set_errno(err, code, "comparing stopped at offset %llu",
			       (unsigned long long)c->found_off);
}

static bool is_direct(const struct image *img)
{
	return img->file->align > 1;
}

int compare_images(const struct compare_args *args, struct compare_result *out,
		   struct error *err)
{
	struct compare c = {
		.args = args,
		.size = max_u64(args->a->size_bytes, args->b->size_bytes),
		.piece_bytes = is_direct(args->a) || is_direct(args->b)
				       ? DIRECT_PIECE_BYTES
				       : PIECE_BYTES,
		.threads = args->threads ? args->threads : 2,
		.side = {{.img = args->a}, {.img = args->b}},
	};

	*out = (struct compare_result){
		.size_differs = args->a->size_bytes != args->b->size_bytes,
	};
	progress_total(args->progress, c.size);
	if (args->strict && out->size_differs) {
		out->kind = COMPARE_SIZE;
		out->offset = min_u64(args->a->size_bytes, args->b->size_bytes);
		return 0;
	}
	image_walk_start(&c.side[0].walk, args->a, 0, args->a->size_bytes, 0);
	image_walk_start(&c.side[1].walk, args->b, 0, args->b->size_bytes, 0);
	pthread_mutex_init(&c.mutex, NULL);
	workers_run(c.threads < WORKERS_MAX ? c.threads : WORKERS_MAX,
		    compare_work, &c);
	pthread_mutex_destroy(&c.mutex);

	out->failure = c.failure;
	out->failed = c.failed;
	out->offset = c.found ? c.found_off : 0;
	if (c.failure != COMPARE_FAILED_NONE)
		return failure_text(&c, err);
	out->kind = c.kind; /* COMPARE_IDENTICAL if nothing was found */
	return 0;
}
