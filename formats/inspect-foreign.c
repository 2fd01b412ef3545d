/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Formats that nothing here can judge, and those that are packed: refused
 * by name, so that nobody takes them for raw disks (spec: reliability 5).
 */
#include "block/format.h"
#include "block/inspect-rule.h"
#include "formats/foreign.h"

#define SECTOR 512

static void refuse_all(struct inspection *in, const struct probe_input *file)
{
	const char *name;
	size_t next = 0;

	while ((name = format_next_foreign(file, &next))) {
		inspect_claim(in, name);
		inspect_unsafe(in, "format-not-allowed",
			       "files of the format %s cannot be judged here",
			       name);
	}
}

void foreign_inspect(struct inspection *in)
{
	struct probe_input file = {.head = inspect_head(in), .filename = ""};

	refuse_all(in, &file);
	/* A head outranks an end, which may be guest data. */
	if (inspect_unclaimed(in) &&
	    inspect_tail(in, SECTOR, &file.tail) == INSPECT_HERE)
		refuse_all(in, &file);
}
