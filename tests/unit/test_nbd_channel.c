/* SPDX-License-Identifier: BSD-3-Clause */
/* Clients that come, go, and do not move. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/clock.h"
#include "nbd-server/channel.h"

/* More than a socket keeps. */
#define MUCH	   (8u * 1024 * 1024)
#define SHORT_MS   20
#define FOREVER_MS (3600u * 1000)

struct pair {
	struct channel channel;
	int peer;
};

static struct pair new_pair(unsigned stall_ms)
{
	struct pair pair;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	channel_init(&pair.channel, fds[0], stall_ms);
	pair.peer = fds[1];
	return pair;
}

static void close_pair(struct pair *pair)
{
	channel_close(&pair->channel);
	if (pair->peer >= 0)
		close(pair->peer);
}

static void whole_transfers(void **state)
{
	struct pair pair = new_pair(FOREVER_MS);
	uint8_t buf[8] = {0};

	(void)state;
	assert_int_equal(channel_write(&pair.channel, "12345678", 8), 0);
	assert_int_equal(recv(pair.peer, buf, 8, MSG_WAITALL), 8);
	assert_memory_equal(buf, "12345678", 8);
	assert_int_equal(send(pair.peer, "abcdef", 6, 0), 6);
	assert_int_equal(channel_read(&pair.channel, buf, 4), 0);
	assert_memory_equal(buf, "abcd", 4);
	assert_int_equal(channel_read_some(&pair.channel, buf, 8), 2);
	close_pair(&pair);
}

static void the_end_in_the_midst_is_an_error(void **state)
{
	struct pair pair = new_pair(FOREVER_MS);
	uint8_t buf[8];

	(void)state;
	assert_int_equal(send(pair.peer, "abc", 3, 0), 3);
	close(pair.peer);
	pair.peer = -1;
	assert_int_equal(channel_read(&pair.channel, buf, 8), -ECONNRESET);
	assert_int_equal(channel_write(&pair.channel, "x", 1), -EPIPE);
	close_pair(&pair);
}

static void silence_ends_with_the_deadline(void **state)
{
	struct pair pair = new_pair(FOREVER_MS);
	uint8_t buf[8];

	(void)state;
	pair.channel.deadline_ms = clock_now_ms() + SHORT_MS;
	assert_int_equal(channel_read(&pair.channel, buf, 8), -ETIMEDOUT);
	close_pair(&pair);
}

/* In a handshake it is the deadline that counts, for both directions. */
static void not_reading_ends_with_the_deadline(void **state)
{
	struct pair pair = new_pair(FOREVER_MS);
	uint8_t *much = calloc(1, MUCH);

	(void)state;
	assert_non_null(much);
	pair.channel.deadline_ms = clock_now_ms() + SHORT_MS;
	assert_int_equal(channel_write(&pair.channel, much, MUCH), -ETIMEDOUT);
	close_pair(&pair);
	free(much);
}

static void not_reading_ends_with_the_stall(void **state)
{
	struct pair pair = new_pair(SHORT_MS);
	uint8_t *much = calloc(1, MUCH);

	(void)state;
	assert_non_null(much);
	assert_int_equal(channel_write(&pair.channel, much, MUCH), -ETIMEDOUT);
	close_pair(&pair);
	free(much);
}

/* The sender hears of it early, and can go on with what is left. */
static void a_pause_can_be_used(void **state)
{
	struct pair pair = new_pair(FOREVER_MS);
	uint8_t *much = malloc(MUCH), *got = malloc(MUCH);
	struct iovec iov[2] = {{much, MUCH / 2}, {much + MUCH / 2, MUCH / 2}};
	struct iovec *at = iov;
	int count = 2, ret = -EAGAIN;
	size_t got_len = 0;

	(void)state;
	assert_true(much && got);
	for (size_t i = 0; i < MUCH; i++)
		much[i] = (uint8_t)(i / 4096);
	while (ret == -EAGAIN) {
		ssize_t more;

		ret = channel_send(&pair.channel, &at, &count);
		while ((more = recv(pair.peer, got + got_len, MUCH - got_len,
				    MSG_DONTWAIT)) > 0)
			got_len += (size_t)more;
	}
	assert_int_equal(ret, 0);
	assert_int_equal(got_len, MUCH);
	assert_memory_equal(got, much, MUCH);
	close_pair(&pair);
	free(much);
	free(got);
}

static void *end_input(void *opaque)
{
	channel_end_input(opaque);
	return NULL;
}

static void another_thread_can_end_the_input(void **state)
{
	struct pair pair = new_pair(FOREVER_MS);
	pthread_t thread;
	uint8_t buf[8];

	(void)state;
	assert_int_equal(
		pthread_create(&thread, NULL, end_input, &pair.channel), 0);
	assert_int_equal(channel_read_some(&pair.channel, buf, 8), 0);
	pthread_join(thread, NULL);
	/* What is to be said still can be. */
	assert_int_equal(channel_write(&pair.channel, "x", 1), 0);
	close_pair(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_transfers),
		cmocka_unit_test(the_end_in_the_midst_is_an_error),
		cmocka_unit_test(silence_ends_with_the_deadline),
		cmocka_unit_test(not_reading_ends_with_the_deadline),
		cmocka_unit_test(not_reading_ends_with_the_stall),
		cmocka_unit_test(a_pause_can_be_used),
		cmocka_unit_test(another_thread_can_end_the_input),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
