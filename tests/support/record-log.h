/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads what the preloaded recorder has logged (record.h), as changes from
 * which crash states are made and marks that say which command was under way.
 */
#ifndef PLATTER_TESTS_SUPPORT_RECORD_LOG_H
#define PLATTER_TESTS_SUPPORT_RECORD_LOG_H

#include <stdbool.h>

#include "tests/support/log-storage.h"

struct record_mark {
	size_t log_pos; /* it was made before this entry of the log */
	bool done;	/* the command was acknowledged, not just begun */
	uint64_t command;
};

struct record_log {
	struct storage_log changes;
	struct record_mark *marks; /* in the order of the log */
	size_t mark_count, mark_capacity;
};

/*
 * `start` is the file before the first record, `end_path` the file now: the
 * log has to lead from one to the other. 0, or -1 with the reason; release in
 * both cases. Aborts when out of memory.
 */
int record_log_read(struct record_log *out, const char *path,
		    const struct flat_disk *start, const char *end_path,
		    char *why, size_t why_len);
void record_log_release(struct record_log *log);

#endif
