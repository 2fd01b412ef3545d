/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The images and commands of crash_peer: random operations as lines for
 * `platter io` and qemu-io, which both take.
 *
 * One thread; aborts when out of memory.
 */
#ifndef PLATTER_TESTS_SUPPORT_PEER_WORKLOAD_H
#define PLATTER_TESTS_SUPPORT_PEER_WORKLOAD_H

#include "tests/support/log-storage.h"
#include "tests/support/workload.h"

struct peer_geometry {
	struct workload_geometry image; /* resized if size_max is larger */
	bool packs;
};

extern const struct peer_geometry peer_geometries[];
extern const unsigned peer_geometry_count;

/* The same for the same random numbers, whoever runs them. */
void peer_ops_make(struct workload_op *ops, size_t count,
		   const struct peer_geometry *geometry,
		   const struct flat_disk *start, uint64_t *random);
/* The command of the operation, whose data come from the file `source`. */
void peer_command(const struct workload_op *op, const char *source, char *line,
		  size_t size);

#endif
