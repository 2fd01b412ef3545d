/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. */
#include "tests/shim/fault-plan.h"

#include <dirent.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* More than any way from main() to a library's allocation. */
#define DEPTH_MAX 64
/* More than the program has calls of what is intercepted. */
#define SITES_MAX 4096u
/* A line of text for each. */
#define REPORT_MAX (SITES_MAX * 64u)

#define FAULT_NAME(name) #name,
static const char *const kind_names[] = {FAULT_KINDS(FAULT_NAME)};

/* Set before main() and constant from then on. */
static struct {
	int kind; /* -1: none */
	uint64_t nth;
	uintptr_t place; /* where calls count and fail; 0: anywhere */
	int code;	 /* 0: shorten */
	size_t keep;	 /* at most so much of a transfer; 0: half */
	size_t drop;	 /* or so much less */
	bool lasting;
	uintptr_t start, end; /* of the program's code */
	uintptr_t base;
} plan = {.kind = -1};

/*
 * The file of the report, mapped: a sandbox closes every descriptor that it
 * does not know. NULL: none is wanted.
 */
static char *report;
static size_t report_used;

static _Atomic uint64_t calls[FAULT_KIND_COUNT];
static _Atomic uint64_t failed[FAULT_KIND_COUNT];
/* The C library's start and end allocate as well: no business of ours. */
static _Atomic bool active;
static _Atomic bool locked_up;

struct site {
	uintptr_t address; /* 0: free */
	enum fault_kind kind;
	uint64_t calls, failed;
};

static pthread_mutex_t sites_lock = PTHREAD_MUTEX_INITIALIZER;
static struct site sites[SITES_MAX]; /* open addressing */
/*
 * Calls of this thread are none of the program's. Unwinding, for example, takes
 * memory the first time.
 */
static _Thread_local bool noting;

/* ---- places ---- */

/* The innermost return address in the program; 0 if there is none. */
static uintptr_t place_in_program(void)
{
	void *frames[DEPTH_MAX];
	int depth = backtrace(frames, DEPTH_MAX);

	for (int i = 0; i < depth; i++) {
		uintptr_t at = (uintptr_t)frames[i];

		if (at >= plan.start && at < plan.end)
			return at;
	}
	return 0;
}

static struct site *find_site(uintptr_t address, enum fault_kind kind)
{
	uint64_t hash =
		(address * FAULT_KIND_COUNT + kind) * 0x9e3779b97f4a7c15;

	for (uint64_t i = hash >> 48;; i++) {
		struct site *site = &sites[i % SITES_MAX];

		if (!site->address)
			*site = (struct site){address, kind, 0, 0};
		if (site->address == address && site->kind == kind)
			return site;
	}
}

static bool strikes(enum fault_kind kind, uint64_t call)
{
	return (int)kind == plan.kind && plan.nth && call >= plan.nth &&
	       (call == plan.nth || plan.lasting);
}

/* Counts it for its place, and says whether it is to fail. */
static bool note_call(enum fault_kind kind, uint64_t call)
{
	bool fails = !plan.place && strikes(kind, call);
	uintptr_t at = place_in_program();
	struct site *site;

	if (!at)
		return fails;
	pthread_mutex_lock(&sites_lock);
	site = find_site(at, kind);
	site->calls++;
	if (plan.place && at == plan.base + plan.place)
		fails = strikes(kind, site->calls);
	site->failed += fails;
	pthread_mutex_unlock(&sites_lock);
	return fails;
}

/* ---- judging ---- */

enum fault_verdict fault_judge(enum fault_kind kind)
{
	int kept = errno;
	uint64_t call;
	bool fails;

	if (!atomic_load(&active) || noting)
		return FAULT_PASS;
	call = atomic_fetch_add(&calls[kind], 1) + 1;
	noting = true;
	fails = note_call(kind, call);
	noting = false;
	errno = kept;
	if (!fails)
		return FAULT_PASS;
	atomic_fetch_add(&failed[kind], 1);
	return plan.code ? FAULT_FAIL : FAULT_SHORTEN;
}

int fault_code(void)
{
	return plan.code;
}

