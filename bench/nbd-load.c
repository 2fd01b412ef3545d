/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Load for an NBD server, and what it got done:
 *
 *	nbd-load SOCKET CONNECTIONS DEPTH BYTES read|write SECONDS
 *
 * Each connection is a thread that keeps DEPTH requests of BYTES under way at
 * random places. It sends all it may in one call and takes all there is in one,
 * so that the server has batches, and the client costs little. Prints JSON:
 * requests, seconds, and the client's CPU time.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "nbd-server/wire.h"

#define INPUT_BYTES	(1024u * 1024)
#define CONNECTIONS_MAX 64u
#define DEPTH_MAX	256u

struct load {
	const char *path;
	unsigned connections, depth;
	uint32_t bytes;
	bool writes;
	double seconds;
	atomic_bool stop;
};

struct connection {
	struct load *load;
	pthread_t thread;
	int fd;
	uint64_t size_bytes, random, done;
	unsigned in_flight;
	uint64_t skip; /* bytes of the reply at hand that are to come */
	uint8_t *input, *output;
	size_t input_len;
};

static void die(const char *what)
{
	fprintf(stderr, "nbd-load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void put(int fd, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;

	while (len) {
		ssize_t done = send(fd, at, len, MSG_NOSIGNAL);

		if (done <= 0)
			die("send");
		at += done;
		len -= (size_t)done;
	}
}

static void get(int fd, void *bytes, size_t len)
{
	if (recv(fd, bytes, len, MSG_WAITALL) != (ssize_t)len)
		die("handshake");
}

/* The default export, by the oldest of options: every server has it. */
static void shake_hands(struct connection *c)
{
	struct nbd_greeting greeting;
	struct nbd_export_reply reply;
	struct {
		be32_t flags;
		struct nbd_option_header head;
	} said = {
		.flags =
			be32_make(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES),
		.head = {.magic = be64_make(NBD_OPTION_MAGIC),
			 .option = be32_make(NBD_OPT_EXPORT_NAME)},
	};

	get(c->fd, &greeting, sizeof(greeting));
	put(c->fd, &said, sizeof(said));
	get(c->fd, &reply, sizeof(reply));
	c->size_bytes = be64_get(reply.size_bytes);
}

static void open_connection(struct connection *c)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s",
		 c->load->path);
	c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (c->fd < 0 ||
	    connect(c->fd, (struct sockaddr *)&address, sizeof(address)))
		die(c->load->path);
	shake_hands(c);
	c->input = malloc(INPUT_BYTES);
	c->output = calloc(c->load->depth,
			   sizeof(struct nbd_compact_request) + c->load->bytes);
	if (!c->input || !c->output)
		die("memory");
}

static uint64_t next_random(struct connection *c)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	return c->random ^= c->random << 17;
}

static void ask(struct connection *c)
{
	const struct load *load = c->load;
	size_t len = 0;

	while (c->in_flight < load->depth) {
		uint64_t place = next_random(c) % (c->size_bytes / load->bytes);
		struct nbd_compact_request request = {
			.magic = be32_make(NBD_REQUEST_MAGIC),
			.type = be16_make(load->writes ? NBD_CMD_WRITE
						       : NBD_CMD_READ),
			.offset = be64_make(place * load->bytes),
			.len = be32_make(load->bytes),
		};

		memcpy(c->output + len, &request, sizeof(request));
		len += sizeof(request) + (load->writes ? load->bytes : 0);
		c->in_flight++;
	}
	put(c->fd, c->output, len);
}

/* Replies in the input, the last of them perhaps in part. */
static void count_replies(struct connection *c)
{
	size_t at = 0;

	while (at < c->input_len) {
		struct nbd_simple_reply reply;
		size_t rest = c->input_len - at;

		if (c->skip) {
			size_t step = c->skip < rest ? c->skip : rest;

			c->skip -= step;
			at += step;
			continue;
		}
		if (rest < sizeof(reply))
			break;
		memcpy(&reply, c->input + at, sizeof(reply));
		if (be32_get(reply.magic) != NBD_SIMPLE_REPLY_MAGIC ||
		    be32_get(reply.error))
			die("a reply that is none");
		at += sizeof(reply);
		c->skip = c->load->writes ? 0 : c->load->bytes;
		c->in_flight--;
		c->done++;
	}
	memmove(c->input, c->input + at, c->input_len - at);
	c->input_len -= at;
}

static void *run_connection(void *opaque)
{
	const struct nbd_compact_request leave = {
		.magic = be32_make(NBD_REQUEST_MAGIC),
		.type = be16_make(NBD_CMD_DISC),
	};
	struct connection *c = opaque;

	for (;;) {
		ssize_t got;

		if (!atomic_load(&c->load->stop))
			ask(c);
		else if (!c->in_flight)
			break;
		got = recv(c->fd, c->input + c->input_len,
			   INPUT_BYTES - c->input_len, 0);
		if (got <= 0)
			die("recv");
		c->input_len += (size_t)got;
		count_replies(c);
	}
	put(c->fd, &leave, sizeof(leave));
	return NULL;
}

static double cpu_seconds(void)
{
	struct rusage use;

	getrusage(RUSAGE_SELF, &use);
	return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
	       (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

static void run(struct load *load)
{
	static struct connection all[CONNECTIONS_MAX];
	struct timespec pause = {
		.tv_sec = (time_t)load->seconds,
		.tv_nsec =
			(long)((load->seconds - (time_t)load->seconds) * 1e9)};
	uint64_t done = 0;
	double start;

	for (unsigned i = 0; i < load->connections; i++) {
		all[i].load = load;
		all[i].random = 0x9e3779b97f4a7c15ull * (i + 1);
		open_connection(&all[i]);
	}
	start = now();
	for (unsigned i = 0; i < load->connections; i++)
		if (pthread_create(&all[i].thread, NULL, run_connection,
				   &all[i]))
			die("thread");
	nanosleep(&pause, NULL);
	atomic_store(&load->stop, true);
	for (unsigned i = 0; i < load->connections; i++) {
		pthread_join(all[i].thread, NULL);
		done += all[i].done;
	}
	printf("{\"requests\": %llu, \"seconds\": %.4f, \"cpu\": %.4f}\n",
	       (unsigned long long)done, now() - start, cpu_seconds());
}

static unsigned number(const char *text, unsigned max)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (*end || !value || value > max) {
		fprintf(stderr, "nbd-load: '%s' is not from 1 to %u\n", text,
			max);
		exit(2);
	}
	return (unsigned)value;
}

int main(int argc, char **argv)
{
	struct load load = {0};

	if (argc != 7 ||
	    (strcmp(argv[5], "read") && strcmp(argv[5], "write"))) {
		fprintf(stderr, "usage: nbd-load SOCKET CONNECTIONS DEPTH "
				"BYTES read|write SECONDS\n");
		return 2;
	}
	load.path = argv[1];
	load.connections = number(argv[2], CONNECTIONS_MAX);
	load.depth = number(argv[3], DEPTH_MAX);
	load.bytes = number(argv[4], NBD_PAYLOAD_MAX);
	load.writes = !strcmp(argv[5], "write");
	load.seconds = number(argv[6], 3600);
	run(&load);
	return 0;
}
