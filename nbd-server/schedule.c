/* SPDX-License-Identifier: BSD-3-Clause */
/* Policies of clients' threads: see schedule.h. */
#include "nbd-server/schedule.h"

#include <sched.h>

/* More than a Unix socket holds by default: its sender has to wait. */
#define LARGE_BYTES (208u * 1024)
/* So many others in a row are not the pauses of a copy. */
#define SMALL_COUNT 256u

static void become(struct nbd_schedule *s, bool batch)
{
	const struct sched_param none = {0};

	sched_setscheduler(0, batch ? SCHED_BATCH : SCHED_OTHER, &none);
	s->batch = batch;
}

void nbd_schedule_start(struct nbd_schedule *s)
{
	*s = (struct nbd_schedule){.ours = sched_getscheduler(0) ==
					   SCHED_OTHER};
	if (s->ours)
		become(s, true);
}

void nbd_schedule_note(struct nbd_schedule *s, uint64_t len)
{
	if (!s->ours)
		return;
	if (len >= LARGE_BYTES) {
		s->small = 0;
		if (s->batch)
			become(s, false);
	} else if (!s->batch && ++s->small >= SMALL_COUNT) {
		become(s, true);
	}
}
