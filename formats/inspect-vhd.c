/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A VHD image: growing ones have their footer at the head as well, fixed ones
 * at the end only, where it follows the disk (spec: raw-and-probing 8).
 */
#include <string.h>

#include "block/bytes.h"
#include "block/inspect-rule.h"
#include "formats/foreign.h"

#define FOOTER_BYTES	     512u
#define FOOTER_BYTES_OLD     511u
#define VERSION		     0x00010000u
#define TYPE_FIXED	     2
#define TYPE_DYNAMIC	     3
#define TYPE_DIFFERENCING    4
#define DYNAMIC_OFF_MAX	     (16u * 1024 * 1024) /* next to the footer */
#define BLOCK_MIN	     512u
#define BLOCK_MAX	     (256u * 1024 * 1024)
#define FOOTER_CHECKSUM_OFF  64
#define DYNAMIC_CHECKSUM_OFF 36

struct vhd_footer {
	uint8_t cookie[8];
	be32_t features, version;
	be64_t data_off;
	be32_t timestamp;
	uint8_t creator[12];
	be64_t original_size, current_size;
	be32_t geometry, type, checksum;
	uint8_t uuid[16], saved, reserved[427];
};

struct vhd_dynamic {
	uint8_t cookie[8];
	be64_t data_off, table_off;
	be32_t version, table_entries, block_size, checksum;
	uint8_t parent_uuid[16];
	uint8_t rest[968];
};

_Static_assert(sizeof(struct vhd_footer) == 512, "VHD footer size");
_Static_assert(sizeof(struct vhd_dynamic) == 1024, "VHD header size");

/* The sum of all bytes but the checksum's own, inverted. */
static bool checksum_fits(const void *data, size_t len, size_t checksum_off)
{
	const uint8_t *p = data;
	uint32_t sum = 0;
	be32_t stored;

	for (size_t i = 0; i < len; i++)
		if (i < checksum_off || i >= checksum_off + sizeof(stored))
			sum += p[i];
	memcpy(&stored, p + checksum_off, sizeof(stored));
	return be32_get(stored) == ~sum;
}

/* False: no use in looking further. */
static bool check_footer(struct inspection *in, const struct vhd_footer *f,
			 size_t len)
{
	uint32_t type = be32_get(f->type);

	inspect_virtual_size(in, be64_get(f->current_size));
	if (type == TYPE_DIFFERENCING) {
		inspect_unsafe(in, "backing-file",
			       "it is a difference to another image");
		return false;
	}
	if (!checksum_fits(f, len, FOOTER_CHECKSUM_OFF)) {
		inspect_malformed(in, "the checksum of its footer is wrong");
		return false;
	}
	if (be32_get(f->version) != VERSION)
		inspect_unsafe(in, "unknown-version",
			       "it is VHD of version 0x%x, not 0x%x",
			       be32_get(f->version), VERSION);
	if (be64_get(f->current_size) > INT64_MAX)
		inspect_malformed(in, "its size is larger than any disk");
	return true;
}

static void check_dynamic(struct inspection *in, const struct vhd_footer *f,
			  const struct vhd_dynamic *d)
{
	uint32_t block = be32_get(d->block_size);
	uint64_t table_bytes = 4ull * be32_get(d->table_entries);

	if (memcmp(d->cookie, "cxsparse", sizeof(d->cookie)) ||
	    !checksum_fits(d, sizeof(*d), DYNAMIC_CHECKSUM_OFF)) {
		inspect_malformed(in, "its second header is damaged");
		return;
	}
	if (!is_power_of_2(block) || block < BLOCK_MIN || block > BLOCK_MAX)
		inspect_malformed(in, "its block size is %u", block);
	else if (div_round_up(be64_get(f->current_size), block) >
		 be32_get(d->table_entries))
		inspect_malformed(
			in, "%u blocks do not hold its %llu bytes",
			be32_get(d->table_entries),
			(unsigned long long)be64_get(f->current_size));
	if (!range_inside(be64_get(d->table_off), table_bytes,
			  inspect_file_size(in)))
		inspect_malformed(in, "its table ends behind the file");
}

static void inspect_growing(struct inspection *in, const struct vhd_footer *f)
{
	const uint8_t *second = NULL;
	uint64_t data_off = be64_get(f->data_off);

	if (!check_footer(in, f, FOOTER_BYTES))
		return;
	if (be32_get(f->type) != TYPE_DYNAMIC) {
		inspect_malformed(in, "its type is %u, which has no header",
				  be32_get(f->type));
		return;
	}
	if (data_off > DYNAMIC_OFF_MAX) {
		inspect_malformed(in, "its second header is at 0x%llx",
				  (unsigned long long)data_off);
		return;
	}
	switch (inspect_bytes(in, data_off, sizeof(struct vhd_dynamic),
			      &second)) {
	case INSPECT_HERE:
		check_dynamic(in, f, (const struct vhd_dynamic *)second);
		return;
	case INSPECT_NOWHERE:
		inspect_malformed(in, "its second header is behind the end");
		return;
	case INSPECT_LATER:
		return;
	}
}

static void inspect_fixed(struct inspection *in, const struct vhd_footer *f,
			  size_t len)
{
	uint64_t size;

	inspect_claim(in, "vpc");
	if (!check_footer(in, f, len))
		return;
	size = be64_get(f->current_size);
	if (be32_get(f->type) != TYPE_FIXED)
		inspect_malformed(in, "its type is %u, but it has no header",
				  be32_get(f->type));
	else if (size > inspect_file_size(in) - len)
		inspect_malformed(in,
				  "its disk has %llu bytes, more than the file",
				  (unsigned long long)size);
}

static const char cookie[] = "conectix";

void vhd_inspect(struct inspection *in)
{
	const struct vhd_footer *f =
		(const struct vhd_footer *)inspect_head(in);

	if (memcmp(f->cookie, cookie, sizeof(f->cookie)))
		return;
	inspect_claim(in, "vpc");
	inspect_growing(in, f);
}

void vhd_fixed_inspect(struct inspection *in)
{
	struct vhd_footer old = {0};
	const uint8_t *tail;

	if (!inspect_unclaimed(in) ||
	    inspect_tail(in, FOOTER_BYTES, &tail) != INSPECT_HERE)
		return;
	if (!memcmp(tail, cookie, sizeof(old.cookie))) {
		inspect_fixed(in, (const struct vhd_footer *)tail,
			      FOOTER_BYTES);
	} else if (!memcmp(tail + 1, cookie, sizeof(old.cookie))) {
		/* Very old footers have 511 bytes. */
		memcpy(&old, tail + 1, FOOTER_BYTES_OLD);
		inspect_fixed(in, &old, FOOTER_BYTES_OLD);
	}
}
