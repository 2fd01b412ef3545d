/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Probing. The input is a file. Whatever it holds, the answer is a driver or a
 * message, the same both times, and the guard of the first sector never misses
 * what the probe sees there.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "block/error.h"
#include "block/format.h"
#include "block/probe.h"
#include "block/storage/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* NULL: refused. */
static const struct format_driver *probe(struct storage *file, bool *guessed)
{
	const struct format_driver *driver = NULL;
	struct error err = {0};
	int ret = probe_format(file, &driver, guessed, &err);

	assert((ret < 0) == (err.code != 0));
	assert(ret || driver);
	return ret ? NULL : driver;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool guessed = false, again = false, guarded;
	const struct format_driver *driver;
	struct storage *file;

	if (storage_memory_from(&file, "fuzzed", data, size))
		return 0;
	driver = probe(file, &guessed);
	assert(driver == probe(file, &again) && guessed == again);
	guarded = probe_would_recognise(data, size);
	if (driver && guessed)
		assert(!guarded && !strcmp(driver->name, "raw"));
	else if (driver)
		assert(guarded);
	storage_close(file);
	return 0;
}
