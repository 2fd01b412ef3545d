/* SPDX-License-Identifier: BSD-3-Clause */
/* Loading libnbd, and finding its functions. */
#include "block/storage/nbd-library.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "block/error.h"

#define LIBRARY_FILE "libnbd.so.0"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct nbd_library library;
static char problem[256]; /* empty: it is loaded */

static const struct {
	const char *symbol;
	size_t at; /* offset of the pointer in the library */
} functions[] = {
#define NBD_LIBRARY_ENTRY(name) \
	{"nbd_" #name, offsetof(struct nbd_library, name)},
	NBD_LIBRARY_FUNCTIONS(NBD_LIBRARY_ENTRY)
#undef NBD_LIBRARY_ENTRY
};

static void load(void)
{
	void *handle = dlopen(LIBRARY_FILE, RTLD_NOW | RTLD_LOCAL);

	if (!handle) {
		snprintf(problem, sizeof(problem), "%s", dlerror());
		return;
	}
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		void *address = dlsym(handle, functions[i].symbol);

		if (!address) {
			snprintf(problem, sizeof(problem),
				 LIBRARY_FILE " has no function %s",
				 functions[i].symbol);
			return;
		}
		/* ISO C converts no data pointer to a function's; POSIX does */
		memcpy((char *)&library + functions[i].at, &address,
		       sizeof(address));
	}
}

const struct nbd_library *nbd_library_get(struct error *err)
{
	pthread_once(&once, load);
	if (!*problem)
		return &library;
	error_set(err, ENOTSUP, "NBD needs libnbd (package libnbd0): %s",
		  problem);
	return NULL;
}
