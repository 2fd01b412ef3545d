/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The storage in exports of NBD servers, when a server goes at the worst
 * moment: while a flush is asked for, and with answers on their way; or never
 * answers. The server is a thread here, which says what a test needs and no
 * more.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/interrupt.h"
#include "block/notice.h"
#include "block/storage/file.h"
#include "block/storage/nbd-address.h"
#include "block/storage/nbd-private.h"
#include "block/storage/nbd.h"
#include "nbd-server/wire.h"

#define SIZE	   (1u << 20)
#define PIECE	   512u
#define PIECES	   16
#define OLD_MAGIC  UINT64_C(0x00420281861253)
#define GREETING   152
#define CLIENT_MAX 8

static char folder[] = "/tmp/platter-gone-XXXXXX";

/* A server of the oldest kind: it greets, and there is no handshake. */
struct peer {
	int listen_fd;
	char path[sizeof(folder) + 2];
	pthread_t thread;
	uint16_t flags;
	/* Each client has a thread of its own, which runs this. */
	void (*serve)(struct peer *peer, int fd, unsigned number);
	pthread_t clients[CLIENT_MAX];
	int fds[CLIENT_MAX];
	unsigned count;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	bool is_ready; /* for what the test does next */
};

struct client {
	struct peer *peer;
	int fd;
	unsigned number;
};

static void say(int fd, const void *data, size_t len)
{
	assert_int_equal(send(fd, data, len, MSG_NOSIGNAL), len);
}

static void greet(const struct peer *peer, int fd)
{
	uint8_t greeting[GREETING] = {0};
	be64_t words[3] = {be64_make(NBD_MAGIC), be64_make(OLD_MAGIC),
			   be64_make(SIZE)};
	be32_t flags = be32_make(peer->flags);

	memcpy(greeting, words, sizeof(words));
	memcpy(greeting + sizeof(words), &flags, sizeof(flags));
	say(fd, greeting, sizeof(greeting));
}

/* What is read may be of any content. */
static void reply(int fd, be64_t cookie, size_t data_len)
{
	struct {
		struct nbd_simple_reply head;
		uint8_t data[PIECE];
	} answer = {.head = {.magic = be32_make(NBD_SIMPLE_REPLY_MAGIC),
			     .cookie = cookie}};

	assert_true(data_len <= PIECE);
	say(fd, &answer, sizeof(answer.head) + data_len);
}

static void *serve_client(void *opaque)
{
	struct client client = *(struct client *)opaque;

	free(opaque);
	greet(client.peer, client.fd);
	client.peer->serve(client.peer, client.fd, client.number);
	shutdown(client.fd, SHUT_RDWR);
	return NULL;
}

static void *accept_all(void *opaque)
{
	struct peer *peer = opaque;
	int fd;

	while ((fd = accept(peer->listen_fd, NULL, NULL)) >= 0) {
		struct client *client = malloc(sizeof(*client));

		assert_true(client && peer->count < CLIENT_MAX);
		*client = (struct client){peer, fd, peer->count};
		peer->fds[peer->count] = fd;
		assert_int_equal(pthread_create(&peer->clients[peer->count++],
						NULL, serve_client, client),
				 0);
	}
	return NULL;
}

static struct storage *start(struct peer *peer)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	struct nbd_address address = {0};
	struct storage *s = NULL;
	struct error err = {0};

	snprintf(peer->path, sizeof(peer->path), "%s/s", folder);
	snprintf(name.sun_path, sizeof(name.sun_path), "%s", peer->path);
	pthread_mutex_init(&peer->mutex, NULL);
	pthread_cond_init(&peer->changed, NULL);
	peer->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(
		bind(peer->listen_fd, (struct sockaddr *)&name, sizeof(name)),
		0);
	assert_int_equal(listen(peer->listen_fd, CLIENT_MAX), 0);
	assert_int_equal(pthread_create(&peer->thread, NULL, accept_all, peer),
			 0);
	address.socket = strdup(peer->path);
	assert_int_equal(nbd_address_finish(&address, NULL), 0);
	if (storage_nbd_open(&s, &address, FILE_OPEN_WRITE, &err) != 0)
		fail_msg("%s", err.message);
	nbd_address_release(&address);
	return s;
}

static void stop(struct peer *peer, struct storage *s)
{
	storage_close(s);
	shutdown(peer->listen_fd, SHUT_RDWR);
	pthread_join(peer->thread, NULL);
	close(peer->listen_fd);
	for (unsigned i = 0; i < peer->count; i++) {
		shutdown(peer->fds[i], SHUT_RDWR);
		pthread_join(peer->clients[i], NULL);
		close(peer->fds[i]);
	}
	unlink(peer->path);
}

/* The server's thread says, and the test waits for it. */
static void note_ready(struct peer *peer)
{
	pthread_mutex_lock(&peer->mutex);
	peer->is_ready = true;
	pthread_cond_signal(&peer->changed);
	pthread_mutex_unlock(&peer->mutex);
}

