/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The storage in exports of NBD servers, in process: many threads at once, what
 * is remembered of holes, and a server that is silent. nbdkit serves.
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
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "block/error.h"
#include "block/storage/file.h"
#include "block/storage/nbd-address.h"
#include "block/storage/nbd-connection.h"
#include "block/storage/nbd.h"

#define MIB	     (1u << 20)
#define THREADS	     8
#define ROUNDS	     300
#define REGION	     MIB
#define PIECE_MAX    70000
#define WAIT_STEP_US 10000
#define WAIT_STEPS   3000

static char folder[] = "/tmp/platter-nbd-XXXXXX";
static char socket_path[sizeof(folder) + 2];
static pid_t server;

static int make_folder(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(socket_path, sizeof(socket_path), "%s/s", folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	return rmdir(folder);
}

static struct nbd_address the_address(void)
{
	struct nbd_address address = {0};

	address.socket = strdup(socket_path);
	assert_int_equal(nbd_address_finish(&address, NULL), 0);
	return address;
}

/* A failure to connect is one of a server that does not listen yet. */
static struct storage *connected(void)
{
	struct nbd_address address = the_address();
	struct storage *s = NULL;
	struct error err = {0};

	for (int i = 0; i < WAIT_STEPS && !s; i++) {
		if (storage_nbd_open(&s, &address, FILE_OPEN_WRITE, &err) == 0)
			break;
		assert_int_equal(waitpid(server, NULL, WNOHANG), 0);
		usleep(WAIT_STEP_US);
	}
	if (!s)
		fail_msg("%s", err.message);
	nbd_address_release(&address);
	return s;
}

/* It ends with the test, however that ends. `filter` may be NULL. */
static struct storage *served(const char *filter, const char *setting)
{
	server = fork();
	assert_true(server >= 0);
	if (server > 0)
		return connected();
	if (filter)
		execlp("nbdkit", "nbdkit", "--exit-with-parent", "-f", "-U",
		       socket_path, filter, "memory", "8M", setting,
		       (char *)NULL);
	else
		execlp("nbdkit", "nbdkit", "--exit-with-parent", "-f", "-U",
		       socket_path, "memory", "8M", (char *)NULL);
	_exit(127);
}

static void stop(struct storage *s)
{
	storage_close(s);
	assert_int_equal(kill(server, SIGTERM), 0);
	assert_int_equal(waitpid(server, NULL, 0), server);
	unlink(socket_path);
}

/* ---- threads ---- */

struct worker {
	pthread_t thread;
	struct storage *storage;
	uint64_t start; /* of its own region */
	unsigned seed;
	int ret;
	uint8_t model[REGION];
};

/* The vector's parts do not touch, so that they make several commands. */
static int write_parts(struct worker *w, uint8_t *buf, size_t len, uint64_t at)
{
	size_t half = len / 2;
	struct iovec iov[] = {
		{.iov_base = buf + half, .iov_len = len - half},
		{.iov_base = buf, .iov_len = half},
	};

	memset(buf, (int)(w->seed >> 8), len);
	memset(buf, (int)(w->seed >> 16), half);
	memcpy(w->model + at, buf + half, len - half);
	memcpy(w->model + at + len - half, buf, half);
	return storage_writev(w->storage, iov, 2, w->start + at);
}

static int one_round(struct worker *w, uint8_t *buf)
{
	size_t len = 1 + (size_t)rand_r(&w->seed) % PIECE_MAX;
	uint64_t at = (uint64_t)rand_r(&w->seed) % (REGION - len);
	int ret;

	switch (rand_r(&w->seed) % 4) {
	case 0:
		return write_parts(w, buf, len, at);
	case 1:
		memset(w->model + at, 0, len);
		return storage_zero(w->storage, w->start + at, len,
				    w->seed & 4 ? STORAGE_ZERO_MAY_UNMAP : 0);
	case 2:
		return storage_sync(w->storage);
	default:
		ret = storage_read(w->storage, buf, len, w->start + at);
		return ret ? ret : memcmp(buf, w->model + at, len);
	}
}

static void *work(void *opaque)
{
	struct worker *w = opaque;
	uint8_t *buf = malloc(PIECE_MAX);

	for (int i = 0; i < ROUNDS && buf && !w->ret; i++)
		w->ret = one_round(w, buf);
	free(buf);
	return NULL;
}

static void check_threads(struct storage *s)
{
	struct worker *workers = calloc(THREADS, sizeof(*workers));

	assert_non_null(workers);
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i].storage = s;
		workers[i].start = (uint64_t)i * REGION;
		workers[i].seed = i + 1;
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work,
						&workers[i]),
				 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(workers[i].ret, 0);
	free(workers);
	stop(s);
}

