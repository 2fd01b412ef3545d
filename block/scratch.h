/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A layer for writes that are to be forgotten: an image without a name above
 * another, which is only read. It takes space in a folder as it is written, and
 * is gone when it is closed, whatever ends the program.
 */
#ifndef PLATTER_BLOCK_SCRATCH_H
#define PLATTER_BLOCK_SCRATCH_H

struct error;
struct format_driver;
struct image;

/* Where QEMU would put it: TMPDIR, but /var/tmp for none and for /tmp. */
const char *scratch_folder(void);

/*
 * A writable disk of `base`'s size and content, in a format that can have a
 * backing file. It owns `base` then; on failure that stays the caller's.
 * Flushes of it are no work: nothing of it outlives the program.
 */
int scratch_open(struct image **out, struct image *base,
		 const struct format_driver *driver, const char *folder,
		 struct error *err);

#endif
