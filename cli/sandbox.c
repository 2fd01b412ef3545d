/* SPDX-License-Identifier: BSD-3-Clause */
/* The order of the layers, and what to do if the kernel lacks one. */
#include "cli/sandbox.h"

#include <sys/prctl.h>

#include "block/error.h"
#include "cli/message.h"
#include "cli/sandbox-private.h"

static bool entered;

bool sandbox_entered(void)
{
	return entered;
}

/* A layer that is missing ends it, unless the user has said otherwise. */
static int judge(const struct sandbox *sandbox, const char *layer, int ret,
		 struct error *err)
{
	if (ret >= 0)
		return 0;
	if (sandbox->best_effort) {
		message_warning("going on without %s", layer);
		return 0;
	}
	error_prefix(err, "The sandbox of --untrusted needs %s: ", layer);
	return ret;
}

int sandbox_enter(const struct sandbox *sandbox, struct error *err)
{
	int ret = sandbox_limit(sandbox, err);

	if (ret < 0)
		return ret;
	entered = true;
	if (SANDBOX_SANITIZED)
		return 0;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return error_set_errno(err, errno,
				       "The sandbox could not be entered");
	ret = judge(sandbox, "Landlock",
		    sandbox_landlock(sandbox->folder_fd, err), err);
	/* The last: what comes before needs calls that it forbids. */
	if (ret == 0)
		ret = judge(sandbox, "seccomp",
			    sandbox_filter(sandbox->folder_fd >= 0, err), err);
	return ret;
}
