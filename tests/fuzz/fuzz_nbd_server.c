/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A client of the NBD server. The input is what it says: its bytes as they are,
 * or, so that mutations get past magics and lengths, a list of records that
 * make whole options and requests. Whatever is said, the server comes to an
 * end, and what it answers is in the form that was agreed on.
 */
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/bitmap.h"
#include "block/image.h"
#include "block/storage/memory.h"
#include "nbd-server/connection.h"
#include "nbd-server/wire.h"
#include "tests/support/bitmap-driver.h"
#include "tests/support/fuzz-input.h"

#define DISK_BYTES   (64u * 1024 + 512)
#define SAID_MAX     (128u * 1024)
#define ANSWER_MAX   (4u * 1024 * 1024)
#define HANDSHAKE_MS 10000
/* Answers that nobody reads fill the socket; then this is over. */
#define STALL_MS 1

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- what the client says ---- */

struct said {
	uint8_t bytes[SAID_MAX];
	size_t len;
	bool extended;
};

static void say(struct said *said, const void *bytes, size_t len)
{
	said->len = fuzz_append(said->bytes, said->len, SAID_MAX, bytes, len);
}

static void say_input(struct said *said, struct fuzz_input *in, size_t len)
{
	const uint8_t *bytes = fuzz_next_bytes(in, &len);

	say(said, bytes, len);
}

static void say_option(struct said *said, uint32_t code, const void *data,
		       size_t len)
{
	struct nbd_option_header head = {
		.magic = be64_make(NBD_OPTION_MAGIC),
		.option = be32_make(code),
		.len = be32_make((uint32_t)len),
	};

	said->extended |= code == NBD_OPT_EXTENDED_HEADERS && !len;
	say(said, &head, sizeof(head));
	say(said, data, len);
}

static void say_go(struct said *said, struct fuzz_input *in)
{
	uint8_t which = fuzz_next_byte(in);
	uint8_t data[] = {0, 0, 0, 1, 'd', 0, 2, 0, which & 3, 0, 3};

	if (which & 0x80)
		data[4] = which;
	say_option(said, which & 0x40 ? NBD_OPT_INFO : NBD_OPT_GO, data,
		   sizeof(data));
}

static void say_meta(struct said *said, struct fuzz_input *in)
{
	static const char *const queries[] = {"base:allocation",
					      "qemu:allocation-depth",
					      "base:",
					      "qemu:",
					      "x:y",
					      "",
					      NBD_BITMAP_PREFIX,
					      NBD_BITMAP_PREFIX "b0",
					      NBD_BITMAP_PREFIX "b1",
					      NBD_BITMAP_PREFIX "bad"};
	uint8_t which = fuzz_next_byte(in);
	uint8_t data[128] = {0, 0, 0, 1, 'd', 0, 0, 0, which >> 6};
	size_t len = 9;

	for (unsigned i = 0; i < which >> 6; i++) {
		const char *query = queries[(which + i) % 10];

		data[len + 3] = (uint8_t)strlen(query);
		memcpy(data + len + 4, query, strlen(query));
		len += 4 + strlen(query);
	}
	say_option(said,
		   which & 0x20 ? NBD_OPT_LIST_META_CONTEXT
				: NBD_OPT_SET_META_CONTEXT,
		   data, len);
}

/* Mostly within the disk. */
static uint64_t next_offset(struct fuzz_input *in)
{
	uint32_t word = fuzz_next_word(in);

	if (word >> 28 == 0xf)
		return UINT64_MAX - (word & 0xffff);
	return word % (DISK_BYTES + 16);
}

