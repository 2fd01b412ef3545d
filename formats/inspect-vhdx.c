/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A VHDX image, judged by its region table and metadata. Both say of each entry
 * whether a reader has to know it, and both may keep a parent.
 */
#include <string.h>

#include "block/bytes.h"
#include "block/inspect-rule.h"
#include "formats/foreign.h"

#define TABLE_BYTES	(64u * 1024)
#define REGIONS_OFF	(192u * 1024)
#define ENTRIES_MAX	2047u
#define MIB		(1024u * 1024)
#define REQUIRED	1u
#define ITEM_REQUIRED	4u
#define HAS_PARENT	2u
#define SIZE_MAX_BYTES	(64ull << 40)
#define CRC32C_REVERSED 0x82f63b78u

struct vhdx_table_header {
	uint8_t signature[4];
	le32_t checksum, entry_count, reserved;
};

struct vhdx_region {
	uint8_t guid[16];
	le64_t off;
	le32_t len, flags;
};

struct vhdx_metadata_header {
	uint8_t signature[8];
	le16_t reserved, entry_count;
	uint8_t rest[20];
};

struct vhdx_item {
	uint8_t guid[16];
	le32_t off, len, flags, reserved; /* off: in the metadata region */
};

/* GUIDs as they stand in the file. */
static const uint8_t guid_bat[16] = {0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6,
				     0x00, 0x42, 0x9d, 0x64, 0x11, 0x5e,
				     0x9b, 0xfd, 0x4a, 0x08};
static const uint8_t guid_metadata[16] = {0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47,
					  0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f,
					  0x05, 0x0f, 0x88, 0x6e};
static const uint8_t guid_parameters[16] = {0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa,
					    0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0,
					    0xaa, 0x44, 0xe7, 0x6b};
static const uint8_t guid_size[16] = {0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd,
				      0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe,
				      0xd8, 0x3b, 0xf4, 0xb8};
static const uint8_t guid_disk_id[16] = {0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2,
					 0x23, 0x45, 0x93, 0xef, 0xc3, 0x09,
					 0xe0, 0x00, 0xc7, 0x46};
static const uint8_t guid_logical[16] = {0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9,
					 0x09, 0x47, 0xba, 0x47, 0xf2, 0x33,
					 0xa8, 0xfa, 0xab, 0x5f};
static const uint8_t guid_physical[16] = {0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44,
					  0x71, 0x44, 0x9c, 0xc9, 0xe9, 0x88,
					  0x52, 0x51, 0xc5, 0x56};
static const uint8_t guid_parent[16] = {0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3,
					0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8,
					0x48, 0x34, 0xab, 0x0c};

static bool same_guid(const uint8_t *a, const uint8_t *b)
{
	return !memcmp(a, b, 16);
}

/* CRC-32C of the table, its own field taken for zeros. */
static bool checksum_fits(const uint8_t *table)
{
	uint32_t crc = UINT32_MAX;
	le32_t stored;

	memcpy(&stored, table + 4, sizeof(stored));
	for (size_t i = 0; i < TABLE_BYTES; i++) {
		crc ^= i >= 4 && i < 8 ? 0 : table[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? CRC32C_REVERSED : 0);
	}
	return le32_get(stored) == ~crc;
}

/* ---- metadata ---- */

static void check_parameters(struct inspection *in, const uint8_t *item)
{
	le32_t flags;

	memcpy(&flags, item + 4, sizeof(flags));
	if (le32_get(flags) & HAS_PARENT)
		inspect_unsafe(in, "backing-file",
			       "it is a difference to another image");
}

static void check_size(struct inspection *in, const uint8_t *item)
{
	le64_t size;

	memcpy(&size, item, sizeof(size));
	inspect_virtual_size(in, le64_get(size));
	if (le64_get(size) > SIZE_MAX_BYTES)
		inspect_malformed(in, "its disk is larger than 64 TiB");
}

/* Reads the eight bytes of an item that counts. */
static void read_item(struct inspection *in, uint64_t region_off,
		      const struct vhdx_item *item,
		      void (*check)(struct inspection *in, const uint8_t *item))
{
	const uint8_t *value = NULL;

	switch (inspect_bytes(in, region_off + le32_get(item->off), 8,
			      &value)) {
	case INSPECT_HERE:
		check(in, value);
		return;
	case INSPECT_NOWHERE:
		inspect_malformed(in, "an item of its metadata is behind the "
				      "end of the file");
		return;
	case INSPECT_LATER:
		return;
	}
}

