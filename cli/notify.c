/* SPDX-License-Identifier: BSD-3-Clause */
/* Telling the service manager how far a server is: see notify.h. */
#include "cli/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/error.h"
#include "block/quote.h"
#include "cli/message.h"

/* A manager that does not read in this time keeps no server from its work. */
#define PATIENCE_S 5
#define TEXT_MAX   512

static int set_address(struct notify *notify, const char *name,
		       struct error *err)
{
	struct sockaddr_un *address = &notify->address;
	size_t len = strlen(name);
	struct quoted_name quoted;

	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (len < 2 || (*name != '/' && *name != '@') ||
	    len >= sizeof(address->sun_path))
		return error_set(err, EINVAL,
				 "NOTIFY_SOCKET is '%s'; it has to be an "
				 "absolute path, or '@' and a name, of at most "
				 "%zu bytes",
				 quote_name(&quoted, name),
				 sizeof(address->sun_path) - 1);
	memcpy(address->sun_path, name, len);
	/* In the name without a path all bytes count, and a NUL comes first. */
	if (*name == '@')
		address->sun_path[0] = '\0';
	notify->address_len =
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + len +
			    (*name == '/'));
	return 0;
}

static int open_socket(struct notify *notify, struct error *err)
{
	struct timeval patience = {.tv_sec = PATIENCE_S};

	notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (notify->fd < 0)
		return error_set_errno(err, errno,
				       "No socket for the service manager");
	setsockopt(notify->fd, SOL_SOCKET, SO_SNDTIMEO, &patience,
		   sizeof(patience));
	return 0;
}

int notify_open(struct notify *notify, struct error *err)
{
	const char *name = getenv("NOTIFY_SOCKET");
	int ret = 0;

	*notify = (struct notify){.fd = -1};
	if (name && *name) {
		ret = set_address(notify, name, err);
		if (!ret)
			ret = open_socket(notify, err);
	}
	unsetenv("NOTIFY_SOCKET");
	return ret;
}

/* A server that cannot be heard serves nevertheless. */
static void send_text(const struct notify *notify, const char *text)
{
	ssize_t done;

	if (notify->fd < 0)
		return;
	do {
		done = sendto(notify->fd, text, strlen(text), MSG_NOSIGNAL,
			      (const struct sockaddr *)&notify->address,
			      notify->address_len);
	} while (done < 0 && errno == EINTR);
	if (done < 0)
		message_warning("Could not tell the service manager: %s",
				strerror(errno));
}

void notify_ready(struct notify *notify, const char *status, bool is_child)
{
	char text[TEXT_MAX], main_pid[32] = "";

	if (is_child)
		snprintf(main_pid, sizeof(main_pid), "\nMAINPID=%ld",
			 (long)getpid());
	snprintf(text, sizeof(text), "READY=1%s\nSTATUS=%s", main_pid, status);
	send_text(notify, text);
	notify->ready = true;
}

void notify_stopping(struct notify *notify)
{
	if (notify->ready && !notify->stopping)
		send_text(notify, "STOPPING=1\nSTATUS=Stopping");
	notify->stopping = true;
}

void notify_close(struct notify *notify)
{
	if (notify->fd >= 0)
		close(notify->fd);
	notify->fd = -1;
}
