/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bitmaps of images as metadata contexts: what a client lists, selects and is
 * told, for any number of them, of a driver that has some.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/bitmap.h"
#include "block/error.h"
#include "block/image.h"
#include "block/storage/memory.h"
#include "formats/registry.h"
#include "nbd-server/connection.h"
#include "nbd-server/transmit.h"
#include "tests/support/bitmap-driver.h"

#define DISK_BYTES (64u << 20)
#define GRANULE	   BITMAP_DRIVER_GRANULE
#define FOREVER_MS (3600u * 1000)
#define ANSWER_MAX (8u << 20)

static struct image *new_image(const struct format_driver *driver,
			       uint64_t size_bytes)
{
	struct storage *file;
	struct image *img;

	assert_int_equal(storage_memory_new(&file, "disk", size_bytes), 0);
	assert_int_equal(image_open_storage(&img, file, driver, NULL, 0, NULL),
			 0);
	return img;
}

/* ---- a conversation ---- */

/* The client says all of it, and then reads all the answers. */
struct talk {
	uint8_t *said, *answer;
	size_t said_len, answer_len, at;
	bool extended;
};

static void talk_start(struct talk *talk)
{
	*talk = (struct talk){.said = malloc(ANSWER_MAX),
			      .answer = malloc(ANSWER_MAX)};
	assert_non_null(talk->said);
	assert_non_null(talk->answer);
	memcpy(talk->said, "\0\0\0\3", 4);
	talk->said_len = 4;
}

static void talk_end(struct talk *talk)
{
	free(talk->said);
	free(talk->answer);
}

static void say(struct talk *talk, const void *data, size_t len)
{
	memcpy(talk->said + talk->said_len, data, len);
	talk->said_len += len;
}

static void say_number(struct talk *talk, uint32_t number)
{
	be32_t raw = be32_make(number);

	say(talk, &raw, sizeof(raw));
}

static void say_option(struct talk *talk, uint32_t code, uint32_t len)
{
	struct nbd_option_header head = {
		.magic = be64_make(NBD_OPTION_MAGIC),
		.option = be32_make(code),
		.len = be32_make(len),
	};

	say(talk, &head, sizeof(head));
}

/* For the export "" each of `queries`, ended by NULL. */
static void say_meta(struct talk *talk, uint32_t code,
		     const char *const *queries)
{
	uint32_t count = 0, len = 8;

	for (; queries[count]; count++)
		len += 4 + (uint32_t)strlen(queries[count]);
	say_option(talk, code, len);
	say_number(talk, 0);
	say_number(talk, count);
	for (uint32_t i = 0; i < count; i++) {
		say_number(talk, (uint32_t)strlen(queries[i]));
		say(talk, queries[i], strlen(queries[i]));
	}
}

static void say_mode(struct talk *talk, bool extended)
{
	talk->extended = extended;
	say_option(talk,
		   extended ? NBD_OPT_EXTENDED_HEADERS
			    : NBD_OPT_STRUCTURED_REPLY,
		   0);
}

static void say_go(struct talk *talk)
{
	say_option(talk, NBD_OPT_GO, 6);
	say(talk, "\0\0\0\0\0\0", 6);
}

static void say_status(struct talk *talk, uint16_t flags, uint64_t off,
		       uint64_t len)
{
	struct nbd_compact_request compact = {
		.magic = be32_make(NBD_REQUEST_MAGIC),
		.flags = be16_make(flags),
		.type = be16_make(NBD_CMD_BLOCK_STATUS),
		.offset = be64_make(off),
		.len = be32_make((uint32_t)len),
	};
	struct nbd_ext_request ext = {
		.magic = be32_make(NBD_EXT_REQUEST_MAGIC),
		.flags = compact.flags,
		.type = compact.type,
		.offset = compact.offset,
		.len = be64_make(len),
	};

	if (talk->extended)
		say(talk, &ext, sizeof(ext));
	else
		say(talk, &compact, sizeof(compact));
}

/* The contexts that are wanted of those selected. */
static void say_filtered(struct talk *talk, const uint32_t *ids, unsigned count)
{
	be64_t len = be64_make(DISK_BYTES);

	say_status(talk, NBD_CMD_FLAG_PAYLOAD_LEN, 0, 8 + 4 * count);
	say(talk, &len, sizeof(len));
	for (unsigned i = 0; i < count; i++)
		say_number(talk, ids[i]);
}

