/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Small qcow2 images in memory, built by hand: tables go where a test wants
 * them, sound or not, and the counts are made to match at the end. Asserts on
 * failure, since a test cannot go on then.
 */
#ifndef PLATTER_TESTS_SUPPORT_QCOW2_BUILDER_H
#define PLATTER_TESTS_SUPPORT_QCOW2_BUILDER_H

#include <stddef.h>
#include <stdint.h>

#define QCOW2_BUILDER_USED_MAX 4096

struct storage;

struct qcow2_builder {
	struct storage *file;
	unsigned cluster_bits;
	uint64_t l1_off, reftable_off;
	uint32_t l1_entries, reftable_clusters;
	uint64_t next; /* cluster that is handed out next */
	struct {
		uint64_t cluster, count;
	} used[QCOW2_BUILDER_USED_MAX];
	size_t used_count;
};

/* Version 3, counts of 16 bits. The file is as long as what was written. */
void qcow2_builder_init(struct qcow2_builder *b, unsigned cluster_bits,
			uint32_t l1_entries, uint32_t reftable_clusters);
/* New clusters, counted once; returns the host offset. */
uint64_t qcow2_builder_take(struct qcow2_builder *b, uint64_t clusters);
/* One more reference to the cluster at an offset. */
void qcow2_builder_use(struct qcow2_builder *b, uint64_t host_off);
void qcow2_builder_put(struct qcow2_builder *b, uint64_t host_off,
		       uint64_t value);
uint64_t qcow2_builder_get(struct qcow2_builder *b, uint64_t host_off);
/* Writes refcount blocks, table and header. Storage stays the caller's. */
void qcow2_builder_finish(struct qcow2_builder *b);
/* Where the 16 bit count of the cluster at an offset is stored. */
uint64_t qcow2_builder_count_off(struct qcow2_builder *b, uint64_t host_off);

#endif
