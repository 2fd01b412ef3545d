/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Internal snapshots for tests: the driver respects them, and makes none.
 */
#ifndef PLATTER_TESTS_SUPPORT_INTERNAL_SNAPSHOT_H
#define PLATTER_TESTS_SUPPORT_INTERNAL_SNAPSHOT_H

#include <stdint.h>

struct image;
struct storage;

/*
 * Makes the first snapshot of a writable qcow2 image, in version 3 and without
 * packed clusters. The image has to be closed then: its caches are outdated.
 */
int internal_snapshot_take(struct image *img);

/* Changes the file so that its disk is what the first snapshot recorded. */
int internal_snapshot_expose(struct storage *storage, uint64_t size_bytes);

#endif
