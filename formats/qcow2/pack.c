/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Compressed clusters: reading them, and placing new ones byte by byte behind
 * each other (spec: qcow2 4.3, 5).
 *
 * A host cluster that several packed clusters share is counted once for each.
 * The append position lives in memory only; a new process starts a new cluster.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "block/error.h"
#include "block/image.h"
#include "formats/qcow2/qcow2.h"

static enum codec_kind codec_of(const struct qcow2 *q)
{
	return q->header.compression_type == QCOW2_COMPRESSION_ZSTD
		       ? CODEC_ZSTD
		       : CODEC_DEFLATE;
}

void qcow2_codec_params(const struct image *img, struct codec_params *out)
{
	const struct qcow2 *q = img->state;

	*out = (struct codec_params){.kind = codec_of(q)};
}

int qcow2_unpack(struct image *img, const struct mapping *m,
		 struct codec *codec, void *buf)
{
	struct qcow2 *q = img->state;
	void *packed;
	int ret;

	if (m->host_off >= storage_size(q->file))
		return -EIO;
	packed = malloc(m->packed_len);
	if (!packed)
		return -ENOMEM;
	/* The last sector may not be there in full: the file ends in it. */
	ret = storage_read_padded(q->file, packed, m->packed_len, m->host_off);
	if (!ret)
		ret = codec_unpack(codec, packed, m->packed_len, buf,
				   q->cluster_size);
	free(packed);
	return ret;
}

/*
 * The clusters that a stream touches. Its entry speaks of whole sectors, but
 * the last of them ends in the same cluster.
 */
static struct qcow2_run touched(const struct qcow2 *q, uint64_t host_off,
				uint32_t len)
{
	uint64_t first = qcow2_cluster_index(q, host_off);
	uint64_t last = qcow2_cluster_index(q, host_off + len - 1);

	return (struct qcow2_run){first, last - first + 1, false};
}

/* Starts behind the last stream if that cluster can be counted once more. */
static bool can_append(struct qcow2 *q)
{
	uint64_t count;

	if (!q->pack_off || is_aligned(q->pack_off, q->cluster_size))
		return false;
	if (qcow2_refcount_read(q, qcow2_cluster_index(q, q->pack_off),
				&count) < 0)
		return false;
	return count > 0 && count < q->refcount_max;
}

/*
 * Finds room for `len` bytes: the rest of the open cluster and, if need be, one
 * new cluster that follows it; else a new cluster alone. (len < cluster size,
 * so that is always enough.) All touched clusters are counted once more.
 */
static int place_packed(struct qcow2 *q, uint32_t len, uint64_t *host_off)
{
	uint64_t room = q->cluster_size - (q->pack_off & (q->cluster_size - 1));
	struct qcow2_run fresh, open_run;
	bool append = can_append(q);
	int ret;

	open_run = (struct qcow2_run){qcow2_cluster_index(q, q->pack_off), 1,
				      false};
	if (append && len <= room) {
		ret = qcow2_refcount_change(q, open_run, +1);
		*host_off = q->pack_off;
		return ret;
	}
	ret = qcow2_alloc(q, 1, &fresh);
	if (ret < 0)
		return ret;
	if (append && fresh.first == open_run.first + 1) {
		ret = qcow2_refcount_change(q, open_run, +1);
		if (ret < 0)
			qcow2_alloc_undo(q, fresh);
		*host_off = q->pack_off;
		return ret;
	}
	*host_off = fresh.first << q->cluster_bits;
	return 0;
}

static int check_unallocated(struct qcow2 *q, uint64_t guest_off)
{
	struct table *table;
	size_t index;
	int ret;

	pthread_mutex_lock(&q->table_lock);
	ret = qcow2_l2_get_writable(q, guest_off, &table, &index);
	if (!ret) {
		uint64_t entry = be64_get(((const be64_t *)table->data)[index]);

		if (qcow2_l2_kind(entry) != QCOW2_UNALLOCATED &&
		    qcow2_l2_kind(entry) != QCOW2_ZERO_PLAIN)
			ret = -EEXIST;
		table_cache_put(q->l2_cache, table);
	}
	pthread_mutex_unlock(&q->table_lock);
	return ret;
}