static void make_large(int fd)
{
	int bytes = ANSWER_MAX;

	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)))
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static void send_all(int fd, const struct talk *talk)
{
	make_large(fd);
	assert_int_equal(send(fd, talk->said, talk->said_len, MSG_DONTWAIT),
			 talk->said_len);
	shutdown(fd, SHUT_WR);
}

static void receive_all(int fd, struct talk *talk)
{
	ssize_t len;

	while ((len = recv(fd, talk->answer + talk->answer_len,
			   ANSWER_MAX - talk->answer_len, MSG_DONTWAIT)) > 0)
		talk->answer_len += (size_t)len;
	talk->at = sizeof(struct nbd_greeting);
}

static void converse(struct talk *talk, struct nbd_export *export)
{
	const struct nbd_exports exports = {export, 1};
	const struct nbd_limits limits = {FOREVER_MS, FOREVER_MS};
	atomic_bool stopping = false;
	struct nbd_connection con = {
		.exports = &exports, .limits = &limits, .stopping = &stopping};
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	make_large(fds[0]);
	channel_init(&con.channel, fds[0], FOREVER_MS);
	send_all(fds[1], talk);
	if (nbd_negotiate(&con) == 0) {
		nbd_transmit(&con);
		nbd_export_leave(con.export);
	}
	receive_all(fds[1], talk);
	channel_close(&con.channel);
	close(fds[1]);
}

static const uint8_t *hear(struct talk *talk, size_t len)
{
	const uint8_t *data = talk->answer + talk->at;

	assert_true(len <= talk->answer_len - talk->at);
	talk->at += len;
	return data;
}

static uint32_t hear_number(struct talk *talk)
{
	be32_t raw;

	memcpy(&raw, hear(talk, sizeof(raw)), sizeof(raw));
	return be32_get(raw);
}

/* One reply to an option, its data left to hear: the type, and the length. */
static uint32_t hear_reply(struct talk *talk, uint32_t *len)
{
	struct nbd_option_reply reply;

	memcpy(&reply, hear(talk, sizeof(reply)), sizeof(reply));
	*len = be32_get(reply.len);
	return be32_get(reply.type);
}

/* Skips all replies to one option, the last has to be ACK. */
static void hear_ack(struct talk *talk)
{
	uint32_t type, len;

	do {
		type = hear_reply(talk, &len);
		hear(talk, len);
	} while (type == NBD_REP_META_CONTEXT || type == NBD_REP_INFO);
	assert_int_equal(type, NBD_REP_ACK);
}

/* A context of this name; returns its number. */
static uint32_t hear_context(struct talk *talk, const char *name)
{
	uint32_t len, id;

	assert_int_equal(hear_reply(talk, &len), NBD_REP_META_CONTEXT);
	id = hear_number(talk);
	assert_int_equal(len, 4 + strlen(name));
	assert_memory_equal(hear(talk, len - 4), name, len - 4);
	return id;
}

struct chunk {
	uint16_t flags, type;
	uint64_t len;
};

static struct chunk hear_chunk(struct talk *talk)
{
	struct nbd_ext_chunk ext;
	struct nbd_chunk head;

	if (talk->extended) {
		memcpy(&ext, hear(talk, sizeof(ext)), sizeof(ext));
		assert_int_equal(be32_get(ext.magic), NBD_EXT_CHUNK_MAGIC);
		return (struct chunk){be16_get(ext.flags), be16_get(ext.type),
				      be64_get(ext.len)};
	}
	memcpy(&head, hear(talk, sizeof(head)), sizeof(head));
	assert_int_equal(be32_get(head.magic), NBD_CHUNK_MAGIC);
	return (struct chunk){be16_get(head.flags), be16_get(head.type),
			      be32_get(head.len)};
}

static struct nbd_extent hear_extent(struct talk *talk)
{
	struct nbd_extent64 wide;
	uint32_t len;

	if (talk->extended) {
		memcpy(&wide, hear(talk, sizeof(wide)), sizeof(wide));
		return (struct nbd_extent){be64_get(wide.len),
					   (uint32_t)be64_get(wide.flags)};
	}
	len = hear_number(talk);
	return (struct nbd_extent){len, hear_number(talk)};
}

/*
 * A chunk that is about bitmap `number` from `off` on, as context `id`. All of
 * it has to be true; returns where it ends.
 */
