/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Keeping two programs from one image (W12), in the way QEMU does it, so that
 * platter and QEMU respect each other.
 *
 * Every permission has two bytes of the file, beyond any meaning they have as
 * data: who uses the permission holds a shared lock on byte 100 + bit, and who
 * does not let others use it holds a shared lock on byte 200 + bit. All locks
 * are shared ones, so a file that is open for reading can be locked, and
 * setting them never fails among those who play by the rules. A conflict is
 * found afterwards: by asking whether an exclusive lock could be had on 200 +
 * bit of what we use and on 100 + bit of what we forbid. Two programs that
 * start together may both be refused, but never both succeed.
 *
 * The locks belong to the open file description and go with it.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/error.h"
#include "block/storage/file-private.h"

#define USED_BASE      100
#define FORBIDDEN_BASE 200

enum permission {
	PERM_CONSISTENT_READ = 1u << 0,
	PERM_WRITE = 1u << 1,
	PERM_WRITE_UNCHANGED = 1u << 2,
	PERM_RESIZE = 1u << 3,
};

/* QEMU's words, which its users and their scripts know. */
static const char *const permission_names[] = {
	"consistent read",
	"write",
	"write unchanged",
	"resize",
};

#define PERMISSION_COUNT \
	(sizeof(permission_names) / sizeof(permission_names[0]))

/* Who else holds a lock on the byte. */
struct holder {
	pid_t pid; /* 0: not known */
	char program[32];
};

static bool no_locks_here(int code)
{
	return code == EINVAL || code == ENOLCK || code == EOPNOTSUPP ||
	       code == ENOSYS;
}

static int set_shared_lock(int fd, off_t byte)
{
	struct flock lock = {
		.l_type = F_RDLCK,
		.l_whence = SEEK_SET,
		.l_start = byte,
		.l_len = 1,
	};
	int ret;

	do {
		ret = fcntl(fd, F_OFD_SETLK, &lock);
	} while (ret && errno == EINTR);
	return ret ? -errno : 0;
}

/* 1 if somebody else holds any lock on the byte. */
static int is_locked_by_other(int fd, off_t byte)
{
	struct flock lock = {
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = byte,
		.l_len = 1,
	};

	if (fcntl(fd, F_OFD_GETLK, &lock))
		return -errno;
	return lock.l_type != F_UNLCK;
}

/* Does this "lock:" line of an fdinfo file cover the byte? */
static bool line_covers(const char *line, off_t byte)
{
	const char *fields = strstr(line, "OFDLCK");
	const char *range = fields ? strrchr(fields, ':') : NULL;
	unsigned long long start;
	unsigned long long end;
	char last[24];

	/* ... device:inode start end, where end may be EOF. */
	if (!range || sscanf(range, ":%*u %llu %23s", &start, last) != 2)
		return false;
	end = isdigit((unsigned char)last[0]) ? strtoull(last, NULL, 10)
					      : ULLONG_MAX;
	return start <= (unsigned long long)byte &&
	       (unsigned long long)byte <= end;
}

static bool descriptor_holds(const char *pid, const char *fd, off_t byte)
{
	char path[PATH_MAX];
	char line[256];
	bool holds = false;
	FILE *info;

	snprintf(path, sizeof(path), "/proc/%s/fdinfo/%s", pid, fd);
	info = fopen(path, "re");
	if (!info)
		return false;
	while (!holds && fgets(line, sizeof(line), info))
		holds = !strncmp(line, "lock:", 5) && line_covers(line, byte);
	fclose(info);
	return holds;
}

static bool same_file(const char *path, const struct stat *wanted)
{
	struct stat st;

	return stat(path, &st) == 0 && st.st_dev == wanted->st_dev &&
	       st.st_ino == wanted->st_ino;
}

/* Looks for a descriptor of the process that is this file and has the lock. */
static bool process_holds(const char *pid, int own_fd,
			  const struct stat *wanted, off_t byte)
{
	bool is_self = strtol(pid, NULL, 10) == getpid();
	char path[PATH_MAX];
	struct dirent *entry;
	bool holds = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	dir = opendir(path);
	if (!dir)
		return false;
	while (!holds && (entry = readdir(dir))) {
		const char *fd = entry->d_name;

		if (!isdigit((unsigned char)fd[0]) ||
		    (is_self && strtol(fd, NULL, 10) == own_fd))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/fd/%s", pid, fd);
		holds = same_file(path, wanted) &&
			descriptor_holds(pid, fd, byte);
	}
	closedir(dir);
	return holds;
}

