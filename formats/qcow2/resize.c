/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Growing and shrinking the disk (spec: qcow2 18). The header's size changes
 * last, after everything that it promises is durable.
 */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>

#include "block/error.h"
#include "block/image.h"
#include "formats/qcow2/breaks.h"
#include "formats/qcow2/qcow2.h"

static uint64_t l1_entries_for(const struct qcow2 *q, uint64_t size_bytes)
{
	unsigned bits = q->cluster_bits + q->l2_bits;

	return (size_bytes >> bits) +
	       ((size_bytes & ((1ull << bits) - 1)) != 0);
}

/* The 12 bytes at 36: l1_size and l1_table_offset, in one write. */
static int header_point_to_l1(struct qcow2 *q, uint32_t entries,
			      uint64_t l1_off)
{
	struct {
		be32_t entries;
		be64_t off;
	} field = {be32_make(entries), be64_make(l1_off)};

	return storage_write(q->file, &field, sizeof(field),
			     offsetof(struct qcow2_header_disk, l1_size));
}

static int write_l1(struct qcow2 *q, const uint64_t *l1, uint64_t entries,
		    uint64_t l1_off)
{
	size_t len = align_up(entries * 8, q->cluster_size);
	be64_t *disk = calloc(1, len);
	int ret;

	if (!disk)
		return -ENOMEM;
	for (uint64_t i = 0; i < entries; i++)
		disk[i] = be64_make(l1[i]);
	ret = storage_write(q->file, disk, len, l1_off);
	free(disk);
	return ret;
}

/*
 * Moves the L1 table to a larger place. The image was flushed, so the table on
 * disk is the one in memory; the old one is let go of when the header has
 * pointed to the new one durably.
 */
static int grow_l1(struct qcow2 *q, uint64_t entries)
{
	struct qcow2_run old = {
		qcow2_cluster_index(q, q->header.l1_off),
		div_round_up((uint64_t)q->l1_entries * 8, q->cluster_size),
		false};
	struct qcow2_run run;
	uint64_t *l1 = calloc(entries, sizeof(*l1));
	int ret;

	if (!l1)
		return -ENOMEM;
	memcpy(l1, q->l1, q->l1_entries * sizeof(*l1));
	ret = qcow2_alloc_exact(q, div_round_up(entries * 8, q->cluster_size),
				&run);
	if (ret < 0) {
		free(l1);
		return ret;
	}
	if (!RULE_HOLDS(6) && old.count)
		qcow2_alloc_undo(q, old);
	/* The counts of the new place, and the entries. */
	ret = qcow2_write_back_locked(q);
	if (!ret)
		ret = write_l1(q, l1, entries, run.first << q->cluster_bits);
	if (!ret)
		ret = storage_sync(q->file);
	if (ret < 0) {
		qcow2_alloc_undo(q, run);
		free(l1);
		return ret;
	}
	ret = header_point_to_l1(q, (uint32_t)entries,
				 run.first << q->cluster_bits);
	if (!ret)
		ret = storage_sync(q->file);
	if (ret < 0) {
		/* Which table the disk holds is unknown; both are whole. */
		atomic_store(&q->corrupt, true);
		free(l1);
		return ret;
	}
	pthread_mutex_lock(&q->table_lock);
	free(q->l1);
	q->l1 = l1;
	q->l1_entries = (uint32_t)entries;
	pthread_mutex_unlock(&q->table_lock);
	q->header.l1_entries = (uint32_t)entries;
	q->header.l1_off = run.first << q->cluster_bits;
	if (old.count && RULE_HOLDS(6))
		qcow2_alloc_undo(q, old);
	return 0;
}

static int write_size(struct qcow2 *q, uint64_t size_bytes)
{
	be64_t field = be64_make(size_bytes);
	int ret = storage_write(q->file, &field, sizeof(field),
				offsetof(struct qcow2_header_disk, size));

	if (!ret)
		ret = storage_sync(q->file);
	if (!ret)
		q->header.size_bytes = size_bytes;
	return ret;
}

/*
 * The new area has to read as zeros, but a longer backing file would show in
 * it, and so would what a shrinking program left in the last cluster.
 */
static int hide_old_bytes(struct image *img, uint64_t old_size,
			  uint64_t new_size)
{
	struct qcow2 *q = img->state;
	uint64_t end = align_up(old_size, q->cluster_size);
	int ret;

	/*
	 * Entries behind the end are no damage that check reports. A shrink
	 * that was cut short leaves some in version 2 with a backing file, and
	 * other programs may anywhere.
	 */
	if (end < new_size) {
		if (q->header.version < 3 && img->backing_name)
			ret = qcow2_forget_range(q, end, new_size - end);
		else
			ret = qcow2_cut_range(q, end, new_size - end);
		if (ret < 0)
			return ret;
	}
	if (img->backing)
		end = max_u64(end, img->backing->size_bytes);
	end = min_u64(end, new_size);
	if (end <= old_size)
		return 0;
	return image_zero(img, old_size, end - old_size, 0);
}

