/* SPDX-License-Identifier: BSD-3-Clause */
/* Names of peers: see peer.h. */
#include "nbd-server/peer.h"

#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>

#include <linux/vm_sockets.h>

/* In another namespace of processes, it has no number that means anything. */
static void describe_process(struct nbd_peer *peer, int fd)
{
	struct ucred who;
	socklen_t len = sizeof(who);
	char process[32] = "";

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len))
		return;
	peer->is_process = true;
	peer->pid = who.pid;
	peer->uid = who.uid;
	peer->gid = who.gid;
	if (who.pid)
		snprintf(process, sizeof(process), "pid %ld, ", (long)who.pid);
	snprintf(peer->text, sizeof(peer->text), "%suid %lu, gid %lu", process,
		 (unsigned long)who.uid, (unsigned long)who.gid);
}

static void describe_host(struct nbd_peer *peer,
			  const struct sockaddr_storage *address, socklen_t len)
{
	bool brackets = address->ss_family == AF_INET6;
	char host[64], port[16];

	if (getnameinfo((const struct sockaddr *)address, len, host,
			sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) == 0)
		snprintf(peer->text, sizeof(peer->text), "%s%s%s:%s",
			 brackets ? "[" : "", host, brackets ? "]" : "", port);
}

void nbd_peer_describe(struct nbd_peer *peer, int fd)
{
	union {
		struct sockaddr_storage any;
		struct sockaddr_vm vm;
	} address = {0};
	socklen_t len = sizeof(address);

	*peer = (struct nbd_peer){.text = "unknown"};
	if (getpeername(fd, (struct sockaddr *)&address, &len))
		return;
	if (address.any.ss_family == AF_UNIX)
		describe_process(peer, fd);
	else if (address.any.ss_family == AF_VSOCK)
		snprintf(peer->text, sizeof(peer->text), "vsock %u:%u",
			 address.vm.svm_cid, address.vm.svm_port);
	else
		describe_host(peer, &address.any, len);
}
