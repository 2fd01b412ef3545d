/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Landlock: the kernel refuses paths, TCP, and reaching out of the process, by
 * whatever system call. All that the running kernel can refuse is refused.
 *
 * The structures are spelt out because the headers of the build machine may be
 * older than the kernel.
 */
#include <sys/syscall.h>
#include <unistd.h>

#include "block/error.h"
#include "cli/sandbox-private.h"

#define CREATE_RULESET_VERSION 1u
#define RULE_PATH_BENEATH      1

#define FS_REMOVE_FILE (1ull << 5)
#define FS_MAKE_REG    (1ull << 8)

struct ruleset_attr {
	uint64_t fs, net, scoped;
};

struct path_beneath_attr {
	uint64_t allowed;
	int32_t parent_fd;
} __attribute__((packed));

/* What each version of the interface can refuse. */
static const struct {
	struct ruleset_attr refuses;
	size_t attr_bytes;
} versions[] = {
	{{(1ull << 13) - 1, 0, 0}, 8},	/* 1: files */
	{{(1ull << 14) - 1, 0, 0}, 8},	/* 2: moving between folders */
	{{(1ull << 15) - 1, 0, 0}, 8},	/* 3: truncating */
	{{(1ull << 15) - 1, 3, 0}, 16}, /* 4: TCP, bind and connect */
	{{(1ull << 16) - 1, 3, 0}, 16}, /* 5: ioctl on devices */
	{{(1ull << 16) - 1, 3, 3}, 24}, /* 6: abstract sockets, signals */
};

#define VERSIONS (sizeof(versions) / sizeof(versions[0]))

/* The rename of a new file makes one name and removes another. */
static int allow_names(int ruleset, int folder_fd)
{
	struct path_beneath_attr rule = {
		.allowed = FS_REMOVE_FILE | FS_MAKE_REG,
		.parent_fd = folder_fd,
	};

	return syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule,
		       0)
		       ? -errno
		       : 0;
}

int sandbox_landlock(int folder_fd, struct error *err)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0,
			       CREATE_RULESET_VERSION);
	size_t known;
	int ruleset, ret = 0;

	if (version < 1)
		return error_set_errno(err, version ? errno : ENOSYS,
				       "the kernel does not offer it");
	known = (size_t)version < VERSIONS ? (size_t)version : VERSIONS;
	ruleset = (int)syscall(SYS_landlock_create_ruleset,
			       &versions[known - 1].refuses,
			       versions[known - 1].attr_bytes, 0);
	if (ruleset < 0)
		return error_set_errno(err, errno, "it could not be set up");
	if (folder_fd >= 0)
		ret = allow_names(ruleset, folder_fd);
	if (!ret && syscall(SYS_landlock_restrict_self, ruleset, 0))
		ret = -errno;
	close(ruleset);
	return ret ? error_set_errno(err, -ret, "it could not be entered") : 0;
}
