/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guessing the format of a file from its bytes (spec: raw-and-probing 7-10).
 *
 * A guest controls every byte of a raw disk, so a guess is for files that no
 * guest could have written, or for looking only. Three rules keep it honest:
 *  - what is recognised at the head of a file is recognised by its first sector
 *    alone, so whoever guards that sector guards the guess;
 *  - a container without a driver is an error that names it, never raw;
 *  - a head that two formats claim is refused: each reader would see another
 *    disk.
 *
 * All functions: any thread.
 */
#ifndef PLATTER_BLOCK_PROBE_H
#define PLATTER_BLOCK_PROBE_H

#include <stdbool.h>
#include <stddef.h>

struct error;
struct format_driver;
struct storage;

/*
 * `*guessed`: nothing was recognised, and the driver is the one that takes
 * everything. -EINVAL for foreign containers and ambiguous files, with a
 * message that does not name the file; else what reading it says.
 */
int probe_format(struct storage *file, const struct format_driver **driver,
		 bool *guessed, struct error *err);

/*
 * True if a file that starts with these bytes (512 of them suffice) would no
 * longer be guessed to be raw. They are what the sector holds after the write.
 */
bool probe_would_recognise(const void *sector, size_t len);

#endif
