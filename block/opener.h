/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The one gate through which files are opened that an image names: backing
 * files today, data files and extents later. Nothing implicit is opened except
 * by a policy that allows it (spec: reliability 2A, 2E).
 */
#ifndef PLATTER_BLOCK_OPENER_H
#define PLATTER_BLOCK_OPENER_H

#include <stdbool.h>

struct error;
struct storage;

enum opener_policy {
	OPENER_NONE,	/* nothing: the daemon, --untrusted */
	OPENER_BENEATH, /* below one directory, symbolic links resolved */
	OPENER_ANY,	/* what qemu-img does on a person's own images */
};

struct opener {
	enum opener_policy policy;
	const char *directory; /* OPENER_BENEATH; borrowed */
	bool allow_devices;    /* block devices, else regular files only */
	/* Formats of implicit files that record none are probed. */
	bool allow_probing;
	bool force_share;    /* -U was given */
	bool distrust_holes; /* as FILE_OPEN_DISTRUST_HOLES */
	/* Ends a message of refusal: what would allow it; NULL: none known. */
	const char *hint;
};

/*
 * Where the name in an image leads: relative ones start at the directory of the
 * image that holds them. The name of an NBD export leads to it. -EINVAL for all
 * others that are no plain local paths ("json:", "http:", ...), with an error
 * that shows the name escaped. The result is the caller's to free, and is an
 * nbd_address_is() only if the name is one. Opens nothing.
 */
int opener_resolve(const char *image_path, const char *name, char **out,
		   struct error *err);

/*
 * Opens a resolved path read-only, if the policy allows what is found there: a
 * server only by OPENER_ANY.
 */
int opener_open(const struct opener *opener, const char *path, bool direct,
		struct storage **out, struct error *err);

#endif