static int make_room(struct qcow2 *q, uint64_t new_size, struct error *err)
{
	uint64_t entries = l1_entries_for(q, new_size);
	int ret;

	if (entries > QCOW2_L1_ENTRIES_MAX)
		return error_set(err, EFBIG,
				 "The image size is too large for file format "
				 "'qcow2' (try using a larger cluster size)");
	if (entries <= q->l1_entries)
		return 0;
	pthread_mutex_lock(&q->change_lock);
	ret = qcow2_begin_change(q);
	if (!ret)
		ret = qcow2_flush_locked(q);
	if (!ret)
		ret = grow_l1(q, entries);
	pthread_mutex_unlock(&q->change_lock);
	if (ret < 0)
		return error_set_errno(err, -ret,
				       "Could not grow the L1 table "
				       "to %" PRIu64 " entries",
				       entries);
	return 0;
}

static int grow(struct image *img, uint64_t new_size, enum prealloc_mode mode,
		struct error *err)
{
	struct qcow2 *q = img->state;
	uint64_t old_size = img->size_bytes;
	int ret;

	if (mode != PREALLOC_OFF && img->backing_name)
		return error_set(err, EINVAL,
				 "Preallocation can't be used for an image "
				 "with a backing file");
	ret = make_room(q, new_size, err);
	if (ret < 0)
		return ret;
	img->size_bytes = new_size;
	ret = hide_old_bytes(img, old_size, new_size);
	if (ret < 0)
		error_set_errno(err, -ret, "Failed to zero out new clusters");
	if (!ret && mode != PREALLOC_OFF)
		ret = qcow2_preallocate(img,
					align_up(old_size, q->cluster_size),
					new_size, mode, NULL, err);
	if (!ret) {
		ret = qcow2_flush(img);
		if (!ret)
			ret = write_size(q, new_size);
		if (ret < 0)
			error_set_errno(err, -ret,
					"Could not write the new size");
	}
	if (ret < 0)
		img->size_bytes = old_size;
	return ret;
}

/* L2 tables that lie wholly behind the new end: L1 entries first (W3). */
static int drop_l2_tables(struct qcow2 *q, uint64_t new_size)
{
	int ret = 0;

	pthread_mutex_lock(&q->change_lock);
	pthread_mutex_lock(&q->table_lock);
	for (uint64_t i = l1_entries_for(q, new_size); i < q->l1_entries; i++)
		qcow2_l1_drop(q, i);
	pthread_mutex_unlock(&q->table_lock);
	ret = qcow2_flush_locked(q);
	if (!ret)
		ret = qcow2_refcount_trim(q);
	pthread_mutex_unlock(&q->change_lock);
	return ret;
}

/* Cuts the file behind its last used cluster. Failure costs only space. */
static void cut_file(struct qcow2 *q)
{
	uint64_t end = div_round_up(storage_size(q->file), q->cluster_size);
	uint64_t count = 0;

	/* A sparse file may be very long: what no count can say is skipped. */
	end = min_u64(end, q->reftable_entries << q->refblock_bits);
	while (end > 1) {
		if (!qcow2_refcount_covered(q, end - 1)) {
			end = align_down(end - 1, 1ull << q->refblock_bits);
			continue;
		}
		if (qcow2_refcount_read(q, end - 1, &count) < 0)
			return;
		if (count)
			break;
		end--;
	}
	if (end && end << q->cluster_bits < storage_size(q->file))
		storage_resize(q->file, end << q->cluster_bits, PREALLOC_OFF,
			       NULL);
}

/*
 * Until the header has the new size durably, a crash brings back the old one:
 * so what is behind the new end is only made to read as zeros before that (as
 * it was, where version 2 has no way to say so), and forgotten after it.
 */
static int shrink(struct image *img, uint64_t new_size, struct error *err)
{
	struct qcow2 *q = img->state;
	uint64_t keep = align_up(new_size, q->cluster_size);
	uint64_t old_size = img->size_bytes;
	uint64_t tail = min_u64(keep, old_size) - new_size;
	int ret = 0;

	/* The cut cluster's rest would come back when the disk grows again. */
	if (tail)
		ret = image_zero(img, new_size, tail, 0);
	if (!ret && old_size > keep)
		ret = qcow2_cut_range(q, keep, old_size - keep);
	if (!ret)
		ret = qcow2_flush(img);
	if (!ret)
		ret = write_size(q, new_size);
	if (!ret)
		img->size_bytes = new_size;
	if (!ret && old_size > keep)
		ret = qcow2_forget_range(q, keep, old_size - keep);
	if (!ret)
		ret = drop_l2_tables(q, new_size);
	if (ret < 0)
		return error_set_errno(err, -ret, "Could not shrink the image");
	pthread_mutex_lock(&q->change_lock);
	cut_file(q);
	pthread_mutex_unlock(&q->change_lock);
	return 0;
}

int qcow2_resize(struct image *img, uint64_t new_size, enum prealloc_mode mode,
		 struct error *err)
{
	struct qcow2 *q = img->state;

	if (q->header.version < 3 && q->header.snapshot_count)
		return error_set(err, ENOTSUP,
				 "Can't resize a version 2 image which has "
				 "snapshots");
	if (q->tail.has_bitmaps)
		return error_set(err, ENOTSUP,
				 "The image has persistent bitmaps, which "
				 "resizing does not keep up yet");
	if (new_size < img->size_bytes)
		return shrink(img, new_size, err);
	return grow(img, new_size, mode, err);
}
