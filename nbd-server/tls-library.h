/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libssl, loaded when keys for TLS are given: linked, it would cost every start
 * of the program a tenth of its time. libcrypto, which others of us use, is
 * linked, and is the one that libssl uses.
 *
 * The headers' macros over SSL_ctrl() and SSL_CTX_ctrl() cannot be used: they
 * call the functions by name.
 */
#ifndef PLATTER_NBD_SERVER_TLS_LIBRARY_H
#define PLATTER_NBD_SERVER_TLS_LIBRARY_H

#include <openssl/ssl.h>

struct error;

/* The functions in use; each is a member below. */
#define TLS_LIBRARY_FUNCTIONS(X)              \
	X(TLS_server_method)                  \
	X(SSL_CTX_new)                        \
	X(SSL_CTX_free)                       \
	X(SSL_CTX_ctrl)                       \
	X(SSL_CTX_set_options)                \
	X(SSL_CTX_set_num_tickets)            \
	X(SSL_CTX_set_max_early_data)         \
	X(SSL_CTX_set_default_passwd_cb)      \
	X(SSL_CTX_set_verify)                 \
	X(SSL_CTX_set_cipher_list)            \
	X(SSL_CTX_set_psk_server_callback)    \
	X(SSL_CTX_get_cert_store)             \
	X(SSL_CTX_load_verify_file)           \
	X(SSL_CTX_use_certificate_chain_file) \
	X(SSL_CTX_use_PrivateKey_file)        \
	X(SSL_CTX_check_private_key)          \
	X(SSL_new)                            \
	X(SSL_free)                           \
	X(SSL_set_fd)                         \
	X(SSL_set_ex_data)                    \
	X(SSL_get_ex_data)                    \
	X(SSL_accept)                         \
	X(SSL_shutdown)                       \
	X(SSL_read_ex)                        \
	X(SSL_peek_ex)                        \
	X(SSL_write_ex)                       \
	X(SSL_pending)                        \
	X(SSL_get_error)                      \
	X(SSL_get0_peer_certificate)          \
	X(SSL_get_verify_result)

struct tls_library {
#define TLS_LIBRARY_MEMBER(name) __typeof__(&name) name;
	TLS_LIBRARY_FUNCTIONS(TLS_LIBRARY_MEMBER)
#undef TLS_LIBRARY_MEMBER
};

/* Any thread; the same answer every time, good until the program ends. */
const struct tls_library *tls_library_get(struct error *err);

#endif
