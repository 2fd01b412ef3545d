/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Putting the header area together: fixed part, unknown fields, extensions,
 * backing name (spec: qcow2 3).
 *
 * Known extensions are written from their decoded fields, in a fixed order and
 * once; unknown ones follow in the order in which they were found. What does
 * not fit into the first cluster is refused, except for the feature names,
 * which only make messages nicer and give way.
 */
#include "formats/qcow2/layout.h"

#include <inttypes.h>
#include <stdlib.h>

#include "block/error.h"

/* Below it feature names would take room that a backing name may need. */
#define FEATURE_NAMES_CLUSTER_MIN 4096u
#define FEATURE_NAME_MAX	  46u
#define FEATURE_RECORD_BYTES	  (2 + FEATURE_NAME_MAX)

enum feature_set { SET_INCOMPATIBLE, SET_COMPATIBLE, SET_AUTOCLEAR };

static const struct feature {
	uint8_t set, bit;
	const char *name;
} known_features[] = {
	{SET_INCOMPATIBLE, 0, "dirty bit"},
	{SET_INCOMPATIBLE, 1, "corrupt bit"},
	{SET_INCOMPATIBLE, 2, "external data file"},
	{SET_INCOMPATIBLE, 3, "compression type"},
	{SET_INCOMPATIBLE, 4, "extended L2 entries"},
	{SET_COMPATIBLE, 0, "lazy refcounts"},
	{SET_AUTOCLEAR, 0, "bitmaps"},
	{SET_AUTOCLEAR, 1, "raw external data"},
};

#define KNOWN_FEATURES (sizeof(known_features) / sizeof(known_features[0]))

/* Bytes that grow towards the end of the cluster; `full` once one failed. */
struct writer {
	uint8_t *buf;
	size_t pos, size;
	bool full;
};

static void put_bytes(struct writer *w, const void *data, size_t len)
{
	if (w->full || len > w->size - w->pos) {
		w->full = true;
		return;
	}
	if (len)
		memcpy(w->buf + w->pos, data, len);
	w->pos += len;
}

/* The buffer is zeroed, so padding is skipped over. */
static void put_padding(struct writer *w)
{
	size_t padded = (size_t)align_up(w->pos, 8);

	if (padded > w->size)
		w->full = true;
	else
		w->pos = padded;
}

static void put_extension(struct writer *w, uint32_t type, const void *data,
			  size_t len)
{
	be32_t word[2] = {be32_make(type), be32_make((uint32_t)len)};

	put_bytes(w, word, sizeof(word));
	put_bytes(w, data, len);
	put_padding(w);
}

static void put_text_extension(struct writer *w, uint32_t type,
			       const char *text)
{
	if (text)
		put_extension(w, type, text, strlen(text));
}

static void put_encryption(struct writer *w,
			   const struct qcow2_header_tail *tail)
{
	be64_t data[2] = {be64_make(tail->encryption_off),
			  be64_make(tail->encryption_len)};

	if (tail->has_encryption)
		put_extension(w, QCOW2_EXT_ENCRYPTION, data, sizeof(data));
}

/*
 * Without its autoclear bit the directory points to what others may own now;
 * and one that made no sense must not come to make sense by being rewritten.
 */
static void put_bitmaps(struct writer *w, const struct qcow2_header *h,
			const struct qcow2_header_tail *tail)
{
	struct {
		be32_t count, reserved;
		be64_t directory_len, directory_off;
	} data = {
		.count = be32_make(tail->bitmap_count),
		.directory_len = be64_make(tail->bitmap_directory_len),
		.directory_off = be64_make(tail->bitmap_directory_off),
	};

	if (tail->bitmaps_valid && (h->autoclear & QCOW2_AUTOCLEAR_BITMAPS))
		put_extension(w, QCOW2_EXT_BITMAPS, &data, sizeof(data));
}

static bool is_known_feature(const uint8_t *record)
{
	size_t i;

	for (i = 0; i < KNOWN_FEATURES; i++)
		if (known_features[i].set == record[0] &&
		    known_features[i].bit == record[1])
			return true;
	return false;
}

static size_t put_known_names(uint8_t *out)
{
	size_t i;

	for (i = 0; i < KNOWN_FEATURES; i++) {
		uint8_t *record = out + i * FEATURE_RECORD_BYTES;
		const char *name = known_features[i].name;

		record[0] = known_features[i].set;
		record[1] = known_features[i].bit;
		memcpy(record + 2, name, strnlen(name, FEATURE_NAME_MAX));
	}
	return KNOWN_FEATURES * FEATURE_RECORD_BYTES;
}

/*
 * Our names, and as many of those that the image brought for features that we
 * do not know as leave `reserve` bytes behind them. None if there is no room
 * for ours: what fits is the same when the header is read and written again.
 */
static void put_feature_names(struct writer *w,
			      const struct qcow2_header_tail *tail,
			      size_t reserve)
{
	uint8_t table[4096] = {0};
	size_t used = put_known_names(table), limit, i, at;

	if (w->full || !range_inside(used + 8, reserve, w->size - w->pos))
		return;
	limit = min_u64(sizeof(table), w->size - w->pos - reserve - 8);
	for (i = 0; i < tail->extension_count; i++) {
		const struct qcow2_extension *ext = &tail->extensions[i];

		if (ext->type != QCOW2_EXT_FEATURE_NAMES)
			continue;
		for (at = 0; ext->len - at >= FEATURE_RECORD_BYTES &&
			     limit - used >= FEATURE_RECORD_BYTES;
		     at += FEATURE_RECORD_BYTES) {
			if (is_known_feature(ext->data + at))
				continue;
			memcpy(table + used, ext->data + at,
			       FEATURE_RECORD_BYTES);
			used += FEATURE_RECORD_BYTES;
		}
	}
	put_extension(w, QCOW2_EXT_FEATURE_NAMES, table, used);
}