size_t fault_shortened(size_t len)
{
	size_t less = plan.keep ? plan.keep : len / 2;

	if (plan.drop)
		less = len > plan.drop ? len - plan.drop : len;
	return less && less < len ? less : len;
}

void fault_spare(bool spared)
{
	noting = spared;
}

void fault_stop(void)
{
	atomic_store(&active, false);
}

void fault_locked_up(void)
{
	atomic_store(&locked_up, true);
}

/* ---- start ---- */

static int kind_of(const char *name)
{
	for (int i = 0; i < FAULT_KIND_COUNT; i++)
		if (!strcmp(name, kind_names[i]))
			return i;
	return -1;
}

static void read_way(const char *how)
{
	if (!strcmp(how, "less1"))
		plan.drop = 1;
	else if (!strcmp(how, "512"))
		plan.keep = 512;
	else if (strcmp(how, "half") != 0)
		plan.code = (int)strtoul(how, NULL, 10);
}

static void read_plan(const char *text)
{
	char name[16], which[40], how[16];
	char *at;
	int lasting;

	if (sscanf(text, "%15[^:]:%39[^:]:%15[^:]:%d", name, which, how,
		   &lasting) != 4 ||
	    (plan.kind = kind_of(name)) < 0) {
		fprintf(stderr, "fault.so: PLATTER_FAULT=%s\n", text);
		_exit(125);
	}
	plan.nth = strtoull(which, &at, 10);
	if (*at == '@')
		plan.place = strtoul(at + 1, NULL, 16);
	plan.lasting = lasting;
	read_way(how);
}

/* The first object is the program itself. */
static int find_program(struct dl_phdr_info *info, size_t size, void *unused)
{
	(void)size;
	(void)unused;
	plan.base = info->dlpi_addr;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &info->dlpi_phdr[i];

		if (part->p_type != PT_LOAD || !(part->p_flags & PF_X))
			continue;
		plan.start = plan.base + part->p_vaddr;
		plan.end = plan.start + part->p_memsz;
	}
	return 1;
}

/* The file is as long as the map; behind the text it holds NULs. */
static void map_report(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	void *map = MAP_FAILED;

	if (fd >= 0 && !ftruncate(fd, REPORT_MAX))
		map = mmap(NULL, REPORT_MAX, PROT_READ | PROT_WRITE, MAP_SHARED,
			   fd, 0);
	if (map == MAP_FAILED) {
		perror("fault.so: PLATTER_FAULT_REPORT");
		_exit(125);
	}
	close(fd);
	report = map;
}

__attribute__((constructor)) static void start(void)
{
	const char *text = getenv("PLATTER_FAULT");
	const char *path = getenv("PLATTER_FAULT_REPORT");

	if (path)
		map_report(path);
	if (!text)
		return;
	read_plan(text);
	dl_iterate_phdr(find_program, NULL);
	place_in_program();
	atomic_store(&active, true);
}

/* ---- end ---- */

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
	size_t room = REPORT_MAX - report_used;
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(report + report_used, room, format, args);
	va_end(args);
	if (len > 0 && (size_t)len < room)
		report_used += (size_t)len;
}

static void report_descriptors(void)
{
	DIR *folder = opendir("/proc/self/fd");
	struct dirent *entry;
	int count = 0;

	if (!folder)
		return;
	while ((entry = readdir(folder))) {
		int fd = (int)strtol(entry->d_name, NULL, 10);

		count += *entry->d_name != '.' && fd > 2 && fd != dirfd(folder);
	}
	closedir(folder);
	say("open %d\n", count);
}

__attribute__((destructor)) static void end(void)
{
	fault_stop();
	if (!report || plan.kind < 0)
		return;
	for (int i = 0; i < FAULT_KIND_COUNT; i++)
		say("%s %llu %llu\n", kind_names[i],
		    (unsigned long long)calls[i],
		    (unsigned long long)failed[i]);
	for (unsigned i = 0; i < SITES_MAX; i++) {
		const struct site *site = &sites[i];

		if (site->address)
			say("site %s %#lx %llu %llu\n", kind_names[site->kind],
			    (unsigned long)(site->address - plan.base),
			    (unsigned long long)site->calls,
			    (unsigned long long)site->failed);
	}
	if (!atomic_load(&locked_up))
		report_descriptors();
}
