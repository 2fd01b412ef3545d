/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which call is to fail, and what has come of it: the half of fault.so that
 * knows of no function by name.
 *
 *	PLATTER_FAULT=KIND:NTH[@OFFSET]:HOW:LASTING
 *
 * KIND is one of FAULT_KINDS. HOW is an errno in decimal, or for a transfer
 * "half" of what was asked, "less1" (all but a byte) or "512" (at most).
 * LASTING is 1 if all later calls of the kind fail as well. NTH 0 fails none
 * and counts all. With OFFSET (hexadecimal, of a place, see below) only calls
 * from there count and fail: with several threads no other number is the same
 * in every run.
 *
 * PLATTER_FAULT_REPORT names a file that gets, when the program ends,
 *
 *	KIND CALLS FAILED		for each kind
 *	site KIND OFFSET CALLS FAILED	for each place in the program
 *	open COUNT			descriptors open beside 0 to 2
 *
 * A place is the return address of the innermost call in the program itself,
 * from the start of its file: what a library allocates is put down to who asked
 * the library. Only calls through dynamic linking pass here, not those inside
 * the C library. Any thread.
 */
#ifndef PLATTER_TESTS_SHIM_FAULT_PLAN_H
#define PLATTER_TESTS_SHIM_FAULT_PLAN_H

#include <stdbool.h>
#include <stddef.h>

#define FAULT_KINDS(X) \
	X(read)        \
	X(write)       \
	X(sync)        \
	X(truncate)    \
	X(fallocate)   \
	X(lock)        \
	X(open)        \
	X(rename)      \
	X(seek)        \
	X(malloc)      \
	X(stat)        \
	X(ioctl)       \
	X(unlink)      \
	X(close) X(thread) X(random) X(map) X(sandbox) X(flags) X(owner)

#define FAULT_ENUM(name) FAULT_##name,
enum fault_kind { FAULT_KINDS(FAULT_ENUM) FAULT_KIND_COUNT };

/* FAULT_SHORTEN only where the plan asks for short transfers. */
enum fault_verdict { FAULT_PASS, FAULT_FAIL, FAULT_SHORTEN };

/* Counts the call. Keeps errno as it is. */
enum fault_verdict fault_judge(enum fault_kind kind);

/* The errno of the plan. */
int fault_code(void);

/* Of `len` bytes those that a shortened transfer moves; at least one. */
size_t fault_shortened(size_t len);

/* Meanwhile nothing counts or fails of what this thread calls. */
void fault_spare(bool spared);

/* From now on nothing counts or fails. */
void fault_stop(void);

/* From now on no file can be opened, not even at the end. */
void fault_locked_up(void);

#endif
