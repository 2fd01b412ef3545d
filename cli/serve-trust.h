/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the images that are served may name: whoever could write to one, and be
 * it as a client of another server, would else choose a file of ours for its
 * clients to read.
 */
#ifndef PLATTER_CLI_SERVE_TRUST_H
#define PLATTER_CLI_SERVE_TRUST_H

#include <stdbool.h>

struct command_context;
struct image;
struct open_request;

enum serve_backing {
	SERVE_BACKING_ANY,     /* all that a command would open */
	SERVE_BACKING_BENEATH, /* in the image's folder, its format recorded */
	SERVE_BACKING_NONE,
};

/* 0 or -EINVAL. */
int serve_backing_word(const char *word, enum serve_backing *out);
/* NULL keeps what `*out` holds. False after a message. */
bool serve_backing_parse(const char *word, enum serve_backing *out);

/*
 * open_image() of cli/open.h; a --trust-dir takes the place of `backing`, but
 * not of SERVE_BACKING_NONE, which somebody has asked for.
 */
struct image *serve_open_image(const struct command_context *ctx,
			       const struct open_request *request,
			       enum serve_backing backing);

#endif
