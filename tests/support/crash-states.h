/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a disk may hold when the power goes: for every stretch of a log between
 * two syncs all subsets of its changes or, where there are many, prefixes, all
 * but one, random subsets; and random ones torn at sector borders.
 */
#ifndef PLATTER_TESTS_SUPPORT_CRASH_STATES_H
#define PLATTER_TESTS_SUPPORT_CRASH_STATES_H

#include "tests/support/log-storage.h"

struct crash_states {
	const struct storage_log *log;
	const struct flat_disk *start; /* before the first entry */
	uint64_t *random;	       /* of workload_random() */
	/* Called in the order of the log; may be NULL. */
	void (*reach)(void *opaque, size_t log_pos);
	void (*judge)(void *opaque, const struct flat_disk *state);
	void *opaque;
};

void crash_states_run(const struct crash_states *crash);

#endif