static void read_program(const char *pid, char *program, size_t size)
{
	char path[PATH_MAX];
	FILE *file;

	program[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	file = fopen(path, "re");
	if (file && !fgets(program, size, file))
		program[0] = '\0';
	if (file)
		fclose(file);
	program[strcspn(program, "\n")] = '\0';
	/* A process chooses its name; it shall not steer a terminal. */
	for (char *c = program; *c; c++)
		if (!isprint((unsigned char)*c))
			*c = '?';
}

/* As far as /proc shows us other people's processes. */
static struct holder find_holder(int fd, off_t byte)
{
	struct holder holder = {0};
	struct dirent *entry;
	struct stat wanted;
	DIR *proc;

	if (fstat(fd, &wanted))
		return holder;
	proc = opendir("/proc");
	if (!proc)
		return holder;
	while (!holder.pid && (entry = readdir(proc))) {
		const char *pid = entry->d_name;

		if (!isdigit((unsigned char)pid[0]) ||
		    !process_holds(pid, fd, &wanted, byte))
			continue;
		holder.pid = strtol(pid, NULL, 10);
		read_program(pid, holder.program, sizeof(holder.program));
	}
	closedir(proc);
	return holder;
}

static int refuse(int fd, const char *name, off_t byte, struct error *err)
{
	bool is_forbidden = byte < FORBIDDEN_BASE; /* by us, used by them */
	unsigned bit = byte - (is_forbidden ? USED_BASE : FORBIDDEN_BASE);
	struct holder holder = {0};
	char by[80] = "";

	if (err)
		holder = find_holder(fd, byte);
	if (holder.pid)
		snprintf(by, sizeof(by), " (held by %s, pid %ld)",
			 holder.program, (long)holder.pid);
	return error_set(err, EAGAIN,
			 "Failed to get %s\"%s\" lock\n"
			 "Is another process using the image [%s]?%s",
			 is_forbidden ? "shared " : "", permission_names[bit],
			 name, by);
}

/* Sets the locks of all permissions in `mask`; -errno and the byte if not. */
static int set_locks(int fd, unsigned mask, off_t base, off_t *byte)
{
	for (unsigned bit = 0; bit < PERMISSION_COUNT; bit++) {
		int ret = 0;

		*byte = base + bit;
		if (mask & 1u << bit)
			ret = set_shared_lock(fd, *byte);
		if (ret)
			return ret;
	}
	return 0;
}

/* -EAGAIN and the byte if somebody else stands in the way. */
static int check_locks(int fd, unsigned mask, off_t base, off_t *byte)
{
	for (unsigned bit = 0; bit < PERMISSION_COUNT; bit++) {
		int ret = 0;

		*byte = base + bit;
		if (mask & 1u << bit)
			ret = is_locked_by_other(fd, *byte);
		if (ret)
			return ret < 0 ? ret : -EAGAIN;
	}
	return 0;
}

int file_lock(int fd, const char *name, unsigned flags, struct error *err)
{
	unsigned used = PERM_CONSISTENT_READ;
	unsigned forbidden = PERM_WRITE | PERM_RESIZE;
	off_t byte = 0;
	int ret;

	if ((flags & FILE_OPEN_NO_LOCK) && (flags & FILE_OPEN_WRITE))
		return error_set(
			err, EINVAL,
			"Could not open '%s': writing without locks is "
			"not allowed; open it read-only",
			name);
	if (flags & FILE_OPEN_NO_LOCK)
		return 0;
	if (flags & FILE_OPEN_WRITE)
		used |= PERM_WRITE | PERM_RESIZE;
	if (flags & FILE_OPEN_SHARE_WRITERS)
		forbidden = 0;

	ret = set_locks(fd, used, USED_BASE, &byte);
	if (!ret)
		ret = set_locks(fd, forbidden, FORBIDDEN_BASE, &byte);
	if (!ret)
		ret = check_locks(fd, used, FORBIDDEN_BASE, &byte);
	if (!ret)
		ret = check_locks(fd, forbidden, USED_BASE, &byte);
	if (!ret || no_locks_here(-ret))
		return 0;
	if (ret == -EAGAIN || ret == -EACCES)
		return refuse(fd, name, byte, err);
	return error_set_errno(err, -ret, "Could not lock '%s'", name);
}
