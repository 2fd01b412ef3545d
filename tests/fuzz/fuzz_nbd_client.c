/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An NBD server as our client sees it. The input is all that the server says:
 * its bytes as they are, or, so that mutations get past magics and cookies, a
 * list of records that make whole replies. Whatever it says, each request comes
 * to an end, and what is read without an error was said.
 *
 * All of it lies in the socket before the client asks, then comes the end; so
 * there is one thread, and no execution depends on time. libnbd itself is not
 * instrumented.
 */
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/error.h"
#include "block/storage/file.h"
#include "block/storage/nbd-address.h"
#include "block/storage/nbd-library.h"
#include "block/storage/nbd.h"
#include "nbd-server/wire.h"
#include "tests/support/fuzz-input.h"

#define SAID_MAX	       (128u * 1024)
#define SOCKET_MAX	       (4 * 1024 * 1024)
#define READ_MAX	       4096u
#define NBD_CHUNK_ERROR_OFFSET 0x8002u
#define EXTENTS_MAX	       64
/* Of the bytes that the server's records hold; a hole has none of it. */
#define FILLING 0xa5

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- what the server says ---- */

struct said {
	uint8_t bytes[SAID_MAX];
	size_t len;
	uint64_t cookie; /* of the request that is answered next */
	bool any_bytes;	 /* not all of it is known to be records, */
	bool any_holes;	 /* or there are zeros in what they say */
};

static void say(struct said *said, const void *bytes, size_t len)
{
	said->len = fuzz_append(said->bytes, said->len, SAID_MAX, bytes, len);
}

static void say_input(struct said *said, struct fuzz_input *in, size_t len)
{
	const uint8_t *bytes = fuzz_next_bytes(in, &len);

	said->any_bytes = true;
	say(said, bytes, len);
}

static void say_greeting(struct said *said, uint16_t flags)
{
	const struct nbd_greeting greeting = {
		.magic = be64_make(NBD_MAGIC),
		.option_magic = be64_make(NBD_OPTION_MAGIC),
		.flags = be16_make(flags),
	};

	say(said, &greeting, sizeof(greeting));
}

static void say_reply(struct said *said, uint32_t option, uint32_t type,
		      const void *payload, size_t len)
{
	const struct nbd_option_reply reply = {
		.magic = be64_make(NBD_OPTION_REPLY_MAGIC),
		.option = be32_make(option),
		.type = be32_make(type),
		.len = be32_make((uint32_t)len),
	};

	say(said, &reply, sizeof(reply));
	say(said, payload, len);
}

/* Small ones, and some that no disk has. */
static uint64_t next_size(struct fuzz_input *in)
{
	uint8_t kind = fuzz_next_byte(in);

	if (kind < 0xf0)
		return (uint64_t)fuzz_next_half(in) << (kind & 1);
	return kind < 0xf8 ? UINT64_MAX << (kind & 7)
			   : UINT64_MAX >> (kind & 3);
}

static void say_export(struct said *said, struct fuzz_input *in)
{
	struct {
		be16_t type;
		be64_t size;
		be16_t flags;
	} export = {
		.type = be16_make(NBD_INFO_EXPORT),
		.size = be64_make(next_size(in)),
		.flags = be16_make(fuzz_next_half(in)),
	};

	say_reply(said, NBD_OPT_GO, NBD_REP_INFO, &export, sizeof(export));
}

static void say_blocks(struct said *said, struct fuzz_input *in)
{
	struct {
		be16_t type;
		be32_t least, preferred, most;
	} blocks = {.type = be16_make(NBD_INFO_BLOCK_SIZE)};
	uint8_t shifts = fuzz_next_byte(in);

	blocks.least = be32_make(1u << (shifts & 31));
	blocks.preferred = be32_make(4096);
	blocks.most = be32_make((uint32_t)next_size(in));
	say_reply(said, NBD_OPT_GO, NBD_REP_INFO, &blocks, sizeof(blocks));
}

static void say_context(struct said *said, struct fuzz_input *in)
{
	static const char name[] = "base:allocation";
	uint8_t context[4 + sizeof(name) - 1] = {0, 0, 0, fuzz_next_byte(in)};

	memcpy(context + 4, name, sizeof(name) - 1);
	say_reply(said, NBD_OPT_SET_META_CONTEXT, NBD_REP_META_CONTEXT, context,
		  sizeof(context));
}

