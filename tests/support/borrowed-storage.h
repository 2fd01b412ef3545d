/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A storage to read only that shows a disk in memory without copying it: very
 * many crash states are looked at, and few are written to.
 */
#ifndef PLATTER_TESTS_SUPPORT_BORROWED_STORAGE_H
#define PLATTER_TESTS_SUPPORT_BORROWED_STORAGE_H

struct flat_disk;
struct storage;

/* The disk stays as it is until the storage is closed. Aborts without memory.
 */
struct storage *storage_borrow(const struct flat_disk *disk);

#endif