static uint64_t hear_bitmap(struct talk *talk, uint32_t id, unsigned number,
			    uint64_t off, bool last)
{
	struct chunk chunk = hear_chunk(talk);
	uint64_t head_len = talk->extended ? 8 : 4;
	uint64_t count = (chunk.len - head_len) / (talk->extended ? 16 : 8);

	assert_int_equal(chunk.type, talk->extended ? NBD_CHUNK_STATUS_EXT
						    : NBD_CHUNK_STATUS);
	assert_int_equal(chunk.flags, last ? NBD_CHUNK_DONE : 0);
	assert_int_equal(hear_number(talk), id);
	if (talk->extended)
		assert_int_equal(hear_number(talk), count);
	assert_true(count > 0);
	for (uint64_t i = 0; i < count; i++) {
		struct nbd_extent extent = hear_extent(talk);

		assert_true(extent.len > 0 && extent.flags <= 1);
		for (uint64_t end = off + extent.len; off < end; off += GRANULE)
			assert_int_equal(bitmap_driver_is_set(number, off),
					 extent.flags);
	}
	return off;
}

static void hear_error(struct talk *talk, uint32_t error)
{
	struct chunk chunk = hear_chunk(talk);

	assert_int_equal(chunk.type, NBD_CHUNK_ERROR);
	assert_int_equal(hear_number(talk), error);
	hear(talk, chunk.len - 4);
}

/* ---- an export ---- */

struct rig {
	struct image *img;
	struct nbd_export export;
	struct nbd_bitmap bitmaps[NBD_BITMAPS_MAX];
	char names[NBD_BITMAPS_MAX][24];
	char queries[NBD_BITMAPS_MAX][48];
};

static void add_bitmap(struct rig *rig, const char *name)
{
	unsigned n = rig->export.bitmap_count++;

	snprintf(rig->names[n], sizeof(rig->names[n]), "%s", name);
	snprintf(rig->queries[n], sizeof(rig->queries[n]), "%s%s",
		 NBD_BITMAP_PREFIX, name);
	rig->bitmaps[n].name = rig->names[n];
	assert_int_equal(
		image_bitmap_open(&rig->bitmaps[n].map, rig->img, name, NULL),
		0);
}

/* Bitmap n is called bn. */
static struct rig *set_up(unsigned count)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig->img = new_image(bitmap_driver(), DISK_BYTES);
	rig->export = (struct nbd_export){.name = "",
					  .img = rig->img,
					  .size_bytes = rig->img->size_bytes,
					  .bitmaps = rig->bitmaps};
	for (unsigned n = 0; n < count; n++) {
		char name[16];

		snprintf(name, sizeof(name), "b%u", n);
		add_bitmap(rig, name);
	}
	return rig;
}

static void tear_down(struct rig *rig)
{
	for (unsigned n = 0; n < rig->export.bitmap_count; n++)
		image_bitmap_close(rig->bitmaps[n].map);
	assert_int_equal(bitmap_driver_open_count(), 0);
	assert_int_equal(image_close(rig->img), 0);
	free(rig);
}

/* ---- listing and selecting ---- */

static void names_and_namespaces_are_listed(void **state)
{
	static const char *const all[] = {NULL};
	static const char *const space[] = {"qemu:", NULL};
	static const char *const bitmaps[] = {NBD_BITMAP_PREFIX, NULL};
	static const char *const one[] = {NBD_BITMAP_PREFIX "b1", "x:y", NULL};
	static const char *const part[] = {NBD_BITMAP_PREFIX "b",
					   NBD_BITMAP_PREFIX "b:", NULL};
	struct rig *rig = set_up(2);
	struct talk talk;

	(void)state;
	add_bitmap(rig, "b:7");
	talk_start(&talk);
	say_meta(&talk, NBD_OPT_LIST_META_CONTEXT, all);
	say_meta(&talk, NBD_OPT_LIST_META_CONTEXT, space);
	say_meta(&talk, NBD_OPT_LIST_META_CONTEXT, bitmaps);
	say_meta(&talk, NBD_OPT_LIST_META_CONTEXT, one);
	say_meta(&talk, NBD_OPT_LIST_META_CONTEXT, part);
	converse(&talk, &rig->export);

	assert_int_equal(hear_context(&talk, "base:allocation"), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(hear_context(&talk, rig->queries[0]), 0);
		assert_int_equal(hear_context(&talk, rig->queries[1]), 0);
		assert_int_equal(hear_context(&talk, rig->queries[2]), 0);
		hear_ack(&talk);
	}
	hear_context(&talk, rig->queries[1]);
	hear_ack(&talk);
	/* Part of a name is none, also where there is a colon in it. */
	hear_ack(&talk);
	assert_int_equal(talk.at, talk.answer_len);
	talk_end(&talk);
	tear_down(rig);
}

