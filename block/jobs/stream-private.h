/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of stream.h: reading (stream.c) and unpacking (stream-codec.c). */
#ifndef PLATTER_BLOCK_JOBS_STREAM_PRIVATE_H
#define PLATTER_BLOCK_JOBS_STREAM_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/jobs/stream.h"

struct storage;

/* Packed bytes that have been read and not been used. */
struct stream_input {
	const uint8_t *bytes;
	size_t left;
};

/* One of the packings. */
struct stream_codec {
	const char *name;
	/* NULL: out of memory. */
	void *(*open)(void);
	void (*close)(void *state);
	/*
	 * Unpacks from `in` into `buf`; *out says how much came. Uses some
	 * input, fills buf, or finishes a frame, as long as there is input.
	 * *inside: whether it stopped in the middle of a frame. NULL, or a text
	 * that says what is wrong.
	 */
	const char *(*step)(void *state, struct stream_input *in, void *buf,
			    size_t len, size_t *out, bool *inside);
};

/* NULL for STREAM_PLAIN. */
const struct stream_codec *stream_codec_of(enum stream_kind kind);

/*
 * The size of what all frames of a zstd file hold together, from their headers.
 * False if one of them does not say.
 */
bool stream_zstd_size(struct storage *file, uint64_t *size);

#endif
