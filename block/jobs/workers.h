/* SPDX-License-Identifier: BSD-3-Clause */
/* Threads of a job: started for it, gone when it returns. */
#ifndef PLATTER_BLOCK_JOBS_WORKERS_H
#define PLATTER_BLOCK_JOBS_WORKERS_H

/* More threads than this never help; it bounds the memory of a job. */
#define WORKERS_MAX 16u

/*
 * Calls work(arg) on `count` threads, the caller's own among them, and returns
 * when every call has returned. Threads that cannot be started are done
 * without: the caller's always runs, so work that is handed out under a lock
 * gets done. Signals are left to the other threads of the program.
 */
void workers_run(unsigned count, void (*work)(void *arg), void *arg);

/* How many processors this process may use, 1..WORKERS_MAX. */
unsigned workers_cpu_count(void);

#endif
