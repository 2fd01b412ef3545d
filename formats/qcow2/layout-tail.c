/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What stands in the first cluster behind the fixed header (spec: qcow2 3):
 *
 *	header_len                              backing_off
 *	| unknown fields | extension | ... | end | backing name |
 *	112              type, len, data, padding to 8
 *
 * The area of the extensions ends at the backing name, or with the cluster.
 * Extensions are kept in the order of the file, those that are not understood
 * included, so that a rewritten header loses nothing.
 */
#include "formats/qcow2/layout.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/error.h"

#define BACKING_FORMAT_MAX 15
/* A directory entry has 24 bytes and a name of 1023 at most. */
#define BITMAP_DIRECTORY_MAX (QCOW2_BITMAPS_MAX * 1024ull)

struct feature_record {
	uint8_t set, bit;
	char name[46]; /* need not end in NUL */
};

_Static_assert(sizeof(struct feature_record) == 48, "feature record size");

struct bitmaps_disk {
	be32_t count, reserved;
	be64_t directory_len, directory_off;
};

struct encryption_disk {
	be64_t off, len;
};

/* What is read next, and where the area of the extensions ends. */
struct cursor {
	const uint8_t *buf;
	size_t pos, end;
};

/* Next extension: 1, or 0 at the end of the list. Borrows the data. */
static int extension_next(struct cursor *c, uint32_t *type,
			  const uint8_t **data, uint32_t *len,
			  struct error *err)
{
	be32_t word[2];
	uint64_t room;

	*data = c->buf;
	if (c->pos > c->end || c->end - c->pos < sizeof(word))
		return 0;
	memcpy(word, c->buf + c->pos, sizeof(word));
	*type = be32_get(word[0]);
	*len = be32_get(word[1]);
	if (*type == QCOW2_EXT_END)
		return 0;
	room = c->end - c->pos - sizeof(word);
	if (*len > room)
		return error_set(err, ERROR_CORRUPT,
				 "Header extension too large: 0x%08" PRIx32
				 " at 0x%zx has %" PRIu32
				 " bytes, there is room for %" PRIu64,
				 *type, c->pos, *len, room);
	*data = c->buf + c->pos + sizeof(word);
	c->pos += sizeof(word) + (size_t)align_up(*len, 8);
	return 1;
}

