/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Formats that are known by sight only (spec: raw-and-probing 8).
 *
 * To take one of these for raw would destroy it on the first write, or show a
 * reader its packing instead of its disk. What a disk itself may hold (a
 * partition table, a file system, an ISO image) is not listed: that is raw.
 *
 * Two invariants, which block/probe.h promises to those who guard raw disks:
 * every signature at the head lies inside the first sector, and none at all is
 * seen in zeros. When a format gets a driver its lines go from here.
 */
#include "formats/registry.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "block/bytes.h"
#include "block/format.h"
#include "formats/foreign.h"

#define SECTOR 512

struct signature {
	const char *name;
	const char *bytes;
	uint16_t len, offset;
	bool judged; /* by an inspect-*.c of its own */
};

#define SIGNATURE(name, offset, bytes)                          \
	{                                                       \
		name, bytes, sizeof(bytes) - 1, (offset), false \
	}
#define JUDGED(name, offset, bytes)                            \
	{                                                      \
		name, bytes, sizeof(bytes) - 1, (offset), true \
	}

/* In order: a longer signature before a shorter one that it starts with. */
static const struct signature head_signatures[] = {
	JUDGED("vmdk", 0, "KDMV"),
	SIGNATURE("vmdk (VMFS sparse)", 0, "COWD"),
	SIGNATURE("vmdk (SESparse)", 0, "\xbe\xba\xfe\xca\0\0\0\0"),
	JUDGED("vhdx", 0, "vhdxfile"),
	JUDGED("vpc (VHD)", 0, "conectix"),
	JUDGED("luks", 0, "LUKS\xba\xbe\0\1"),
	JUDGED("luks2", 0, "LUKS\xba\xbe\0\2"),
	JUDGED("luks of an unknown version", 0, "LUKS\xba\xbe"),
	SIGNATURE("qed", 0, "QED\0"),
	SIGNATURE("parallels", 0, "WithoutFreeSpace"),
	SIGNATURE("parallels", 0, "WithouFreSpacExt"),
	SIGNATURE("bochs", 0, "Bochs Virtual HD Image"),
	SIGNATURE("cloop", 0, "#!/bin/sh\n#V2.0 Format\n"),
	SIGNATURE("sparseimage (Apple)", 0, "sprs"),
	SIGNATURE("gzip compressed file", 0, "\x1f\x8b\x08"),
	SIGNATURE("xz compressed file", 0, "\xfd\x37\x7a\x58\x5a\0"),
	SIGNATURE("zstd compressed file", 0, "\x28\xb5\x2f\xfd"),
	SIGNATURE("zip archive", 0, "PK\3\4"),
	JUDGED("vdi", 0x40, "\x7f\x10\xda\xbe"),
	SIGNATURE("tar archive (an OVA appliance is one)", 257, "ustar"),
};

static const struct signature tail_signatures[] = {
	JUDGED("vpc (fixed VHD)", 0, "conectix"),
	/* Very old footers have 511 bytes. */
	JUDGED("vpc (fixed VHD)", 1, "conectix"),
	SIGNATURE("dmg", 0, "koly\0\0\0\4"),
};

static bool matches(const struct signature *sig, const uint8_t *sector)
{
	return !memcmp(sector + sig->offset, sig->bytes, sig->len);
}

static const char *find(const struct signature *list, size_t count,
			const uint8_t *sector)
{
	for (size_t i = 0; i < count; i++)
		if (matches(&list[i], sector))
			return list[i].name;
	return NULL;
}

/* The first version of qcow, and nonsense below it; the rest has a driver. */
static bool is_qcow(const uint8_t *sector)
{
	static const uint8_t magic[] = {'Q', 'F', 'I', 0xfb};
	be32_t version;

	memcpy(&version, sector + sizeof(magic), sizeof(version));
	return !memcmp(sector, magic, sizeof(magic)) && be32_get(version) < 2;
}

/* "BZh", the block size, and then a block or the end of an empty stream. */
static bool is_bzip2(const uint8_t *sector)
{
	static const uint8_t block[] = {0x31, 0x41, 0x59, 0x26, 0x53, 0x59};
	static const uint8_t end[] = {0x17, 0x72, 0x45, 0x38, 0x50, 0x90};

	return !memcmp(sector, "BZh", 3) && sector[3] >= '1' &&
	       sector[3] <= '9' &&
	       (!memcmp(sector + 4, block, sizeof(block)) ||
		!memcmp(sector + 4, end, sizeof(end)));
}

static const uint8_t *skip_line(const uint8_t *p, const uint8_t *end)
{
	while (p < end && *p != '\n')
		p++;
	return p < end ? p + 1 : p;
}

/*
 * The text of a VMDK descriptor: comments and blank lines, then `version=` with
 * a digit of 1 to 3. Text whose comments fill the first sector is not looked
 * at further, because of the invariant at the top of this file.
 */
static bool is_vmdk_descriptor(const uint8_t *sector)
{
	static const char key[] = "version=";
	const uint8_t *p = sector, *end = sector + SECTOR;

	while (p < end) {
		const uint8_t *word = p;

		while (word < end && (*word == ' ' || *word == '\r'))
			word++;
		if (word < end && (*word == '#' || *word == '\n')) {
			p = skip_line(word, end);
			continue;
		}
		return (size_t)(end - word) > sizeof(key) - 1 &&
		       !memcmp(word, key, sizeof(key) - 1) &&
		       word[sizeof(key) - 1] >= '1' &&
		       word[sizeof(key) - 1] <= '3';
	}
	return false;
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

const char *format_recognise_foreign(const struct probe_input *in)
{
	const char *name =
		find(head_signatures, COUNT(head_signatures), in->head);

	if (name)
		return name;
	if (is_qcow(in->head))
		return "qcow (version 1)";
	if (is_bzip2(in->head))
		return "bzip2 compressed file";
	if (is_vmdk_descriptor(in->head))
		return "vmdk (descriptor)";
	if (!in->tail)
		return NULL;
	return find(tail_signatures, COUNT(tail_signatures), in->tail);
}

/* The signatures, then the two formats that take more than comparing bytes. */
const char *format_next_foreign(const struct probe_input *in, size_t *next)
{
	const size_t qcow = COUNT(head_signatures), bzip2 = qcow + 1;
	const size_t tails = bzip2 + 1, end = tails + COUNT(tail_signatures);

	while (*next < end) {
		size_t i = (*next)++;
		const struct signature *sig = &head_signatures[i % qcow];

		if (i == qcow && is_qcow(in->head))
			return "qcow (version 1)";
		if (i == bzip2 && is_bzip2(in->head))
			return "bzip2 compressed file";
		if (i >= tails)
			sig = &tail_signatures[i - tails];
		if ((i < qcow && !sig->judged && matches(sig, in->head)) ||
		    (i >= tails && in->tail && !sig->judged &&
		     matches(sig, in->tail)))
			return sig->name;
	}
	return NULL;
}
