/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Replies (spec: nbd 10). They are gathered, heads in one place and data where
 * it was read to, and go out in one call; so no bytes of two replies mix.
 *
 * A reply is only added when its data is at hand: a head that promises data
 * can be followed by nothing else.
 */
#include <string.h>

#include "block/zero.h"
#include "nbd-server/transmit.h"

/* Zeros that are worth a chunk of their own. */
#define HOLE_UNIT 4096u
/* What is smaller goes as data. */
#define HOLE_MIN 512u

bool nbd_batch_has_room(const struct nbd_batch *batch)
{
	return batch->iov_count + NBD_REPLY_IOV <= NBD_BATCH_IOV &&
	       batch->heads_len + NBD_REPLY_IOV * NBD_HEAD_MAX <=
		       sizeof(batch->heads);
}

static void add_iov(struct nbd_batch *batch, const void *data, size_t len)
{
	struct iovec *last = batch->iov + batch->iov_count;

	if (batch->iov_count &&
	    (const uint8_t *)last[-1].iov_base + last[-1].iov_len == data) {
		last[-1].iov_len += len;
		return;
	}
	assert(batch->iov_count < NBD_BATCH_IOV);
	batch->iov[batch->iov_count++] =
		(struct iovec){(void *)(uintptr_t)data, len};
}

/* Copies `len` bytes, at most NBD_HEAD_MAX, to where they can be sent from. */
static void add_head(struct nbd_batch *batch, const void *head, size_t len)
{
	uint8_t *at = batch->heads + batch->heads_len;

	assert(batch->heads_len + len <= sizeof(batch->heads));
	memcpy(at, head, len);
	batch->heads_len += len;
	add_iov(batch, at, len);
}

static void add_simple(struct nbd_batch *batch, const struct nbd_request *r,
		       uint32_t error)
{
	struct nbd_simple_reply head = {
		.magic = be32_make(NBD_SIMPLE_REPLY_MAGIC),
		.error = be32_make(error),
		.cookie = be64_make(r->in.cookie),
	};

	add_head(batch, &head, sizeof(head));
}

/* The head of a chunk with `len` bytes of payload; returns its own length. */
static size_t encode_chunk(uint8_t *out, const struct nbd_request *r,
			   uint16_t type, bool done, uint64_t len)
{
	struct nbd_chunk head = {
		.magic = be32_make(NBD_CHUNK_MAGIC),
		.flags = be16_make(done ? NBD_CHUNK_DONE : 0),
		.type = be16_make(type),
		.cookie = be64_make(r->in.cookie),
		.len = be32_make((uint32_t)len),
	};
	struct nbd_ext_chunk ext = {
		.magic = be32_make(NBD_EXT_CHUNK_MAGIC),
		.flags = head.flags,
		.type = head.type,
		.cookie = head.cookie,
		.offset = be64_make(r->in.offset),
		.len = be64_make(len),
	};

	if (r->con->mode == NBD_EXTENDED) {
		memcpy(out, &ext, sizeof(ext));
		return sizeof(ext);
	}
	memcpy(out, &head, sizeof(head));
	return sizeof(head);
}

static void add_chunk(struct nbd_batch *batch, const struct nbd_request *r,
		      uint16_t type, bool done, uint64_t len)
{
	uint8_t head[sizeof(struct nbd_ext_chunk)];

	add_head(batch, head, encode_chunk(head, r, type, done, len));
}

static const char *text_of(uint32_t error)
{
	switch (error) {
	case NBD_EPERM:
		return "the export is read-only";
	case NBD_EIO:
		return "reading or writing the image failed";
	case NBD_ENOSPC:
		return "past the end of the disk, or no space left";
	case NBD_ESHUTDOWN:
		return "the server is stopping";
	case NBD_ENOTSUP:
		return "not faster than writing zeros";
	default:
		return "the request is not valid here";
	}
}

static void add_error(struct nbd_batch *batch, const struct nbd_request *r,
		      uint32_t error)
{
	const char *text = text_of(error);
	size_t text_len = strlen(text);
	struct nbd_error_payload payload = {
		.error = be32_make(error),
		.text_len = be16_make((uint16_t)text_len),
	};

	if (batch->con->mode == NBD_SIMPLE) {
		add_simple(batch, r, error);
		return;
	}
	add_chunk(batch, r, NBD_CHUNK_ERROR, true, sizeof(payload) + text_len);
	add_head(batch, &payload, sizeof(payload));
	add_iov(batch, text, text_len);
}

static void add_data(struct nbd_batch *batch, const struct nbd_request *r,
		     uint64_t skip, size_t len, bool done)
{
	be64_t offset = be64_make(r->in.offset + skip);

	add_chunk(batch, r, NBD_CHUNK_OFFSET_DATA, done, sizeof(offset) + len);
	add_head(batch, &offset, sizeof(offset));
	add_iov(batch, (const uint8_t *)r->base.buf + skip, len);
}

