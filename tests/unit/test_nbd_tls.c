/* SPDX-License-Identifier: BSD-3-Clause */
/* TLS of one client, with OpenSSL's client at the other end of a socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/clock.h"
#include "block/error.h"
#include "block/library.h"
#include "nbd-server/channel.h"
#include "nbd-server/tls.h"

/* More than a socket keeps. */
#define MUCH	   (8u * 1024 * 1024)
#define SHORT_MS   20
#define FOREVER_MS (3600u * 1000)
#define KEY	   "000102030405060708090a0b0c0d0e0f"

#define CLIENT_FUNCTIONS(X)                \
	X(TLS_client_method)               \
	X(SSL_CTX_new)                     \
	X(SSL_CTX_free)                    \
	X(SSL_CTX_set_psk_client_callback) \
	X(SSL_new)                         \
	X(SSL_free)                        \
	X(SSL_set_fd)                      \
	X(SSL_connect)                     \
	X(SSL_read)

static struct {
#define CLIENT_MEMBER(name) __typeof__(&name) name;
	CLIENT_FUNCTIONS(CLIENT_MEMBER)
} lib;

static void load(void)
{
	static const struct library_symbol symbols[] = {
#define CLIENT_SYMBOL(name) {#name, offsetof(__typeof__(lib), name)},
		CLIENT_FUNCTIONS(CLIENT_SYMBOL)};

	assert_int_equal(library_load(&lib, "libssl.so.3", symbols,
				      sizeof(symbols) / sizeof(symbols[0]),
				      NULL),
			 0);
}

/* ---- the client ---- */

struct client {
	int fd;
	const char *user;
	size_t wanted; /* bytes to read once hands are shaken */
	uint8_t *got;
	pthread_t thread;
};

static const char *client_user; /* one at a time */

static unsigned give_key(SSL *ssl, const char *hint, char *user,
			 unsigned user_max, unsigned char *key,
			 unsigned key_max)
{
	(void)ssl;
	(void)hint;
	(void)key_max;
	snprintf(user, user_max, "%s", client_user);
	for (unsigned char i = 0; i < 16; i++)
		key[i] = i;
	return 16;
}

/* Ends when it has what it wanted, or when the server has closed the socket. */
static void *run_client(void *opaque)
{
	struct client *client = opaque;
	SSL_CTX *ctx = lib.SSL_CTX_new(lib.TLS_client_method());
	SSL *ssl;
	size_t done = 0;

	lib.SSL_CTX_set_psk_client_callback(ctx, give_key);
	ssl = lib.SSL_new(ctx);
	lib.SSL_set_fd(ssl, client->fd);
	if (lib.SSL_connect(ssl) == 1) {
		while (done < client->wanted) {
			int more = lib.SSL_read(ssl, client->got + done,
						(int)(client->wanted - done));

			if (more <= 0)
				break;
			done += (size_t)more;
		}
	}
	client->wanted -= done;
	lib.SSL_free(ssl);
	lib.SSL_CTX_free(ctx);
	return NULL;
}

/* ---- both ends ---- */

struct rig {
	struct channel channel;
	struct client client;
	struct tls_context *tls;
};

