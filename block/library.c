/* SPDX-License-Identifier: BSD-3-Clause */
/* Loading libraries: see library.h. */
#include "block/library.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "block/error.h"

int library_load(void *table, const char *file,
		 const struct library_symbol *symbols, size_t count,
		 struct error *err)
{
	void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);

	if (!handle)
		return error_set(err, ENOTSUP, "%s", dlerror());
	for (size_t i = 0; i < count; i++) {
		void *address = dlsym(handle, symbols[i].name);

		if (!address)
			return error_set(err, ENOTSUP, "%s has no function %s",
					 file, symbols[i].name);
		/* ISO C converts no data pointer to a function's; POSIX does */
		memcpy((char *)table + symbols[i].at, &address,
		       sizeof(address));
	}
	return 0;
}