static void add_hole(struct nbd_batch *batch, const struct nbd_request *r,
		     uint64_t skip, size_t len, bool done)
{
	struct nbd_hole hole = {
		.offset = be64_make(r->in.offset + skip),
		.len = be32_make((uint32_t)len),
	};

	add_chunk(batch, r, NBD_CHUNK_OFFSET_HOLE, done, sizeof(hole));
	add_head(batch, &hole, sizeof(hole));
}

/* Coarser for long reads, so that a reply has NBD_REPLY_PIECES at most. */
static size_t hole_unit(size_t len)
{
	size_t unit = HOLE_UNIT;

	while (len / unit >= NBD_REPLY_PIECES)
		unit *= 2;
	return unit;
}

/* Data, and zeros as holes: looking costs a tenth of sending. */
static void add_pieces(struct nbd_batch *batch, const struct nbd_request *r)
{
	const uint8_t *buf = r->base.buf;
	size_t len = r->base.len, unit = hole_unit(len), done = 0;

	while (done < len) {
		bool zero = false;
		size_t run = zero_run(buf + done, len - done, unit, &zero);
		bool last = done + run == len;

		if (zero && run >= HOLE_MIN)
			add_hole(batch, r, done, run, last);
		else
			add_data(batch, r, done, run, last);
		done += run;
	}
}

static void add_read(struct nbd_batch *batch, const struct nbd_request *r)
{
	if (batch->con->mode == NBD_SIMPLE) {
		add_simple(batch, r, 0);
		add_iov(batch, r->base.buf, r->base.len);
	} else if (!r->base.len) {
		add_chunk(batch, r, NBD_CHUNK_NONE, true, 0);
	} else if (r->lent || (r->in.flags & NBD_CMD_FLAG_DF)) {
		add_data(batch, r, 0, r->base.len, true);
	} else {
		add_pieces(batch, r);
	}
}

/* ---- block status ---- */

/* Returns their length; `out` may be their own place, or before it. */
static size_t encode_extents(uint8_t *out, const struct nbd_status_part *part,
			     bool extended)
{
	size_t size = extended ? sizeof(struct nbd_extent64)
			       : sizeof(struct nbd_extent32);

	static_assert(sizeof(struct nbd_extent64) <= sizeof(struct nbd_extent),
		      "an entry never overtakes the one that is read");
	for (unsigned i = 0; i < part->count; i++) {
		struct nbd_extent in = part->extents[i];
		struct nbd_extent64 wide = {be64_make(in.len),
					    be64_make(in.flags)};
		struct nbd_extent32 narrow = {be32_make((uint32_t)in.len),
					      be32_make(in.flags)};

		memcpy(out + i * size,
		       extended ? (void *)&wide : (void *)&narrow, size);
	}
	return part->count * size;
}

/* One chunk, and returns its length. */
static size_t encode_part(uint8_t *out, const struct nbd_request *r,
			  const struct nbd_status_part *part, bool last)
{
	bool extended = r->con->mode == NBD_EXTENDED;
	be32_t head[2] = {be32_make(nbd_context_id(part->context)),
			  be32_make(part->count)};
	size_t head_len = extended ? sizeof(head) : sizeof(head[0]);
	uint16_t type = extended ? NBD_CHUNK_STATUS_EXT : NBD_CHUNK_STATUS;
	size_t start = sizeof(struct nbd_chunk) + head_len, len;

	static_assert(sizeof(struct nbd_ext_chunk) + sizeof(head) <=
			      NBD_HEAD_MAX,
		      "a head never overtakes the extents behind it");
	if (extended)
		start = sizeof(struct nbd_ext_chunk) + head_len;
	len = encode_extents(out + start, part, extended);
	start = encode_chunk(out, r, type, last, head_len + len);
	memcpy(out + start, head, head_len);
	return start + head_len + len;
}

/* All chunks one behind the other, in the place that the extents have. */
static void add_status(struct nbd_batch *batch, const struct nbd_request *r)
{
	const struct nbd_status *status = &r->status;
	size_t len = 0;

	for (unsigned i = 0; i < status->count; i++)
		len += encode_part(status->wire + len, r, status->parts + i,
				   i + 1 == status->count);
	add_iov(batch, status->wire, len);
}

void nbd_batch_reply(struct nbd_batch *batch, struct nbd_request *r)
{
	bool fast = r->in.flags & NBD_CMD_FLAG_FAST_ZERO;
	uint32_t error = nbd_error_of(r->base.status, fast);

	assert(nbd_batch_has_room(batch));
	if (error)
		add_error(batch, r, error);
	else if (r->in.type == NBD_CMD_READ)
		add_read(batch, r);
	else if (r->in.type == NBD_CMD_BLOCK_STATUS)
		add_status(batch, r);
	else if (batch->con->mode == NBD_EXTENDED)
		add_chunk(batch, r, NBD_CHUNK_NONE, true, 0);
	else
		add_simple(batch, r, 0);
	r->next = batch->spent;
	batch->spent = r;
}