static void only_whole_names_are_selected(void **state)
{
	static const char *const spaces[] = {"qemu:", NBD_BITMAP_PREFIX,
					     NBD_BITMAP_PREFIX "b", NULL};
	static const char *const twice[] = {NBD_BITMAP_PREFIX "b1",
					    NBD_BITMAP_PREFIX "b0",
					    NBD_BITMAP_PREFIX "b1", NULL};
	struct rig *rig = set_up(2);
	struct talk talk;
	uint32_t first;

	(void)state;
	talk_start(&talk);
	say_mode(&talk, false);
	say_meta(&talk, NBD_OPT_SET_META_CONTEXT, spaces);
	say_meta(&talk, NBD_OPT_SET_META_CONTEXT, twice);
	converse(&talk, &rig->export);

	hear_ack(&talk);
	hear_ack(&talk);
	first = hear_context(&talk, rig->queries[0]);
	assert_true(first > 0);
	assert_true(hear_context(&talk, rig->queries[1]) > first);
	hear_ack(&talk);
	assert_int_equal(talk.at, talk.answer_len);
	talk_end(&talk);
	tear_down(rig);
}

/* ---- what they say ---- */

static void status_of_two_and_the_disk(bool extended)
{
	static const char *const some[] = {"base:allocation",
					   NBD_BITMAP_PREFIX "b1",
					   NBD_BITMAP_PREFIX "b2", NULL};
	struct rig *rig = set_up(3);
	struct talk talk;
	uint32_t ids[2];

	talk_start(&talk);
	say_mode(&talk, extended);
	say_meta(&talk, NBD_OPT_SET_META_CONTEXT, some);
	say_go(&talk);
	say_status(&talk, 0, 0, DISK_BYTES);
	say_status(&talk, NBD_CMD_FLAG_REQ_ONE, 64 * GRANULE, DISK_BYTES / 2);
	converse(&talk, &rig->export);

	hear_ack(&talk);
	hear_context(&talk, "base:allocation");
	ids[0] = hear_context(&talk, rig->queries[1]);
	ids[1] = hear_context(&talk, rig->queries[2]);
	hear_ack(&talk);
	hear_ack(&talk);
	hear(&talk, hear_chunk(&talk).len);
	assert_int_equal(hear_bitmap(&talk, ids[0], 1, 0, false), DISK_BYTES);
	assert_int_equal(hear_bitmap(&talk, ids[1], 2, 0, true), DISK_BYTES);
	hear(&talk, hear_chunk(&talk).len);
	/* Runs of 17 and 33 granules. */
	assert_int_equal(hear_bitmap(&talk, ids[0], 1, 64 * GRANULE, false),
			 68 * GRANULE);
	assert_int_equal(hear_bitmap(&talk, ids[1], 2, 64 * GRANULE, true),
			 66 * GRANULE);
	assert_int_equal(talk.at, talk.answer_len);
	talk_end(&talk);
	tear_down(rig);
}

static void status_in_structured_replies(void **state)
{
	(void)state;
	status_of_two_and_the_disk(false);
}

static void status_in_extended_replies(void **state)
{
	(void)state;
	status_of_two_and_the_disk(true);
}

/* More extents than one reply has, so the client asks on from there. */
static void a_fragmented_bitmap_comes_in_pieces(void **state)
{
	static const char *const one[] = {NBD_BITMAP_PREFIX "b0", NULL};
	uint64_t off = 0, piece = (uint64_t)NBD_EXTENTS_MAX * GRANULE;
	struct rig *rig = set_up(1);
	struct talk talk;
	uint32_t id;

	(void)state;
	assert_true(piece < DISK_BYTES);
	talk_start(&talk);
	say_mode(&talk, false);
	say_meta(&talk, NBD_OPT_SET_META_CONTEXT, one);
	say_go(&talk);
	for (; off < DISK_BYTES; off += piece)
		say_status(&talk, 0, off, DISK_BYTES - off);
	converse(&talk, &rig->export);

	hear_ack(&talk);
	id = hear_context(&talk, rig->queries[0]);
	hear_ack(&talk);
	hear_ack(&talk);
	for (off = 0; off < DISK_BYTES; off += piece)
		assert_int_equal(hear_bitmap(&talk, id, 0, off, true),
				 off + piece);
	assert_int_equal(talk.at, talk.answer_len);
	talk_end(&talk);
	tear_down(rig);
}

