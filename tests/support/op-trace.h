/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a guest's file system did to its disk, as tests/crash/traces has it: the
 * requests without the data, for which each write gets a tag of its own.
 */
#ifndef PLATTER_TESTS_SUPPORT_OP_TRACE_H
#define PLATTER_TESTS_SUPPORT_OP_TRACE_H

#include "tests/support/workload.h"

struct op_trace {
	char path[256];
	uint64_t disk_bytes;
	struct workload_op *ops; /* without tags */
	size_t count;
};

/*
 * 0, or -1 with the reason: not readable, not of that form, or a request beyond
 * the end of the disk. Release in both cases. Aborts when out of memory.
 */
int op_trace_read(struct op_trace *out, const char *path, char *why,
		  size_t why_len);
void op_trace_release(struct op_trace *trace);

#endif
