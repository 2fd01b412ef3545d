/* SPDX-License-Identifier: BSD-3-Clause */
/* The only list of format drivers. */
#ifndef PLATTER_FORMATS_REGISTRY_H
#define PLATTER_FORMATS_REGISTRY_H

struct format_driver;
struct inspection;

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

/*
 * How files in formats without a driver are judged (block/inspect.h), which
 * needs none. Ended by NULL.
 */
typedef void format_foreign_rule(struct inspection *in);
extern format_foreign_rule *const format_foreign_rules[];

#endif
