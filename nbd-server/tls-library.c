/* SPDX-License-Identifier: BSD-3-Clause */
/* Loading libssl, and finding its functions. */
#include "nbd-server/tls-library.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>

#include "block/error.h"
#include "block/library.h"

/* Of the libcrypto that the program is linked with, or they do not fit. */
#define LIBRARY_FILE "libssl.so." OPENSSL_MSTR(OPENSSL_SHLIB_VERSION)

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct tls_library library;
static struct error problem;

static void load(void)
{
	static const struct library_symbol symbols[] = {
#define TLS_LIBRARY_SYMBOL(name) {#name, offsetof(struct tls_library, name)},
		TLS_LIBRARY_FUNCTIONS(TLS_LIBRARY_SYMBOL)
#undef TLS_LIBRARY_SYMBOL
	};

	library_load(&library, LIBRARY_FILE, symbols,
		     sizeof(symbols) / sizeof(symbols[0]), &problem);
}

const struct tls_library *tls_library_get(struct error *err)
{
	pthread_once(&once, load);
	if (!problem.code)
		return &library;
	error_set(err, ENOTSUP, "TLS needs OpenSSL's libssl: %s",
		  problem.message);
	return NULL;
}
