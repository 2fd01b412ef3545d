/* SPDX-License-Identifier: BSD-3-Clause */
/* Decoding what clients send: total, or a plain yes or no. No I/O here. */
#include "nbd-server/wire.h"

#include <errno.h>
#include <string.h>

/* Followed by a payload: writes, and whatever says so itself. */
static uint64_t payload_of(const struct nbd_command_in *in, bool extended)
{
	if (in->type == NBD_CMD_WRITE)
		return in->len;
	if (extended && (in->flags & NBD_CMD_FLAG_PAYLOAD_LEN))
		return in->len;
	return 0;
}

void nbd_decode_request(struct nbd_command_in *out, const void *bytes,
			bool extended)
{
	struct nbd_compact_request compact;
	struct nbd_ext_request ext;

	/* Both start alike. */
	memcpy(&compact, bytes, sizeof(compact));
	*out = (struct nbd_command_in){
		.magic = be32_get(compact.magic),
		.flags = be16_get(compact.flags),
		.type = be16_get(compact.type),
		.cookie = be64_get(compact.cookie),
		.offset = be64_get(compact.offset),
		.len = be32_get(compact.len),
	};
	if (extended) {
		memcpy(&ext, bytes, sizeof(ext));
		out->len = be64_get(ext.len);
	}
	out->payload_len = payload_of(out, extended);
}

uint32_t nbd_error_of(int negative_errno, bool fast_zero)
{
	switch (-negative_errno) {
	case 0:
		return 0;
	case EPERM:
	case EROFS:
	case EACCES:
		return NBD_EPERM;
	case EIO:
	case EUCLEAN:
		return NBD_EIO;
	case ENOMEM:
		return NBD_ENOMEM;
	case ENOSPC:
	case EFBIG:
	case EDQUOT:
		return NBD_ENOSPC;
	case ECANCELED:
	case ESHUTDOWN:
		return NBD_ESHUTDOWN;
	case EOVERFLOW:
		return NBD_EOVERFLOW;
	case ENOTSUP:
		return fast_zero ? NBD_ENOTSUP : NBD_EINVAL;
	default:
		return NBD_EINVAL;
	}
}

/* ---- options ---- */

/* What is left of an option's data. */
struct cursor {
	const uint8_t *at;
	uint32_t left;
};

static bool take(struct cursor *c, uint32_t len, const uint8_t **out)
{
	if (len > c->left)
		return false;
	*out = c->at;
	c->at += len;
	c->left -= len;
	return true;
}

static bool take_u32(struct cursor *c, uint32_t *out)
{
	const uint8_t *bytes;
	be32_t raw;

	if (!take(c, sizeof(raw), &bytes))
		return false;
	memcpy(&raw, bytes, sizeof(raw));
	*out = be32_get(raw);
	return true;
}

static bool take_u16(struct cursor *c, uint16_t *out)
{
	const uint8_t *bytes;
	be16_t raw;

	if (!take(c, sizeof(raw), &bytes))
		return false;
	memcpy(&raw, bytes, sizeof(raw));
	*out = be16_get(raw);
	return true;
}

static bool take_string(struct cursor *c, struct nbd_string *out)
{
	const uint8_t *text;

	if (!take_u32(c, &out->len) || !take(c, out->len, &text))
		return false;
	out->text = (const char *)text;
	return true;
}

/* Names of exports hold no NUL, so that they print and compare as they are. */
static bool is_name(const struct nbd_string *s)
{
	return s->len <= NBD_STRING_MAX && !memchr(s->text, 0, s->len);
}

bool nbd_decode_go(struct nbd_go *out, const uint8_t *data, uint32_t len)
{
	struct cursor c = {data, len};

	return take_string(&c, &out->name) && is_name(&out->name) &&
	       take_u16(&c, &out->type_count) &&
	       take(&c, out->type_count * 2u, &out->types) && c.left == 0;
}

bool nbd_decode_meta(struct nbd_meta_query *out, const uint8_t *data,
		     uint32_t len)
{
	struct cursor c = {data, len};
	struct cursor look;
	struct nbd_string query;

	if (!take_string(&c, &out->name) || !is_name(&out->name) ||
	    !take_u32(&c, &out->query_count))
		return false;
	out->queries = c.at;
	out->queries_len = c.left;
	look = c;
	for (uint32_t i = 0; i < out->query_count; i++)
		if (!take_string(&look, &query))
			return false;
	return look.left == 0;
}

bool nbd_next_query(struct nbd_meta_query *meta, struct nbd_string *out)
{
	struct cursor c = {meta->queries, meta->queries_len};

	if (!meta->query_count || !take_string(&c, out))
		return false;
	meta->query_count--;
	meta->queries = c.at;
	meta->queries_len = c.left;
	return true;
}