/* All of a handshake, so that most inputs have one. */
static void say_handshake(struct said *said, struct fuzz_input *in)
{
	uint8_t kind = fuzz_next_byte(in);
	uint32_t structured = kind & 1 ? NBD_REP_ERR_UNSUP : NBD_REP_ACK;

	/* Simple replies say no lengths: what follows may be taken for data. */
	said->any_bytes |= kind & 1;
	say_greeting(said, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	say_reply(said, NBD_OPT_STRUCTURED_REPLY, structured, NULL, 0);
	if (!(kind & 1)) {
		if (kind & 2)
			say_context(said, in);
		say_reply(said, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK, NULL, 0);
	}
	if (kind & 4)
		say_blocks(said, in);
	say_export(said, in);
	say_reply(said, NBD_OPT_GO, NBD_REP_ACK, NULL, 0);
}

static void say_filling(struct said *said, size_t len)
{
	if (len > SAID_MAX - said->len)
		len = SAID_MAX - said->len;
	memset(said->bytes + said->len, FILLING, len);
	said->len += len;
}

/* Answers the next request, or one of those behind it; then the last is done.
 */
static void say_chunk(struct said *said, struct fuzz_input *in, uint16_t type,
		      size_t len)
{
	uint8_t how = fuzz_next_byte(in);
	const struct nbd_chunk chunk = {
		.magic = be32_make(NBD_CHUNK_MAGIC),
		.flags = be16_make(how & 3 ? NBD_CHUNK_DONE : 0),
		.type = be16_make(type),
		.cookie = be64_make(said->cookie + (how >> 6)),
		.len = be32_make((uint32_t)len),
	};

	said->cookie += how & 3 ? 1 : 0;
	say(said, &chunk, sizeof(chunk));
}

static void say_data(struct said *said, struct fuzz_input *in)
{
	be64_t off = be64_make(fuzz_next_half(in));
	uint16_t len = fuzz_next_half(in);

	say_chunk(said, in, NBD_CHUNK_OFFSET_DATA, sizeof(off) + len);
	say(said, &off, sizeof(off));
	say_filling(said, len);
}

static void say_hole(struct said *said, struct fuzz_input *in)
{
	struct {
		be64_t off;
		be32_t len;
	} hole = {.off = be64_make(fuzz_next_half(in)),
		  .len = be32_make(fuzz_next_half(in))};

	said->any_holes = true;
	say_chunk(said, in, NBD_CHUNK_OFFSET_HOLE, sizeof(hole));
	say(said, &hole, sizeof(hole));
}

static void say_status(struct said *said, struct fuzz_input *in)
{
	struct {
		be32_t context;
		struct {
			be32_t len, flags;
		} runs[7];
	} status = {.context = be32_make(fuzz_next_byte(in))};
	unsigned count = fuzz_next_byte(in) % 8;

	for (unsigned i = 0; i < count; i++) {
		status.runs[i].len = be32_make((uint32_t)next_size(in));
		status.runs[i].flags = be32_make(fuzz_next_byte(in));
	}
	say_chunk(said, in, NBD_CHUNK_STATUS,
		  sizeof(status.context) + count * sizeof(status.runs[0]));
	say(said, &status,
	    sizeof(status.context) + count * sizeof(status.runs[0]));
}

static void say_error(struct said *said, struct fuzz_input *in)
{
	struct {
		be32_t code;
		be16_t text_len;
		be64_t off;
	} error = {.code = be32_make(fuzz_next_byte(in)),
		   .text_len = be16_make(fuzz_next_byte(in) & 1)};
	uint8_t has_offset = fuzz_next_byte(in) & 1;
	size_t len = has_offset ? 14 : 6;

	error.off = be64_make(fuzz_next_half(in));
	say_chunk(said, in,
		  has_offset ? NBD_CHUNK_ERROR_OFFSET : NBD_CHUNK_ERROR, len);
	say(said, &error, len);
}

static void say_simple(struct said *said, struct fuzz_input *in)
{
	const struct nbd_simple_reply reply = {
		.magic = be32_make(NBD_SIMPLE_REPLY_MAGIC),
		.error = be32_make(fuzz_next_byte(in) & 31),
		.cookie = be64_make(said->cookie++),
	};

	say(said, &reply, sizeof(reply));
	say_filling(said, fuzz_next_half(in));
}

static void say_record(struct said *said, struct fuzz_input *in)
{
	switch (fuzz_next_byte(in) % 9) {
	case 0:
		say_input(said, in, fuzz_next_byte(in));
		break;
	case 1:
		say_chunk(said, in, NBD_CHUNK_NONE, 0);
		break;
	case 2:
		say_hole(said, in);
		break;
	case 3:
		say_status(said, in);
		break;
	case 4:
		say_error(said, in);
		break;
	case 5:
		say_simple(said, in);
		break;
	default:
		say_data(said, in);
	}
}

static void say_everything(struct said *said, struct fuzz_input in,
			   bool records)
{
	said->len = 0;
	said->cookie = 1; /* libnbd's first */
	said->any_bytes = said->any_holes = false;
	if (!records) {
		say_input(said, &in, in.left);
		return;
	}
	say_handshake(said, &in);
	while (in.left && said->len < SAID_MAX)
		say_record(said, &in);
}

/* ---- the socket ---- */

static int client_fd = -1; /* the end that is yet to be taken */

/* In place of libnbd's: the connection is there already. */
static int take_socket(struct nbd_handle *h, const char *path)
{
	int fd = client_fd;

	(void)path;
	client_fd = -1;
	return nbd_library_get(NULL)->aio_connect_socket(h, fd);
}

static void redirect(void)
{
	struct nbd_library *lib;

	/* Its functions are variables of this process, only not for everybody.
	 */
	memcpy(&lib, &(const struct nbd_library *){nbd_library_get(NULL)},
	       sizeof(struct nbd_library *));
	if (!lib)
		abort();
	lib->aio_connect_unix = take_socket;
}

static void make_large(int fd)
{
	int bytes = SOCKET_MAX;

	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)))
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

