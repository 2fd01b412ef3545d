/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bounds on descriptors, memory and time, and the preparations that have to be
 * made while files can still be opened.
 */
#include <jansson.h>
#include <linux/close_range.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "block/error.h"
#include "block/storage/pipe.h"
#include "cli/sandbox-private.h"

/* Many threads have to fit into the bound on memory. */
#define THREAD_STACK_BYTES (512u * 1024)
/* Between the signal and the kill, for whoever blocks the signal. */
#define GRACE_SECONDS 5

/* ---- CPU time ---- */

/* What the handler of the signal says and removes: it cannot ask. */
static char cpu_message[160];
static const char *cleanup_path;

static void cpu_time_is_up(int sig)
{
	(void)sig;
	(void)pipe_write(STDERR_FILENO, cpu_message, strlen(cpu_message));
	if (cleanup_path)
		unlink(cleanup_path);
	_exit(1);
}

static int limit_cpu(const struct sandbox *sandbox)
{
	struct sigaction action = {.sa_handler = cpu_time_is_up};
	struct rlimit limit;
	struct timespec used;
	rlim_t until;

	if (!sandbox->cpu_seconds)
		return 0;
	snprintf(cpu_message, sizeof(cpu_message),
		 "%s: More than %llu seconds of CPU time were used for an "
		 "untrusted image; --max-cpu gives it more\n",
		 program_invocation_short_name,
		 (unsigned long long)sandbox->cpu_seconds);
	cleanup_path = sandbox->cleanup_path;
	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) ||
	    getrlimit(RLIMIT_CPU, &limit) || sigaction(SIGXCPU, &action, NULL))
		return -errno;
	until = (rlim_t)used.tv_sec + sandbox->cpu_seconds;
	if (limit.rlim_cur <= until)
		return 0;
	limit.rlim_cur = until;
	if (limit.rlim_max > until + GRACE_SECONDS)
		limit.rlim_max = until + GRACE_SECONDS;
	return setrlimit(RLIMIT_CPU, &limit) ? -errno : 0;
}

/* ---- memory ---- */

static int lower_limit(int resource, rlim_t value)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit))
		return -errno;
	if (limit.rlim_max > value)
		limit.rlim_max = value;
	if (limit.rlim_cur > value)
		limit.rlim_cur = value;
	return setrlimit(resource, &limit) ? -errno : 0;
}

/*
 * One arena: others reserve much address space, and when they shrink they read
 * a file below /proc.
 */
static int limit_memory(const struct sandbox *sandbox)
{
	pthread_attr_t attr;
	int ret;

	mallopt(M_ARENA_MAX, 1);
	ret = pthread_attr_init(&attr);
	if (ret)
		return -ret;
	ret = pthread_attr_setstacksize(&attr, THREAD_STACK_BYTES);
	if (!ret)
		ret = pthread_setattr_default_np(&attr);
	pthread_attr_destroy(&attr);
	if (ret || !sandbox->memory_bytes)
		return -ret;
	return lower_limit(RLIMIT_AS, sandbox->memory_bytes);
}

/* ---- descriptors ---- */

static int by_number(const void *a, const void *b)
{
	const int *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Closes [first, last]; kernels without the call keep them. */
static void close_between(unsigned first, unsigned last)
{
	if (first <= last)
		(void)syscall(SYS_close_range, first, last, 0);
}

static void close_others(const struct sandbox *sandbox)
{
	int kept[SANDBOX_KEEP_MAX + 1];
	size_t count = sandbox->kept_count;
	unsigned next = STDERR_FILENO + 1;

	memcpy(kept, sandbox->kept, count * sizeof(kept[0]));
	if (sandbox->folder_fd >= 0)
		kept[count++] = sandbox->folder_fd;
	qsort(kept, count, sizeof(kept[0]), by_number);
	for (size_t i = 0; i < count; i++) {
		if (kept[i] < (int)next)
			continue;
		close_between(next, (unsigned)kept[i] - 1);
		next = (unsigned)kept[i] + 1;
	}
	close_between(next, ~0u);
}

/* ---- libraries ---- */

/* The time zone, the seed of hash tables, the configuration of OpenSSL. */
static void warm_up(void)
{
	tzset();
	json_object_seed(0);
	OPENSSL_init_crypto(OPENSSL_INIT_ADD_ALL_DIGESTS, NULL);
	OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL);
}

int sandbox_limit(const struct sandbox *sandbox, struct error *err)
{
	int ret;

	warm_up();
	close_others(sandbox);
	ret = lower_limit(RLIMIT_CORE, 0);
	if (!ret)
		ret = limit_cpu(sandbox);
	if (!ret && !SANDBOX_SANITIZED)
		ret = limit_memory(sandbox);
	return ret ? error_set_errno(err, -ret,
				     "The limits of --untrusted could not be "
				     "set")
		   : 0;
}
