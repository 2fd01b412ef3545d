/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random operations on a storage, compared with a plain byte array after each.
 * Fails the running cmocka test at the first difference; prints the seed.
 */
#ifndef PLATTER_TESTS_SUPPORT_STORAGE_MODEL_H
#define PLATTER_TESTS_SUPPORT_STORAGE_MODEL_H

#include "block/storage.h"

struct storage_model_params {
	uint64_t seed;
	unsigned step_count;
	uint64_t max_size; /* the store stays below this */
	bool keep_size;	   /* no growing, no resizing */
};

/* The store may hold anything at the start; it has to be writable. */
void storage_model_run(struct storage *s, struct storage_model_params params);

#endif
