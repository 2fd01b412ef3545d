/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One crash run: operations on a fresh qcow2 image are logged at the storage,
 * crash states are made from the log, and each must open, check without
 * corruption, and hold in every sector what the oracle allows. Some are opened
 * for writing and used on, which finds damage that shows late.
 */
#ifndef PLATTER_TESTS_SUPPORT_CRASH_RUN_H
#define PLATTER_TESTS_SUPPORT_CRASH_RUN_H

#include <stdbool.h>
#include <stdint.h>

struct op_trace;
struct workload_geometry;

/* The same case gives the same states. */
struct crash_case {
	const struct workload_geometry *geometry;
	uint64_t seed; /* not 0 */
	/* NULL, or what is done; not longer than CRASH_STEPS_MAX. */
	const struct op_trace *trace;
	int64_t sequence; /* else: of op-sequences.h; -1: random operations */
	unsigned steps;	  /* so many, if random; up to CRASH_STEPS_MAX */
	unsigned sparse;  /* one state of so many is judged; 0: all */
};

#define CRASH_STEPS_MAX 5000

struct crash_totals {
	uint64_t states, violations;
};

/* Adds to the totals; tells of the first violations on stderr. */
void crash_run(const struct crash_case *c, struct crash_totals *totals);
/* The command that shows the case again, to stderr. */
void crash_case_print(const struct crash_case *c);

/* --break: false where the program's own rules cannot be broken. */
bool crash_break_rule(uint64_t rule);

#endif
