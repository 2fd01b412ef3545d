/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A storage that fails on purpose: the nth call of any of its operations, once
 * or from then on, in front of another storage.
 */
#ifndef PLATTER_TESTS_SUPPORT_FAULT_STORAGE_H
#define PLATTER_TESTS_SUPPORT_FAULT_STORAGE_H

#include "block/storage.h"

struct fault_plan {
	uint64_t nth;  /* call that fails, from 1; 0: none */
	bool for_ever; /* and all that follow it */
	int code;      /* positive errno */
	/*
	 * Where the base goes when the storage is closed, rather than being
	 * closed as well: what is left can be looked at. May be NULL.
	 */
	struct storage **keep;
	/* out */
	_Atomic uint64_t calls;
	_Atomic bool fired;
	/* A call has failed that was no advice: somebody has to hear of it. */
	_Atomic bool mattered;
	/* Of these, one that was to put something there: never excused. */
	_Atomic bool lost;
};

/* Takes over `base`; the plan is the caller's and outlives the storage. */
int storage_fault_new(struct storage **out, struct storage *base,
		      struct fault_plan *plan);

#endif
