/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What must hold of checks and repairs, whatever the image; violations abort.
 *
 * A check writes nothing. A repair says truly what is left, so that a check
 * after it finds the same; if nothing was, a second repair finds nothing to do.
 * Guest bytes of an image that has leaks at most read the same after it. The
 * file grows by no more than new refcounts for what it had.
 *
 * One thread.
 */
#ifndef PLATTER_TESTS_SUPPORT_QCOW2_JUDGE_H
#define PLATTER_TESTS_SUPPORT_QCOW2_JUDGE_H

#include <stdbool.h>
#include <stdint.h>

#include "block/format.h"
#include "tests/support/qcow2-patch.h"

struct image;
struct storage;

/* A copy in memory, opened with caches that are always too small; or NULL. */
struct image *qcow2_judge_open(const struct qcow2_bytes *b, unsigned flags);

/* All bytes of a store; the caller frees them. */
struct qcow2_bytes qcow2_judge_copy(struct storage *s);

/*
 * Checks, or repairs what is asked for, a copy. False if the image cannot be
 * checked; else *after are its bytes then, which the caller frees.
 */
bool qcow2_judge_check(const struct qcow2_bytes *b, bool fix_leaks,
		       bool fix_errors, struct check_result *result,
		       struct qcow2_bytes *after);

/*
 * How many corruptions of the last check were nothing but a missing COPIED flag
 * of a cluster with one reference: what is left, without harm, when the other
 * one of two references was written to.
 */
uint64_t qcow2_judge_missing_flags(void);

/*
 * After a check that found `found`: false for an image with so many faults, or
 * so large a table that is not there, that all which comes next would take a
 * hundred times as long as for others. One of sixteen is borne all the same.
 */
bool qcow2_judge_is_bearable(const struct check_result *found);

/* Checks, repairs leaks, repairs all, and judges each; if it is bearable. */
void qcow2_judge_repairs(const struct qcow2_bytes *b);

#endif
