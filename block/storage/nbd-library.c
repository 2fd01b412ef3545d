/* SPDX-License-Identifier: BSD-3-Clause */
/* Loading libnbd, and finding its functions. */
#include "block/storage/nbd-library.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>

#include "block/error.h"
#include "block/library.h"

#define LIBRARY_FILE "libnbd.so.0"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct nbd_library library;
static struct error problem;

static void load(void)
{
	static const struct library_symbol symbols[] = {
#define NBD_LIBRARY_SYMBOL(name) \
	{"nbd_" #name, offsetof(struct nbd_library, name)},
		NBD_LIBRARY_FUNCTIONS(NBD_LIBRARY_SYMBOL)
#undef NBD_LIBRARY_SYMBOL
	};

	static const struct library_symbol newer = {
		"nbd_set_tls_hostname",
		offsetof(struct nbd_library, set_tls_hostname),
	};

	if (!library_load(&library, LIBRARY_FILE, symbols,
			  sizeof(symbols) / sizeof(symbols[0]), &problem))
		library_load(&library, LIBRARY_FILE, &newer, 1, NULL);
}

const struct nbd_library *nbd_library_get(struct error *err)
{
	pthread_once(&once, load);
	if (!problem.code)
		return &library;
	error_set(err, ENOTSUP, "NBD needs libnbd (package libnbd0): %s",
		  problem.message);
	return NULL;
}
