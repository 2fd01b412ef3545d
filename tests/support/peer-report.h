/* SPDX-License-Identifier: BSD-3-Clause */
/* What crash_peer counts of two programs, and the table of it. */
#ifndef PLATTER_TESTS_SUPPORT_PEER_REPORT_H
#define PLATTER_TESTS_SUPPORT_PEER_REPORT_H

#include <stdbool.h>
#include <stdint.h>

/* LOST: nobody was about to overwrite it; UNWRITTEN: somebody was. */
enum peer_violation {
	PEER_LOST,
	PEER_UNWRITTEN,
	PEER_FOREIGN,
	PEER_UNREADABLE,
	PEER_SNAPSHOT,
	PEER_CORRUPT,
	PEER_SHUT,
	PEER_VIOLATIONS,
};

extern const char *const peer_violation_names[PEER_VIOLATIONS];

/* All that is known of one program's runs; passes through a pipe. */
struct peer_tally {
	uint64_t sequences, writes, punches, syncs, states, wrong_states;
	uint64_t violations[PEER_VIOLATIONS]; /* states that show it */
	uint64_t broken_runs;		      /* that could not be judged */
};

struct peer_subject {
	const char *label; /* for messages */
	const char *path;
	bool is_ours;
};

/* False for a run that proves nothing, which must not pass for a good one. */
bool peer_tally_proves(const struct peer_tally *t);
/* Ours first, then the peer's, side by side; its last line is of ours. */
void peer_report(const struct peer_subject subjects[2],
		 const struct peer_tally tallies[2]);

#endif
