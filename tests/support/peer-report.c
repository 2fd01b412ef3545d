/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. */
#include "tests/support/peer-report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COMMAND_SIZE 600

const char *const peer_violation_names[PEER_VIOLATIONS] = {
	"flushed data lost", "neither old nor new", "another address's data",
	"not readable",	     "snapshot changed",    "metadata corrupt",
	"does not open",
};

static void print_version(const struct peer_subject *subject, char *out,
			  size_t size)
{
	char command[COMMAND_SIZE], line[128] = "";
	FILE *from;
	size_t at;

	snprintf(command, sizeof(command), "'%s' --version", subject->path);
	from = popen(command, "re");
	if (!from || !fgets(line, sizeof(line), from))
		snprintf(line, sizeof(line), "unknown");
	if (from)
		pclose(from);
	at = strcspn(line, "0123456789");
	snprintf(out, size, "%s %.*s", subject->label,
		 (int)strspn(line + at, "0123456789."), line + at);
}

static void print_row(const char *what, uint64_t ours, uint64_t peers)
{
	printf("%-24s %20" PRIu64 " %20" PRIu64 "\n", what, ours, peers);
}

static void print_table(const char *const versions[2],
			const struct peer_tally t[2])
{
	printf("%-24s %20s %20s\n", "", versions[0], versions[1]);
	print_row("sequences", t[0].sequences, t[1].sequences);
	print_row("writes recorded", t[0].writes, t[1].writes);
	print_row("holes recorded", t[0].punches, t[1].punches);
	print_row("syncs recorded", t[0].syncs, t[1].syncs);
	print_row("crash states", t[0].states, t[1].states);
	print_row("states with a violation", t[0].wrong_states,
		  t[1].wrong_states);
	for (unsigned i = 0; i < PEER_VIOLATIONS; i++)
		print_row(peer_violation_names[i], t[0].violations[i],
			  t[1].violations[i]);
}

bool peer_tally_proves(const struct peer_tally *t)
{
	return !t->broken_runs && t->sequences && t->states && t->writes &&
	       t->syncs;
}

void peer_report(const struct peer_subject subjects[2],
		 const struct peer_tally tallies[2])
{
	char names[2][64];
	const char *const versions[2] = {names[0], names[1]};

	for (unsigned i = 0; i < 2; i++)
		print_version(&subjects[i], names[i], sizeof(names[i]));
	print_table(versions, tallies);
	for (int i = 1; i >= 0; i--)
		printf("%s: %" PRIu64 " crash states, %" PRIu64
		       " with a violation\n",
		       versions[i], tallies[i].states, tallies[i].wrong_states);
}
