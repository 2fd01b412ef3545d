/* SPDX-License-Identifier: BSD-3-Clause */
/* A VDI image, judged by its header (spec: vdi 2, 3). */
#include <string.h>

#include "block/bytes.h"
#include "block/inspect-rule.h"
#include "formats/foreign.h"

#define SIGNATURE   0xbeda107fu
#define VERSION	    0x00010001u
#define HEADER_MIN  0x180u
#define HEADER_MAX  0x10000u
#define BLOCK_MIN   4096u
#define BLOCK_MAX   (256u * 1024 * 1024)
#define BLOCKS_MAX  0x1fffff80u /* of a map with less than 2 GiB */
#define TYPE_NORMAL 1
#define TYPE_FIXED  2

struct vdi_header {
	uint8_t text[64];
	le32_t signature, version, header_size, type, flags;
	uint8_t comment[256];
	le32_t map_off, data_off, geometry[3], sector_size, unused;
	le64_t disk_size;
	le32_t block_size, block_extra, blocks, allocated;
	uint8_t uuid_create[16], uuid_modify[16];
	uint8_t uuid_link[16], uuid_parent[16];
	uint8_t rest[512 - 0x1c8];
};

_Static_assert(sizeof(struct vdi_header) == 512, "VDI header size");

static void check_parent(struct inspection *in, const struct vdi_header *h)
{
	static const uint8_t none[16];
	uint32_t type = le32_get(h->type);

	if (type > TYPE_FIXED || memcmp(h->uuid_link, none, 16) ||
	    memcmp(h->uuid_parent, none, 16))
		inspect_unsafe(in, "backing-file",
			       "it is a difference to another image (type %u)",
			       type);
	else if (type < TYPE_NORMAL)
		inspect_malformed(in, "its type is %u, not 1 or 2", type);
}

static void check_blocks(struct inspection *in, const struct vdi_header *h)
{
	uint64_t size = le64_get(h->disk_size), covered;
	uint32_t block = le32_get(h->block_size);
	uint32_t blocks = le32_get(h->blocks);

	if (!is_power_of_2(block) || block < BLOCK_MIN || block > BLOCK_MAX)
		inspect_malformed(in, "its block size is %u", block);
	if (le32_get(h->block_extra))
		inspect_malformed(in, "its blocks have %u extra bytes",
				  le32_get(h->block_extra));
	covered = (uint64_t)block * blocks;
	if (blocks > BLOCKS_MAX || size > covered)
		inspect_malformed(in, "%u blocks do not hold its %llu bytes",
				  blocks, (unsigned long long)size);
	if (le32_get(h->allocated) > blocks)
		inspect_malformed(in, "%u of its %u blocks are allocated",
				  le32_get(h->allocated), blocks);
}

static void check_layout(struct inspection *in, const struct vdi_header *h)
{
	uint64_t map_off = le32_get(h->map_off);
	uint64_t map_end = map_off + 4ull * le32_get(h->blocks);
	uint32_t header = le32_get(h->header_size);

	if (header < HEADER_MIN || header > HEADER_MAX)
		inspect_malformed(in, "its header size is 0x%x", header);
	if (map_off < 0x48ull + HEADER_MIN || map_off % 512)
		inspect_malformed(in, "its block map is at 0x%llx",
				  (unsigned long long)map_off);
	else if (map_end > le32_get(h->data_off) ||
		 map_end > inspect_file_size(in))
		inspect_malformed(in,
				  "its block map ends at 0x%llx, behind the "
				  "start of the data or the end of the file",
				  (unsigned long long)map_end);
	if (le32_get(h->sector_size) != 512)
		inspect_malformed(in, "its sector size is %u, not 512",
				  le32_get(h->sector_size));
}

void vdi_inspect(struct inspection *in)
{
	const struct vdi_header *h =
		(const struct vdi_header *)inspect_head(in);

	if (le32_get(h->signature) != SIGNATURE)
		return;
	inspect_claim(in, "vdi");
	if (le32_get(h->version) != VERSION) {
		inspect_unsafe(in, "unknown-version",
			       "it is VDI of version 0x%x, not 0x%x",
			       le32_get(h->version), VERSION);
		return;
	}
	inspect_virtual_size(in, le64_get(h->disk_size));
	check_parent(in, h);
	check_blocks(in, h);
	check_layout(in, h);
}
