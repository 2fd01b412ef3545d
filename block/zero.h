/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Looking for zeros. One AVX2 routine with an SSE2 and a C fallback, chosen at
 * run time; all bound by memory (spec: performance 1). Any thread.
 */
#ifndef PLATTER_BLOCK_ZERO_H
#define PLATTER_BLOCK_ZERO_H

#include <stdbool.h>
#include <stddef.h>

/* `len` may be 0 (true); any alignment. */
bool is_zero(const void *buf, size_t len);

/*
 * Length of the run of like units at the start of `buf`: *zero says whether
 * they are zero. Units are `unit` bytes, the last one may be short.
 */
size_t zero_run(const void *buf, size_t len, size_t unit, bool *zero);

/* For tests: the portable routine, whatever the machine. */
bool is_zero_portable(const void *buf, size_t len);

#endif
