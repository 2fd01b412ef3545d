/* SPDX-License-Identifier: BSD-3-Clause */
/* Shared by inspect.c (the verdict) and inspect-window.c (the bytes) only. */
#ifndef PLATTER_BLOCK_INSPECT_PRIVATE_H
#define PLATTER_BLOCK_INSPECT_PRIVATE_H

#include "block/inspect-rule.h"

#define PIECES_MAX 12
#define WISHES_MAX 8

/* A piece of the file at hand, or one that is wished for (data NULL). */
struct piece {
	uint64_t off;
	size_t len;
	uint8_t *data;
};

/*
 * What is known of a file: its head, pieces, and the end. Invariant of
 * streams: the last bytes read, INSPECT_TAIL_BYTES at most, are in `tail`.
 */
struct window {
	/* Where from: one of the two. */
	struct storage *file;
	inspect_read *read;
	void *opaque;

	uint64_t size; /* UINT64_MAX: not known yet */
	uint64_t pos;  /* streams: how much was read */
	uint64_t bytes_read;
	uint64_t held;
	uint8_t *head; /* INSPECT_HEAD_BYTES, zeros past the end */
	uint8_t tail[INSPECT_TAIL_BYTES];
	size_t tail_len;
	bool has_tail;
	struct piece pieces[PIECES_MAX];
	size_t piece_count;
	/* What the rules of this round lack. */
	struct piece wishes[WISHES_MAX];
	size_t wish_count;
	bool wants_tail;
};

/* Reads the head. `w` holds the source and nothing else. */
int window_open(struct window *w, struct error *err);
/* Reads what is wished for, and forgets the wishes. */
int window_fetch(struct window *w, struct error *err);
/* Reads to the end, if the size is not known yet. */
int window_find_size(struct window *w, struct error *err);
/* The answers of inspect_bytes() and inspect_tail(). */
enum inspect_answer window_bytes(struct window *w, uint64_t off, size_t len,
				 const uint8_t **out);
enum inspect_answer window_tail(struct window *w, size_t len,
				const uint8_t **out);
void window_close(struct window *w);

#endif
