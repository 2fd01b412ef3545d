/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Plans to serve out of configuration files, and exports out of words. Both go
 * by the same tables, whose keys are the long options of the command.
 */
#ifndef PLATTER_CLI_SERVE_CONFIG_H
#define PLATTER_CLI_SERVE_CONFIG_H

#include <stddef.h>

#include "cli/serve-run.h"

struct error;

/*
 * Adds what the file says: exports and addresses to those that are there, for
 * the rest it is what holds now. The plan keeps the texts. Messages name the
 * file, and the line or the key.
 */
int serve_config_load(struct serve_plan *plan, const char *path,
		      struct error *err);
/* The same of what a file holds; messages name no file. */
int serve_config_parse(struct serve_plan *plan, const char *text, size_t len,
		       struct error *err);

/*
 * Adds the export NAME=FILE[,KEY=VALUE...], which has what it does not say in
 * common with `common`. A comma in FILE is doubled; one that is json:... or in
 * words of an image takes all of the rest.
 */
int serve_config_add_export(struct serve_plan *plan,
			    const struct serve_export *common, const char *text,
			    struct error *err);

#endif
