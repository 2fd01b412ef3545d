/* SPDX-License-Identifier: BSD-3-Clause */
/* Sockets that servers listen on: see listen.h. */
#include "cli/listen.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "block/error.h"

#define BACKLOG		128
#define FIRST_INHERITED 3

/* `path` is removed with the socket, or NULL. */
static int add(struct listeners *out, int fd, const char *path,
	       struct error *err)
{
	if (out->count == LISTENERS_MAX) {
		close(fd);
		if (path)
			unlink(path);
		return error_set(err, E2BIG,
				 "More than %d sockets to listen on",
				 LISTENERS_MAX);
	}
	out->paths[out->count] = path;
	out->fds[out->count++] = fd;
	return 0;
}

/* ---- Unix sockets ---- */

static int unix_address(struct sockaddr_un *out, const char *path,
			struct error *err)
{
	*out = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(out->sun_path))
		return error_set(err, ENAMETOOLONG,
				 "Socket path '%s' is longer than %zu bytes",
				 path, sizeof(out->sun_path) - 1);
	snprintf(out->sun_path, sizeof(out->sun_path), "%s", path);
	return 0;
}

/* A socket that nobody listens on any more. */
static bool is_stale(const struct sockaddr_un *address)
{
	struct stat st;
	int fd;
	bool refused;

	if (lstat(address->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return false;
	/* Not to be waited for: who listens may have no room for one more. */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	refused = connect(fd, (const struct sockaddr *)address,
			  sizeof(*address)) &&
		  errno == ECONNREFUSED;
	close(fd);
	return refused;
}

/* The mask has to be there before the name is. */
static int bind_private(int fd, const struct sockaddr_un *address)
{
	mode_t before = umask(0177);
	const struct sockaddr *name = (const struct sockaddr *)address;
	int ret = bind(fd, name, sizeof(*address)) ? -errno : 0;

	if (ret == -EADDRINUSE && is_stale(address) &&
	    unlink(address->sun_path) == 0)
		ret = bind(fd, name, sizeof(*address)) ? -errno : 0;
	umask(before);
	return ret;
}

static int listen_unix(struct listeners *out, const char *path,
		       struct error *err)
{
	struct sockaddr_un address;
	int fd;
	int ret = unix_address(&address, path, err);

	if (ret < 0)
		return ret;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_set_errno(err, errno, "No socket for '%s'", path);
	ret = bind_private(fd, &address);
	if (ret < 0) {
		close(fd);
		return error_set_errno(err, -ret,
				       "Failed to bind socket to '%s'", path);
	}
	if (listen(fd, BACKLOG)) {
		ret = error_set_errno(err, errno, "Failed to listen on '%s'",
				      path);
		unlink(path);
		close(fd);
		return ret;
	}
	return add(out, fd, path, err);
}

/* ---- TCP ---- */

static int listen_on(const struct addrinfo *info)
{
	int fd = socket(info->ai_family,
			SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* One socket for each family: the other's addresses are its own. */
	if (info->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, info->ai_addr, info->ai_addrlen) || listen(fd, BACKLOG)) {
		int ret = -errno;

		close(fd);
		return ret;
	}
	return fd;
}

static int listen_tcp(struct listeners *out, const char *address,
		      const char *port, struct error *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				 .ai_flags = AI_PASSIVE};
	struct addrinfo *found;
	const char *shown = address ? address : "*";
	int last = -EADDRNOTAVAIL, ret;
	size_t before = out->count;

	ret = getaddrinfo(address, port, &hints, &found);
	if (ret)
		return error_set(err, EINVAL,
				 "Address '%s' port '%s' is not known: %s",
				 shown, port, gai_strerror(ret));
	ret = 0;
	for (struct addrinfo *at = found; at && !ret; at = at->ai_next) {
		int fd = listen_on(at);

		if (fd >= 0)
			ret = add(out, fd, NULL, err);
		else
			last = fd;
	}
	freeaddrinfo(found);
	if (!ret && out->count == before)
		return error_set_errno(err, -last,
				       "Failed to listen on '%s' port '%s'",
				       shown, port);
	return ret;
}

/* ---- vsock ---- */

static int parse_vsock_port(const char *text, unsigned *out, struct error *err)
{
	char *end;
	unsigned long port;

	errno = 0;
	port = strtoul(text, &end, 10);
	if (errno || *end || !isdigit((unsigned char)*text) ||
	    port >= VMADDR_PORT_ANY)
		return error_set(err, EINVAL,
				 "vsock port is '%s', allowed are 0 to %u",
				 text, VMADDR_PORT_ANY - 1);
	*out = (unsigned)port;
	return 0;
}

static int listen_vsock(struct listeners *out, const char *port,
			struct error *err)
{
	struct sockaddr_vm address = {.svm_family = AF_VSOCK,
				      .svm_cid = VMADDR_CID_ANY};
	int fd, ret;

	ret = parse_vsock_port(port, &address.svm_port, err);
	if (ret < 0)
		return ret;
	fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_set_errno(err, errno, "No vsock socket");
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) ||
	    listen(fd, BACKLOG)) {
		ret = error_set_errno(err, errno,
				      "Failed to listen on vsock port %u",
				      address.svm_port);
		close(fd);
		return ret;
	}
	return add(out, fd, NULL, err);
}

int listen_at(struct listeners *out, const struct listen_address *address,
	      struct error *err)
{
	const char *port = address->port;
	char number[16];

	if (!port) {
		snprintf(number, sizeof(number), "%u", address->number);
		port = number;
	}
	switch (address->kind) {
	case LISTEN_UNIX:
		return listen_unix(out, address->name, err);
	case LISTEN_TCP:
		return listen_tcp(out, address->name, port, err);
	case LISTEN_VSOCK:
		return listen_vsock(out, port, err);
	}
	return error_set(err, EINVAL, "No such kind of address");
}

/* ---- inherited ---- */

/* The value of a variable as a number, or -1. */
static long number_in(const char *variable)
{
	const char *text = getenv(variable);
	char *end;
	long value;

	if (!text || !*text)
		return -1;
	errno = 0;
	value = strtol(text, &end, 10);
	return *end || errno ? -1 : value;
}

static int adopt(struct listeners *out, int fd, struct error *err)
{
	int listening = 0;
	socklen_t len = sizeof(listening);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) ||
	    !listening)
		return error_set(err, EINVAL,
				 "Descriptor %d, which LISTEN_FDS names, is no "
				 "listening socket",
				 fd);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	return add(out, fd, NULL, err);
}

int listen_inherited(struct listeners *out, struct error *err)
{
	long pid = number_in("LISTEN_PID"), count = number_in("LISTEN_FDS");
	int ret = 0;

	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	/* Meant for somebody else. */
	if (pid != getpid() || count <= 0)
		return 0;
	if (count > LISTENERS_MAX)
		return error_set(err, E2BIG,
				 "LISTEN_FDS is %ld, allowed are 1 to %d",
				 count, LISTENERS_MAX);
	for (int i = 0; i < count && !ret; i++)
		ret = adopt(out, FIRST_INHERITED + i, err);
	return ret;
}

void listeners_close(struct listeners *listeners)
{
	while (listeners->count) {
		const char *path = listeners->paths[--listeners->count];

		if (path)
			unlink(path);
		close(listeners->fds[listeners->count]);
	}
}
