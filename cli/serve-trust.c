/* SPDX-License-Identifier: BSD-3-Clause */
/* What served images may name: see serve-trust.h. */
#include "cli/serve-trust.h"

#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>

#include "block/image-spec.h"
#include "cli/command.h"
#include "cli/message.h"
#include "cli/open.h"
#include "cli/word.h"

int serve_backing_word(const char *word, enum serve_backing *out)
{
	static const char *const words[] = {
		[SERVE_BACKING_ANY] = "any",
		[SERVE_BACKING_BENEATH] = "beneath",
		[SERVE_BACKING_NONE] = "none",
	};
	int found = WORD_FIND(word, words);

	if (found < 0)
		return -EINVAL;
	*out = (enum serve_backing)found;
	return 0;
}

bool serve_backing_parse(const char *word, enum serve_backing *out)
{
	if (!word || serve_backing_word(word, out) == 0)
		return true;
	message_error("--backing is '%s', allowed are any, beneath and none",
		      word);
	return false;
}

/*
 * The path of the image, for `*folder` to point into; the caller's to free.
 * NULL after a message. An export of another server is in no folder.
 */
static char *find_folder(const struct open_request *request,
			 const char **folder)
{
	struct image_spec spec = {0};
	char *path;

	if (!open_spec(&spec, request))
		return NULL;
	path = strdup(spec.path);
	if (!path)
		message_error("Out of memory");
	else if (!spec.nbd)
		*folder = dirname(path);
	image_spec_release(&spec);
	return path;
}

static void restrict_to(struct opener *trust, const char *folder)
{
	trust->policy = folder ? OPENER_BENEATH : OPENER_NONE;
	trust->directory = folder;
	trust->allow_devices = false;
	trust->allow_probing = false;
	trust->hint = "; --backing any follows what images name";
}

struct image *serve_open_image(const struct command_context *ctx,
			       const struct open_request *request,
			       enum serve_backing backing)
{
	struct command_context own = *ctx;
	const char *folder = NULL;
	struct image *img;
	char *path;

	if (backing == SERVE_BACKING_ANY || (backing == SERVE_BACKING_BENEATH &&
					     ctx->trust.policy != OPENER_ANY))
		return open_image(ctx, request);
	path = find_folder(request, &folder);
	if (!path)
		return NULL;
	restrict_to(&own.trust,
		    backing == SERVE_BACKING_BENEATH ? folder : NULL);
	img = open_image(&own, request);
	free(path);
	return img;
}
