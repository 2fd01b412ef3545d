/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Entries of the bitmap directory (spec: qcow2 10.1):
 *
 *	fixed 24 bytes | extra data | name | padding to 8
 */
#include "formats/qcow2/layout.h"

#include <inttypes.h>
#include <stdlib.h>

#include "block/error.h"

#define TYPE_DIRTY_TRACKING  1
#define GRANULARITY_BITS_MIN 9
#define GRANULARITY_BITS_MAX 31
#define NAME_MAX_BYTES	     1023
#define TABLE_ENTRIES_MAX    0x8000000u

struct bitmap_disk {
	be64_t table_off;
	be32_t table_entries, flags;
	uint8_t type, granularity_bits;
	be16_t name_len;
	be32_t extra_len;
};

_Static_assert(sizeof(struct bitmap_disk) == 24, "bitmap entry size");

static int check_entry(const struct qcow2_bitmap *b, size_t name_len,
		       unsigned cluster_bits, struct error *err)
{
	if (b->type != TYPE_DIRTY_TRACKING)
		return error_set(err, ENOTSUP,
				 "Bitmap has type %u; only %d is known",
				 b->type, TYPE_DIRTY_TRACKING);
	if (b->granularity_bits < GRANULARITY_BITS_MIN ||
	    b->granularity_bits > GRANULARITY_BITS_MAX)
		return error_set(err, ERROR_CORRUPT,
				 "Bitmap has a granularity of 2^%u bytes; "
				 "2^%d to 2^%d are allowed",
				 b->granularity_bits, GRANULARITY_BITS_MIN,
				 GRANULARITY_BITS_MAX);
	if (!name_len || name_len > NAME_MAX_BYTES)
		return error_set(err, ERROR_CORRUPT,
				 "Bitmap name has %zu bytes; 1 to %d are "
				 "allowed",
				 name_len, NAME_MAX_BYTES);
	if (b->table_entries > TABLE_ENTRIES_MAX || !b->table_off ||
	    !is_aligned(b->table_off, 1ull << cluster_bits) ||
	    !range_inside(b->table_off, b->table_entries * 8ull,
			  QCOW2_HOST_OFF_MAX))
		return error_set(err, ERROR_CORRUPT,
				 "Bitmap table of %" PRIu32
				 " entries at 0x%" PRIx64
				 " is not aligned, too large or behind 2^56",
				 b->table_entries, b->table_off);
	return 0;
}

int64_t qcow2_bitmap_decode(struct qcow2_bitmap *out, const uint8_t *directory,
			    size_t len, size_t pos, unsigned cluster_bits,
			    struct error *err)
{
	struct bitmap_disk disk;
	struct qcow2_bitmap b;
	const uint8_t *name;
	uint64_t end;
	size_t name_len;
	int ret;

	if (!range_inside(pos, sizeof(disk), len))
		return error_set(err, ERROR_CORRUPT,
				 "Bitmap directory ends inside an entry");
	memcpy(&disk, directory + pos, sizeof(disk));
	b = (struct qcow2_bitmap){
		.table_off = be64_get(disk.table_off),
		.table_entries = be32_get(disk.table_entries),
		.flags = be32_get(disk.flags),
		.type = disk.type,
		.granularity_bits = disk.granularity_bits,
		.extra_len = be32_get(disk.extra_len),
	};
	name_len = be16_get(disk.name_len);
	end = align_up(sizeof(disk) + (uint64_t)b.extra_len + name_len, 8);
	if (!range_inside(pos, end, len))
		return error_set(err, ERROR_CORRUPT,
				 "Bitmap directory ends inside an entry");
	ret = check_entry(&b, name_len, cluster_bits, err);
	if (ret < 0)
		return ret;
	name = directory + pos + sizeof(disk) + b.extra_len;
	if (memchr(name, 0, name_len))
		return error_set(err, ERROR_CORRUPT,
				 "Bitmap name contains a zero byte");
	b.name = strndup((const char *)name, name_len);
	if (!b.name)
		return error_set(err, ENOMEM, "No memory for a bitmap name");
	*out = b;
	return (int64_t)(pos + end);
}

void qcow2_bitmap_release(struct qcow2_bitmap *b)
{
	free(b->name);
	b->name = NULL;
}