/* The server's end; it has said everything. */
static int start_server(const struct said *said)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		abort();
	make_large(fds[0]);
	make_large(fds[1]);
	if (send(fds[1], said->bytes, said->len, MSG_DONTWAIT) < 0 && said->len)
		abort();
	shutdown(fds[1], SHUT_WR);
	client_fd = fds[0];
	return fds[1];
}

/* ---- the client ---- */

/* What an export lacks in its last sector reads as zeros. */
static void check_read(struct storage *s, const struct said *said, uint64_t off,
		       size_t len)
{
	static uint8_t buf[READ_MAX];
	const size_t sector = 512;

	memset(buf, 1, len);
	if (storage_read(s, buf, len, off) < 0 || said->any_bytes ||
	    said->any_holes || len < sector)
		return;
	for (size_t i = 0; i < len - sector; i++)
		assert(buf[i] == FILLING);
}

static size_t part_of(const struct storage *s, uint64_t off, size_t len)
{
	uint64_t size = storage_size(s);

	if (off >= size)
		return 0;
	return size - off < len ? (size_t)(size - off) : len;
}

static void walk_extents(struct storage *s)
{
	uint64_t off = 0, size = storage_size(s);
	struct storage_extent extent;

	for (int i = 0; i < EXTENTS_MAX && off < size; i++) {
		if (storage_extent_at(s, off, size - off, &extent) < 0)
			return;
		assert(extent.len > 0 && extent.len <= size - off);
		off += extent.len;
	}
}

/* As tests/fuzz/record-nbd-client.py has it done: the cookies are the same. */
static void use(struct storage *s, const struct said *said)
{
	static const uint8_t some[512] = {1, 2, 3};
	size_t len;

	check_read(s, said, 0, part_of(s, 0, 1024));
	if (s->writable) {
		len = part_of(s, 1024, sizeof(some));
		if (len)
			storage_write(s, some, len, 1024);
		len = part_of(s, 2048, 1024);
		if (len)
			storage_zero(s, 2048, len, STORAGE_ZERO_MAY_UNMAP);
		len = part_of(s, 4096, 1024);
		if (len)
			storage_discard(s, 4096, len);
	}
	walk_extents(s);
	if (s->writable)
		storage_sync(s);
	check_read(s, said, 0, part_of(s, 0, READ_MAX));
	walk_extents(s);
}

static struct nbd_address the_address(void)
{
	struct nbd_address address = {0};

	address.socket = strdup("none");
	if (!address.socket || nbd_address_finish(&address, NULL))
		abort();
	return address;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct said said;
	static struct nbd_address address;
	struct fuzz_input in = {data, size};
	uint8_t kind = fuzz_next_byte(&in);
	unsigned flags = (kind & 2 ? FILE_OPEN_WRITE : 0) |
			 (kind & 4 ? FILE_OPEN_DISTRUST_HOLES : 0);
	struct storage *s;
	struct error err;
	int server_fd;

	if (!address.name) {
		address = the_address();
		redirect();
	}
	say_everything(&said, in, kind & 1);
	server_fd = start_server(&said);
	if (storage_nbd_open(&s, &address, flags, &err) == 0) {
		assert(storage_size(s) <= INT64_MAX);
		assert(s->align && !(s->align & (s->align - 1)));
		use(s, &said);
		storage_close(s);
	} else {
		assert(err.message[0]);
	}
	if (client_fd >= 0)
		close(client_fd);
	client_fd = -1;
	close(server_fd);
	return 0;
}
