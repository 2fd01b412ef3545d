/* SPDX-License-Identifier: BSD-3-Clause */
/* Small qcow2 images in memory, built by hand. */
#include "tests/support/qcow2-builder.h"

#include <assert.h>
#include <string.h>

#include "block/storage.h"
#include "block/storage/memory.h"
#include "formats/qcow2/layout.h"

#define ORDER 4

static uint64_t block_slots(const struct qcow2_builder *b)
{
	return 1ull << (b->cluster_bits + 3 - ORDER);
}

uint64_t qcow2_builder_take(struct qcow2_builder *b, uint64_t clusters)
{
	uint64_t host_off = b->next << b->cluster_bits;
	static const uint8_t zero[1];

	for (uint64_t i = 0; i < clusters; i++)
		qcow2_builder_use(b, (b->next + i) << b->cluster_bits);
	b->next += clusters;
	assert(!storage_write(b->file, zero, 1,
			      (b->next << b->cluster_bits) - 1));
	return host_off;
}

void qcow2_builder_use(struct qcow2_builder *b, uint64_t host_off)
{
	uint64_t cluster = host_off >> b->cluster_bits;
	size_t i = 0;

	while (i < b->used_count && b->used[i].cluster != cluster)
		i++;
	if (i == b->used_count) {
		assert(i < QCOW2_BUILDER_USED_MAX);
		b->used[b->used_count++].cluster = cluster;
	}
	b->used[i].count++;
}

void qcow2_builder_put(struct qcow2_builder *b, uint64_t host_off,
		       uint64_t value)
{
	be64_t disk = be64_make(value);

	assert(!storage_write(b->file, &disk, sizeof(disk), host_off));
}

uint64_t qcow2_builder_get(struct qcow2_builder *b, uint64_t host_off)
{
	be64_t disk;

	assert(!storage_read(b->file, &disk, sizeof(disk), host_off));
	return be64_get(disk);
}

void qcow2_builder_init(struct qcow2_builder *b, unsigned cluster_bits,
			uint32_t l1_entries, uint32_t reftable_clusters)
{
	uint64_t size = 1ull << cluster_bits;

	memset(b, 0, sizeof(*b));
	b->cluster_bits = cluster_bits;
	b->l1_entries = l1_entries;
	b->reftable_clusters = reftable_clusters;
	assert(!storage_memory_new(&b->file, "built.qcow2", 0));
	qcow2_builder_take(b, 1);
	b->reftable_off = qcow2_builder_take(b, reftable_clusters);
	b->l1_off = qcow2_builder_take(
		b, div_round_up(l1_entries * sizeof(be64_t), size));
}

uint64_t qcow2_builder_count_off(struct qcow2_builder *b, uint64_t host_off)
{
	uint64_t cluster = host_off >> b->cluster_bits;
	uint64_t entry_off =
		b->reftable_off + cluster / block_slots(b) * sizeof(be64_t);
	uint64_t block_off = qcow2_builder_get(b, entry_off);

	if (!block_off) {
		block_off = qcow2_builder_take(b, 1);
		qcow2_builder_put(b, entry_off, block_off);
	}
	return block_off + cluster % block_slots(b) * sizeof(be16_t);
}

static void write_header(struct qcow2_builder *b)
{
	uint64_t table_bytes = 1ull << (2 * b->cluster_bits - 3);
	struct qcow2_header_disk h = {
		.magic = be32_make(QCOW2_MAGIC),
		.version = be32_make(3),
		.cluster_bits = be32_make(b->cluster_bits),
		.size = be64_make(b->l1_entries * table_bytes),
		.l1_size = be32_make(b->l1_entries),
		.l1_table_offset = be64_make(b->l1_off),
		.refcount_table_offset = be64_make(b->reftable_off),
		.refcount_table_clusters = be32_make(b->reftable_clusters),
		.refcount_order = be32_make(ORDER),
		.header_length = be32_make(sizeof(h)),
	};

	assert(!storage_write(b->file, &h, sizeof(h), 0));
}

/* Blocks that are made on the way are used too, so the list may grow. */
void qcow2_builder_finish(struct qcow2_builder *b)
{
	for (size_t i = 0; i < b->used_count; i++) {
		uint64_t off = qcow2_builder_count_off(
			b, b->used[i].cluster << b->cluster_bits);
		be16_t count = be16_make((uint16_t)b->used[i].count);

		assert(!storage_write(b->file, &count, sizeof(count), off));
	}
	write_header(b);
}
