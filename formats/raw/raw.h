/* SPDX-License-Identifier: BSD-3-Clause */
/* raw: a file that is the disk, byte for byte. */
#ifndef PLATTER_FORMATS_RAW_H
#define PLATTER_FORMATS_RAW_H

#include "block/format.h"

struct inspection;

extern const struct format_driver raw_driver;

/* inspect.c: the rule of raw, and what disks hold that is known by sight. */
void raw_inspect(struct inspection *in);

/*
 * What a file system can be told about an empty file before it grows: not to
 * copy on write (btrfs), and how much to allocate at once (XFS; 0: as it
 * likes). Advice only: file systems that know nothing of it are left alone.
 */
void raw_advise(const struct storage *file, bool no_copy_on_write,
		uint64_t extent_size);

#endif
