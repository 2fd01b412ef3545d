/* SPDX-License-Identifier: BSD-3-Clause */
/* The layers of sandbox.h; each file is one. */
#ifndef PLATTER_CLI_SANDBOX_PRIVATE_H
#define PLATTER_CLI_SANDBOX_PRIVATE_H

#include "cli/sandbox.h"

#ifdef __has_feature
#define SANDBOX_HAS_FEATURE(name) __has_feature(name)
#else
#define SANDBOX_HAS_FEATURE(name) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
	SANDBOX_HAS_FEATURE(address_sanitizer) ||                    \
	SANDBOX_HAS_FEATURE(thread_sanitizer) || defined(PLATTER_COVERAGE)
#define SANDBOX_SANITIZED 1
#else
#define SANDBOX_SANITIZED 0
#endif

/* Descriptors, limits, and what libraries open when they are first used. */
int sandbox_limit(const struct sandbox *sandbox, struct error *err);
/* -ENOSYS: the kernel has none. */
int sandbox_landlock(int folder_fd, struct error *err);
int sandbox_filter(bool names_change, struct error *err);

#endif