static int reserve_slot(struct qcow2 *q, struct pack_slot *slot)
{
	struct qcow2_run run;
	int ret;

	assert(is_aligned(slot->guest_off, q->cluster_size));
	assert(slot->packed_len < q->cluster_size);
	ret = check_unallocated(q, slot->guest_off);
	if (ret < 0)
		return ret;
	if (!slot->packed_len) {
		ret = qcow2_alloc(q, 1, &run);
		if (!ret)
			slot->host_off = run.first << q->cluster_bits;
		return ret;
	}
	ret = place_packed(q, slot->packed_len, &slot->host_off);
	if (ret < 0)
		return ret;
	if (slot->host_off + q->cluster_size >
	    qcow2_packed_off_limit(q->cluster_bits)) {
		qcow2_alloc_undo(q,
				 touched(q, slot->host_off, slot->packed_len));
		return -EFBIG;
	}
	q->pack_off = slot->host_off + slot->packed_len;
	return 0;
}

static void undo_slots(struct qcow2 *q, const struct pack_slot *slots,
		       size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint32_t len = slots[i].packed_len ? slots[i].packed_len
						   : q->cluster_size;

		qcow2_alloc_undo(q, touched(q, slots[i].host_off, len));
	}
	q->pack_off = 0;
}

static int pack_reserve(struct image *img, struct pack_slot *slots,
			size_t count)
{
	struct qcow2 *q = img->state;
	size_t done = 0;
	int ret;

	pthread_mutex_lock(&q->change_lock);
	ret = qcow2_begin_change(q);
	while (!ret && done < count) {
		ret = reserve_slot(q, &slots[done]);
		if (!ret)
			done++;
	}
	if (ret < 0)
		undo_slots(q, slots, done);
	pthread_mutex_unlock(&q->change_lock);
	if (ret == -ERROR_CORRUPT)
		return qcow2_mark_corrupt(q);
	return ret;
}

/* Puts `*entry` in place of what the table says, and takes that out. */
static int swap_entry(struct qcow2 *q, uint64_t guest_off, uint64_t *entry)
{
	struct table *table;
	uint64_t old;
	size_t index;
	be64_t *place;
	int ret;

	ret = qcow2_l2_get_writable(q, guest_off, &table, &index);
	if (ret < 0)
		return ret;
	place = (be64_t *)table->data + index;
	old = be64_get(*place);
	*place = be64_make(*entry);
	*entry = old;
	table_cache_mark_dirty(q->l2_cache, table);
	table_cache_put(q->l2_cache, table);
	return 0;
}

static uint64_t entry_of(const struct qcow2 *q, const struct pack_slot *slot)
{
	if (!slot->packed_len)
		return slot->host_off | QCOW2_COPIED;
	return qcow2_packed_encode(slot->host_off, slot->packed_len,
				   q->cluster_bits);
}

/*
 * All slots or none: the caller gives all of them back on failure, and what is
 * linked must not be given back.
 */
static int link_slots(struct qcow2 *q, const struct pack_slot *slots,
		      size_t count)
{
	uint64_t *entries = calloc(count, sizeof(*entries));
	size_t done = 0;
	int ret = entries ? 0 : -ENOMEM;

	while (!ret && done < count) {
		entries[done] = entry_of(q, &slots[done]);
		ret = swap_entry(q, slots[done].guest_off, &entries[done]);
		if (!ret)
			done++;
	}
	while (ret < 0 && done--) {
		/* Neither on nor back: no count may go down any more. */
		if (swap_entry(q, slots[done].guest_off, &entries[done]) < 0)
			atomic_store(&q->corrupt, true);
	}
	free(entries);
	return ret;
}

static int pack_commit(struct image *img, const struct pack_slot *slots,
		       size_t count)
{
	struct qcow2 *q = img->state;
	int ret;

	pthread_mutex_lock(&q->change_lock);
	pthread_mutex_lock(&q->table_lock);
	ret = atomic_load(&q->corrupt) ? -EIO : link_slots(q, slots, count);
	pthread_mutex_unlock(&q->table_lock);
	pthread_mutex_unlock(&q->change_lock);
	if (ret == -ERROR_CORRUPT)
		return qcow2_mark_corrupt(q);
	return ret;
}

static void pack_abort(struct image *img, const struct pack_slot *slots,
		       size_t count)
{
	struct qcow2 *q = img->state;

	pthread_mutex_lock(&q->change_lock);
	undo_slots(q, slots, count);
	pthread_mutex_unlock(&q->change_lock);
}

const struct pack_ops qcow2_pack_ops = {
	.params = qcow2_codec_params,
	.reserve = pack_reserve,
	.commit = pack_commit,
	.abort = pack_abort,
};
