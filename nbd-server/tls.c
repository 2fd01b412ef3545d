/* SPDX-License-Identifier: BSD-3-Clause */
/* Keys, certificates and rules: see tls.h. */
#include "nbd-server/tls.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/error.h"
#include "nbd-server/tls-private.h"

static int fail(struct error *err, const char *path)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	ERR_clear_error();
	return error_set(err, EINVAL, "Could not use '%s' for TLS: %s", path,
			 reason ? reason : "unknown reason");
}

/*
 * All of the chain is looked up: a certificate is worth nothing if its
 * authority's was revoked. So each authority in the chain needs a list here,
 * and clients are refused where one is missing or out of date.
 */
static int load_crl(const struct tls_context *tls, const char *path,
		    struct error *err)
{
	X509_STORE *store = tls->lib->SSL_CTX_get_cert_store(tls->ctx);
	X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());

	if (!lookup || X509_load_crl_file(lookup, path, X509_FILETYPE_PEM) < 1)
		return fail(err, path);
	X509_STORE_set_flags(store,
			     X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
	return 0;
}

static int load_certificates(const struct tls_context *tls, const char *dir,
			     struct error *err)
{
	const struct tls_library *lib = tls->lib;
	char ca[PATH_MAX], crl[PATH_MAX], cert[PATH_MAX], key[PATH_MAX];

	if (snprintf(ca, sizeof(ca), "%s/ca-cert.pem", dir) >= PATH_MAX ||
	    snprintf(crl, sizeof(crl), "%s/ca-crl.pem", dir) >= PATH_MAX ||
	    snprintf(cert, sizeof(cert), "%s/server-cert.pem", dir) >=
		    PATH_MAX ||
	    snprintf(key, sizeof(key), "%s/server-key.pem", dir) >= PATH_MAX)
		return error_set(err, ENAMETOOLONG, "'%s' is too long", dir);
	if (lib->SSL_CTX_load_verify_file(tls->ctx, ca) != 1)
		return fail(err, ca);
	if (lib->SSL_CTX_use_certificate_chain_file(tls->ctx, cert) != 1)
		return fail(err, cert);
	if (lib->SSL_CTX_use_PrivateKey_file(tls->ctx, key, SSL_FILETYPE_PEM) !=
		    1 ||
	    lib->SSL_CTX_check_private_key(tls->ctx) != 1)
		return fail(err, key);
	/* One that is there but cannot be read must not be passed over. */
	if (access(crl, F_OK) == 0 || errno != ENOENT)
		return load_crl(tls, crl, err);
	return 0;
}

/* Nobody is there to be asked for a passphrase. */
static int no_passphrase(char *buf, int size, int writing, void *opaque)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)opaque;
	return 0;
}

static void set_rules(const struct tls_context *tls)
{
	const struct tls_library *lib = tls->lib;

	lib->SSL_CTX_set_default_passwd_cb(tls->ctx, no_passphrase);
	lib->SSL_CTX_ctrl(tls->ctx, SSL_CTRL_SET_MIN_PROTO_VERSION,
			  TLS1_2_VERSION, NULL);
	lib->SSL_CTX_ctrl(tls->ctx, SSL_CTRL_SET_SESS_CACHE_MODE,
			  SSL_SESS_CACHE_OFF, NULL);
	lib->SSL_CTX_set_options(tls->ctx,
				 SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
					 SSL_OP_NO_COMPRESSION |
					 SSL_OP_IGNORE_UNEXPECTED_EOF |
					 SSL_OP_ENABLE_KTLS);
	lib->SSL_CTX_set_num_tickets(tls->ctx, 0);
	lib->SSL_CTX_set_max_early_data(tls->ctx, 0);
}

static int load_keys(struct tls_context *tls, const struct tls_args *args,
		     struct error *err)
{
	const struct tls_library *lib = tls->lib;
	const int verify = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;

	if (args->certificates) {
		if (args->verify_peer)
			lib->SSL_CTX_set_verify(tls->ctx, verify, NULL);
		return load_certificates(tls, args->certificates, err);
	}
	if (lib->SSL_CTX_set_cipher_list(tls->ctx,
					 "kECDHEPSK+HIGH:kDHEPSK+HIGH") != 1)
		return fail(err, args->psk_file);
	lib->SSL_CTX_set_psk_server_callback(tls->ctx, tls_session_psk);
	return tls_psk_load(tls, args->psk_file, err);
}

struct tls_context *tls_context_open(const struct tls_args *args,
				     struct error *err)
{
	const struct tls_library *lib = tls_library_get(err);
	struct tls_context *tls = lib ? calloc(1, sizeof(*tls)) : NULL;

	if (!lib)
		return NULL;
	if (tls)
		tls->ctx = lib->SSL_CTX_new(lib->TLS_server_method());
	if (!tls || !tls->ctx) {
		error_set(err, ENOMEM, "Could not set up TLS");
		free(tls);
		return NULL;
	}
	tls->lib = lib;
	tls->authz = args->authz;
	set_rules(tls);
	if (load_keys(tls, args, err) < 0) {
		tls_context_close(tls);
		return NULL;
	}
	return tls;
}

void tls_context_close(struct tls_context *tls)
{
	if (!tls)
		return;
	tls_psk_release(tls);
	tls->lib->SSL_CTX_free(tls->ctx);
	free(tls);
}