static void await_ready(struct peer *peer)
{
	pthread_mutex_lock(&peer->mutex);
	while (!peer->is_ready)
		pthread_cond_wait(&peer->changed, &peer->mutex);
	pthread_mutex_unlock(&peer->mutex);
}

/* ---- a server that starts anew ---- */

/*
 * The first connection is to a server that hangs in its first read and is gone
 * when it is asked to flush; who connects after that meets its successor, which
 * knows nothing of what was written before.
 */
static void hang_and_start_anew(struct peer *peer, int fd, unsigned number)
{
	struct nbd_compact_request request;
	uint8_t data[PIECE];

	while (recv(fd, &request, sizeof(request), MSG_WAITALL) ==
	       sizeof(request)) {
		uint16_t type = be16_get(request.type);

		if (type == NBD_CMD_DISC)
			return;
		if (type == NBD_CMD_WRITE)
			assert_int_equal(
				recv(fd, data, sizeof(data), MSG_WAITALL),
				sizeof(data));
		if (type == NBD_CMD_FLUSH && !number)
			return;
		if (type == NBD_CMD_READ && !number)
			note_ready(peer);
		else
			reply(fd, request.cookie,
			      type == NBD_CMD_READ ? PIECE : 0);
	}
}

static void *read_in_vain(void *opaque)
{
	uint8_t buf[PIECE];

	assert_int_equal(storage_read(opaque, buf, sizeof(buf), 0), -EIO);
	return NULL;
}

/* The write was answered by a server whose flush never was. */
static void a_flush_is_for_the_server_that_took_the_writes(void **state)
{
	struct peer peer = {
		.flags = NBD_TFLAG_HAS_FLAGS | NBD_TFLAG_SEND_FLUSH |
			 NBD_TFLAG_CAN_MULTI_CONN,
		.serve = hang_and_start_anew,
	};
	struct storage *s = start(&peer);
	uint8_t buf[PIECE] = {1};
	pthread_t reader;

	(void)state;
	assert_int_equal(storage_write(s, buf, sizeof(buf), 0), 0);
	assert_int_equal(pthread_create(&reader, NULL, read_in_vain, s), 0);
	await_ready(&peer);
	assert_int_equal(storage_sync(s), -EIO);
	assert_int_equal(pthread_join(reader, NULL), 0);
	assert_int_equal(storage_sync(s), -EIO);
	stop(&peer, s);
}

/* ---- a server that never answers ---- */

static char noticed[256];

static void take_notice(const char *text)
{
	snprintf(noticed, sizeof(noticed), "%s", text);
}

static void answer_nothing(struct peer *peer, int fd, unsigned number)
{
	uint8_t byte;

	(void)peer;
	(void)number;
	while (recv(fd, &byte, 1, 0) > 0)
		;
}

/* A flush has ten times as long as the address says; the user is told so. */
static void what_is_told_is_how_long_it_was(void **state)
{
	struct peer peer = {
		.flags = NBD_TFLAG_HAS_FLAGS | NBD_TFLAG_SEND_FLUSH,
		.serve = answer_nothing,
	};
	struct storage *s = start(&peer);

	(void)state;
	((struct nbd *)s)->connections[0]->timeout_ms = 100;
	notice_set(take_notice);
	assert_int_equal(storage_sync(s), -ETIMEDOUT);
	notice_set(NULL);
	assert_non_null(strstr(noticed, "silent for 1 seconds"));
	assert_non_null(strstr(noticed, "a flush has no answer"));
	stop(&peer, s);
}

/* ---- a stop while answers arrive ---- */

/* All answers are there before anything is asked. */
static void answer_beforehand(struct peer *peer, int fd, unsigned number)
{
	uint8_t byte;

	(void)number;
	for (uint64_t cookie = 1; cookie <= PIECES; cookie++)
		reply(fd, be64_make(cookie), PIECE);
	note_ready(peer);
	while (recv(fd, &byte, 1, 0) > 0)
		;
}

/* It is of the process and for good, so it comes last. */
static void a_stop_among_answers_is_no_more_than_an_error(void **state)
{
	struct peer peer = {
		.flags = NBD_TFLAG_HAS_FLAGS,
		.serve = answer_beforehand,
	};
	struct storage *s = start(&peer);
	uint8_t buf[2 * PIECES][PIECE];
	struct iovec iov[PIECES];

	(void)state;
	/* Apart in memory, so that each is a command of its own. */
	for (int i = 0; i < PIECES; i++)
		iov[i] = (struct iovec){buf[2 * i], PIECE};
	await_ready(&peer);
	interrupt_all();
	storage_readv(s, iov, PIECES, 0);
	assert_int_equal(storage_readv(s, iov, PIECES, 0), -EIO);
	stop(&peer, s);
}

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	(void)state;
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_flush_is_for_the_server_that_took_the_writes),
		cmocka_unit_test(what_is_told_is_how_long_it_was),
		cmocka_unit_test(a_stop_among_answers_is_no_more_than_an_error),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
