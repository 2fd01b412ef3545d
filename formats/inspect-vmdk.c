/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A VMDK image in one file, judged by its header, descriptor and footer (spec:
 * vmdk 2, 3, 5, 7). A descriptor in a file of its own only names other files,
 * so there is nothing to judge: it is unsafe.
 */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "block/bytes.h"
#include "block/inspect-rule.h"
#include "formats/foreign.h"
#include "formats/vmdk-descriptor.h"

#define SECTOR	       512u
#define VERSION_MAX    3
#define GRAIN_MIN      8u
#define GRAIN_MAX      (1u << 16)
#define GTES_PER_GT    512u
#define GD_ENTRIES_MAX (8u * 1024 * 1024) /* a table of 32 MiB */
#define CAPACITY_MAX   ((uint64_t)INT64_MAX / SECTOR)
#define DESCRIPTOR_OFF 1u /* sectors: behind the header */
#define DESCRIPTOR_MAX 2048u
#define GD_AT_END      UINT64_MAX
#define MARKER_FOOTER  3u

struct vmdk_header {
	uint8_t magic[4];
	le32_t version, flags;
	le64_t capacity, grain, descriptor_off, descriptor_len; /* sectors */
	le32_t gtes_per_gt;
	le64_t spare_gd_off, gd_off, overhead;
	uint8_t unclean, line_ends[4];
	le16_t compression;
	uint8_t padding[433];
};

struct vmdk_marker {
	le64_t sectors;
	le32_t size, type;
	uint8_t zeros[496];
};

struct vmdk_end {
	struct vmdk_marker footer_marker;
	struct vmdk_header footer;
	struct vmdk_marker end_marker;
};

_Static_assert(sizeof(struct vmdk_header) == SECTOR, "VMDK header size");
_Static_assert(sizeof(struct vmdk_end) == 3 * SECTOR, "VMDK end size");
_Static_assert(sizeof(struct vmdk_end) == INSPECT_TAIL_BYTES, "tail size");

/* ---- the header ---- */

static void check_tables(struct inspection *in, const struct vmdk_header *h)
{
	uint64_t grain = le64_get(h->grain), capacity = le64_get(h->capacity);

	if (!is_power_of_2(grain) || grain < GRAIN_MIN || grain > GRAIN_MAX) {
		inspect_malformed(in, "its grain size is %llu sectors",
				  (unsigned long long)grain);
		return;
	}
	if (le32_get(h->gtes_per_gt) != GTES_PER_GT)
		inspect_malformed(in, "its tables have %u entries, not %u",
				  le32_get(h->gtes_per_gt), GTES_PER_GT);
	if (capacity > CAPACITY_MAX ||
	    capacity / (grain * GTES_PER_GT) > GD_ENTRIES_MAX)
		inspect_malformed(in,
				  "its directory would be too large for "
				  "%llu sectors",
				  (unsigned long long)capacity);
	else
		inspect_virtual_size(in, capacity * SECTOR);
}

/* False: no use in looking further. */
static bool check_header(struct inspection *in, const struct vmdk_header *h)
{
	uint32_t version = le32_get(h->version);

	if (!version || version > VERSION_MAX) {
		inspect_unsafe(in, "unknown-version",
			       "it is VMDK of version %u, not 1 to %u", version,
			       VERSION_MAX);
		return false;
	}
	if (memcmp(h->line_ends, "\n \r\n", sizeof(h->line_ends)))
		inspect_malformed(in, "its bytes were mangled like text");
	if (le16_get(h->compression) > 1)
		inspect_malformed(in, "its compression is %u, not 0 or 1",
				  le16_get(h->compression));
	check_tables(in, h);
	if (le64_get(h->descriptor_off) != DESCRIPTOR_OFF ||
	    !le64_get(h->descriptor_len) ||
	    le64_get(h->descriptor_len) > DESCRIPTOR_MAX) {
		inspect_unsafe(in, "descriptor",
			       "its descriptor has %llu sectors at %llu, not "
			       "1 to %u at %u",
			       (unsigned long long)le64_get(h->descriptor_len),
			       (unsigned long long)le64_get(h->descriptor_off),
			       DESCRIPTOR_MAX, DESCRIPTOR_OFF);
		return false;
	}
	return true;
}

/* ---- the footer ---- */