static int append(struct qcow2_header_tail *tail, uint32_t type,
		  const uint8_t *data, uint32_t len)
{
	struct qcow2_extension *grown;
	uint8_t *copy;

	grown = realloc(tail->extensions,
			(tail->extension_count + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	tail->extensions = grown;
	copy = malloc(len ? len : 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, data, len);
	grown[tail->extension_count++] = (struct qcow2_extension){
		.type = type, .len = len, .data = copy};
	return 0;
}

/* A name: not empty, and without a zero byte that would hide its rest. */
static int take_name(char **out, const char *what, const uint8_t *data,
		     size_t len, size_t max, struct error *err)
{
	if (!len || len > max)
		return error_set(err, ERROR_CORRUPT,
				 "%s has %zu bytes; 1 to %zu are allowed", what,
				 len, max);
	if (memchr(data, 0, len))
		return error_set(err, ERROR_CORRUPT, "%s contains a zero byte",
				 what);
	*out = strndup((const char *)data, len);
	return *out ? 0 : -ENOMEM;
}

static int want_len(const char *what, uint32_t len, size_t want,
		    struct error *err)
{
	if (len == want)
		return 0;
	return error_set(err, ERROR_CORRUPT,
			 "%s extension has %" PRIu32 " bytes, not %zu", what,
			 len, want);
}

static int decode_encryption(struct qcow2_header_tail *tail,
			     const struct qcow2_header *h, const uint8_t *data,
			     uint32_t len, struct error *err)
{
	struct encryption_disk disk;
	int ret = want_len("Encryption header", len, sizeof(disk), err);

	if (ret < 0)
		return ret;
	memcpy(&disk, data, sizeof(disk));
	tail->has_encryption = true;
	tail->encryption_off = be64_get(disk.off);
	tail->encryption_len = be64_get(disk.len);
	if (h->crypt_method != QCOW2_CRYPT_LUKS)
		return error_set(err, ERROR_CORRUPT,
				 "Encryption header extension is only for "
				 "crypt_method 2, not %" PRIu32,
				 h->crypt_method);
	if (!tail->encryption_off ||
	    !is_aligned(tail->encryption_off, 1ull << h->cluster_bits))
		return error_set(err, ERROR_CORRUPT,
				 "Encryption header offset 0x%" PRIx64
				 " is not a multiple of the cluster size "
				 "0x%llx above 0",
				 tail->encryption_off, 1ull << h->cluster_bits);
	if (!tail->encryption_len ||
	    !range_inside(tail->encryption_off, tail->encryption_len,
			  QCOW2_HOST_OFF_MAX))
		return error_set(err, ERROR_CORRUPT,
				 "Encryption header of %" PRIu64
				 " bytes at 0x%" PRIx64
				 " is empty or ends behind 2^56",
				 tail->encryption_len, tail->encryption_off);
	return 0;
}

/*
 * A directory that makes no sense is as good as none: bitmaps only save work.
 * Only the extension's own length is part of the header's grammar.
 */
static int decode_bitmaps(struct qcow2_header_tail *tail,
			  const struct qcow2_header *h, const uint8_t *data,
			  uint32_t len, struct error *err)
{
	struct bitmaps_disk disk;
	int ret = want_len("Bitmaps", len, sizeof(disk), err);

	if (ret < 0)
		return ret;
	memcpy(&disk, data, sizeof(disk));
	tail->has_bitmaps = true;
	tail->bitmap_count = be32_get(disk.count);
	tail->bitmap_directory_len = be64_get(disk.directory_len);
	tail->bitmap_directory_off = be64_get(disk.directory_off);
	tail->bitmaps_valid =
		(h->autoclear & QCOW2_AUTOCLEAR_BITMAPS) &&
		!be32_get(disk.reserved) && tail->bitmap_count > 0 &&
		tail->bitmap_count <= QCOW2_BITMAPS_MAX &&
		tail->bitmap_directory_len > 0 &&
		tail->bitmap_directory_len <= BITMAP_DIRECTORY_MAX &&
		tail->bitmap_directory_off > 0 &&
		is_aligned(tail->bitmap_directory_off,
			   1ull << h->cluster_bits) &&
		range_inside(tail->bitmap_directory_off,
			     tail->bitmap_directory_len, QCOW2_HOST_OFF_MAX);
	return 0;
}

/* Those that say something about the image may be there once only. */
static int check_single(const struct qcow2_header_tail *tail, uint32_t type,
			struct error *err)
{
	size_t i;

	for (i = 0; i < tail->extension_count; i++)
		if (tail->extensions[i].type == type)
			return error_set(err, ERROR_CORRUPT,
					 "Header extension 0x%08" PRIx32
					 " is there more than once",
					 type);
	return 0;
}

static int decode_extension(struct qcow2_header_tail *tail,
			    const struct qcow2_header *h, uint32_t type,
			    const uint8_t *data, uint32_t len,
			    struct error *err)
{
	int ret;

	switch (type) {
	case QCOW2_EXT_BACKING_FORMAT:
		if ((ret = check_single(tail, type, err)) < 0)
			return ret;
		return take_name(&tail->backing_format, "Backing format name",
				 data, len, BACKING_FORMAT_MAX, err);
	case QCOW2_EXT_DATA_FILE:
		if ((ret = check_single(tail, type, err)) < 0)
			return ret;
		return take_name(&tail->data_file_name, "Data file name", data,
				 len, QCOW2_BACKING_NAME_MAX, err);
	case QCOW2_EXT_ENCRYPTION:
		if ((ret = check_single(tail, type, err)) < 0)
			return ret;
		return decode_encryption(tail, h, data, len, err);
	case QCOW2_EXT_BITMAPS:
		if ((ret = check_single(tail, type, err)) < 0)
			return ret;
		return decode_bitmaps(tail, h, data, len, err);
	default:
		return 0;
	}
}

static int decode_extensions(struct qcow2_header_tail *tail,
			     const struct qcow2_header *h, struct cursor c,
			     struct error *err)
{
	const uint8_t *data;
	uint32_t type, len;
	int ret;

	while ((ret = extension_next(&c, &type, &data, &len, err)) > 0) {
		ret = decode_extension(tail, h, type, data, len, err);
		if (ret < 0)
			return ret;
		ret = append(tail, type, data, len);
		if (ret < 0)
			return ret;
	}
	return ret;
}

/* The image's own name for an incompatible feature, or NULL. */
static const uint8_t *feature_name(struct cursor c, unsigned bit, size_t *len)
{
	const uint8_t *data;
	uint32_t type, bytes, at;

	while (extension_next(&c, &type, &data, &bytes, NULL) > 0) {
		if (type != QCOW2_EXT_FEATURE_NAMES)
			continue;
		for (at = 0; bytes - at >= sizeof(struct feature_record);
		     at += sizeof(struct feature_record)) {
			if (data[at] != 0 || data[at + 1] != bit)
				continue;
			*len = strnlen((const char *)data + at + 2, 46);
			return data + at + 2;
		}
	}
	return NULL;
}

/* Appends with control bytes made visible; cuts at the end of the buffer. */
static void append_escaped(char *text, size_t size, const uint8_t *name,
			   size_t len)
{
	size_t used = strlen(text), i;

	for (i = 0; i < len && used + 5 < size; i++) {
		if (name[i] >= 0x20 && name[i] < 0x7f)
			snprintf(text + used, size - used, "%c", name[i]);
		else
			snprintf(text + used, size - used, "\\x%02x", name[i]);
		used += strlen(text + used);
	}
}

/* Features that a reader must know, by the names that the image gives them. */
static int check_unknown_features(const struct qcow2_header *h, struct cursor c,
				  struct error *err)
{
	uint64_t unknown = h->incompatible & ~QCOW2_INCOMPAT_KNOWN;
	uint64_t nameless = unknown;
	char text[1024] = "";
	const uint8_t *name;
	size_t len, used;
	unsigned bit;

	if (!unknown)
		return 0;
	for (bit = 0; bit < 64; bit++) {
		if (!(unknown >> bit & 1) ||
		    !(name = feature_name(c, bit, &len)) || !len)
			continue;
		nameless &= ~(1ull << bit);
		if (text[0])
			append_escaped(text, sizeof(text),
				       (const uint8_t *)", ", 2);
		append_escaped(text, sizeof(text), name, len);
	}
	used = strlen(text);
	if (nameless)
		snprintf(text + used, sizeof(text) - used,
			 "%sUnknown incompatible feature: %" PRIx64,
			 used ? ", " : "", nameless);
	return error_set(err, ENOTSUP, "Unsupported qcow2 feature(s): %s",
			 text);
}

/* Feature bits and fields against the extensions that belong to them. */
static int check_agreement(const struct qcow2_header_tail *tail,
			   const struct qcow2_header *h, struct error *err)
{
	bool raw_data = h->autoclear & QCOW2_AUTOCLEAR_RAW_DATA;

	if (h->crypt_method == QCOW2_CRYPT_LUKS && !tail->has_encryption)
		return error_set(err, ERROR_CORRUPT,
				 "Missing encryption header extension: "
				 "crypt_method 2 needs it");
	if (raw_data && !(h->incompatible & QCOW2_INCOMPAT_DATA_FILE))
		return error_set(err, ERROR_CORRUPT,
				 "data-file-raw requires a data file: "
				 "autoclear bit 1 is set without "
				 "incompatible bit 2");
	if (raw_data && h->backing_off)
		return error_set(err, ERROR_CORRUPT,
				 "data-file-raw excludes a backing file");
	return 0;
}

static int decode_unknown(struct qcow2_header_tail *tail,
			  const struct qcow2_header *h, const uint8_t *buf,
			  size_t len)
{
	if (h->header_len <= QCOW2_V3_HEADER_BYTES || h->header_len > len)
		return 0;
	tail->unknown_len = h->header_len - QCOW2_V3_HEADER_BYTES;
	tail->unknown = malloc(tail->unknown_len);
	if (!tail->unknown)
		return -ENOMEM;
	memcpy(tail->unknown, buf + QCOW2_V3_HEADER_BYTES, tail->unknown_len);
	return 0;
}

int qcow2_header_tail_decode(struct qcow2_header_tail *out,
			     const struct qcow2_header *h, const uint8_t *buf,
			     size_t len, struct error *err)
{
	struct qcow2_header_tail tail = {0};
	struct cursor c = {.buf = buf, .pos = h->header_len, .end = len};
	int ret;

	if (h->backing_off && h->backing_off < len)
		c.end = (size_t)h->backing_off;
	if ((ret = check_unknown_features(h, c, err)) < 0 ||
	    (ret = decode_unknown(&tail, h, buf, len)) < 0 ||
	    (ret = decode_extensions(&tail, h, c, err)) < 0 ||
	    (ret = check_agreement(&tail, h, err)) < 0)
		goto fail;
	if (h->backing_off) {
		if (!range_inside(h->backing_off, h->backing_len, len)) {
			ret = error_set(err, ERROR_CORRUPT,
					"Backing file name ends behind the "
					"header area (%zu bytes)",
					len);
			goto fail;
		}
		ret = take_name(&tail.backing_name, "Backing file name",
				buf + h->backing_off, h->backing_len,
				QCOW2_BACKING_NAME_MAX, err);
		if (ret < 0)
			goto fail;
	}
	*out = tail;
	return 0;
fail:
	qcow2_header_tail_release(&tail);
	return error_default(err, ret, "qcow2 header extensions");
}

void qcow2_header_tail_release(struct qcow2_header_tail *tail)
{
	size_t i;

	for (i = 0; i < tail->extension_count; i++)
		free(tail->extensions[i].data);
	free(tail->extensions);
	free(tail->unknown);
	free(tail->backing_name);
	free(tail->backing_format);
	free(tail->data_file_name);
	*tail = (struct qcow2_header_tail){0};
}