static bool is_unknown_extension(uint32_t type)
{
	switch (type) {
	case QCOW2_EXT_BACKING_FORMAT:
	case QCOW2_EXT_FEATURE_NAMES:
	case QCOW2_EXT_BITMAPS:
	case QCOW2_EXT_ENCRYPTION:
	case QCOW2_EXT_DATA_FILE:
		return false;
	default:
		return true;
	}
}

/* How much the parts behind the feature names take. */
static size_t size_behind_names(const struct qcow2_header_tail *tail)
{
	size_t total = 8 + 24 + 8, i; /* bitmaps, end */

	for (i = 0; i < tail->extension_count; i++)
		if (is_unknown_extension(tail->extensions[i].type))
			total += 8 +
				 (size_t)align_up(tail->extensions[i].len, 8);
	return total + (tail->backing_name ? strlen(tail->backing_name) : 0);
}

static void put_extensions(struct writer *w, const struct qcow2_header *h,
			   const struct qcow2_header_tail *tail)
{
	size_t i;

	put_text_extension(w, QCOW2_EXT_BACKING_FORMAT, tail->backing_format);
	put_text_extension(w, QCOW2_EXT_DATA_FILE, tail->data_file_name);
	put_encryption(w, tail);
	if (h->version >= 3 && w->size > FEATURE_NAMES_CLUSTER_MIN)
		put_feature_names(w, tail, size_behind_names(tail));
	put_bitmaps(w, h, tail);
	for (i = 0; i < tail->extension_count; i++)
		if (is_unknown_extension(tail->extensions[i].type))
			put_extension(w, tail->extensions[i].type,
				      tail->extensions[i].data,
				      tail->extensions[i].len);
	put_extension(w, QCOW2_EXT_END, NULL, 0);
}

static struct qcow2_header_disk fixed_part(const struct qcow2_header *h)
{
	return (struct qcow2_header_disk){
		.magic = be32_make(QCOW2_MAGIC),
		.version = be32_make(h->version),
		.backing_file_offset = be64_make(h->backing_off),
		.backing_file_size = be32_make(h->backing_len),
		.cluster_bits = be32_make(h->cluster_bits),
		.size = be64_make(h->size_bytes),
		.crypt_method = be32_make(h->crypt_method),
		.l1_size = be32_make(h->l1_entries),
		.l1_table_offset = be64_make(h->l1_off),
		.refcount_table_offset = be64_make(h->reftable_off),
		.refcount_table_clusters = be32_make(h->reftable_clusters),
		.nb_snapshots = be32_make(h->snapshot_count),
		.snapshots_offset = be64_make(h->snapshots_off),
		.incompatible_features = be64_make(h->incompatible),
		.compatible_features = be64_make(h->compatible),
		.autoclear_features = be64_make(h->autoclear),
		.refcount_order = be32_make(h->refcount_order),
		.header_length = be32_make(h->header_len),
		.compression_type = h->compression_type,
	};
}

static int check_backing_name(const struct qcow2_header_tail *tail,
			      struct error *err)
{
	size_t len = tail->backing_name ? strlen(tail->backing_name) : 0;

	if (tail->backing_name && !len)
		return error_set(err, EINVAL, "Backing file name is empty");
	if (len > QCOW2_BACKING_NAME_MAX)
		return error_set(err, EINVAL,
				 "Backing file name too long: %zu bytes, the "
				 "limit is %d",
				 len, QCOW2_BACKING_NAME_MAX);
	return 0;
}

int qcow2_header_encode(struct qcow2_header *h,
			const struct qcow2_header_tail *tail, uint8_t *out,
			size_t cluster_size, size_t *used, struct error *err)
{
	struct writer w = {.buf = out, .size = cluster_size};
	struct qcow2_header_disk disk;
	int ret = check_backing_name(tail, err);

	if (ret < 0)
		return ret;
	memset(out, 0, cluster_size);
	h->header_len = QCOW2_V2_HEADER_BYTES;
	if (h->version >= 3)
		h->header_len =
			(uint32_t)(QCOW2_V3_HEADER_BYTES + tail->unknown_len);
	w.pos = h->version >= 3 ? QCOW2_V3_HEADER_BYTES : h->header_len;
	if (h->version >= 3)
		put_bytes(&w, tail->unknown, tail->unknown_len);
	put_extensions(&w, h, tail);
	h->backing_off = 0;
	h->backing_len = 0;
	if (tail->backing_name) {
		h->backing_off = w.pos;
		h->backing_len = (uint32_t)strlen(tail->backing_name);
		put_bytes(&w, tail->backing_name, h->backing_len);
	}
	if (w.full)
		return error_set(err, ENOSPC,
				 "Header, extensions and backing file name do "
				 "not fit into one cluster of %zu bytes; use a "
				 "shorter name or larger clusters",
				 cluster_size);
	disk = fixed_part(h);
	memcpy(out, &disk,
	       h->version >= 3 ? sizeof(disk) : QCOW2_V2_HEADER_BYTES);
	*used = w.pos;
	return 0;
}
