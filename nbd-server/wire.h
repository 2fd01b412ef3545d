/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NBD on the wire (spec: nbd). Everything is big endian and unaligned, so the
 * structures consist of byte arrays; what came from a client is decoded once,
 * and then only the copy is used.
 *
 *	server: NBDMAGIC, IHAVEOPT, handshake flags
 *	client: its flags
 *	then options: nbd_option and data; answers: nbd_option_reply and data
 *	then requests: nbd_request_header and payload; answers: replies, chunks
 */
#ifndef PLATTER_NBD_SERVER_WIRE_H
#define PLATTER_NBD_SERVER_WIRE_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/bytes.h"

#define NBD_MAGIC	       0x4e42444d41474943ull /* NBDMAGIC */
#define NBD_OPTION_MAGIC       0x49484156454f5054ull /* IHAVEOPT */
#define NBD_OPTION_REPLY_MAGIC 0x0003e889045565a9ull
#define NBD_REQUEST_MAGIC      0x25609513u
#define NBD_EXT_REQUEST_MAGIC  0x21e41c71u
#define NBD_SIMPLE_REPLY_MAGIC 0x67446698u
#define NBD_CHUNK_MAGIC	       0x668e33efu
#define NBD_EXT_CHUNK_MAGIC    0x6e8a278cu

#define NBD_STRING_MAX 4096u
/* What any client may send or ask for at once. */
#define NBD_PAYLOAD_MAX (32u * 1024 * 1024)
/* A name and a thousand queries fit; who sends more means harm. */
#define NBD_OPTION_MAX (64u * 1024)

/* Flags of the greeting, both directions. */
#define NBD_FLAG_FIXED_NEWSTYLE 0x1u
#define NBD_FLAG_NO_ZEROES	0x2u

enum nbd_option_code {
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT = 2,
	NBD_OPT_LIST = 3,
	NBD_OPT_STARTTLS = 5,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7,
	NBD_OPT_STRUCTURED_REPLY = 8,
	NBD_OPT_LIST_META_CONTEXT = 9,
	NBD_OPT_SET_META_CONTEXT = 10,
	NBD_OPT_EXTENDED_HEADERS = 11,
};

#define NBD_REP_ACK		    1u
#define NBD_REP_SERVER		    2u
#define NBD_REP_INFO		    3u
#define NBD_REP_META_CONTEXT	    4u
#define NBD_REP_ERR(n)		    (0x80000000u + (n))
#define NBD_REP_ERR_UNSUP	    NBD_REP_ERR(1)
#define NBD_REP_ERR_POLICY	    NBD_REP_ERR(2)
#define NBD_REP_ERR_INVALID	    NBD_REP_ERR(3)
#define NBD_REP_ERR_TLS_REQD	    NBD_REP_ERR(5)
#define NBD_REP_ERR_UNKNOWN	    NBD_REP_ERR(6)
#define NBD_REP_ERR_SHUTDOWN	    NBD_REP_ERR(7)
#define NBD_REP_ERR_TOO_BIG	    NBD_REP_ERR(9)
#define NBD_REP_ERR_EXT_HEADER_REQD NBD_REP_ERR(10)

enum nbd_info_type {
	NBD_INFO_EXPORT = 0,
	NBD_INFO_NAME = 1,
	NBD_INFO_DESCRIPTION = 2,
	NBD_INFO_BLOCK_SIZE = 3,
};

/* Transmission flags */
#define NBD_TFLAG_HAS_FLAGS	       0x001u
#define NBD_TFLAG_READ_ONLY	       0x002u
#define NBD_TFLAG_SEND_FLUSH	       0x004u
#define NBD_TFLAG_SEND_FUA	       0x008u
#define NBD_TFLAG_ROTATIONAL	       0x010u
#define NBD_TFLAG_SEND_TRIM	       0x020u
#define NBD_TFLAG_SEND_WRITE_ZEROES    0x040u
#define NBD_TFLAG_SEND_DF	       0x080u
#define NBD_TFLAG_CAN_MULTI_CONN       0x100u
#define NBD_TFLAG_SEND_RESIZE	       0x200u /* experimental */
#define NBD_TFLAG_SEND_CACHE	       0x400u
#define NBD_TFLAG_SEND_FAST_ZERO       0x800u
#define NBD_TFLAG_BLOCK_STATUS_PAYLOAD 0x1000u

enum nbd_command {
	NBD_CMD_READ = 0,
	NBD_CMD_WRITE = 1,
	NBD_CMD_DISC = 2,
	NBD_CMD_FLUSH = 3,
	NBD_CMD_TRIM = 4,
	NBD_CMD_CACHE = 5,
	NBD_CMD_WRITE_ZEROES = 6,
	NBD_CMD_BLOCK_STATUS = 7,
	NBD_CMD_RESIZE = 8, /* the new size stands where offsets do */
};

#define NBD_CMD_FLAG_FUA	 0x01u
#define NBD_CMD_FLAG_NO_HOLE	 0x02u
#define NBD_CMD_FLAG_DF		 0x04u
#define NBD_CMD_FLAG_REQ_ONE	 0x08u
#define NBD_CMD_FLAG_FAST_ZERO	 0x10u
#define NBD_CMD_FLAG_PAYLOAD_LEN 0x20u

