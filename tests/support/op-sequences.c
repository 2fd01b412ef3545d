/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. */
#include "tests/support/op-sequences.h"

#include <assert.h>

#include "block/bytes.h"
#include "block/image.h"

/* Clusters plus sectors; a negative cluster counts from the disk's end. */
struct fixed_op {
	enum workload_kind kind;
	int cluster, sector;
	unsigned clusters, sectors;
	bool flush;
};

enum { GROWN = 1, HALVED = 2 }; /* `clusters` of a resize */

static const struct fixed_op fixed_ops[] = {
	{.kind = WORK_WRITE, .cluster = 1, .clusters = 1},
	{.kind = WORK_WRITE, .cluster = 1, .sector = 1, .sectors = 1},
	/* Across the border of two clusters. */
	{.kind = WORK_WRITE, .cluster = 3, .sector = -1, .sectors = 2},
	{.kind = WORK_WRITE, .cluster = 0, .clusters = 4},
	{.kind = WORK_WRITE, .cluster = -1, .clusters = 1},
	{.kind = WORK_WRITE, .cluster = 1, .clusters = 1, .flush = true},
	{.kind = WORK_ZERO, .cluster = 1, .clusters = 2},
	{.kind = WORK_ZERO, .cluster = 2, .sector = -1, .sectors = 2},
	{.kind = WORK_UNMAP, .cluster = 1, .clusters = 2},
	{.kind = WORK_DISCARD, .cluster = 0, .clusters = 3},
	{.kind = WORK_PACKED, .cluster = 1, .clusters = 1},
	{.kind = WORK_FLUSH},
	{.kind = WORK_RESIZE, .clusters = GROWN},
	{.kind = WORK_RESIZE, .clusters = HALVED},
};

#define FIXED_OPS (sizeof(fixed_ops) / sizeof(fixed_ops[0]))

uint64_t op_sequence_count(void)
{
	uint64_t all = 0, of_length = 1;

	for (unsigned i = 0; i < OP_SEQUENCE_LONGEST; i++) {
		of_length *= FIXED_OPS;
		all += of_length;
	}
	return all;
}

struct op_sequence op_sequence_get(uint64_t number)
{
	struct op_sequence seq = {.count = 1};
	uint64_t of_length = FIXED_OPS;

	assert(number < op_sequence_count());
	while (number >= of_length) {
		number -= of_length;
		of_length *= FIXED_OPS;
		seq.count++;
	}
	for (unsigned i = 0; i < seq.count; i++) {
		seq.ops[i] = (unsigned)(number % FIXED_OPS);
		number /= FIXED_OPS;
	}
	return seq;
}

static void make_resize(struct workload_op *op, const struct fixed_op *fixed,
			const struct image *img,
			const struct workload_geometry *geometry)
{
	op->old_size = img->size_bytes;
	op->len = fixed->clusters == GROWN ? geometry->size_max
					   : geometry->size_bytes / 2;
}

/* A disk of few clusters may end before the range does, or before it starts. */
static void place(struct workload_op *op, uint64_t off, uint64_t len,
		  const struct image *img)
{
	op->guest_off = min_u64(off, img->size_bytes - ORACLE_SECTOR);
	op->len = min_u64(len, img->size_bytes - op->guest_off);
}

bool op_sequence_make(struct workload_op *op, unsigned index,
		      struct disk_oracle *oracle, const struct image *img,
		      const struct workload_geometry *geometry)
{
	const struct fixed_op *fixed = &fixed_ops[index];
	int64_t cluster_size = img->cluster_size;
	int64_t off = fixed->cluster * cluster_size +
		      (int64_t)fixed->sector * ORACLE_SECTOR;

	*op = (struct workload_op){.kind = fixed->kind};
	if (op->kind == WORK_RESIZE) {
		make_resize(op, fixed, img, geometry);
		return fixed->flush;
	}
	if (off < 0)
		off += (int64_t)img->size_bytes;
	place(op, (uint64_t)off,
	      fixed->clusters * img->cluster_size +
		      (uint64_t)fixed->sectors * ORACLE_SECTOR,
	      img);
	if (op->kind == WORK_WRITE || op->kind == WORK_PACKED)
		op->tag = disk_oracle_new_tag(oracle);
	return fixed->flush;
}
