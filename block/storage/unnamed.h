/* SPDX-License-Identifier: BSD-3-Clause */
/* Files without a name, for what has to be kept for a while: gone when closed,
 * whatever ends the program. */
#ifndef PLATTER_BLOCK_STORAGE_UNNAMED_H
#define PLATTER_BLOCK_STORAGE_UNNAMED_H

struct error;
struct storage;

/* An empty, writable one in the folder. */
int storage_unnamed_in(struct storage **out, const char *folder,
		       struct error *err);
/* The same in the folder of `near_path`, which need not exist. */
int storage_unnamed_new(struct storage **out, const char *near_path,
			struct error *err);

#endif
