/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * seccomp: the system calls that reading images and writing one takes, most of
 * them on descriptors that are open. Every other one kills the process.
 *
 * Calls whose arguments decide what they do have a condition each: memory is
 * never executable, a clone is a thread, a signal goes to this process only,
 * a status is asked of a descriptor and not of a path.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/error.h"
#include "cli/sandbox-private.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const int plain_calls[] = {
	/* bytes of open files */
	SCMP_SYS(read),
	SCMP_SYS(readv),
	SCMP_SYS(pread64),
	SCMP_SYS(preadv),
	SCMP_SYS(preadv2),
	SCMP_SYS(write),
	SCMP_SYS(writev),
	SCMP_SYS(pwrite64),
	SCMP_SYS(pwritev),
	SCMP_SYS(pwritev2),
	SCMP_SYS(copy_file_range),
	SCMP_SYS(fallocate),
	SCMP_SYS(ftruncate),
	SCMP_SYS(fsync),
	SCMP_SYS(fdatasync),
	SCMP_SYS(sync_file_range),
	SCMP_SYS(fadvise64),
	SCMP_SYS(readahead),
	SCMP_SYS(fstat),
	SCMP_SYS(close),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	/* memory */
	SCMP_SYS(brk),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	/* threads and signals */
	SCMP_SYS(futex),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigtimedwait),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	/* time, chance, and how much memory there is (qsort) */
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(getrandom),
	SCMP_SYS(sysinfo),
};

/* Only where Landlock allows it: in the folder of the new file. */
static const int name_calls[] = {
	SCMP_SYS(rename), SCMP_SYS(renameat), SCMP_SYS(renameat2),
	SCMP_SYS(unlink), SCMP_SYS(unlinkat),
};

static const unsigned long ioctls[] = {
	TCGETS,
	BLKDISCARD,
	BLKZEROOUT,
	FICLONERANGE,
	/* advice to file systems about new files */
	FS_IOC_GETFLAGS,
	FS_IOC_SETFLAGS,
	FS_IOC_FSGETXATTR,
	FS_IOC_FSSETXATTR,
};

static const int fcntls[] = {
	F_GETFL, F_SETFL, F_GETFD, F_SETFD, F_OFD_SETLK, F_OFD_GETLK,
};

/* Positions for looking for holes; streams of stdio aside, none is moved. */
static const int whences[] = {SEEK_DATA, SEEK_HOLE, SEEK_END};

static int allow_each(scmp_filter_ctx filter, const int *calls, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);

		if (ret)
			return ret;
	}
	return 0;
}

static struct scmp_arg_cmp arg_is(unsigned arg, scmp_datum_t value)
{
	return (struct scmp_arg_cmp){
		.arg = arg,
		.op = SCMP_CMP_EQ,
		.datum_a = value,
	};
}

static struct scmp_arg_cmp arg_masked(unsigned arg, scmp_datum_t mask,
				      scmp_datum_t value)
{
	return (struct scmp_arg_cmp){
		.arg = arg,
		.op = SCMP_CMP_MASKED_EQ,
		.datum_a = mask,
		.datum_b = value,
	};
}

static int allow_if(scmp_filter_ctx filter, int call, struct scmp_arg_cmp cond)
{
	return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call, 1, &cond);
}

static int allow_descriptors(scmp_filter_ctx filter)
{
	int ret = allow_if(filter, SCMP_SYS(newfstatat),
			   arg_masked(3, AT_EMPTY_PATH, AT_EMPTY_PATH));

	for (size_t i = 0; !ret && i < COUNT(ioctls); i++)
		ret = allow_if(filter, SCMP_SYS(ioctl), arg_is(1, ioctls[i]));
	for (size_t i = 0; !ret && i < COUNT(fcntls); i++)
		ret = allow_if(filter, SCMP_SYS(fcntl),
			       arg_is(1, (scmp_datum_t)fcntls[i]));
	for (size_t i = 0; !ret && i < COUNT(whences); i++)
		ret = allow_if(filter, SCMP_SYS(lseek),
			       arg_is(2, (scmp_datum_t)whences[i]));
	/* stdio asks where a descriptor stands. */
	if (!ret)
		ret = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(lseek),
				       2, arg_is(1, 0), arg_is(2, SEEK_CUR));
	/* What it has read ahead of stdin is given back at the end. */
	if (!ret)
		ret = allow_if(filter, SCMP_SYS(lseek),
			       arg_is(0, STDIN_FILENO));
	return ret;
}

static int allow_memory(scmp_filter_ctx filter)
{
	const struct scmp_arg_cmp not_executable = arg_masked(2, PROT_EXEC, 0);
	int ret = allow_if(filter, SCMP_SYS(mmap), not_executable);

	return ret ? ret : allow_if(filter, SCMP_SYS(mprotect), not_executable);
}

/*
 * The flags of clone3 are out of reach for a filter: the C library, told that
 * there is no such call, uses clone.
 */
static int allow_threads(scmp_filter_ctx filter)
{
	const scmp_datum_t thread = CLONE_VM | CLONE_FS | CLONE_FILES |
				    CLONE_SIGHAND | CLONE_THREAD;
	const scmp_datum_t spaces = CLONE_NEWNS | CLONE_NEWCGROUP |
				    CLONE_NEWUTS | CLONE_NEWIPC |
				    CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
	int ret = allow_if(filter, SCMP_SYS(clone),
			   arg_masked(0, thread | spaces, thread));

	if (!ret)
		ret = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS),
				       SCMP_SYS(clone3), 0);
	if (!ret)
		ret = allow_if(filter, SCMP_SYS(tgkill),
			       arg_is(0, (scmp_datum_t)getpid()));
	return ret;
}

static int load(bool names_change, scmp_filter_ctx filter)
{
	int ret = allow_each(filter, plain_calls, COUNT(plain_calls));

	if (!ret && names_change)
		ret = allow_each(filter, name_calls, COUNT(name_calls));
	if (!ret)
		ret = allow_descriptors(filter);
	if (!ret)
		ret = allow_memory(filter);
	if (!ret)
		ret = allow_threads(filter);
	/* All threads: there is one, but a mistake is not to open a door. */
	if (!ret)
		ret = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	return ret ? ret : seccomp_load(filter);
}

int sandbox_filter(bool names_change, struct error *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int ret = filter ? load(names_change, filter) : -ENOMEM;

	if (filter)
		seccomp_release(filter);
	return ret ? error_set_errno(err, -ret, "the filter was not accepted")
		   : 0;
}
