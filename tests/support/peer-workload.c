/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. */
#include "tests/support/peer-workload.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/image.h"
#include "tests/support/borrowed-storage.h"

#define TINY_CACHES  "l2-cache-size=4096,refcount-cache-size=4096"
#define LIKE_DEFAULT "l2-cache-size=1048576"
#define ON_BASE	     ",backing_file=base,backing_fmt=raw"

#define KIB 1024

const struct peer_geometry peer_geometries[] = {
	{.image = {.name = "512",
		   .create = "cluster_size=512",
		   .open = TINY_CACHES,
		   .size_bytes = 64 * KIB,
		   .size_max = 64 * KIB}},
	{.image = {.name = "4k",
		   .create = "cluster_size=4096",
		   .open = TINY_CACHES,
		   .size_bytes = 256 * KIB,
		   .size_max = 256 * KIB}},
	{.image = {.name = "64k",
		   .create = "cluster_size=65536",
		   .open = LIKE_DEFAULT,
		   .size_bytes = 1024 * KIB,
		   .size_max = 1024 * KIB}},
	{.image = {.name = "512-v2",
		   .create = "cluster_size=512,compat=0.10",
		   .open = TINY_CACHES,
		   .size_bytes = 64 * KIB,
		   .size_max = 64 * KIB}},
	{.image = {.name = "4k-base",
		   .create = "cluster_size=4096" ON_BASE,
		   .open = TINY_CACHES,
		   .size_bytes = 128 * KIB,
		   .size_max = 128 * KIB,
		   .base_bytes = 100 * KIB}},
	{.image = {.name = "4k-packed",
		   .create = "cluster_size=4096",
		   .open = TINY_CACHES,
		   .size_bytes = 512 * KIB,
		   .size_max = 512 * KIB},
	 .packs = true},
	{.image = {.name = "512-resized",
		   .create = "cluster_size=512",
		   .open = TINY_CACHES,
		   .size_bytes = 64 * KIB,
		   .size_max = 160 * KIB}},
	{.image = {.name = "4k-snapshot",
		   .create = "cluster_size=4096",
		   .open = TINY_CACHES,
		   .size_bytes = 128 * KIB,
		   .size_max = 128 * KIB,
		   .snapshot = true}},
};
const unsigned peer_geometry_count =
	sizeof(peer_geometries) / sizeof(peer_geometries[0]);

struct maker {
	const struct peer_geometry *geometry;
	struct image *img; /* of the start */
	struct disk_oracle oracle;
	bool *touched; /* by guest cluster */
	uint64_t *random;
};

/* Both programs refuse to pack what is allocated, but not the same clusters. */
static void allow_packed(struct maker *m, struct workload_op *op)
{
	uint64_t size = m->img->cluster_size;
	uint64_t first = op->guest_off / size;
	uint64_t end = div_round_up(op->guest_off + op->len, size);

	if (op->kind == WORK_FLUSH || op->kind == WORK_RESIZE)
		return;
	if (op->kind == WORK_PACKED &&
	    (!m->geometry->packs || m->touched[first]))
		op->kind = WORK_WRITE;
	memset(m->touched + first, true, end - first);
}

static void make_op(struct maker *m, struct workload_op *op)
{
	const struct workload_geometry *image = &m->geometry->image;

	do {
		workload_next(op, m->random, &m->oracle, m->img, image);
	} while (op->kind == WORK_RESIZE &&
		 image->size_max == image->size_bytes);
	allow_packed(m, op);
	workload_begun(&m->oracle, op);
	if (op->kind == WORK_FLUSH)
		disk_oracle_flushed(&m->oracle);
	/* The image is only there to ask: nothing is done to it. */
	if (op->kind == WORK_RESIZE)
		m->img->size_bytes = op->len;
}

void peer_ops_make(struct workload_op *ops, size_t count,
		   const struct peer_geometry *geometry,
		   const struct flat_disk *start, uint64_t *random)
{
	const struct workload_geometry *image = &geometry->image;
	struct maker m = {.geometry = geometry, .random = random};

	if (workload_open(&m.img, storage_borrow(start), image, false) < 0)
		abort();
	m.touched = calloc(image->size_max / ORACLE_SECTOR, sizeof(bool));
	if (!m.touched)
		abort();
	workload_oracle_init(&m.oracle, image);
	for (size_t i = 0; i < count; i++)
		make_op(&m, &ops[i]);
	disk_oracle_release(&m.oracle);
	free(m.touched);
	image_close(m.img);
}

static const char *words(enum workload_kind kind)
{
	switch (kind) {
	case WORK_WRITE:
		return "write -q -s";
	case WORK_PACKED:
		return "write -q -c -s";
	case WORK_ZERO:
		return "write -q -z";
	case WORK_UNMAP:
		return "write -q -z -u";
	case WORK_DISCARD:
		return "discard -q";
	case WORK_FLUSH:
		return "flush";
	case WORK_RESIZE:
		return "truncate";
	}
	abort();
}

void peer_command(const struct workload_op *op, const char *source, char *line,
		  size_t size)
{
	const char *verb = words(op->kind);

	if (op->kind == WORK_FLUSH)
		snprintf(line, size, "%s", verb);
	else if (op->kind == WORK_RESIZE)
		snprintf(line, size, "%s %" PRIu64, verb, op->len);
	else if (op->kind == WORK_WRITE || op->kind == WORK_PACKED)
		snprintf(line, size, "%s %s %" PRIu64 " %" PRIu64, verb, source,
			 op->guest_off, op->len);
	else
		snprintf(line, size, "%s %" PRIu64 " %" PRIu64, verb,
			 op->guest_off, op->len);
}
