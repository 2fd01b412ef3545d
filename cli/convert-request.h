/* SPDX-License-Identifier: BSD-3-Clause */
/* convert: what the user asked for (convert.c), and doing it (convert-run.c).
 */
#ifndef PLATTER_CLI_CONVERT_REQUEST_H
#define PLATTER_CLI_CONVERT_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/image.h"
#include "block/jobs/content-hash.h"
#include "block/jobs/convert.h"
#include "block/options.h"
#include "cli/args.h"
#include "cli/open.h"

struct command_context;
struct format_driver;

struct convert_request {
	/* One for all sources, their names aside. */
	struct open_request source;
	char **source_names;
	size_t source_count;
	struct arg_size source_size; /* of a stream */

	const char *target_name;
	const struct format_driver *driver; /* of the target */
	struct options options;		    /* -o, -b and -F */
	bool has_options;
	enum cache_mode target_cache;
	bool target_image_opts;
	bool no_create, target_is_zero;

	/* sparse_size, pack, salvage, rate, threads, levels */
	struct convert_args args;
	enum content_hash_kind hash;

	bool quiet;
	struct progress_wish progress;
};

/* Returns the exit status. */
int convert_run(const struct command_context *ctx,
		const struct convert_request *request);

#endif