static bool is_harmless(const uint8_t *guid)
{
	return same_guid(guid, guid_disk_id) || same_guid(guid, guid_logical) ||
	       same_guid(guid, guid_physical);
}

static void check_item(struct inspection *in, uint64_t region_off,
		       const struct vhdx_item *item, bool *sized)
{
	if (same_guid(item->guid, guid_parent)) {
		inspect_unsafe(in, "backing-file", "it locates a parent");
	} else if (same_guid(item->guid, guid_parameters)) {
		read_item(in, region_off, item, check_parameters);
	} else if (same_guid(item->guid, guid_size)) {
		/* Two sizes: whose is the disk's? */
		if (*sized)
			inspect_malformed(in, "it has two virtual sizes");
		*sized = true;
		read_item(in, region_off, item, check_size);
	} else if (!is_harmless(item->guid) &&
		   (le32_get(item->flags) & ITEM_REQUIRED)) {
		inspect_unsafe(in, "unknown-features",
			       "its metadata needs an item that is not known");
	}
}

static void check_metadata(struct inspection *in, uint64_t region_off,
			   const uint8_t *table)
{
	const struct vhdx_metadata_header *h =
		(const struct vhdx_metadata_header *)table;
	const struct vhdx_item *items = (const struct vhdx_item *)(h + 1);
	unsigned count = le16_get(h->entry_count);
	bool sized = false;

	if (memcmp(h->signature, "metadata", sizeof(h->signature)) ||
	    count > ENTRIES_MAX) {
		inspect_malformed(in, "its metadata has no valid header");
		return;
	}
	for (unsigned i = 0; i < count; i++)
		check_item(in, region_off, &items[i], &sized);
	if (!sized)
		inspect_malformed(in, "its metadata has no virtual size");
}

/* ---- regions ---- */

static void inspect_metadata(struct inspection *in, uint64_t off)
{
	const uint8_t *table = NULL;

	if (off < MIB || off % MIB || off > INT64_MAX) {
		inspect_malformed(in, "its metadata is at 0x%llx",
				  (unsigned long long)off);
		return;
	}
	switch (inspect_bytes(in, off, TABLE_BYTES, &table)) {
	case INSPECT_HERE:
		check_metadata(in, off, table);
		return;
	case INSPECT_NOWHERE:
		inspect_malformed(in, "its metadata is behind the end");
		return;
	case INSPECT_LATER:
		return;
	}
}

static void check_regions(struct inspection *in, const uint8_t *table)
{
	const struct vhdx_table_header *h =
		(const struct vhdx_table_header *)table;
	const struct vhdx_region *regions = (const struct vhdx_region *)(h + 1);
	uint32_t count = le32_get(h->entry_count);
	unsigned found = 0;
	uint64_t metadata_off = 0;

	if (memcmp(h->signature, "regi", sizeof(h->signature)) ||
	    count > ENTRIES_MAX || !checksum_fits(table)) {
		inspect_malformed(in, "its region table is damaged");
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		if (same_guid(regions[i].guid, guid_metadata)) {
			metadata_off = le64_get(regions[i].off);
			found++;
		} else if (!same_guid(regions[i].guid, guid_bat) &&
			   (le32_get(regions[i].flags) & REQUIRED)) {
			inspect_unsafe(in, "unknown-features",
				       "it needs a region that is not known");
		}
	}
	if (found == 1)
		inspect_metadata(in, metadata_off);
	else
		inspect_malformed(in, "it has %u metadata regions, not one",
				  found);
}

void vhdx_inspect(struct inspection *in)
{
	const uint8_t *table = NULL;

	if (memcmp(inspect_head(in), "vhdxfile", 8))
		return;
	inspect_claim(in, "vhdx");
	switch (inspect_bytes(in, REGIONS_OFF, TABLE_BYTES, &table)) {
	case INSPECT_HERE:
		check_regions(in, table);
		return;
	case INSPECT_NOWHERE:
		inspect_malformed(in, "it ends before its region table");
		return;
	case INSPECT_LATER:
		return;
	}
}
