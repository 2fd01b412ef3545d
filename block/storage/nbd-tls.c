/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * TLS of a connection to an NBD server. It is asked for or it is not: there is
 * no falling back to a connection in the clear (spec: nbd 13).
 *
 * What libnbd 1.14 does with certificates is not enough. Without a file of
 * authorities, and over a Unix socket, which has no host name to compare, it
 * takes any server for the right one and says nothing. Both are refused here,
 * unless the user asks for a server that is not verified.
 */
#include "block/storage/nbd-tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/error.h"
#include "block/quote.h"
#include "block/storage/nbd-address.h"

#define AUTHORITIES "ca-cert.pem"

static int check_authorities(const char *folder, struct error *err)
{
	char *path;
	int ret = 0;

	if (asprintf(&path, "%s/" AUTHORITIES, folder) < 0)
		return error_set_errno(err, ENOMEM, "setting up TLS");
	if (access(path, R_OK))
		ret = error_set_errno(err, errno,
				      "The authorities that may vouch for the "
				      "NBD server cannot be read from '%s'",
				      path);
	free(path);
	return ret;
}

/* A name that libnbd would not compare by itself. */
static bool needs_hostname(const struct nbd_address *address)
{
	return address->tls_hostname && address->tls_certificates &&
	       !(address->host && !address->vsock &&
		 !strcmp(address->host, address->tls_hostname));
}

/* Can libnbd tell the right server from another? */
static int check_credentials(const struct nbd_library *lib,
			     const struct nbd_address *address,
			     struct error *err)
{
	if (address->tls_psk_file || address->tls_trust_any)
		return 0;
	if (!address->tls_certificates)
		return error_set(err, EINVAL,
				 "The NBD server cannot be verified without "
				 "tls-certificates=DIR (with " AUTHORITIES
				 " in it) or tls-psk-file=FILE");
	if ((address->socket || address->vsock) && !address->tls_hostname)
		return error_set(err, ENOTSUP,
				 "The certificate of an NBD server behind a "
				 "Unix socket or vsock cannot be verified: use "
				 "tls-psk-file=FILE, or tls-verify-peer=0 to "
				 "trust whoever listens there");
	if (needs_hostname(address) && !lib->set_tls_hostname)
		return error_set(err, ENOTSUP,
				 "tls-hostname needs libnbd 1.22 or later: "
				 "the one that is here compares the name of "
				 "the certificate with the host that it "
				 "connects to, and with nothing else");
	return check_authorities(address->tls_certificates, err);
}

static bool set_credentials(const struct nbd_library *lib, struct nbd_handle *h,
			    const struct nbd_address *address)
{
	return lib->set_tls(h, LIBNBD_TLS_REQUIRE) == 0 &&
	       (!address->tls_certificates ||
		!lib->set_tls_certificates(h, address->tls_certificates)) &&
	       (!address->tls_psk_file ||
		!lib->set_tls_psk_file(h, address->tls_psk_file)) &&
	       (!address->tls_username ||
		!lib->set_tls_username(h, address->tls_username)) &&
	       (!needs_hostname(address) || !lib->set_tls_hostname ||
		!lib->set_tls_hostname(h, address->tls_hostname)) &&
	       !lib->set_tls_verify_peer(h, !address->tls_trust_any);
}

int nbd_tls_set_up(const struct nbd_library *lib, struct nbd_handle *handle,
		   const struct nbd_address *address, struct error *err)
{
	struct quoted_name quoted;
	const char *reason;
	int ret;

	ret = address->tls ? check_credentials(lib, address, err) : 0;
	if (ret)
		return ret;
	if (address->tls ? set_credentials(lib, handle, address)
			 : lib->set_tls(handle, LIBNBD_TLS_DISABLE) == 0)
		return 0;
	reason = lib->get_error();
	return error_set(err, EIO, "TLS cannot be set up: %s",
			 quote_name(&quoted, reason ? reason : "no reason"));
}
