/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A raw disk is safe whatever it holds, but for a partition table that reads
 * differently to different eyes (spec: reliability 5): a protective MBR beside
 * other partitions, or one that protects nothing.
 */
#include <string.h>

#include "block/bytes.h"
#include "block/inspect-rule.h"
#include "formats/raw/raw.h"

#define SECTOR		512u
#define ISO_SECTOR	2048u
#define ISO_FIRST	16u /* sectors before are the system's own */
#define ISO_LAST	20u
#define MBR_ENTRIES	4
#define TYPE_PROTECTIVE 0xee

struct mbr_entry {
	uint8_t boot, start_chs[3], type, end_chs[3];
	le32_t start_lba, sectors;
};

struct mbr {
	uint8_t code[446];
	struct mbr_entry entries[MBR_ENTRIES];
	uint8_t signature[2];
};

_Static_assert(sizeof(struct mbr) == SECTOR, "MBR size");

/* ISO 9660, or UDF without it. */
static const char *optical_content(const uint8_t *head)
{
	for (unsigned i = ISO_FIRST; i < ISO_LAST; i++) {
		const uint8_t *id = head + i * ISO_SECTOR + 1;

		if (!memcmp(id, "CD001", 5))
			return "iso9660";
		if (!memcmp(id, "NSR02", 5) || !memcmp(id, "NSR03", 5))
			return "udf";
	}
	return NULL;
}

/*
 * The boot sector of a FAT file system ends like an MBR: two copies of the
 * table, on a fixed disk.
 */
static bool is_fat(const uint8_t *head)
{
	return head[0x10] == 2 && head[0x15] == 0xf8;
}

static bool has_gpt(const uint8_t *head)
{
	return !memcmp(head + 512, "EFI PART", 8) ||
	       !memcmp(head + 4096, "EFI PART", 8);
}

static void check_entry(struct inspection *in, const struct mbr_entry *e,
			unsigned number)
{
	static const uint8_t first_chs[3] = {0, 2, 0};

	if (e->boot != 0 && e->boot != 0x80)
		inspect_unsafe(in, "partition-table",
			       "entry %u of its MBR has the boot flag 0x%02x, "
			       "not 0x00 or 0x80",
			       number, e->boot);
	if (e->type == TYPE_PROTECTIVE &&
	    (memcmp(e->start_chs, first_chs, sizeof(first_chs)) ||
	     le32_get(e->start_lba) != 1))
		inspect_unsafe(in, "partition-table",
			       "entry %u of its MBR protects a GPT, but does "
			       "not start at sector 1",
			       number);
}

/* `optical`: hybrids have several tables by design, and no types in them. */
static void check_mbr(struct inspection *in, const struct mbr *mbr, bool gpt,
		      bool optical)
{
	unsigned used = 0, protective = 0;

	for (unsigned i = 0; i < MBR_ENTRIES; i++) {
		check_entry(in, &mbr->entries[i], i + 1);
		used += mbr->entries[i].type != 0;
		protective += mbr->entries[i].type == TYPE_PROTECTIVE;
	}
	if (optical)
		return;
	if (!used)
		inspect_unsafe(in, "partition-table",
			       "its MBR defines no partitions");
	if (protective && (used > 1 || mbr->entries[0].type != TYPE_PROTECTIVE))
		inspect_unsafe(in, "partition-table",
			       "its MBR protects a GPT and defines other "
			       "partitions as well");
	if (gpt && used && !protective)
		inspect_unsafe(in, "partition-table",
			       "it has a GPT, and an MBR that does not "
			       "protect it");
}

void raw_inspect(struct inspection *in)
{
	const uint8_t *head = inspect_head(in);
	const struct mbr *mbr = (const struct mbr *)head;
	const char *optical = optical_content(head);
	bool has_mbr = mbr->signature[0] == 0x55 && mbr->signature[1] == 0xaa &&
		       !is_fat(head);
	bool gpt = has_gpt(head);

	if (optical)
		inspect_content(in, optical);
	if (gpt)
		inspect_content(in, "gpt");
	if (has_mbr)
		inspect_content(in, "mbr");
	if (!inspect_unclaimed(in))
		return;
	inspect_claim(in, "raw");
	if (inspect_file_size(in) != UINT64_MAX)
		inspect_virtual_size(in, inspect_file_size(in));
	if (has_mbr)
		check_mbr(in, mbr, gpt, optical);
	else if (gpt && !optical)
		inspect_unsafe(in, "partition-table",
			       "it has a GPT without an MBR to protect it");
}
