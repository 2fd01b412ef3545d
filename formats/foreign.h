/* SPDX-License-Identifier: BSD-3-Clause */
/* Formats without a driver: what registry.c lists of them. Any thread. */
#ifndef PLATTER_FORMATS_FOREIGN_H
#define PLATTER_FORMATS_FOREIGN_H

#include <stddef.h>

struct inspection;
struct probe_input;

/*
 * The names of all formats that a file looks like and that have no rule below,
 * one after the other. `*next` starts at 0. NULL: no more.
 */
const char *format_next_foreign(const struct probe_input *in, size_t *next);

/* The rules, each in its inspect-*.c; foreign_inspect() refuses the rest. */
void vmdk_inspect(struct inspection *in);
void vdi_inspect(struct inspection *in);
void vhd_inspect(struct inspection *in);
void vhdx_inspect(struct inspection *in);
void luks_inspect(struct inspection *in);
void foreign_inspect(struct inspection *in);
/* For files that nobody has claimed by their head. */
void vhd_fixed_inspect(struct inspection *in);

#endif
