/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where an export of an NBD server is, and the forms in which users name it
 * (spec: nbd 14). No I/O here.
 *
 *	nbd://HOST[:PORT]/EXPORT		nbds://, with TLS
 *	nbd+unix:///EXPORT?socket=PATH		nbds+unix://, with TLS
 *	nbd+vsock://[CID[:PORT]]/EXPORT		nbds+vsock://, with TLS
 *	nbd:HOST:PORT[:exportname=EXPORT]	QEMU's older forms
 *	nbd:unix:PATH[:exportname=EXPORT]
 *	server.type=unix,server.path=PATH,export=EXPORT
 *	server.type=inet,server.host=HOST,server.port=PORT,export=EXPORT
 *	server.type=vsock,server.cid=CID,server.port=PORT,export=EXPORT
 *
 * In the query of a URI, or as options of the same names, may stand timeout=
 *and open-timeout=, in seconds.
 *
 * TLS takes more from the query of a URI, or from options of the same names:
 * tls-certificates=DIR, tls-psk-file=FILE, tls-username, tls-verify-peer,
 * tls-hostname. As an option there is tls-creds=ID, too (block/tls-creds.h).
 */
#ifndef PLATTER_BLOCK_STORAGE_NBD_ADDRESS_H
#define PLATTER_BLOCK_STORAGE_NBD_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

struct error;
struct options;

/* Longest name that the protocol allows. */
#define NBD_NAME_MAX 4096

#define NBD_TIMEOUT_SECONDS 60
#define NBD_TIMEOUT_SECONDS_MAX                      \
	86400 /* a name in an image has no more, too \
	       */

struct nbd_address {
	char *name;   /* as a URI, in one spelling; of the address alone */
	char *socket; /* of a Unix socket, or NULL and */
	char *host, *port;
	bool vsock;	   /* the host is a number: the CID of a machine */
	char *export_name; /* "" is the default export */
	/* How long a server may be silent that has requests to answer. */
	unsigned timeout_seconds;
	/*
	 * For all that connecting takes, tried again where nobody listens; 0,
	 * once, with a time of its own for the handshake.
	 */
	unsigned open_timeout_seconds;
	bool tls;
	bool tls_trust_any; /* the peer's certificate is not verified */
	char *tls_certificates, *tls_psk_file, *tls_username; /* or NULL */
	char *tls_hostname; /* in the certificate; NULL: host */
};

/* True if `text` is of a form above: where a scheme of NBD comes first. */
bool nbd_address_is(const char *text);

/* `out` is empty after a failure. -EINVAL, -ENOTSUP, -ENOMEM. */
int nbd_address_parse(struct nbd_address *out, const char *text,
		      struct error *err);

/* Takes its options out of the list; those that are left are not its own. */
int nbd_address_take(struct nbd_address *out, struct options *opts,
		     struct error *err);

int nbd_address_copy(struct nbd_address *out, const struct nbd_address *from);

/* Zeroed is fine. */
void nbd_address_release(struct nbd_address *address);

/* For its parts: a decimal number up to the largest; false: it is none. */
bool nbd_address_seconds(const char *text, size_t len, unsigned *out);

/* For those who make one: checks it and gives it its name. */
int nbd_address_finish(struct nbd_address *address, struct error *err);

#endif
