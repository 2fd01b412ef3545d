/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How far a long job is, and whether to stop it.
 *
 * The job's threads report; whoever shows it reads, from a thread of its own or
 * a signal's. No callback runs inside the job.
 */
#ifndef PLATTER_BLOCK_PROGRESS_H
#define PLATTER_BLOCK_PROGRESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct progress {
	_Atomic uint64_t done;	/* units of work, bytes as a rule */
	_Atomic uint64_t total; /* 0 while not known */
	_Atomic bool cancelled; /* set from outside: stop cleanly, -ECANCELED */
};

/* All take NULL. */
static inline void progress_total(struct progress *p, uint64_t total)
{
	if (p)
		atomic_store_explicit(&p->total, total, memory_order_relaxed);
}

static inline void progress_advance(struct progress *p, uint64_t units)
{
	if (p)
		atomic_fetch_add_explicit(&p->done, units,
					  memory_order_relaxed);
}

static inline bool progress_cancelled(const struct progress *p)
{
	return p && atomic_load_explicit(&p->cancelled, memory_order_relaxed);
}

#endif
