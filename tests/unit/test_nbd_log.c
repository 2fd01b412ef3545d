/* SPDX-License-Identifier: BSD-3-Clause */
/* What is said of clients: who they are, and no more than a log can bear. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nbd-server/log.h"
#include "nbd-server/peer.h"

static unsigned printed;
static char last[4096];
static bool may_print;

static bool take_line(const char *line)
{
	if (!may_print)
		return false;
	printed++;
	snprintf(last, sizeof(last), "%s", line);
	return true;
}

static void start(struct nbd_log *log)
{
	printed = 0;
	may_print = true;
	nbd_log_init(log, take_line);
}

static void lines_name_the_client(void **state)
{
	struct nbd_log log;

	(void)state;
	start(&log);
	nbd_log_client(&log, "pid 7, uid 8", "left %d things", 3);
	assert_string_equal(last, "client pid 7, uid 8: left 3 things");
	nbd_log_release(&log);
	assert_int_equal(printed, 1);
}

/* Seconds begin when the test says so: it does not wait for them. */
static void floods_are_counted(void **state)
{
	const unsigned flood = NBD_LOG_LINES_PER_SECOND + 90;
	struct nbd_log log;

	(void)state;
	start(&log);
	log.second_ms += 3600 * 1000;
	for (unsigned i = 0; i < flood; i++)
		nbd_log_client(&log, "it", "again");
	assert_int_equal(printed, NBD_LOG_LINES_PER_SECOND);
	log.second_ms -= 2 * 3600 * 1000;
	nbd_log_client(&log, "it", "later");
	assert_int_equal(printed, NBD_LOG_LINES_PER_SECOND + 2);
	assert_string_equal(last, "client it: later");
	log.second_ms += 3600 * 1000;
	for (unsigned i = 0; i < NBD_LOG_LINES_PER_SECOND; i++)
		nbd_log_client(&log, "it", "again");
	nbd_log_release(&log);
	assert_string_equal(last, "1 more such lines left out");
}

/* A burst is paid back at the rate of any other log. */
static void bursts_are_paid_back(void **state)
{
	struct nbd_log log;

	(void)state;
	start(&log);
	log.burst = 3 * NBD_LOG_LINES_PER_SECOND;
	log.more[0] = "<";
	log.more[1] = ">";
	log.second_ms += 3600 * 1000;
	for (unsigned i = 0; i < log.burst + 5; i++)
		nbd_log_line(&log, "a line");
	assert_int_equal(printed, log.burst);
	assert_string_equal(last, "a line");
	log.second_ms -= 3600 * 1000 + 1000;
	nbd_log_line(&log, "a line");
	assert_int_equal(printed, log.burst + 2);
	log.second_ms += 3600 * 1000;
	for (unsigned i = 0; i < log.burst; i++)
		nbd_log_line(&log, "a line");
	assert_int_equal(printed, log.burst + 1 + NBD_LOG_LINES_PER_SECOND);
	nbd_log_release(&log);
	assert_string_equal(last, "<21>");
}

static void nobody_waits_for_a_reader(void **state)
{
	struct nbd_log log;

	(void)state;
	start(&log);
	may_print = false;
	for (unsigned i = 0; i < 3; i++)
		nbd_log_client(&log, "it", "again");
	may_print = true;
	nbd_log_release(&log);
	assert_string_equal(last, "3 more such lines left out");
}

static void long_texts_are_cut(void **state)
{
	static char text[3 * sizeof(last)];
	struct nbd_log log;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	start(&log);
	nbd_log_client(&log, "it", "%s", text);
	assert_int_equal(printed, 1);
	assert_in_range(strlen(last), 2048, sizeof(last) - 1);
	nbd_log_release(&log);
}

static void neighbours_are_processes(void **state)
{
	struct nbd_peer peer;
	char expected[64];
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	nbd_peer_describe(&peer, fds[0]);
	snprintf(expected, sizeof(expected), "pid %ld, uid %lu, gid %lu",
		 (long)getpid(), (unsigned long)geteuid(),
		 (unsigned long)getegid());
	assert_string_equal(peer.text, expected);
	assert_true(peer.is_process);
	assert_int_equal(peer.pid, getpid());
	assert_int_equal(peer.uid, geteuid());
	assert_int_equal(peer.gid, getegid());
	close(fds[0]);
	close(fds[1]);
	nbd_peer_describe(&peer, -1);
	assert_string_equal(peer.text, "unknown");
	assert_false(peer.is_process);
}

/* `address` is of this machine, its port 0. */
static void describe_a_host(const struct sockaddr *address, socklen_t len,
			    const char *host)
{
	struct sockaddr_storage own = {0};
	/* Both kinds have the port in the same place. */
	const struct sockaddr_in *as_in = (const struct sockaddr_in *)&own;
	socklen_t own_len = sizeof(own);
	int listening = socket(address->sa_family, SOCK_STREAM, 0);
	int near = socket(address->sa_family, SOCK_STREAM, 0), far;
	struct nbd_peer peer;
	char expected[64];

	assert_int_equal(bind(listening, address, len), 0);
	assert_int_equal(listen(listening, 1), 0);
	assert_int_equal(
		getsockname(listening, (struct sockaddr *)&own, &own_len), 0);
	assert_int_equal(connect(near, (struct sockaddr *)&own, own_len), 0);
	far = accept(listening, NULL, NULL);
	assert_true(far >= 0);
	own_len = sizeof(own);
	assert_int_equal(getsockname(near, (struct sockaddr *)&own, &own_len),
			 0);
	nbd_peer_describe(&peer, far);
	snprintf(expected, sizeof(expected), "%s:%d", host,
		 ntohs(as_in->sin_port));
	assert_string_equal(peer.text, expected);
	close(far);
	close(near);
	close(listening);
}

static void others_are_addresses(void **state)
{
	const struct sockaddr_in v4 = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	(void)state;
	describe_a_host((const struct sockaddr *)&v4, sizeof(v4), "127.0.0.1");
}

static void others_are_long_addresses(void **state)
{
	const struct sockaddr_in6 v6 = {
		.sin6_family = AF_INET6,
		.sin6_addr = IN6ADDR_LOOPBACK_INIT,
	};
	int probe = socket(AF_INET6, SOCK_STREAM, 0);
	bool there = probe >= 0 &&
		     !bind(probe, (const struct sockaddr *)&v6, sizeof(v6));

	(void)state;
	if (probe >= 0)
		close(probe);
	if (!there)
		skip();
	describe_a_host((const struct sockaddr *)&v6, sizeof(v6), "[::1]");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_name_the_client),
		cmocka_unit_test(floods_are_counted),
		cmocka_unit_test(bursts_are_paid_back),
		cmocka_unit_test(nobody_waits_for_a_reader),
		cmocka_unit_test(long_texts_are_cut),
		cmocka_unit_test(neighbours_are_processes),
		cmocka_unit_test(others_are_addresses),
		cmocka_unit_test(others_are_long_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
