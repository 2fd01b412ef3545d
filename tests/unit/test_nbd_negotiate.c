/* SPDX-License-Identifier: BSD-3-Clause */
/* A handshake has an end, whatever the client does or leaves undone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nbd-server/connection.h"

#define SHORT_MS   20
#define FOREVER_MS (3600u * 1000)

struct rig {
	struct nbd_exports exports;
	struct nbd_limits limits;
	atomic_bool stopping;
	struct nbd_connection con;
	int peer;
};

static void set_up(struct rig *rig, unsigned handshake_ms)
{
	int fds[2];

	memset(rig, 0, sizeof(*rig));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	rig->limits = (struct nbd_limits){handshake_ms, FOREVER_MS};
	rig->con.exports = &rig->exports;
	rig->con.limits = &rig->limits;
	rig->con.stopping = &rig->stopping;
	channel_init(&rig->con.channel, fds[0], FOREVER_MS);
	rig->peer = fds[1];
}

static void tear_down(struct rig *rig)
{
	channel_close(&rig->con.channel);
	close(rig->peer);
}

static void say(struct rig *rig, const void *bytes, size_t len)
{
	assert_int_equal(send(rig->peer, bytes, len, 0), len);
}

static void say_option(struct rig *rig, uint32_t code)
{
	struct nbd_option_header head = {
		.magic = be64_make(NBD_OPTION_MAGIC),
		.option = be32_make(code),
	};

	say(rig, &head, sizeof(head));
}

static void silence_from_the_start(void **state)
{
	struct rig rig;

	(void)state;
	set_up(&rig, SHORT_MS);
	assert_int_equal(nbd_negotiate(&rig.con), -ETIMEDOUT);
	tear_down(&rig);
}

static void silence_in_the_midst_of_an_option(void **state)
{
	struct rig rig;

	(void)state;
	set_up(&rig, SHORT_MS);
	say(&rig, "\0\0\0\3", 4);
	say(&rig, "IHAVEOPT\0\0\0", 11);
	assert_int_equal(nbd_negotiate(&rig.con), -ETIMEDOUT);
	tear_down(&rig);
}

/* The deadline is the handshake's, not what comes after it. */
static void leaving_in_good_order(void **state)
{
	struct rig rig;

	(void)state;
	set_up(&rig, FOREVER_MS);
	say(&rig, "\0\0\0\3", 4);
	say_option(&rig, NBD_OPT_LIST);
	say_option(&rig, NBD_OPT_ABORT);
	assert_int_equal(nbd_negotiate(&rig.con), 1);
	assert_int_equal(rig.con.channel.deadline_ms, 0);
	tear_down(&rig);
}

static void a_server_that_stops_says_so(void **state)
{
	struct nbd_greeting greeting;
	struct nbd_option_reply reply;
	struct rig rig;

	(void)state;
	set_up(&rig, FOREVER_MS);
	rig.stopping = true;
	say(&rig, "\0\0\0\3", 4);
	say_option(&rig, NBD_OPT_LIST);
	say_option(&rig, NBD_OPT_ABORT);
	assert_int_equal(nbd_negotiate(&rig.con), 1);
	assert_int_equal(recv(rig.peer, &greeting, sizeof(greeting), 0),
			 sizeof(greeting));
	assert_int_equal(recv(rig.peer, &reply, sizeof(reply), 0),
			 sizeof(reply));
	assert_int_equal(be32_get(reply.type), NBD_REP_ERR_SHUTDOWN);
	tear_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(silence_from_the_start),
		cmocka_unit_test(silence_in_the_midst_of_an_option),
		cmocka_unit_test(leaving_in_good_order),
		cmocka_unit_test(a_server_that_stops_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
