/* SPDX-License-Identifier: BSD-3-Clause */
/* The options of a new image as `create` and `convert` print them. */
#ifndef PLATTER_CLI_CREATE_OPTIONS_H
#define PLATTER_CLI_CREATE_OPTIONS_H

#include <stdbool.h>

struct format_driver;
struct options;

/* The line "Formatting 'NAME', fmt=FORMAT name=value ...". */
void create_options_print(const char *name, const struct format_driver *driver,
			  const struct options *opts);

/*
 * What -o help says. `with_file`: a file name was given; then the closing
 * remark about it is left out.
 */
void create_options_help(const struct format_driver *driver, bool with_file);

/* Does the format have an option of that name? */
bool create_options_has(const struct format_driver *driver, const char *name);

#endif