/* As many as there can be, all of them in one reply. */
static void many_bitmaps_at_once(void **state)
{
	const char *queries[NBD_BITMAPS_MAX + 1] = {0};
	struct rig *rig = set_up(NBD_BITMAPS_MAX);
	uint32_t ids[NBD_BITMAPS_MAX];
	struct talk talk;

	(void)state;
	for (unsigned n = 0; n < NBD_BITMAPS_MAX; n++)
		queries[n] = rig->queries[n];
	talk_start(&talk);
	say_mode(&talk, true);
	say_meta(&talk, NBD_OPT_SET_META_CONTEXT, queries);
	say_go(&talk);
	say_status(&talk, 0, 0, DISK_BYTES);
	ids[0] = NBD_BITMAPS_MAX + 2;
	say_filtered(&talk, ids, 1);
	converse(&talk, &rig->export);

	hear_ack(&talk);
	for (unsigned n = 0; n < NBD_BITMAPS_MAX; n++)
		ids[n] = hear_context(&talk, rig->queries[n]);
	hear_ack(&talk);
	hear_ack(&talk);
	/* They share the room of two. */
	assert_int_equal(hear_bitmap(&talk, ids[0], 0, 0, false),
			 2 * NBD_EXTENTS_MAX / NBD_BITMAPS_MAX * GRANULE);
	for (unsigned n = 1; n < NBD_BITMAPS_MAX; n++)
		hear_bitmap(&talk, ids[n], n, 0, n + 1 == NBD_BITMAPS_MAX);
	hear_bitmap(&talk, ids[NBD_BITMAPS_MAX - 1], NBD_BITMAPS_MAX - 1, 0,
		    true);
	assert_int_equal(talk.at, talk.answer_len);
	talk_end(&talk);
	tear_down(rig);
}

static void a_filter_takes_what_was_selected(void **state)
{
	static const char *const some[] = {NBD_BITMAP_PREFIX "b1",
					   NBD_BITMAP_PREFIX "b3", NULL};
	/* The first two are 1 and 2 by what comes before bitmaps. */
	static const uint32_t first = NBD_CONTEXT_BITMAPS + 1;
	const uint32_t good[] = {first + 3, first + 1};
	const uint32_t bad[][2] = {{first + 1, first + 1}, {first, first + 1},
				   {first + 1, 0},	   {first + 1, 1},
				   {first + 1, 9999},	   {UINT32_MAX, 1}};
	struct rig *rig = set_up(4);
	struct talk talk;

	(void)state;
	talk_start(&talk);
	say_mode(&talk, true);
	say_meta(&talk, NBD_OPT_SET_META_CONTEXT, some);
	say_go(&talk);
	say_filtered(&talk, good, 2);
	say_filtered(&talk, good, 1);
	say_filtered(&talk, good, 0);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		say_filtered(&talk, bad[i], 2);
	converse(&talk, &rig->export);

	hear_ack(&talk);
	hear_ack(&talk);
	hear_ack(&talk);
	hear_bitmap(&talk, good[1], 1, 0, false);
	hear_bitmap(&talk, good[0], 3, 0, true);
	hear_bitmap(&talk, good[0], 3, 0, true);
	hear_error(&talk, NBD_EINVAL);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		hear_error(&talk, NBD_EINVAL);
	assert_int_equal(talk.at, talk.answer_len);
	talk_end(&talk);
	tear_down(rig);
}

static void what_cannot_be_read_is_an_error(void **state)
{
	static const char *const both[] = {NBD_BITMAP_PREFIX "b0",
					   NBD_BITMAP_PREFIX "bad", NULL};
	struct rig *rig = set_up(1);
	struct talk talk;

	(void)state;
	add_bitmap(rig, "bad");
	talk_start(&talk);
	say_mode(&talk, false);
	say_meta(&talk, NBD_OPT_SET_META_CONTEXT, both);
	say_go(&talk);
	say_status(&talk, 0, 0, DISK_BYTES);
	converse(&talk, &rig->export);

	hear_ack(&talk);
	hear_ack(&talk);
	hear_ack(&talk);
	hear_error(&talk, NBD_EIO);
	assert_int_equal(talk.at, talk.answer_len);
	talk_end(&talk);
	tear_down(rig);
}

/* ---- the contract ---- */

