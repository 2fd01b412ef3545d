/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a request may be, and what it is to the image (spec: nbd 9 and 11). No
 * I/O here: what is asked is known, its payload too.
 */
#include <errno.h>
#include <string.h>

#include "block/image.h"
#include "block/zero.h"
#include "nbd-server/transmit.h"

/* ---- what a request may be ---- */

static uint16_t flags_allowed(const struct nbd_connection *con, uint16_t type)
{
	uint16_t payload =
		con->mode == NBD_EXTENDED ? NBD_CMD_FLAG_PAYLOAD_LEN : 0;

	switch (type) {
	case NBD_CMD_READ:
		return NBD_CMD_FLAG_FUA |
		       (con->mode != NBD_SIMPLE ? NBD_CMD_FLAG_DF : 0);
	case NBD_CMD_WRITE:
		return NBD_CMD_FLAG_FUA | payload;
	case NBD_CMD_WRITE_ZEROES:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE |
		       NBD_CMD_FLAG_FAST_ZERO;
	case NBD_CMD_BLOCK_STATUS:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE | payload;
	default:
		return NBD_CMD_FLAG_FUA;
	}
}

static bool changes_disk(uint16_t type)
{
	return type == NBD_CMD_WRITE || type == NBD_CMD_WRITE_ZEROES ||
	       type == NBD_CMD_TRIM;
}

/* Past the end of the disk is no space for writes, and nonsense otherwise. */
static int check_range(const struct nbd_export *export,
		       const struct nbd_command_in *in, uint64_t len)
{
	if (in->type == NBD_CMD_FLUSH ||
	    range_inside(in->offset, len, export->img->size_bytes))
		return 0;
	return in->type == NBD_CMD_WRITE || in->type == NBD_CMD_WRITE_ZEROES
		       ? -ENOSPC
		       : -EINVAL;
}

/* The size stands in the offset; what the length could mean is not said. */
static int check_resize(const struct nbd_connection *con,
			const struct nbd_command_in *in)
{
	return con->export->resizable && !in->len && !in->payload_len &&
			       !(in->flags & ~flags_allowed(con, in->type))
		       ? 0
		       : -EINVAL;
}

/* 0 or a negative errno; `len` is that of the effect. */
static int check_command(const struct nbd_connection *con,
			 const struct nbd_command_in *in, uint64_t len)
{
	int ret;

	if (in->type == NBD_CMD_RESIZE)
		return check_resize(con, in);
	if (changes_disk(in->type) && con->export->read_only)
		return -EPERM;
	ret = check_range(con->export, in, len);
	if (ret < 0)
		return ret;
	if (in->flags & ~flags_allowed(con, in->type))
		return -EINVAL;
	if (in->type == NBD_CMD_READ && len > NBD_PAYLOAD_MAX)
		return con->mode == NBD_SIMPLE ? -EINVAL : -EOVERFLOW;
	if (in->type == NBD_CMD_BLOCK_STATUS && (!con->meta.count || !len))
		return -EINVAL;
	return in->type > NBD_CMD_BLOCK_STATUS ? -EINVAL : 0;
}

/* The payload of a block status: the length, and which contexts. */
static bool narrow_status(struct nbd_request *r, uint64_t *len)
{
	const uint8_t *at = r->base.buf;
	uint64_t payload_len = r->in.payload_len;
	be64_t raw_len;

	if (payload_len < sizeof(raw_len) ||
	    (payload_len - sizeof(raw_len)) % sizeof(be32_t))
		return false;
	memcpy(&raw_len, at, sizeof(raw_len));
	*len = be64_get(raw_len);
	for (uint64_t i = sizeof(raw_len); i < payload_len; i += 4) {
		unsigned number;
		be32_t raw;

		memcpy(&raw, at + i, sizeof(raw));
		if (!nbd_context_from_id(be32_get(raw), &number) ||
		    !nbd_context_in(&r->con->meta, number) ||
		    !nbd_context_add(&r->wanted, number))
			return false;
	}
	return r->wanted.count != 0;
}

/* All that were selected, or some of them. */
static bool take_wanted(struct nbd_request *r, uint64_t *len)
{
	if (!r->in.payload_len) {
		r->wanted = r->con->meta;
		return true;
	}
	r->wanted = (struct nbd_context_set){0};
	return narrow_status(r, len);
}

int nbd_request_check(struct nbd_request *r)
{
	uint64_t len = r->in.type == NBD_CMD_FLUSH ? 0 : r->in.len;
	bool good = r->in.type != NBD_CMD_BLOCK_STATUS || take_wanted(r, &len);

	r->base.guest_off = r->in.offset;
	r->base.len = len;
	return good ? check_command(r->con, &r->in, len) : -EINVAL;
}

/* ---- what it is to the image ---- */

static int call_status(struct request *base)
{
	struct nbd_request *r = (struct nbd_request *)base;

	return nbd_status_fill(&r->status, r->con->export, &r->wanted,
			       r->in.flags & NBD_CMD_FLAG_REQ_ONE,
			       base->guest_off, base->len);
}

static void make_zero(struct nbd_request *r)
{
	r->base.op = REQUEST_ZERO;
	if (!(r->in.flags & NBD_CMD_FLAG_NO_HOLE))
		r->base.flags |= REQUEST_MAY_UNMAP;
	if (r->in.flags & NBD_CMD_FLAG_FAST_ZERO)
		r->base.flags |= REQUEST_NO_FALLBACK;
}

static void make_write(struct nbd_request *r, enum nbd_zeroes zeroes)
{
	r->base.op = REQUEST_WRITE;
	if (zeroes == NBD_ZEROES_WRITE || !is_zero(r->base.buf, r->base.len))
		return;
	r->base.op = REQUEST_ZERO;
	if (zeroes == NBD_ZEROES_UNMAP)
		r->base.flags |= REQUEST_MAY_UNMAP;
}

bool nbd_request_translate(struct nbd_request *r)
{
	bool fua = r->in.flags & NBD_CMD_FLAG_FUA;

	r->base.flags = fua && changes_disk(r->in.type) ? REQUEST_FUA : 0;
	switch (r->in.type) {
	case NBD_CMD_READ:
		r->base.op = REQUEST_READ;
		break;
	case NBD_CMD_WRITE:
		make_write(r, r->con->export->zeroes);
		break;
	case NBD_CMD_FLUSH:
		r->base.op = REQUEST_FLUSH;
		return true;
	case NBD_CMD_TRIM:
		r->base.op = REQUEST_DISCARD;
		if (!r->con->export->discard) {
			r->base.op = REQUEST_FLUSH;
			r->base.flags = 0;
			return fua;
		}
		break;
	case NBD_CMD_WRITE_ZEROES:
		make_zero(r);
		break;
	case NBD_CMD_BLOCK_STATUS:
		r->base.op = REQUEST_CALL;
		r->base.call = call_status;
		break;
	default:
		return false;
	}
	return r->base.len > 0;
}
