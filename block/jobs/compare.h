/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Do two images hold the same disk? Compared by what a guest reads, whatever
 * the formats and the chains are.
 *
 * Both are walked in step. What both know to be zero, and what both keep in the
 * same place of the same file, is not read. The answer is that of the lowest
 * offset that differs or fails, whatever the number of threads.
 */
#ifndef PLATTER_BLOCK_JOBS_COMPARE_H
#define PLATTER_BLOCK_JOBS_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

struct error;
struct image;
struct progress;

enum compare_kind {
	COMPARE_IDENTICAL,
	COMPARE_CONTENT, /* other bytes, or a tail that is not zero */
	COMPARE_STATUS,	 /* strict only: allocated or zero in one of them */
	COMPARE_SIZE,	 /* strict only: other sizes; nothing was read */
};

/* What went wrong where compare_images() fails. */
enum compare_failure {
	COMPARE_FAILED_NONE,
	COMPARE_FAILED_STATUS, /* where the bytes are could not be told */
	COMPARE_FAILED_READ,
	COMPARE_FAILED_OTHER, /* cancelled, no memory */
};

struct compare_args {
	struct image *a, *b; /* nobody writes to them meanwhile */
	bool strict;	     /* sizes and block status have to agree as well */
	unsigned threads;    /* 0: as many as pay */
	struct progress *progress; /* may be NULL; bytes of the larger disk */
};

struct compare_result {
	enum compare_kind kind;
	uint64_t offset;   /* of the first difference, in whole sectors */
	bool size_differs; /* the longer one's tail has to be zero */
	enum compare_failure failure;
	const struct image *failed; /* whose failure: a or b; may be NULL */
};

/*
 * 0 if there is an answer, else a negative errno: out->failure tells the kind.
 * -ECANCELED if `progress` says so. Any thread.
 */
int compare_images(const struct compare_args *args, struct compare_result *out,
		   struct error *err);

#endif
