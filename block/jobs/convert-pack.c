/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writing a piece packed: every cluster is packed by the thread that read it;
 * their order in the target is that of the disk.
 */
#include "block/jobs/convert-private.h"

#include <assert.h>
#include <string.h>
#include <sys/uio.h>

#include "block/bytes.h"
#include "block/codec.h"
#include "block/storage.h"

#define WRITE_VECTORS 64

/* One cluster into the next slot: packed, or plain where that is no smaller. */
static int pack_cluster(const struct convert *job, struct lane *lane,
			const struct piece *piece, size_t off,
			size_t *packed_used)
{
	uint32_t cluster = job->target->cluster_size;
	struct pack_slot *slot = &lane->slots[lane->slot_count];
	struct iovec *iov = &lane->vectors[lane->slot_count];
	uint8_t *out = lane->packed + *packed_used;
	int64_t len = codec_pack(lane->codec, lane->buf + off, cluster, out,
				 cluster - 1);

	if (len < 0 && len != -ENOSPC)
		return (int)len;
	*slot = (struct pack_slot){.guest_off = piece->off + off};
	if (len < 0) {
		*iov = (struct iovec){lane->buf + off, cluster};
	} else {
		slot->packed_len = (uint32_t)len;
		*iov = (struct iovec){out, (size_t)len};
		*packed_used += (size_t)len;
	}
	lane->slot_count++;
	return 0;
}

static int pack_segments(const struct convert *job, struct lane *lane,
			 const struct piece *piece)
{
	uint32_t cluster = job->target->cluster_size;
	size_t packed_used = 0;
	int ret = 0;

	lane->slot_count = 0;
	for (size_t i = 0; i < lane->segment_count && !ret; i++) {
		const struct segment *s = &lane->segments[i];

		for (size_t off = 0; off < s->len && !ret; off += cluster)
			if (s->kind == SEGMENT_DATA)
				ret = pack_cluster(job, lane, piece,
						   s->off + off, &packed_used);
	}
	return ret;
}

/* In turn: zeros first, then places; both are in the order of the disk. */
static int reserve_slots(struct convert *job, struct lane *lane,
			 const struct piece *piece)
{
	int ret = 0;

	for (size_t i = 0; i < lane->segment_count && !ret; i++) {
		const struct segment *s = &lane->segments[i];

		if (s->kind == SEGMENT_ZERO)
			ret = convert_zero(job, piece->off + s->off, s->len);
	}
	if (ret < 0 || lane->slot_count == 0)
		return ret;
	return job->target->driver->pack->reserve(job->target, lane->slots,
						  lane->slot_count);
}

/* One write for each run of clusters that follow each other in the host. */
static int write_slots(struct convert *job, const struct lane *lane)
{
	struct storage *file = job->target->file;
	size_t done = 0;

	while (done < lane->slot_count) {
		uint64_t start = lane->slots[done].host_off, end = start;
		int count = 0, ret;

		while (count < WRITE_VECTORS &&
		       done + (size_t)count < lane->slot_count &&
		       lane->slots[done + (size_t)count].host_off == end)
			end += lane->vectors[done + (size_t)count++].iov_len;
		ret = storage_writev(file, lane->vectors + done, count, start);
		if (ret < 0)
			return ret;
		convert_wrote(job, file, start, end - start);
		done += (size_t)count;
	}
	return 0;
}

static int fill_slots(struct convert *job, const struct lane *lane)
{
	const struct pack_ops *pack = job->target->driver->pack;
	int ret;

	if (lane->slot_count == 0)
		return 0;
	ret = write_slots(job, lane);
	if (!ret)
		ret = pack->commit(job->target, lane->slots, lane->slot_count);
	if (ret < 0)
		pack->abort(job->target, lane->slots, lane->slot_count);
	return ret;
}

void convert_pack_piece(struct convert *job, struct lane *lane,
			const struct piece *piece)
{
	int ret = convert_read(job, lane, piece);

	convert_hash(job, lane, piece, ret == 0);
	if (!ret)
		ret = convert_scan(job, lane, piece);
	if (!ret) {
		/* The last cluster of the disk is packed whole. */
		memset(lane->buf + piece->len, 0,
		       align_up(piece->len, job->target->cluster_size) -
			       piece->len);
		ret = pack_segments(job, lane, piece);
	}

	convert_turn_wait(job, piece);
	if (!ret && !convert_failed(job))
		ret = reserve_slots(job, lane, piece);
	else if (!ret)
		ret = -ECANCELED;
	convert_turn_pass(job, piece);
	if (!ret)
		ret = fill_slots(job, lane);
	if (ret < 0)
		convert_fail(job, ret, "writing", piece->off);
	else
		convert_progress(job, piece);
}