static void say_request(struct said *said, struct fuzz_input *in)
{
	static const uint8_t payload[4096] = {1, 2, 3};
	uint8_t type = fuzz_next_byte(in), flags = fuzz_next_byte(in);
	uint64_t offset = next_offset(in), len = fuzz_next_byte(in);
	struct nbd_compact_request compact;
	struct nbd_ext_request ext;

	len <<= type >> 4;
	type &= 15;
	if (type == NBD_CMD_WRITE && len > sizeof(payload))
		len = sizeof(payload);
	ext = (struct nbd_ext_request){
		.magic = be32_make(NBD_EXT_REQUEST_MAGIC),
		.flags = be16_make(flags),
		.type = be16_make(type),
		.cookie = be64_make(said->len),
		.offset = be64_make(offset),
		.len = be64_make(len),
	};
	compact = (struct nbd_compact_request){
		.magic = be32_make(NBD_REQUEST_MAGIC),
		.flags = ext.flags,
		.type = ext.type,
		.cookie = ext.cookie,
		.offset = ext.offset,
		.len = be32_make((uint32_t)len),
	};
	if (said->extended)
		say(said, &ext, sizeof(ext));
	else
		say(said, &compact, sizeof(compact));
	if (type == NBD_CMD_WRITE)
		say(said, payload, len);
	else if (said->extended && (flags & NBD_CMD_FLAG_PAYLOAD_LEN))
		say_input(said, in, len);
}

static void say_record(struct said *said, struct fuzz_input *in)
{
	uint8_t code;

	switch (fuzz_next_byte(in) % 8) {
	case 0:
		say_input(said, in, fuzz_next_byte(in));
		break;
	case 1:
		code = fuzz_next_byte(in);
		say_option(said, code, in->at, in->left < 4 ? in->left : 4);
		break;
	case 2:
		say_option(said, fuzz_next_byte(in) % 13, NULL, 0);
		break;
	case 3:
		say_go(said, in);
		break;
	case 4:
		say_meta(said, in);
		break;
	default:
		say_request(said, in);
	}
}

static void say_everything(struct said *said, struct fuzz_input in)
{
	uint8_t kind = fuzz_next_byte(&in);
	const uint8_t flags[4] = {0, 0, 0, 3};

	said->len = 0;
	said->extended = false;
	if (!(kind & 1)) {
		say_input(said, &in, in.left);
		return;
	}
	say(said, flags, sizeof(flags));
	while (in.left && said->len < SAID_MAX)
		say_record(said, &in);
}

/* ---- what the server answers ---- */

struct answer {
	const uint8_t *at;
	size_t left;
};

/* False at the end of what there is: it may have been cut. */
static bool take(struct answer *a, void *out, size_t len)
{
	if (len > a->left)
		return false;
	if (out)
		memcpy(out, a->at, len);
	a->at += len;
	a->left -= len;
	return true;
}

/* Until the last reply to GO. */
static bool check_options(struct answer *a)
{
	struct nbd_option_reply reply;

	while (take(a, &reply, sizeof(reply))) {
		assert(be64_get(reply.magic) == NBD_OPTION_REPLY_MAGIC);
		if (!take(a, NULL, be32_get(reply.len)))
			return false;
		if (be32_get(reply.option) == NBD_OPT_GO &&
		    be32_get(reply.type) == NBD_REP_ACK)
			return true;
	}
	return false;
}

static bool take_chunk(struct answer *a, enum nbd_reply_mode mode)
{
	struct nbd_ext_chunk ext;
	struct nbd_chunk chunk;
	be32_t magic;

	if (a->left < sizeof(magic))
		return false;
	memcpy(&magic, a->at, sizeof(magic));
	if (mode == NBD_EXTENDED) {
		assert(be32_get(magic) == NBD_EXT_CHUNK_MAGIC);
		return take(a, &ext, sizeof(ext)) &&
		       take(a, NULL, be64_get(ext.len));
	}
	if (be32_get(magic) == NBD_SIMPLE_REPLY_MAGIC)
		return take(a, NULL, sizeof(struct nbd_simple_reply));
	assert(be32_get(magic) == NBD_CHUNK_MAGIC);
	return take(a, &chunk, sizeof(chunk)) &&
	       take(a, NULL, be32_get(chunk.len));
}

