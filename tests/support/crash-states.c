/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. */
#include "tests/support/crash-states.h"

#include <stdlib.h>

#include "tests/support/workload.h"

#define SUBSETS_ALL_BELOW 6 /* so many pending changes: every subset */
#define SAMPLES		  20

struct epoch {
	const struct crash_states *crash;
	struct flat_disk durable, state;
	const struct log_entry **pending; /* room for the whole log */
	size_t count;
};

static uint64_t dice(const struct epoch *e)
{
	return workload_random(e->crash->random);
}

static void judge(struct epoch *e)
{
	e->crash->judge(e->crash->opaque, &e->state);
}

static void subset_state(struct epoch *e, uint64_t mask)
{
	flat_disk_copy(&e->state, &e->durable);
	for (size_t i = 0; i < e->count; i++) {
		if (mask >> i & 1)
			flat_disk_apply(&e->state, e->pending[i]);
	}
	judge(e);
}

/* Everything but `skip`, up to and without `end`. */
static void prefix_state(struct epoch *e, size_t end, size_t skip)
{
	flat_disk_copy(&e->state, &e->durable);
	for (size_t i = 0; i < end; i++) {
		if (i != skip)
			flat_disk_apply(&e->state, e->pending[i]);
	}
	judge(e);
}

static void random_state(struct epoch *e)
{
	flat_disk_copy(&e->state, &e->durable);
	for (size_t i = 0; i < e->count; i++) {
		if (dice(e) & 1)
			flat_disk_apply(&e->state, e->pending[i]);
	}
	judge(e);
}

/* Random ones reach the disk, each of them torn in some way. */
static void torn_state(struct epoch *e)
{
	flat_disk_copy(&e->state, &e->durable);
	for (size_t i = 0; i < e->count; i++) {
		uint64_t d = dice(e);

		if (d % 3 == 0)
			continue;
		flat_disk_apply_torn(&e->state, e->pending[i],
				     d % 3 == 1 ? UINT64_MAX : dice(e));
	}
	judge(e);
}

static void epoch_states(struct epoch *e)
{
	size_t n = e->count;

	if (n <= SUBSETS_ALL_BELOW) {
		for (uint64_t mask = 0; mask < 1ull << n; mask++)
			subset_state(e, mask);
	} else {
		for (unsigned i = 0; i < SAMPLES; i++) {
			prefix_state(e, dice(e) % (n + 1), SIZE_MAX);
			prefix_state(e, n, dice(e) % n);
			random_state(e);
		}
	}
	for (unsigned i = 0; n && i < SAMPLES / 2; i++)
		torn_state(e);
}

static void make_durable(struct epoch *e)
{
	for (size_t i = 0; i < e->count; i++)
		flat_disk_apply(&e->durable, e->pending[i]);
	e->count = 0;
}

void crash_states_run(const struct crash_states *crash)
{
	const struct storage_log *log = crash->log;
	struct epoch e = {.crash = crash};

	e.pending = calloc(log->count + 1, sizeof(*e.pending));
	if (!e.pending)
		abort();
	flat_disk_copy(&e.durable, crash->start);
	for (size_t i = 0; i < log->count; i++) {
		if (crash->reach)
			crash->reach(crash->opaque, i);
		if (log->entries[i].kind != LOG_SYNC) {
			e.pending[e.count++] = &log->entries[i];
			continue;
		}
		epoch_states(&e);
		make_durable(&e);
	}
	/* What no sync follows any more. */
	if (e.count)
		epoch_states(&e);
	make_durable(&e);
	flat_disk_copy(&e.state, &e.durable);
	judge(&e);
	free(e.pending);
	flat_disk_release(&e.durable);
	flat_disk_release(&e.state);
}
