/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Tries to get out of the sandbox: enters it as a command does, and then makes
 * the one call that its argument names. Lives only if that call is allowed:
 * prints "alive" and the result, and exits with 0.
 *
 *	escape CALL [FOLDER]     names may change in FOLDER
 *	escape --list            the calls that have to kill, one a line
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "block/error.h"
#include "cli/sandbox.h"

static long raw_open(void)
{
	return syscall(SYS_open, "/etc/passwd", O_RDONLY);
}

static long raw_openat(void)
{
	return syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY);
}

static long raw_openat2(void)
{
	uint64_t how[3] = {0};

	return syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", how, sizeof(how));
}

static long raw_creat(void)
{
	return syscall(SYS_creat, "made", 0600);
}

static long raw_stat(void)
{
	struct stat st;

	return fstatat(AT_FDCWD, "/etc/passwd", &st, 0);
}

static long raw_readlink(void)
{
	char target[64];

	return readlink("/proc/self/exe", target, sizeof(target));
}

static long raw_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0);
}

static long raw_socketpair(void)
{
	int fds[2];

	return socketpair(AF_UNIX, SOCK_STREAM, 0, fds);
}

static long raw_connect(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET};

	return connect(0, (struct sockaddr *)&to, sizeof(to));
}

static long raw_bind(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET};

	return bind(0, (struct sockaddr *)&to, sizeof(to));
}

static long raw_sendmsg(void)
{
	struct msghdr message = {0};

	return sendmsg(0, &message, 0);
}

static long raw_execve(void)
{
	char *const nothing[] = {NULL};

	return execve("/bin/true", nothing, nothing);
}

static long raw_execveat(void)
{
	return syscall(SYS_execveat, AT_FDCWD, "/bin/true", NULL, NULL, 0);
}

static long raw_fork(void)
{
	return syscall(SYS_fork);
}

static long raw_vfork(void)
{
	return syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);
}

static long raw_clone(void)
{
	return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static long raw_clone_space(void)
{
	return syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
}

static long raw_unshare(void)
{
	return unshare(CLONE_NEWUSER);
}

static long raw_ptrace(void)
{
	return ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static long raw_process_vm(void)
{
	return syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0);
}

static long raw_kill(void)
{
	return kill(getpid(), 0);
}

static long raw_tgkill(void)
{
	return syscall(SYS_tgkill, 1, 1, 0);
}

static long raw_io_uring(void)
{
	struct io_uring_params params = {0};

	return syscall(SYS_io_uring_setup, 1, &params);
}

static long raw_mmap_exec(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? -1 : 0;
}

static long raw_mprotect_exec(void)
{
	static char page[8192];
	uintptr_t at = ((uintptr_t)page + 4095) & ~(uintptr_t)4095;

	return mprotect((void *)at, 4096, PROT_READ | PROT_EXEC);
}

static long raw_memfd(void)
{
	return memfd_create("x", 0);
}

static long raw_prctl(void)
{
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static long raw_setrlimit(void)
{
	struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};

	return setrlimit(RLIMIT_CPU, &limit);
}

static long raw_setuid(void)
{
	return setuid(0);
}

static long raw_chmod(void)
{
	return chmod("escape", 04755);
}

static long raw_fchmod(void)
{
	return fchmod(1, 0777);
}

static long raw_mkdir(void)
{
	return mkdir("made", 0700);
}

static long raw_symlink(void)
{
	return symlink("/etc/passwd", "made");
}

static long raw_link(void)
{
	return link("/etc/passwd", "made");
}

static long raw_rename(void)
{
	return rename("victim", "other");
}

static long raw_unlink(void)
{
	return unlink("victim");
}

static long raw_mount(void)
{
	return syscall(SYS_mount, "x", "/", "tmpfs", 0, NULL);
}

static long raw_chroot(void)
{
	return chroot("/");
}

static long raw_bpf(void)
{
	return syscall(SYS_bpf, 0, NULL, 0);
}

static long raw_perf(void)
{
	return syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0);
}

static long raw_userfaultfd(void)
{
	return syscall(SYS_userfaultfd, 0);
}

static long raw_ioctl(void)
{
	char byte = 'x';

	return syscall(SYS_ioctl, 0, 0x5412 /* TIOCSTI */, &byte);
}

static long raw_lseek(void)
{
	return lseek(1, 0, SEEK_SET);
}

static long raw_dup(void)
{
	return dup2(1, 0);
}

static long raw_fcntl_owner(void)
{
	return fcntl(0, F_SETOWN, 1);
}

