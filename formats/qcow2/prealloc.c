/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Preallocation (spec: qcow2 19): every cluster of a range has a place, with
 * zeros in it, before the guest writes.
 *
 * A new image is written straight from its plan: all tables are known before
 * the first byte is written, so they go out front to back in large pieces. A
 * range of an existing image takes the way that guest writes take.
 */
#include <assert.h>
#include <stdlib.h>

#include "block/error.h"
#include "block/image.h"
#include "block/progress.h"
#include "formats/qcow2/new-image.h"
#include "formats/qcow2/qcow2.h"

#define PIECE_BYTES (2u * 1024 * 1024)
/* Zeroing without a sign of life, and without a chance to stop, for this long.
 */
#define STEP_BYTES (256ull * 1024 * 1024)

/* A table on its way to the store, front to back. */
struct stream {
	struct storage *s;
	struct progress *progress;
	uint64_t off; /* of buf's first byte */
	uint8_t *buf; /* PIECE_BYTES */
	size_t used;
};

static int stream_flush(struct stream *st)
{
	int ret;

	if (progress_cancelled(st->progress))
		return -ECANCELED;
	ret = storage_write(st->s, st->buf, st->used, st->off);
	progress_advance(st->progress, st->used);
	st->off += st->used;
	st->used = 0;
	return ret;
}

/*
 * `count` entries from `*value` on, each `step` further; then zeros up to
 * `slots` entries.
 */
static int stream_entries(struct stream *st, uint64_t value, uint64_t step,
			  uint64_t count, uint64_t slots)
{
	uint64_t i = 0;
	int ret = 0;

	while (i < slots && ret >= 0) {
		uint64_t end = min_u64(slots, i + PIECE_BYTES / 8);
		uint8_t *at = st->buf;

		for (; i < end; i++, at += 8, value += step) {
			be64_t entry = be64_make(i < count ? value : 0);

			memcpy(at, &entry, sizeof(entry));
		}
		st->used = (size_t)(at - st->buf);
		ret = stream_flush(st);
	}
	return ret;
}

static int write_entries(struct stream *st, uint64_t host_off, uint64_t value,
			 uint64_t step, uint64_t count, uint64_t slots)
{
	st->off = host_off;
	return stream_entries(st, value, step, count, slots);
}

/* Counts of 1 for `total` clusters, then zeros to the end of the blocks. */
static int write_refcounts(struct stream *st, uint64_t host_off, uint64_t total,
			   uint64_t len, unsigned order)
{
	/* All whole pieces look alike. */
	uint64_t per_piece = (uint64_t)PIECE_BYTES * 8 >> order, slot;
	uint64_t at;
	int ret = 0;

	memset(st->buf, 0, PIECE_BYTES);
	for (slot = 0; slot < min_u64(total, per_piece); slot++)
		qcow2_refcount_put(st->buf, slot, order, 1);
	st->off = host_off;
	for (at = 0; at < len && ret >= 0; at += PIECE_BYTES) {
		st->used = (size_t)min_u64(PIECE_BYTES, len - at);
		if (total < per_piece)
			for (slot = total; slot < st->used * 8 >> order; slot++)
				qcow2_refcount_put(st->buf, slot, order, 0);
		total -= min_u64(total, per_piece);
		ret = stream_flush(st);
	}
	return ret;
}

static int write_tables(struct stream *st, const struct qcow2_plan *p,
			const struct qcow2_new *n)
{
	unsigned bits = n->cluster_bits;
	uint64_t per_cluster = 1ull << (bits - 3);
	int ret;

	ret = write_entries(st, p->reftable_first << bits,
			    p->refblock_first << bits, 1ull << bits,
			    p->refblock_count, p->reftable_count * per_cluster);
	if (ret >= 0)
		ret = write_refcounts(st, p->refblock_first << bits, p->total,
				      p->refblock_count << bits,
				      n->refcount_order);
	if (ret >= 0 && p->l2_count)
		ret = write_entries(st, p->l1_first << bits,
				    p->l2_first << bits | QCOW2_COPIED,
				    1ull << bits, p->l1_entries, p->l1_entries);
	if (ret >= 0)
		ret = write_entries(st, p->l2_first << bits,
				    p->data_first << bits | QCOW2_COPIED,
				    1ull << bits, p->data_count,
				    p->l2_count * per_cluster);
	return ret;
}

/* Zeros that are really written. */
static int write_zeros(struct storage *s, uint64_t host_off, uint64_t len,
		       struct progress *progress)
{
	uint8_t *zeros = calloc(1, PIECE_BYTES);
	int ret = zeros ? 0 : -ENOMEM;

	while (len && ret >= 0) {
		size_t piece = (size_t)min_u64(len, PIECE_BYTES);

		if (progress_cancelled(progress)) {
			ret = -ECANCELED;
			break;
		}
		ret = storage_write(s, zeros, piece, host_off);
		progress_advance(progress, piece);
		host_off += piece;
		len -= piece;
	}
	free(zeros);
	return ret;
}

