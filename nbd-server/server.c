/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Accepting clients, and their ends. One thread runs this; each client has a
 * thread of its own, which says through `ended` that it is done. Only the
 * thread here frees a client, and only it closes its socket: so stopping never
 * touches a descriptor that has become somebody else's.
 */
#include "nbd-server/server.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/clock.h"
#include "block/error.h"
#include "block/worker-pool.h"

/* More listening sockets than this have no use. */
#define LISTEN_MAX 64u
/* A client's thread does all on its heap; OpenSSL needs some of it. */
#define STACK_BYTES (256u * 1024)
/* After the system had no descriptor or thread for a client. */
#define PAUSE_MS 100

struct client {
	struct client *next;
	struct server *server;
	struct nbd_connection con;
	pthread_t thread;
	atomic_bool ended;
	bool negotiated; /* valid once ended */
};

struct server {
	const struct nbd_server_args *args;
	struct worker_pool *pool;
	struct client *clients;
	unsigned client_count;
	uint64_t accepted; /* clients, ever */
	int ended_fd;	   /* an eventfd */
	atomic_bool stopping;
	bool had_client; /* one that had chosen an export has left */
	bool pause;
};

static void *serve_client(void *opaque)
{
	struct client *client = opaque;
	struct nbd_connection *con = &client->con;
	int ended_fd = client->server->ended_fd;
	int ret;

	nbd_schedule_start(&con->schedule);
	nbd_tell_came(con);
	ret = nbd_negotiate(con);
	client->negotiated = ret == 0;
	if (client->negotiated) {
		nbd_tell_chose(con);
		ret = nbd_transmit(con);
		nbd_export_leave(con->export);
	}
	nbd_tell_left(con, ret);
	/* The peer sees the end now; the descriptor stays ours until freed. */
	channel_end(&con->channel);
	atomic_store(&client->ended, true);
	eventfd_write(ended_fd, 1);
	return NULL;
}

static int start_thread(struct client *client)
{
	pthread_attr_t attr;
	sigset_t all, before;
	int ret;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = pthread_create(&client->thread, &attr, serve_client, client);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return -ret;
}

static void drop_client(struct client *client)
{
	channel_close(&client->con.channel);
	free(client);
}

static void add_client(struct server *server, int fd)
{
	const struct nbd_server_args *args = server->args;
	struct client *client = calloc(1, sizeof(*client));

	if (!client) {
		close(fd);
		return;
	}
	client->server = server;
	client->con.exports = args->exports;
	client->con.pool = server->pool;
	client->con.limits = &args->limits;
	client->con.observer = args->observer;
	client->con.number = ++server->accepted;
	client->con.tls = args->tls;
	client->con.tls_required = args->tls_required;
	client->con.stopping = &server->stopping;
	nbd_peer_describe(&client->con.peer, fd);
	channel_init(&client->con.channel, fd, args->limits.stall_ms);
	if (start_thread(client) < 0) {
		drop_client(client);
		server->pause = true;
		return;
	}
	client->next = server->clients;
	server->clients = client;
	server->client_count++;
}

static void accept_one(struct server *server, int listen_fd)
{
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd >= 0)
		add_client(server, fd);
	else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
		 errno == ENOBUFS)
		server->pause = true;
}

static void reap_clients(struct server *server)
{
	struct client **at = &server->clients;
	eventfd_t count;

	eventfd_read(server->ended_fd, &count);
	while (*at) {
		struct client *client = *at;

		if (!atomic_load(&client->ended)) {
			at = &client->next;
			continue;
		}
		*at = client->next;
		pthread_join(client->thread, NULL);
		server->client_count--;
		server->had_client |= client->negotiated;
		drop_client(client);
	}
}

/* ---- the loop ---- */

static bool is_over(const struct server *server)
{
	return !server->args->persistent && server->had_client &&
	       !server->client_count;
}

/* Sleeps until something happens. True: it is time to stop. */
static bool turn(struct server *server)
{
	const struct nbd_server_args *args = server->args;
	struct pollfd fds[2 + LISTEN_MAX];
	bool full = server->client_count >= args->max_clients;
	size_t count = 2;

	fds[0] = (struct pollfd){.fd = args->wake_fd, .events = POLLIN};
	fds[1] = (struct pollfd){.fd = server->ended_fd, .events = POLLIN};
	for (size_t i = 0; i < args->listen_count; i++)
		if (!full && !server->pause)
			fds[count++] = (struct pollfd){
				.fd = args->listen_fds[i], .events = POLLIN};
	if (poll(fds, count, server->pause ? PAUSE_MS : -1) < 0)
		return false;
	server->pause = false;
	if (fds[1].revents)
		reap_clients(server);
	if (fds[0].revents && args->wake(args->opaque))
		return true;
	for (size_t i = 2; i < count; i++)
		if (fds[i].revents && server->client_count < args->max_clients)
			accept_one(server, fds[i].fd);
	return is_over(server);
}

/* ---- stopping ---- */

/* What has arrived is answered; those who do not take it are cut off. */
static void stop_clients(struct server *server)
{
	struct pollfd fd = {.fd = server->ended_fd, .events = POLLIN};
	int64_t until = clock_now_ms() + server->args->stop_ms;
	struct client *client;

	atomic_store(&server->stopping, true);
	for (client = server->clients; client; client = client->next)
		channel_end_input(&client->con.channel);
	while (server->client_count) {
		int64_t left = until - clock_now_ms();

		if (left <= 0)
			for (client = server->clients; client;
			     client = client->next)
				shutdown(client->con.channel.fd, SHUT_RDWR);
		poll(&fd, 1, left > 0 ? (int)left : -1);
		reap_clients(server);
	}
}

int nbd_server_run(const struct nbd_server_args *args, struct error *err)
{
	struct server server = {.args = args};
	int ret = 0;

	assert(args->listen_count <= LISTEN_MAX);
	server.ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (server.ended_fd < 0)
		return error_set_errno(err, errno, "No event descriptor");
	if (args->threads)
		ret = worker_pool_new(&server.pool, args->threads);
	if (!ret) {
		while (!turn(&server))
			;
		stop_clients(&server);
	}
	worker_pool_free(server.pool);
	close(server.ended_fd);
	if (ret < 0)
		error_default(err, ret, "No memory for the server's threads");
	return ret;
}