static void start(struct rig *rig, const struct tls_authz *authz,
		  unsigned stall_ms)
{
	char path[] = "/tmp/test_nbd_tls.XXXXXX";
	const struct tls_args args = {.psk_file = path, .authz = authz};
	int fds[2], keys = mkstemp(path);

	assert_true(keys >= 0);
	assert_true(dprintf(keys, "alice:" KEY "\nbob:" KEY "\n") > 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	channel_init(&rig->channel, fds[0], stall_ms);
	rig->client.fd = fds[1];
	rig->tls = tls_context_open(&args, NULL);
	assert_non_null(rig->tls);
	close(keys);
	unlink(path);
}

/* The client comes as `user`, and reads `wanted` bytes into `got`. */
static int shake_hands(struct rig *rig, const char *user, uint8_t *got,
		       size_t wanted, struct error *err)
{
	client_user = user;
	rig->client.got = got;
	rig->client.wanted = wanted;
	assert_int_equal(pthread_create(&rig->client.thread, NULL, run_client,
					&rig->client),
			 0);
	return channel_start_tls(&rig->channel, rig->tls, err);
}

static void stop(struct rig *rig)
{
	channel_end(&rig->channel);
	if (rig->client.thread)
		pthread_join(rig->client.thread, NULL);
	channel_close(&rig->channel);
	close(rig->client.fd);
	tls_context_close(rig->tls);
}

static void pieces_of_all_sizes_arrive(void **state)
{
	static const size_t sizes[] = {1,     16383, 16384, 16385, 3,
				       40000, 0,     32768, 7,	   1u << 20};
	struct iovec iov[sizeof(sizes) / sizeof(sizes[0])];
	const int count = sizeof(sizes) / sizeof(sizes[0]);
	uint8_t *sent = malloc(MUCH), *got = calloc(1, MUCH);
	struct rig rig = {0};
	size_t len = 0;

	(void)state;
	assert_true(sent && got);
	for (size_t i = 0; i < MUCH; i++)
		sent[i] = (uint8_t)(i * 7 + i / 251);
	for (int i = 0; i < count; i++) {
		iov[i] = (struct iovec){sent + len, sizes[i]};
		len += sizes[i];
	}
	start(&rig, NULL, FOREVER_MS);
	assert_int_equal(shake_hands(&rig, "alice", got, len, NULL), 0);
	assert_int_equal(channel_writev(&rig.channel, iov, count), 0);
	pthread_join(rig.client.thread, NULL);
	rig.client.thread = 0;
	assert_int_equal(rig.client.wanted, 0);
	assert_memory_equal(got, sent, len);
	stop(&rig);
	free(sent);
	free(got);
}

static void silence_ends_with_the_deadline(void **state)
{
	struct rig rig = {0};
	struct error err = {0};

	(void)state;
	start(&rig, NULL, FOREVER_MS);
	rig.channel.deadline_ms = clock_now_ms() + SHORT_MS;
	assert_int_equal(channel_start_tls(&rig.channel, rig.tls, &err),
			 -ETIMEDOUT);
	assert_string_equal(err.message,
			    "TLS handshake failed: it took too long");
	stop(&rig);
}

/* Options are answered by TLS, still before the deadline. */
static void not_reading_ends_with_the_deadline(void **state)
{
	uint8_t *much = calloc(1, MUCH);
	struct rig rig = {0};

	(void)state;
	assert_non_null(much);
	start(&rig, NULL, FOREVER_MS);
	assert_int_equal(shake_hands(&rig, "alice", NULL, 0, NULL), 0);
	rig.channel.deadline_ms = clock_now_ms() + SHORT_MS;
	assert_int_equal(channel_write(&rig.channel, much, MUCH), -ETIMEDOUT);
	stop(&rig);
	free(much);
}

static void not_reading_ends_with_the_stall(void **state)
{
	uint8_t *much = calloc(1, MUCH);
	struct rig rig = {0};

	(void)state;
	assert_non_null(much);
	start(&rig, NULL, SHORT_MS);
	assert_int_equal(shake_hands(&rig, "alice", NULL, 0, NULL), 0);
	assert_int_equal(channel_write(&rig.channel, much, MUCH), -ETIMEDOUT);
	stop(&rig);
	free(much);
}

/* ---- who may come ---- */

static bool is_let_in(const struct tls_authz *authz, const char *user)
{
	struct rig rig = {0};
	struct error err = {0};
	int ret;

	start(&rig, authz, FOREVER_MS);
	ret = shake_hands(&rig, user, NULL, 0, &err);
	if (ret)
		assert_int_equal(ret, -EACCES);
	stop(&rig);
	return !ret;
}

static void the_first_rule_decides(void **state)
{
	const struct tls_rule rules[] = {
		{.match = "alice", .allow = false},
		{.match = "a*", .glob = true, .allow = true},
		{.match = "*", .allow = true},
	};
	struct tls_authz authz = {.rules = rules, .rule_count = 3};

	(void)state;
	assert_false(is_let_in(&authz, "alice"));
	/* The last one is no pattern, and nobody's name. */
	assert_false(is_let_in(&authz, "bob"));
	authz.otherwise = true;
	assert_false(is_let_in(&authz, "alice"));
	assert_true(is_let_in(&authz, "bob"));
	authz.rules = rules + 1;
	authz.rule_count = 1;
	authz.otherwise = false;
	assert_true(is_let_in(&authz, "alice"));
	assert_false(is_let_in(&authz, "bob"));
}

static void patterns_match_the_whole_name(void **state)
{
	static const struct {
		const char *pattern;
		bool fits;
	} cases[] = {
		{"alice", true},    {"alic", false},	{"alicee", false},
		{"*", true},	    {"", false},	{"?", false},
		{"?????", true},    {"????", false},	{"??????", false},
		{"a*", true},	    {"*e", true},	{"*c", false},
		{"*l*c*", true},    {"*c*l*", false},	{"a*?e", true},
		{"alice*", true},   {"*alice", true},	{"alice?", false},
		{"[a]lice", false}, {"a\\lice", false}, {"***i**", true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct tls_rule rule = {
			.match = cases[i].pattern, .glob = true, .allow = true};
		const struct tls_authz authz = {.rules = &rule,
						.rule_count = 1};

		if (is_let_in(&authz, "alice") != cases[i].fits)
			fail_msg("pattern '%s'", cases[i].pattern);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_of_all_sizes_arrive),
		cmocka_unit_test(silence_ends_with_the_deadline),
		cmocka_unit_test(not_reading_ends_with_the_deadline),
		cmocka_unit_test(not_reading_ends_with_the_stall),
		cmocka_unit_test(the_first_rule_decides),
		cmocka_unit_test(patterns_match_the_whole_name),
	};

	load();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
