/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every sequence of up to three operations out of a fixed table, numbered: what
 * chance would take long to come across.
 */
#ifndef PLATTER_TESTS_SUPPORT_OP_SEQUENCES_H
#define PLATTER_TESTS_SUPPORT_OP_SEQUENCES_H

#include "tests/support/workload.h"

#define OP_SEQUENCE_LONGEST 3

/* Indices into the table. */
struct op_sequence {
	unsigned count, ops[OP_SEQUENCE_LONGEST];
};

uint64_t op_sequence_count(void);
/* `number` is below the count. */
struct op_sequence op_sequence_get(uint64_t number);
/*
 * The operation on the image as it is now; true if a flush is to follow.
 * Write tags come from the oracle.
 */
bool op_sequence_make(struct workload_op *op, unsigned index,
		      struct disk_oracle *oracle, const struct image *img,
		      const struct workload_geometry *geometry);

#endif
