/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a user names an image: a path, `file:PATH`, an export of an NBD server
 * (storage/nbd-address.h), `json:{...}`, or the words of --image-opts. What an
 * image names goes through opener.h and is a plain path or a name of an export,
 * nothing else.
 */
#ifndef PLATTER_BLOCK_IMAGE_SPEC_H
#define PLATTER_BLOCK_IMAGE_SPEC_H

#include <stdbool.h>

#include "block/options.h"

struct error;
struct nbd_address;

struct image_spec {
	char *text; /* as the user wrote it, for messages; owned */
	char *path; /* of the file, or the export's name; owned */
	/* NULL: a file; owned. The path of a file is no nbd_address_is(). */
	struct nbd_address *nbd;
	char *format;	 /* NULL: probe; owned */
	bool no_backing; /* "backing": null was given */
	/* what is left: the driver's run-time options, dotted */
	struct options options;
};

/*
 * All of these leave `out` empty on failure, with a message that starts with
 * "Could not open 'TEXT': ".
 *
 * `format` (may be NULL) is the -f word. Unknown protocols ("ssh:", "http:")
 * are refused by name; a relative path with a colon needs "./" or "file:".
 */
int image_spec_parse(struct image_spec *out, const char *text,
		     const char *format, struct error *err);
/* The words of --image-opts. */
int image_spec_parse_opts(struct image_spec *out, const char *text,
			  struct error *err);
/* For names out of images, as opener_resolve() gives them. */
int image_spec_from_path(struct image_spec *out, const char *path,
			 const char *format, struct error *err);
/* Zeroed is fine. */
void image_spec_release(struct image_spec *spec);

/*
 * The path alone, for files that are yet to be made: `file:` is taken off,
 * other protocols are refused, in a message without prefix. `*out` is the
 * caller's.
 */
int image_path_parse(const char *text, char **out, struct error *err);

#endif
