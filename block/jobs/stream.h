/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Disks that come as a stream of bytes: from a pipe, or packed as a whole in a
 * .zst, .lz4 or .gz file. Read once, from the start.
 *
 * One thread at a time. Memory is bounded by the window of the stream's format,
 * at most 128 MiB (zstd --long; 8 MiB as a rule).
 */
#ifndef PLATTER_BLOCK_JOBS_STREAM_H
#define PLATTER_BLOCK_JOBS_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct progress;
struct storage;
struct stream;

enum stream_kind {
	STREAM_PLAIN,
	STREAM_GZIP,
	STREAM_ZSTD,
	STREAM_LZ4,
};

/*
 * What a file is by its name and its first bytes, which have to agree;
 * STREAM_PLAIN for everything else, also where there is no such file. Opens the
 * file and closes it. What could not be looked at is an error: taken for plain
 * it might be copied as it is.
 */
int stream_kind_of_file(const char *path, enum stream_kind *kind,
			struct error *err);

/*
 * From a descriptor, which stays the caller's, or from a file, which has to be
 * a regular one or a device. `name` is for messages.
 */
int stream_from_fd(struct stream **out, int fd, const char *name,
		   enum stream_kind kind, struct error *err);
int stream_open(struct stream **out, const char *path, enum stream_kind kind,
		struct error *err);
void stream_close(struct stream *stream);

/* True if the stream says how much will come; *size is not checked. */
bool stream_promised_size(const struct stream *stream, uint64_t *size);

/*
 * `len` bytes, or fewer at the end of the stream. -EIO for a stream that is
 * broken or ends in the middle. The reason is in stream_problem().
 */
int64_t stream_read(struct stream *stream, void *buf, size_t len);
/* Text of the last failure, or NULL. */
const char *stream_problem(const struct stream *stream);

/*
 * All that is left, to the start of `to`, which is empty and can grow; zeros
 * become holes. *size is what came. A size that ends inside a sector of 512
 * bytes stays as it is. -ECANCELED if `progress` says so.
 */
int stream_spool(struct stream *stream, struct storage *to, uint64_t *size,
		 struct progress *progress, struct error *err);

#endif
