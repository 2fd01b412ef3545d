/* SPDX-License-Identifier: BSD-3-Clause */
/* Whole transfers on descriptors without offsets: see pipe.h. */
#include "block/storage/pipe.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

/* For descriptors that somebody else made non-blocking. */
static void wait_ready(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	poll(&p, 1, -1);
}

int64_t pipe_read(int fd, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t got = read(fd, (uint8_t *)buf + done, len - done);

		if (got == 0)
			break;
		if (got > 0)
			done += (size_t)got;
		else if (errno == EAGAIN)
			wait_ready(fd, POLLIN);
		else if (errno != EINTR)
			return -errno;
	}
	return (int64_t)done;
}

int pipe_write(int fd, const void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t put =
			write(fd, (const uint8_t *)buf + done, len - done);

		if (put >= 0)
			done += (size_t)put;
		else if (errno == EAGAIN)
			wait_ready(fd, POLLOUT);
		else if (errno != EINTR)
			return -errno;
	}
	return 0;
}
