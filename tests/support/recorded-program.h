/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs a program that takes commands line by line and prompts with "> ", with
 * the recorder preloaded. Commands are given one at a time; that one was begun
 * and acknowledged is marked in the recorder's log.
 *
 * One thread. Failures: -1 with the reason.
 */
#ifndef PLATTER_TESTS_SUPPORT_RECORDED_PROGRAM_H
#define PLATTER_TESTS_SUPPORT_RECORDED_PROGRAM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct recorded_program {
	pid_t pid;
	int to, from; /* its stdin, its stdout and stderr */
	int log;
};

struct recorded_program_args {
	const char *const *argv; /* ends with NULL */
	const char *recorder;	 /* the library */
	const char *image;	 /* the file that is watched */
	const char *log;	 /* made anew */
};

/* Returns when it prompts for the first time. */
int recorded_program_start(struct recorded_program *p,
			   const struct recorded_program_args *args, char *why,
			   size_t why_len);
/* Returns when it has answered, which it has to do with silence. */
int recorded_program_do(struct recorded_program *p, const char *line,
			uint64_t number, char *why, size_t why_len);
/* Has it quit, and waits; a failure of the program's is one. */
int recorded_program_quit(struct recorded_program *p, uint64_t number,
			  char *why, size_t why_len);
/* After any other failure. */
void recorded_program_kill(struct recorded_program *p);

#endif
