/* SPDX-License-Identifier: BSD-3-Clause */
/* Writing a disk as a stream of raw bytes, into a pipe say. */
#ifndef PLATTER_BLOCK_JOBS_STREAM_OUT_H
#define PLATTER_BLOCK_JOBS_STREAM_OUT_H

#include <stddef.h>

struct convert_source;
struct error;
struct progress;

/*
 * All sources behind each other, zeros written out. The length of a source that
 * is a stream is not looked at: all of it is written. -ECANCELED if `progress`
 * (may be NULL) says so.
 */
int stream_out(const struct convert_source *sources, size_t count, int fd,
	       struct progress *progress, struct error *err);

#endif