static void a_format_without_bitmaps_says_so(void **state)
{
	struct image *img = new_image(format_find("raw"), DISK_BYTES);
	struct image_bitmap *bitmap;
	struct error err = {0};

	(void)state;
	assert_int_equal(image_bitmap_open(&bitmap, img, "b0", &err), -ENOTSUP);
	assert_non_null(strstr(err.message, "'b0'"));
	assert_non_null(strstr(err.message, "'raw'"));
	image_close(img);
}

static void a_missing_bitmap_is_not_found(void **state)
{
	struct image *img = new_image(bitmap_driver(), DISK_BYTES);
	struct image_bitmap *bitmap;
	struct error err = {0};

	(void)state;
	assert_int_equal(image_bitmap_open(&bitmap, img, "none", &err),
			 -ENOENT);
	assert_string_equal(err.message, "Bitmap 'none' is not found");
	assert_int_equal(image_bitmap_open(&bitmap, img, "broken", &err), -EIO);
	image_close(img);
}

/* It is of a lower and shorter layer: beyond that nothing is known. */
static void a_layer_below_may_have_it(void **state)
{
	struct image *top = new_image(format_find("raw"), DISK_BYTES);
	struct image_bitmap *bitmap;
	struct bitmap_run run;

	(void)state;
	image_set_backing(top, new_image(bitmap_driver(), 4 * GRANULE));
	assert_int_equal(image_bitmap_open(&bitmap, top, "b0", NULL), 0);
	assert_int_equal(
		image_bitmap_run(bitmap, 2 * GRANULE, DISK_BYTES / 2, &run), 0);
	assert_true(run.len == GRANULE && !run.set);
	assert_int_equal(
		image_bitmap_run(bitmap, 4 * GRANULE, DISK_BYTES / 2, &run), 0);
	assert_true(run.len == DISK_BYTES / 2 && run.set);
	image_bitmap_close(bitmap);
	image_bitmap_close(NULL);
	image_close(top);
}

static void snapshots_are_the_drivers(void **state)
{
	struct image *plain = new_image(format_find("raw"), DISK_BYTES);
	struct image *img = new_image(bitmap_driver(), DISK_BYTES);
	struct error err = {0};

	(void)state;
	assert_int_equal(image_show_snapshot(plain, "1", NULL, &err), -ENOTSUP);
	assert_non_null(strstr(err.message, "'raw'"));
	assert_int_equal(image_show_snapshot(img, "2", NULL, &err), -ENOENT);
	assert_int_equal(image_show_snapshot(img, "1", "n", &err), 0);
	assert_string_equal(bitmap_driver_shown()[0], "1");
	assert_string_equal(bitmap_driver_shown()[1], "n");
	image_close(img);
	image_close(plain);
}

static void sets_hold_each_number_once(void **state)
{
	static const unsigned numbers[] = {0, 1, 63, 64, 65, 640, 1023};
	struct nbd_context_set set = {0};
	unsigned at = 0, number;

	(void)state;
	assert_int_equal(nbd_context_next(&set, 0), NBD_CONTEXTS_MAX);
	for (unsigned i = 7; i-- > 0;) {
		assert_true(nbd_context_add(&set, numbers[i]));
		assert_false(nbd_context_add(&set, numbers[i]));
	}
	assert_int_equal(set.count, 7);
	for (unsigned i = 0; i < 7; i++) {
		at = nbd_context_next(&set, at);
		assert_int_equal(at++, numbers[i]);
	}
	assert_false(nbd_context_from_id(0, &number));
	assert_false(nbd_context_from_id(NBD_CONTEXTS_MAX + 1, &number));
	assert_true(nbd_context_from_id(nbd_context_id(1023), &number));
	assert_int_equal(number, 1023);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_and_namespaces_are_listed),
		cmocka_unit_test(only_whole_names_are_selected),
		cmocka_unit_test(status_in_structured_replies),
		cmocka_unit_test(status_in_extended_replies),
		cmocka_unit_test(a_fragmented_bitmap_comes_in_pieces),
		cmocka_unit_test(many_bitmaps_at_once),
		cmocka_unit_test(a_filter_takes_what_was_selected),
		cmocka_unit_test(what_cannot_be_read_is_an_error),
		cmocka_unit_test(a_format_without_bitmaps_says_so),
		cmocka_unit_test(a_missing_bitmap_is_not_found),
		cmocka_unit_test(a_layer_below_may_have_it),
		cmocka_unit_test(snapshots_are_the_drivers),
		cmocka_unit_test(sets_hold_each_number_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