/* The range reads as zeros; what is inside the store may hold old bytes. */
static int fill_zeros(struct storage *s, uint64_t host_off, uint64_t len,
		      enum prealloc_mode mode, struct progress *progress,
		      struct error *err)
{
	unsigned flags = mode == PREALLOC_METADATA ? STORAGE_ZERO_MAY_UNMAP : 0;
	uint64_t end = host_off + len, size = storage_size(s);
	int ret = 0;

	if (mode == PREALLOC_FULL) {
		ret = write_zeros(s, host_off, len, progress);
	} else {
		if (host_off < size)
			ret = storage_zero(s, host_off,
					   min_u64(len, size - host_off),
					   flags);
		/* A reservation that fails has to be told: ENOSPC. */
		if (ret >= 0 && end > size)
			return storage_resize(s, end,
					      mode == PREALLOC_FALLOC
						      ? PREALLOC_FALLOC
						      : PREALLOC_OFF,
					      err);
		progress_advance(progress, len);
	}
	if (ret < 0)
		error_set_errno(err, -ret, "Could not preallocate the image");
	return ret;
}

/*
 * Brings the store to its length. A file is empty, so that its new part reads
 * as zeros; a device holds anything.
 */
static int make_room(struct storage *s, const struct qcow2_plan *p,
		     const struct qcow2_new *n, struct progress *progress,
		     struct error *err)
{
	unsigned bits = n->cluster_bits;
	uint64_t end = p->total << bits, size = storage_size(s);
	int ret;

	if (n->prealloc == PREALLOC_OFF)
		end = (p->l1_first << bits) + p->l1_entries * 8;
	if (!s->can_grow && end > size)
		return error_set(err, ENOSPC,
				 "The image needs %llu bytes, '%s' has %llu",
				 (unsigned long long)end, s->name,
				 (unsigned long long)size);
	if (n->prealloc != PREALLOC_OFF)
		return fill_zeros(s, 0, end, n->prealloc, progress, err);
	if (size) {
		ret = storage_zero(s, 0, min_u64(end, size),
				   STORAGE_ZERO_MAY_UNMAP);
		if (ret < 0)
			return error_set_errno(err, -ret,
					       "Could not clear the store");
	}
	return end > size ? storage_resize(s, end, PREALLOC_OFF, err) : 0;
}

int qcow2_plan_write(struct storage *s, const struct qcow2_plan *plan,
		     const struct qcow2_new *n, struct progress *progress,
		     struct error *err)
{
	struct stream st = {.s = s, .progress = progress};
	int ret;

	assert(!n->extended_l2);
	/* Each table is passed twice: as room, and when it is written. */
	progress_total(progress, (plan->data_first + plan->total)
					 << n->cluster_bits);
	ret = make_room(s, plan, n, progress, err);
	if (ret < 0)
		return ret;
	st.buf = malloc(PIECE_BYTES);
	if (!st.buf)
		return error_set(err, ENOMEM, "No memory for the tables");
	ret = write_tables(&st, plan, n);
	free(st.buf);
	if (ret < 0)
		return error_set_errno(err, -ret, "Could not write the tables");
	return 0;
}

/* One reservation: zeros into its clusters, then the link. */
static int preallocate_run(struct image *img, uint64_t guest_off, uint64_t len,
			   enum prealloc_mode mode, struct progress *progress,
			   uint64_t *done, struct error *err)
{
	struct reservation r;
	int ret = qcow2_reserve(img, guest_off, len, &r);

	if (ret < 0)
		return error_set_errno(err, -ret,
				       "Could not allocate clusters");
	ret = fill_zeros(r.storage, r.host_off, r.len, mode, progress, err);
	if (ret < 0) {
		qcow2_abort(img, &r);
		return ret;
	}
	ret = qcow2_commit(img, &r);
	if (ret < 0)
		return error_set_errno(err, -ret, "Could not link clusters");
	*done = r.guest_off + r.len - guest_off;
	return 0;
}

int qcow2_preallocate(struct image *img, uint64_t guest_off, uint64_t guest_end,
		      enum prealloc_mode mode, struct progress *progress,
		      struct error *err)
{
	assert(mode != PREALLOC_OFF);
	while (guest_off < guest_end) {
		uint64_t step = min_u64(guest_end - guest_off, STEP_BYTES);
		struct mapping m;
		int ret = qcow2_map(img, guest_off, step, &m);

		if (ret < 0)
			return error_set_errno(err, -ret,
					       "Could not read the mapping");
		if (progress_cancelled(progress))
			return error_set_errno(err, ECANCELED, "Preallocation");
		assert(m.len > 0);
		step = m.len;
		/* What the guest has already stays as it is. */
		if (m.kind == MAPPING_ZERO || m.kind == MAPPING_BACKING)
			ret = preallocate_run(img, guest_off, m.len, mode,
					      progress, &step, err);
		if (ret < 0)
			return ret;
		guest_off += step;
	}
	return 0;
}
