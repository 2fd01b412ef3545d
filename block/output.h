/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * New files appear whole or not at all (W10): written under a temporary name in
 * the target's folder, synced, renamed, the folder synced.
 *
 * An existing regular target is opened and locked first, so that an image in
 * use is not replaced; its mode and owner carry over. Block devices, and files
 * in folders that cannot be written, are written in place.
 */
#ifndef PLATTER_BLOCK_OUTPUT_H
#define PLATTER_BLOCK_OUTPUT_H

#include <stdbool.h>

struct error;
struct storage;

struct output {
	struct storage *storage; /* write here; given up by take below */
	char *final_path;	 /* symbolic links resolved */
	char *temp_path;	 /* NULL: written in place */
	struct storage *old;	 /* the locked file that is replaced */
	bool taken;
	bool to_empty;	 /* output_start() has to empty an old file */
	bool has_folder; /* output_reserve() opened it, for the sync */
	int folder_fd;
};

/*
 * `direct`: O_DIRECT. The storage is empty (a device aside) and locked. The
 * temporary name is removed on SIGINT/SIGTERM by whoever handles these:
 * output_discard() is what it calls.
 */
int output_open(struct output *out, const char *path, bool direct,
		struct error *err);

/*
 * The same in two steps, for callers who may not open anything later on. After
 * the first everything is open that will be needed, and an old file still has
 * its content; the second, right before writing, empties it if it has to be
 * written in place. output_commit() then only renames.
 */
int output_reserve(struct output *out, const char *path, bool direct,
		   struct error *err);
int output_start(struct output *out, struct error *err);

/* The storage is the caller's from here (an image's); it must be closed. */
struct storage *output_take(struct output *out);

/*
 * Puts the finished file in place. Its data must have been synced, unless
 * `sync` is false ("unsafe"): then nothing is. Call it after the taken storage
 * was closed. On error everything temporary is gone.
 */
int output_commit(struct output *out, bool sync, struct error *err);

/* Removes what is temporary; keeps what was there before. Any state. */
void output_discard(struct output *out);

#endif