static void threads_share_several_connections(void **state)
{
	(void)state;
	check_threads(served(NULL, NULL));
}

static void threads_share_one_connection(void **state)
{
	(void)state;
	check_threads(served("--filter=multi-conn", "multi-conn-mode=disable"));
}

/* None waits for ever, and nothing works any more. */
static void threads_see_that_the_server_is_gone(void **state)
{
	struct storage *s = served(NULL, NULL);
	uint8_t byte;

	(void)state;
	assert_int_equal(storage_write(s, "x", 1, 0), 0);
	assert_int_equal(kill(server, SIGKILL), 0);
	assert_int_equal(waitpid(server, NULL, 0), server);
	unlink(socket_path);
	assert_int_equal(storage_read(s, &byte, 1, 0), -EIO);
	assert_int_equal(storage_write(s, "x", 1, 0), -EIO);
	assert_int_equal(storage_sync(s), -EIO);
	storage_close(s);
	/* Nor if another one comes in its place. */
	s = served(NULL, NULL);
	assert_int_equal(storage_sync(s), 0);
	stop(s);
}

/* ---- holes ---- */

static struct storage_extent extent_at(struct storage *s, uint64_t off)
{
	struct storage_extent extent;

	assert_int_equal(
		storage_extent_at(s, off, storage_size(s) - off, &extent), 0);
	return extent;
}

/* Also where the answer that is remembered goes on, as a walk would. */
static void holes_follow_changes(void **state)
{
	struct storage *s = served(NULL, NULL);
	struct storage_extent extent = extent_at(s, 0);

	(void)state;
	assert_true(extent.hole);
	assert_int_equal(extent.len, 8 * MIB);
	assert_int_equal(storage_write(s, "x", 1, 2 * MIB), 0);
	extent = extent_at(s, 2 * MIB);
	assert_false(extent.hole);
	assert_true(extent.len < MIB);
	assert_int_equal(storage_zero(s, 2 * MIB, MIB, STORAGE_ZERO_MAY_UNMAP),
			 0);
	assert_true(extent_at(s, 2 * MIB).hole);
	assert_int_equal(storage_write(s, "x", 1, 3 * MIB), 0);
	assert_false(extent_at(s, 3 * MIB).hole);
	assert_int_equal(storage_discard(s, 3 * MIB, MIB), 0);
	assert_true(extent_at(s, 3 * MIB).hole);
	stop(s);
}

/* ---- silence ---- */

static void a_silent_server_is_given_up(void **state)
{
	struct nbd_address address = the_address();
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	struct nbd_connection *conn;
	struct nbd_facts facts;
	struct error err = {0};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	/* The kernel takes the connection, and nobody says anything. */
	snprintf(name.sun_path, sizeof(name.sun_path), "%s", socket_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(nbd_connection_open(&conn, &address, 50, &facts, &err),
			 -ETIMEDOUT);
	assert_non_null(strstr(err.message, "did not answer"));
	close(fd);
	unlink(socket_path);
	nbd_address_release(&address);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_share_several_connections),
		cmocka_unit_test(threads_share_one_connection),
		cmocka_unit_test(threads_see_that_the_server_is_gone),
		cmocka_unit_test(holes_follow_changes),
		cmocka_unit_test(a_silent_server_is_given_up),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
