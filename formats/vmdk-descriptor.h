/* SPDX-License-Identifier: BSD-3-Clause */
/* The text inside a VMDK image, judged line by line. Pure; any thread. */
#ifndef PLATTER_FORMATS_VMDK_DESCRIPTOR_H
#define PLATTER_FORMATS_VMDK_DESCRIPTOR_H

#include <stdbool.h>
#include <stddef.h>

struct inspection;

/* `text` has `len` bytes; it ends at a NUL, if there is one. */
void vmdk_descriptor_inspect(struct inspection *in, const char *text,
			     size_t len);

/*
 * Comments and blank lines, then `version=` with a digit of 1 to 3: what makes
 * programs take a file for a descriptor. No other text is needed.
 */
bool vmdk_descriptor_starts(const char *text, size_t len);

#endif
