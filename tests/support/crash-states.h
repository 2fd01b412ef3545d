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
 *	several files    what arrived of one combined with what did of another:
 *	                 none, all, a prefix, a subset
 *
 * A sync makes durable what came before it in its own file; changes of other
 * files stay pending. A state that equals one judged before since the last sync
 * is left out.
 *
 * One thread; aborts when out of memory. The same log and random numbers give
 * the same states.
 */
#ifndef PLATTER_TESTS_SUPPORT_CRASH_STATES_H
#define PLATTER_TESTS_SUPPORT_CRASH_STATES_H

#include "tests/support/log-storage.h"

struct crash_states {
	const struct storage_log *log;
	const struct flat_disk *start; /* each file before the first entry */
	unsigned file_count;	       /* in `start`; 0 is one, too */
	uint64_t *random;	       /* of workload_random() */
	/* One state of so many is judged, and the last; 0: all. */
	unsigned sparse;
	/*
	 * The states that follow may have all entries before this one. Called
	 * in the order of the log, and for its end; may be NULL.
	 */
	void (*reach)(void *opaque, size_t log_pos);
	/* Each file as a crash leaves it; valid until it returns. */
	void (*judge)(void *opaque, const struct flat_disk *files);
	void *opaque;
};

void crash_states_run(const struct crash_states *crash);

#endif
