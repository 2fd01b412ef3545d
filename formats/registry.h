/* SPDX-License-Identifier: BSD-3-Clause */
/* The only list of format drivers. */
#ifndef PLATTER_FORMATS_REGISTRY_H
#define PLATTER_FORMATS_REGISTRY_H

struct format_driver;

/* In the order of probing; ended by NULL. */
extern const struct format_driver *const format_registry[];

/* NULL if there is no driver of that name. */
const struct format_driver *format_find(const char *name);

/*
 * The name of a format that is recognised but has no driver here, or that looks
 * like a container inside what would be raw ("vhdx", "gzip"); else NULL.
 */
struct probe_input;
const char *format_recognise_foreign(const struct probe_input *in);

#endif
