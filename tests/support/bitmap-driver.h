/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The raw format, and bitmaps and a snapshot that no format has yet. One thread
 * opens and closes.
 */
#ifndef PLATTER_TESTS_SUPPORT_BITMAP_DRIVER_H
#define PLATTER_TESTS_SUPPORT_BITMAP_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#define BITMAP_DRIVER_GRANULE 4096u

/*
 * Bitmaps are called "b", followed by a number that says what is in them;
 * "bad" cannot be read, and "broken" not opened. The snapshot has the id 1 and
 * any name.
 */
const struct format_driver *bitmap_driver(void);

/* Bitmap 0 changes at every granule, others have longer runs. */
bool bitmap_driver_is_set(unsigned number, uint64_t guest_off);

/* Bitmaps that are open now. */
unsigned bitmap_driver_open_count(void);
/* The id and the name by which the snapshot was shown last. */
const char *const *bitmap_driver_shown(void);

#endif