static long raw_pidfd(void)
{
	return syscall(SYS_pidfd_getfd, 0, 0, 0);
}

/* ---- what has to live ---- */

static void *do_nothing(void *opaque)
{
	return opaque;
}

static long good_thread(void)
{
	pthread_t thread;
	int ret = pthread_create(&thread, NULL, do_nothing, NULL);

	return ret ? ret : pthread_join(thread, NULL);
}

static long good_memory(void)
{
	void *p = malloc(64u << 20);

	free(p);
	return p ? 0 : -1;
}

/* More than is allowed: a clean failure. */
static long good_memory_bomb(void)
{
	for (int i = 0; i < 64; i++) {
		volatile char *p = malloc(64u << 20);

		if (!p)
			return 0;
		p[0] = 1;
	}
	return -1;
}

static long good_cpu_bomb(void)
{
	volatile unsigned long i = 0;

	while (i != ULONG_MAX)
		i++;
	return -1;
}

/* In the folder it is allowed, outside Landlock refuses it. */
static long good_rename(void)
{
	return rename("folder/victim", "folder/other");
}

static long good_rename_out(void)
{
	return rename("victim", "folder/other");
}

static long good_unlink_out(void)
{
	return unlink("victim");
}

/* Descriptor 77 was open before, and was not kept. */
static long good_closed(void)
{
	char byte;

	return read(77, &byte, 1);
}

struct attempt {
	const char *name;
	long (*call)(void);
	bool kills;
};

#define KILLS(name)                     \
	{                               \
#name, raw_##name, true \
	}
#define LIVES(name)                       \
	{                                 \
#name, good_##name, false \
	}

static const struct attempt attempts[] = {
	KILLS(open),	      KILLS(openat),	  KILLS(openat2),
	KILLS(creat),	      KILLS(stat),	  KILLS(readlink),
	KILLS(socket),	      KILLS(socketpair),  KILLS(connect),
	KILLS(bind),	      KILLS(sendmsg),	  KILLS(execve),
	KILLS(execveat),      KILLS(fork),	  KILLS(vfork),
	KILLS(clone),	      KILLS(clone_space), KILLS(unshare),
	KILLS(ptrace),	      KILLS(process_vm),  KILLS(kill),
	KILLS(tgkill),	      KILLS(io_uring),	  KILLS(mmap_exec),
	KILLS(mprotect_exec), KILLS(memfd),	  KILLS(prctl),
	KILLS(setrlimit),     KILLS(setuid),	  KILLS(chmod),
	KILLS(fchmod),	      KILLS(mkdir),	  KILLS(symlink),
	KILLS(link),	      KILLS(rename),	  KILLS(unlink),
	KILLS(mount),	      KILLS(chroot),	  KILLS(bpf),
	KILLS(perf),	      KILLS(userfaultfd), KILLS(ioctl),
	KILLS(lseek),	      KILLS(dup),	  KILLS(fcntl_owner),
	KILLS(pidfd),	      LIVES(thread),	  LIVES(memory),
	LIVES(memory_bomb),   LIVES(cpu_bomb),	  LIVES(rename),
	LIVES(rename_out),    LIVES(unlink_out),  LIVES(closed),
};

#define COUNT (sizeof(attempts) / sizeof(attempts[0]))

static int list(void)
{
	for (size_t i = 0; i < COUNT; i++)
		if (attempts[i].kills)
			puts(attempts[i].name);
	return 0;
}

static const struct attempt *find(const char *name, bool kills)
{
	for (size_t i = 0; i < COUNT; i++)
		if (attempts[i].kills == kills &&
		    !strcmp(attempts[i].name, name))
			return &attempts[i];
	return NULL;
}

int main(int argc, char **argv)
{
	struct sandbox sandbox = {
		.folder_fd = -1,
		.memory_bytes = 512u << 20,
		.cpu_seconds = 1,
	};
	const struct attempt *attempt;
	struct error err = {0};
	bool lives;
	long ret;

	if (argc < 2)
		return 2;
	if (!strcmp(argv[1], "--list"))
		return list();
	lives = argc > 2;
	attempt = find(argv[1], !lives);
	if (!attempt)
		return 2;
	if (lives)
		sandbox.folder_fd = open(argv[2], O_RDONLY | O_DIRECTORY);
	if (dup2(0, 77) != 77 || sandbox_enter(&sandbox, &err) < 0) {
		fprintf(stderr, "%s\n", err.message);
		return 3;
	}
	ret = attempt->call();
	printf("alive %ld %s\n", ret, ret ? strerrorname_np(errno) : "");
	return 0;
}
