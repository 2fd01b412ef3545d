/* SPDX-License-Identifier: BSD-3-Clause */
/* Making new images of any format, whole or not at all. */
#ifndef PLATTER_BLOCK_CREATE_H
#define PLATTER_BLOCK_CREATE_H

#include <stdbool.h>
#include <stdint.h>

#include "block/output.h"

struct error;
struct format_driver;
struct options;
struct progress;

/*
 * Formats the still empty storage of `out` (which stays open): options are
 * checked against the driver's table, the size is rounded up as the format
 * wants. Then output_take() and image_open_storage() to fill it, or
 * output_commit().
 */
int create_format(struct output *out, const struct format_driver *driver,
		  const struct options *opts, uint64_t size_bytes,
		  struct progress *progress, struct error *err);

#endif
