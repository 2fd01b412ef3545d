/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A cage for the process itself, entered before the first byte of an untrusted
 * image is looked at (spec: reliability 5). There is no way out of it.
 *
 * What is left afterwards: the descriptors that were open and are kept, memory,
 * threads, and time, each in bounds. In the order in which they are put on:
 *	descriptors	all but stdin, stdout, stderr and the kept ones closed
 *	limits		memory, CPU time, no core dumps, no other debuggers
 *	Landlock	nothing by path; in one folder a name may be made or
 *			removed, for the rename of a new file
 *	seccomp		a list of system calls; any other kills the process
 *
 * Builds with a sanitizer or with coverage, whose runtime opens files and
 * reserves memory as it likes, stop after the limits on CPU time and core
 * dumps; they are for tests.
 */
#ifndef PLATTER_CLI_SANDBOX_H
#define PLATTER_CLI_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;

#define SANDBOX_KEEP_MAX 300

struct sandbox {
	/* Goes on without a layer that the kernel lacks. */
	bool best_effort;
	int kept[SANDBOX_KEEP_MAX]; /* descriptors; any order */
	size_t kept_count;
	int folder_fd;		  /* names may change in there; -1: nowhere */
	const char *cleanup_path; /* removed when the CPU time is used up */
	uint64_t memory_bytes;	  /* of address space; 0: no limit */
	uint64_t cpu_seconds;	  /* from now on; 0: no limit */
};

/*
 * Enters it. On error the process may be half inside and is to end. Call it
 * before the first thread is started. Texts that `sandbox` points to stay.
 */
int sandbox_enter(const struct sandbox *sandbox, struct error *err);

/* Has it been entered? */
bool sandbox_entered(void);

#endif
