/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a disk may hold when the power goes. Between two syncs of a log any part
 * of the changes may have arrived:
 *
 *	few changes      every subset
 *	many             every prefix, all but one, one alone, pairs of small
 *	                 writes alone or missing, random subsets
 *	torn             one write at borders of 512 bytes: a half, random
 *	                 sectors, all but one sector; many writes at once
 *	order            overlapping changes the other way round
 *	length           of the file: behind its data, or ahead of it
 *
 * A state that equals one judged before in the same stretch is left out.
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
