/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A sparse map from page numbers to pages of 64 KiB (4 KiB for fuzzing), for
 * the storages that keep bytes in memory: a tree of fixed fan-out that is as
 * high as the largest page number needs, so an image may claim any size and
 * costs only what is used.
 *
 * No locks: the caller keeps changes apart from everything else.
 */
#ifndef PLATTER_BLOCK_STORAGE_PAGES_H
#define PLATTER_BLOCK_STORAGE_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef PLATTER_SMALL_BUFFERS
#define PAGES_PAGE_SIZE 4096u
#else
#define PAGES_PAGE_SIZE 65536u
#endif

struct pages_node;

/* All zeros is an empty map. */
struct pages {
	struct pages_node *root;
	unsigned height;     /* levels of nodes; 0 without a root */
	uint64_t used_count; /* pages that hold memory */
};

/* Stands for a page of zeros without memory of its own; read only. */
extern const uint8_t pages_zero_mark[PAGES_PAGE_SIZE];

void pages_release(struct pages *p);

/* NULL if there is no page; otherwise good for reading. */
const uint8_t *pages_get(const struct pages *p, uint64_t idx);

/* The page for writing: made, zero filled, where absent or a mark. Or NULL. */
uint8_t *pages_make(struct pages *p, uint64_t idx);

/* 0 or -ENOMEM. */
int pages_mark_zero(struct pages *p, uint64_t idx);

void pages_drop(struct pages *p, uint64_t idx);

/* Every page from number `idx` on. */
void pages_drop_from(struct pages *p, uint64_t idx);

/* The first page (or mark) at or after `from`; false if there is none. */
bool pages_next(const struct pages *p, uint64_t from, uint64_t *idx);

/* Goes through a vector at a place in the store, cut at ends of pages. */
struct pages_walk {
	const struct iovec *iov;
	int iov_count;
	size_t skip;  /* bytes of iov[0] that are done */
	uint64_t off; /* in the store */
};

struct pages_piece {
	uint8_t *buf; /* in the vector */
	size_t len;   /* > 0 */
	uint64_t off; /* in the store */
	uint64_t idx; /* of the page, and */
	size_t in_page;
};

/* False at the end of the vector. */
bool pages_walk_next(struct pages_walk *w, struct pages_piece *out);

/* The first piece of a range without a vector. */
struct pages_piece pages_first_piece(uint64_t off, uint64_t len);

#endif
