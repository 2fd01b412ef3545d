/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The new image that a command fills from others: what convert and dd share.
 *
 * It appears under its name only once it is whole (block/output.h). Nothing is
 * synced while it is filled, as nobody can see it yet; all of it is, once, at
 * the end.
 */
#ifndef PLATTER_CLI_TARGET_H
#define PLATTER_CLI_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/image.h"
#include "block/output.h"

struct command_context;
struct convert_source;
struct error;
struct format_driver;
struct options;
struct progress;

struct target_request {
	const char *name; /* operand as typed */
	const struct format_driver *driver;
	const struct options *options; /* of the format; "size" included */
	uint64_t size_bytes;
	enum cache_mode cache;
	const struct command_context *ctx; /* how to open a backing file */
	struct progress *progress;
};

struct target {
	struct image *img; /* its backing file is open as well */
	struct output output;
	bool sync;  /* no: the user asked for "unsafe" */
	bool ready; /* output holds something */
};

/* Messages are whole: "NAME: error while converting FORMAT: ..." */
int target_create(struct target *target, const struct target_request *request,
		  struct error *err);
/* Puts the filled image in place; everything is released in any case. */
int target_finish(struct target *target, struct error *err);
/* Leaves what was there before. Zeroed is fine. */
void target_abandon(struct target *target);

/*
 * Is `path` a file that one of the sources, or a layer below one, lives in?
 * Whatever the names, links included. A missing file is none.
 */
bool target_is_source(const char *path, const struct convert_source *sources,
		      size_t count);

#endif