static bool is_marker(const struct vmdk_marker *m, uint32_t type)
{
	for (size_t i = 0; i < sizeof(m->zeros); i++)
		if (m->zeros[i])
			return false;
	return le32_get(m->size) == 0 && le32_get(m->type) == type;
}

/* Readers believe the footer: it may differ in where the directory is only. */
static bool same_but_directory(const struct vmdk_header *h,
			       const struct vmdk_header *footer)
{
	struct vmdk_header expected = *footer;

	expected.gd_off = h->gd_off;
	expected.spare_gd_off = h->spare_gd_off;
	return !memcmp(h, &expected, sizeof(expected));
}

static void check_end(struct inspection *in, const struct vmdk_header *h)
{
	const struct vmdk_end *end;
	const uint8_t *tail = NULL;
	enum inspect_answer answer;

	if (le64_get(h->gd_off) != GD_AT_END)
		return;
	answer = inspect_tail(in, sizeof(*end), &tail);
	if (answer == INSPECT_NOWHERE)
		inspect_malformed(in, "it has no footer");
	if (answer != INSPECT_HERE)
		return;
	end = (const struct vmdk_end *)tail;
	if (!is_marker(&end->footer_marker, MARKER_FOOTER) ||
	    !is_marker(&end->end_marker, 0) ||
	    le64_get(end->end_marker.sectors))
		inspect_unsafe(in, "footer", "its footer is not marked as one");
	else if (le64_get(end->footer.gd_off) == GD_AT_END)
		inspect_unsafe(in, "footer",
			       "its footer points to another footer");
	else if (!same_but_directory(h, &end->footer))
		inspect_unsafe(in, "footer",
			       "its footer says something else than its "
			       "header");
}

static void inspect_sparse(struct inspection *in, const struct vmdk_header *h)
{
	const uint8_t *text = NULL;
	size_t len;

	inspect_claim(in, "vmdk");
	if (!check_header(in, h))
		return;
	len = (size_t)le64_get(h->descriptor_len) * SECTOR;
	switch (inspect_bytes(in, DESCRIPTOR_OFF * SECTOR, len, &text)) {
	case INSPECT_HERE:
		vmdk_descriptor_inspect(in, (const char *)text, len);
		break;
	case INSPECT_NOWHERE:
		inspect_malformed(in, "its descriptor ends behind the file");
		break;
	case INSPECT_LATER:
		return;
	}
	check_end(in, h);
}

/* ---- a descriptor in a file of its own ---- */

/* Text from its first byte to a NUL or the end of the first sector. */
static bool starts_as_text(const uint8_t *head)
{
	for (unsigned i = 0; i < SECTOR; i++) {
		if (!head[i])
			return i > 0;
		if (head[i] > 0x7f || (!isprint(head[i]) && !isspace(head[i])))
			return false;
	}
	return true;
}

static bool has_create_type(const uint8_t *text, size_t len)
{
	static const char key[] = "createtype";

	for (size_t i = 0; i + sizeof(key) <= len && text[i]; i++)
		if (!strncasecmp((const char *)text + i, key, sizeof(key) - 1))
			return true;
	return false;
}

/* As far as QEMU reads a descriptor; a file that is shorter ends before. */
static bool is_descriptor(struct inspection *in)
{
	const uint8_t *text = inspect_head(in);
	uint64_t size = inspect_file_size(in);
	size_t len = (size_t)min_u64(size, DESCRIPTOR_MAX * SECTOR - 1);

	if (!starts_as_text(text))
		return false;
	if (vmdk_descriptor_starts((const char *)text, SECTOR))
		return true;
	if (memchr(text, '\0', INSPECT_HEAD_BYTES) || len < INSPECT_HEAD_BYTES)
		return has_create_type(text, INSPECT_HEAD_BYTES);
	/* A stream may turn out to be shorter than what was asked for. */
	if (inspect_bytes(in, 0, len, &text) == INSPECT_HERE)
		return has_create_type(text, len);
	return false;
}

void vmdk_inspect(struct inspection *in)
{
	const struct vmdk_header *h =
		(const struct vmdk_header *)inspect_head(in);

	if (!memcmp(h->magic, "KDMV", sizeof(h->magic))) {
		inspect_sparse(in, h);
	} else if (is_descriptor(in)) {
		inspect_claim(in, "vmdk");
		inspect_unsafe(in, "foreign-extents",
			       "it is a descriptor, which names the files "
			       "that hold its data");
	}
}