#define NBD_CHUNK_DONE	      0x0001u /* flag */
#define NBD_CHUNK_NONE	      0u
#define NBD_CHUNK_OFFSET_DATA 1u
#define NBD_CHUNK_OFFSET_HOLE 2u
#define NBD_CHUNK_STATUS      5u
#define NBD_CHUNK_STATUS_EXT  6u
#define NBD_CHUNK_ERROR	      0x8001u

/* base:allocation */
#define NBD_STATE_HOLE 1u
#define NBD_STATE_ZERO 2u
/* of qemu:dirty-bitmap: */
#define NBD_STATE_DIRTY 1u

/* Errors on the wire; the host's numbers never get there. */
#define NBD_EPERM     1u
#define NBD_EIO	      5u
#define NBD_ENOMEM    12u
#define NBD_EINVAL    22u
#define NBD_ENOSPC    28u
#define NBD_EOVERFLOW 75u
#define NBD_ENOTSUP   95u
#define NBD_ESHUTDOWN 108u

struct nbd_greeting {
	be64_t magic, option_magic;
	be16_t flags;
};
static_assert(sizeof(struct nbd_greeting) == 18, "on the wire");

struct nbd_option_header {
	be64_t magic;
	be32_t option, len;
};
static_assert(sizeof(struct nbd_option_header) == 16, "on the wire");

struct nbd_option_reply {
	be64_t magic;
	be32_t option, type, len;
};
static_assert(sizeof(struct nbd_option_reply) == 20, "on the wire");

/* The answer to EXPORT_NAME; 124 zeros may follow. */
struct nbd_export_reply {
	be64_t size_bytes;
	be16_t flags;
};
static_assert(sizeof(struct nbd_export_reply) == 10, "on the wire");

struct nbd_info_export {
	be16_t type;
	be64_t size_bytes;
	be16_t flags;
};
static_assert(sizeof(struct nbd_info_export) == 12, "on the wire");

struct nbd_info_block_size {
	be16_t type;
	be32_t min, preferred, max;
};
static_assert(sizeof(struct nbd_info_block_size) == 14, "on the wire");

struct nbd_compact_request {
	be32_t magic;
	be16_t flags, type;
	be64_t cookie, offset;
	be32_t len;
};
static_assert(sizeof(struct nbd_compact_request) == 28, "on the wire");

struct nbd_ext_request {
	be32_t magic;
	be16_t flags, type;
	be64_t cookie, offset, len;
};
static_assert(sizeof(struct nbd_ext_request) == 32, "on the wire");

struct nbd_simple_reply {
	be32_t magic, error;
	be64_t cookie;
};
static_assert(sizeof(struct nbd_simple_reply) == 16, "on the wire");

struct nbd_chunk {
	be32_t magic;
	be16_t flags, type;
	be64_t cookie;
	be32_t len;
};
static_assert(sizeof(struct nbd_chunk) == 20, "on the wire");

struct nbd_ext_chunk {
	be32_t magic;
	be16_t flags, type;
	be64_t cookie, offset, len;
};
static_assert(sizeof(struct nbd_ext_chunk) == 32, "on the wire");

/* Payloads of chunks */
struct nbd_hole {
	be64_t offset;
	be32_t len;
};
struct nbd_error_payload {
	be32_t error;
	be16_t text_len;
};
struct nbd_extent32 {
	be32_t len, flags;
};
struct nbd_extent64 {
	be64_t len, flags;
};

/* ---- requests, decoded ---- */

struct nbd_command_in {
	uint32_t magic;
	uint16_t flags, type;
	uint64_t cookie, offset;
	uint64_t len;	      /* of the effect, or of the payload */
	uint64_t payload_len; /* bytes that follow on the wire */
};

/* `extended`: which of the two headers `bytes` is. Cannot fail. */
void nbd_decode_request(struct nbd_command_in *out, const void *bytes,
			bool extended);

/* What `negative_errno` is on the wire; `fast_zero`: of such a request. */
uint32_t nbd_error_of(int negative_errno, bool fast_zero);

/* ---- options, decoded ---- */

/* A string inside an option's data: not ended by a NUL. */
struct nbd_string {
	const char *text;
	uint32_t len;
};

struct nbd_go {
	struct nbd_string name;
	const uint8_t *types; /* `type_count` be16_t */
	uint16_t type_count;
};

struct nbd_meta_query {
	struct nbd_string name;
	uint32_t query_count;
	const uint8_t *queries; /* for nbd_next_query(), in order */
	uint32_t queries_len;
};

/* False: malformed, the whole of it (spec: nbd 5 and 7). Pure. */
bool nbd_decode_go(struct nbd_go *out, const uint8_t *data, uint32_t len);
bool nbd_decode_meta(struct nbd_meta_query *out, const uint8_t *data,
		     uint32_t len);
/* Takes one query off `meta`; false when there is none left. */
bool nbd_next_query(struct nbd_meta_query *meta, struct nbd_string *out);

#endif
