/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A qcow2 image that does not exist yet: what was asked for, and where its
 * parts will be. Shared by create, preallocation and measure; pure.
 */
#ifndef PLATTER_FORMATS_QCOW2_NEW_IMAGE_H
#define PLATTER_FORMATS_QCOW2_NEW_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "block/storage.h"

struct error;
struct options;
struct progress;

/* The options of a new image, checked against each other. */
struct qcow2_new {
	uint64_t size_bytes; /* not from the options; a multiple of 512 */
	uint32_t version;    /* 2 or 3 */
	uint32_t cluster_bits;
	unsigned refcount_order;
	uint8_t compression_type;
	bool lazy_refcounts;
	enum prealloc_mode prealloc;
	const char *backing_name, *backing_format; /* borrowed, or NULL */
	/* These can be measured, but not made. */
	bool extended_l2;
	uint32_t crypt_method;
	const char *data_file; /* borrowed */
	bool data_file_raw;
};

int qcow2_new_parse(struct qcow2_new *out, const struct options *opts,
		    struct error *err);
int qcow2_new_check_supported(const struct qcow2_new *n, struct error *err);

/*
 * Where things go, in clusters from the start of the file:
 *
 *	header | refcount table | refcount blocks | L1 | L2 tables | data
 *
 * Without preallocation there are no L2 tables and no data, and this is what
 * QEMU writes too, byte for byte in the common case.
 */
struct qcow2_plan {
	uint64_t reftable_first, reftable_count;
	uint64_t refblock_first, refblock_count;
	uint64_t l1_first, l1_count, l1_entries;
	uint64_t l2_first, l2_count;
	uint64_t data_first, data_count;
	uint64_t total; /* clusters, all of them used once */
};

/*
 * The clusters that count `used` clusters and themselves: the least numbers of
 * blocks and table clusters that cover everything.
 */
void qcow2_plan_refcounts(uint64_t used, unsigned cluster_bits,
			  unsigned refcount_order, uint64_t *table_clusters,
			  uint64_t *blocks);
/* -EFBIG if a table would be larger than readers accept. */
int qcow2_plan_make(struct qcow2_plan *out, const struct qcow2_new *n,
		    struct error *err);

/*
 * Writes counts, L1 and L2 tables of the plan into the store and brings it to
 * its length, as n->prealloc says. Everything but the header.
 */
int qcow2_plan_write(struct storage *s, const struct qcow2_plan *plan,
		     const struct qcow2_new *n, struct progress *progress,
		     struct error *err);

#endif
