/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sparse pages: a radix tree over the bits of the page number, six per level.
 *
 * The leaves' slots hold pages, or the address of the zero mark; every slot
 * above holds a node or NULL. Nodes are given back with the whole map only.
 */
#include "block/storage/pages.h"

#include <errno.h>
#include <stdlib.h>

#include "block/bytes.h"

#define LEVEL_BITS 6u
#define SLOT_COUNT (1u << LEVEL_BITS)

struct pages_node {
	void *slot[SLOT_COUNT];
};

const uint8_t pages_zero_mark[PAGES_PAGE_SIZE];

static bool is_mark(const void *page)
{
	return page == pages_zero_mark;
}

static unsigned slot_of(uint64_t idx, unsigned level)
{
	return idx >> (level * LEVEL_BITS) & (SLOT_COUNT - 1);
}

/* How many page numbers a node with `level` levels under it covers, less 1. */
static uint64_t span_mask(unsigned level)
{
	unsigned bits = (level + 1) * LEVEL_BITS;

	return bits >= 64 ? UINT64_MAX : (1ull << bits) - 1;
}

static void free_page(struct pages *p, void *page)
{
	if (page && !is_mark(page)) {
		free(page);
		p->used_count--;
	}
}

static void free_node(struct pages *p, struct pages_node *node, unsigned level)
{
	if (!node)
		return;
	for (unsigned i = 0; i < SLOT_COUNT; i++) {
		if (level)
			free_node(p, node->slot[i], level - 1);
		else
			free_page(p, node->slot[i]);
	}
	free(node);
}

void pages_release(struct pages *p)
{
	if (p->root)
		free_node(p, p->root, p->height - 1);
	p->root = NULL;
	p->height = 0;
}

/* The leaf slot, or NULL if the tree has no node for it. */
static void **find_slot(const struct pages *p, uint64_t idx)
{
	struct pages_node *node = p->root;

	if (!node || idx > span_mask(p->height - 1))
		return NULL;
	for (unsigned level = p->height - 1; level && node; level--)
		node = node->slot[slot_of(idx, level)];
	return node ? &node->slot[slot_of(idx, 0)] : NULL;
}

/* Adds levels on top until the root covers `idx`. */
static int grow_height(struct pages *p, uint64_t idx)
{
	while (!p->root || idx > span_mask(p->height - 1)) {
		struct pages_node *top = calloc(1, sizeof(*top));

		if (!top)
			return -ENOMEM;
		top->slot[0] = p->root;
		p->root = top;
		p->height++;
	}
	return 0;
}

/* The leaf slot, with all nodes on the way to it; NULL without memory. */
static void **make_slot(struct pages *p, uint64_t idx)
{
	struct pages_node *node;

	if (grow_height(p, idx))
		return NULL;
	node = p->root;
	for (unsigned level = p->height - 1; level; level--) {
		void **slot = &node->slot[slot_of(idx, level)];

		if (!*slot)
			*slot = calloc(1, sizeof(*node));
		if (!*slot)
			return NULL;
		node = *slot;
	}
	return &node->slot[slot_of(idx, 0)];
}

const uint8_t *pages_get(const struct pages *p, uint64_t idx)
{
	void **slot = find_slot(p, idx);

	return slot ? *slot : NULL;
}

uint8_t *pages_make(struct pages *p, uint64_t idx)
{
	void **slot = make_slot(p, idx);
	void *page;

	if (!slot)
		return NULL;
	if (*slot && !is_mark(*slot))
		return *slot;
	page = calloc(1, PAGES_PAGE_SIZE);
	if (!page)
		return NULL;
	*slot = page;
	p->used_count++;
	return page;
}

int pages_mark_zero(struct pages *p, uint64_t idx)
{
	void **slot = make_slot(p, idx);

	if (!slot)
		return -ENOMEM;
	free_page(p, *slot);
	*slot = (void *)(uintptr_t)pages_zero_mark;
	return 0;
}

void pages_drop(struct pages *p, uint64_t idx)
{
	void **slot = find_slot(p, idx);

	if (slot) {
		free_page(p, *slot);
		*slot = NULL;
	}
}

void pages_drop_from(struct pages *p, uint64_t idx)
{
	while (pages_next(p, idx, &idx))
		pages_drop(p, idx);
}

/* The first page under `node`, whose number is `from` (node-relative) or up. */
static bool next_under(const struct pages_node *node, unsigned level,
		       uint64_t from, uint64_t *idx)
{
	for (unsigned i = slot_of(from, level); i < SLOT_COUNT; i++) {
		uint64_t base = (uint64_t)i << (level * LEVEL_BITS);

		if (node->slot[i] && !level) {
			*idx = i;
			return true;
		}
		if (node->slot[i] &&
		    next_under(node->slot[i], level - 1,
			       from > base ? from - base : 0, idx)) {
			*idx += base;
			return true;
		}
	}
	return false;
}

bool pages_next(const struct pages *p, uint64_t from, uint64_t *idx)
{
	if (!p->root || from > span_mask(p->height - 1))
		return false;
	return next_under(p->root, p->height - 1, from, idx);
}

struct pages_piece pages_first_piece(uint64_t off, uint64_t len)
{
	struct pages_piece piece = {
		.off = off,
		.idx = off / PAGES_PAGE_SIZE,
		.in_page = off % PAGES_PAGE_SIZE,
	};

	piece.len = min_u64(len, PAGES_PAGE_SIZE - piece.in_page);
	return piece;
}

bool pages_walk_next(struct pages_walk *w, struct pages_piece *out)
{
	while (w->iov_count && w->skip == w->iov->iov_len) {
		w->iov++;
		w->iov_count--;
		w->skip = 0;
	}
	if (!w->iov_count)
		return false;
	*out = pages_first_piece(w->off, w->iov->iov_len - w->skip);
	out->buf = (uint8_t *)w->iov->iov_base + w->skip;
	w->skip += out->len;
	w->off += out->len;
	return true;
}