static void check_answer(struct answer a, const struct nbd_connection *con,
			 bool by_name)
{
	struct nbd_greeting greeting;

	if (!take(&a, &greeting, sizeof(greeting)))
		return;
	assert(be64_get(greeting.magic) == NBD_MAGIC);
	/* Replies of EXPORT_NAME, and simple ones, say no length. */
	if (by_name || !check_options(&a) || con->mode == NBD_SIMPLE)
		return;
	while (take_chunk(&a, con->mode))
		;
}

/* ---- a connection ---- */

static void make_large(int fd)
{
	int bytes = ANSWER_MAX;

	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)))
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

#define BITMAPS 3

static const char *const bitmap_names[BITMAPS] = {"b0", "b1", "bad"};

static struct image *new_disk(void)
{
	struct storage *file;
	struct image *img;

	if (storage_memory_new(&file, "disk", DISK_BYTES) < 0 ||
	    image_open_storage(&img, file, bitmap_driver(), NULL, IMAGE_WRITE,
			       NULL) < 0)
		abort();
	return img;
}

/* The server reads what lies in the socket, and then the end. */
static void serve(struct nbd_connection *con)
{
	if (nbd_negotiate(con) == 0) {
		assert(con->export && con->export->client_count == 1);
		nbd_transmit(con);
		nbd_export_leave(con->export);
	}
}

static bool says_name(const struct said *said)
{
	struct nbd_option_header head = {
		.magic = be64_make(NBD_OPTION_MAGIC),
		.option = be32_make(NBD_OPT_EXPORT_NAME),
	};

	return memmem(said->bytes, said->len, &head, 12) != NULL;
}

static void open_bitmaps(struct nbd_export *export)
{
	while (export->bitmap_count < BITMAPS) {
		struct nbd_bitmap *bitmap =
			export->bitmaps + export->bitmap_count;

		bitmap->name = bitmap_names[export->bitmap_count];
		if (image_bitmap_open(&bitmap->map, export->img, bitmap->name,
				      NULL) < 0)
			abort();
		export->bitmap_count++;
	}
}

static void converse(const struct said *said, struct image *img,
		     uint8_t *answer)
{
	struct nbd_bitmap bitmaps[BITMAPS];
	struct nbd_export export = {.name = "d",
				    .description = "x",
				    .img = img,
				    .size_bytes = img->size_bytes,
				    .bitmaps = bitmaps,
				    .discard = true};
	const struct nbd_exports exports = {&export, 1};
	const struct nbd_limits limits = {HANDSHAKE_MS, STALL_MS};
	atomic_bool stopping = false;
	struct nbd_connection con = {
		.exports = &exports, .limits = &limits, .stopping = &stopping};
	ssize_t len;
	int fds[2];

	open_bitmaps(&export);
	export.offers_depth = said->len & 1;
	export.read_only = said->len % 8 == 7;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
		abort();
	make_large(fds[0]);
	make_large(fds[1]);
	channel_init(&con.channel, fds[0], STALL_MS);
	if (send(fds[1], said->bytes, said->len, MSG_DONTWAIT) < 0 && said->len)
		abort();
	shutdown(fds[1], SHUT_WR);
	serve(&con);
	assert(!export.client_count);
	len = recv(fds[1], answer, ANSWER_MAX, MSG_DONTWAIT);
	if (len > 0)
		check_answer((struct answer){answer, (size_t)len}, &con,
			     says_name(said));
	channel_close(&con.channel);
	close(fds[1]);
	for (size_t i = 0; i < BITMAPS; i++)
		image_bitmap_close(bitmaps[i].map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct said said;
	static uint8_t *answer;
	struct image *img = new_disk();

	if (!answer)
		answer = malloc(ANSWER_MAX);
	if (!answer)
		abort();
	say_everything(&said, (struct fuzz_input){data, size});
	converse(&said, img, answer);
	if (image_close(img) < 0)
		abort();
	return 0;
}
