/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a qcow2 image says about itself (spec: cli-contract 3).
 *
 * Reads the header, the snapshot table and the bitmap directory, nothing else,
 * and opens no file. Text comes from the image and may hold any byte.
 */
#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/image-info.h"
#include "block/image.h"
#include "formats/qcow2/qcow2.h"

/* Text from the image; bytes that are no UTF-8 are shown as \xNN. */
static json_t *make_text(const char *text)
{
	json_t *out = json_string(text);
	size_t len = strlen(text);
	char *escaped;

	if (out)
		return out;
	escaped = malloc(len * 4 + 1);
	if (!escaped)
		return NULL;
	for (size_t i = 0, used = 0; i <= len; i++) {
		unsigned char byte = (unsigned char)text[i];

		if (byte < 0x80)
			escaped[used++] = text[i];
		else
			used += (size_t)snprintf(escaped + used, 5, "\\x%02x",
						 byte);
	}
	out = json_string(escaped);
	free(escaped);
	return out;
}

static json_t *make_bitmap(const struct qcow2_bitmap *b)
{
	json_t *flags = json_array();

	if (b->flags & QCOW2_BITMAP_IN_USE)
		json_array_append_new(flags, json_string("in-use"));
	if (b->flags & QCOW2_BITMAP_AUTO)
		json_array_append_new(flags, json_string("auto"));
	return json_pack("{s:o, s:I, s:o}", "name", make_text(b->name),
			 "granularity", (json_int_t)1 << b->granularity_bits,
			 "flags", flags);
}

static int add_bitmaps(json_t *root, const struct qcow2_bitmap *list,
		       size_t count)
{
	json_t *array;
	int ret = 0;

	if (!count)
		return 0;
	array = json_array();
	for (size_t i = 0; i < count && !ret; i++)
		ret = json_array_append_new(array, make_bitmap(&list[i]));
	if (!ret)
		return json_object_set_new(root, "bitmaps", array);
	json_decref(array);
	return ret;
}

static int add_data_file(json_t *root, const struct qcow2 *q)
{
	bool raw = q->header.autoclear & QCOW2_AUTOCLEAR_RAW_DATA;

	if (!(q->header.incompatible & QCOW2_INCOMPAT_DATA_FILE))
		return 0;
	if (q->tail.data_file_name &&
	    json_object_set_new(root, "data-file",
				make_text(q->tail.data_file_name)) < 0)
		return -1;
	return json_object_set_new(root, "data-file-raw", json_boolean(raw));
}

static int add_encryption(json_t *root, const struct qcow2 *q)
{
	static const char *const names[] = {NULL, "aes", "luks"};
	const char *name;

	assert(q->header.crypt_method <= QCOW2_CRYPT_LUKS);
	name = names[q->header.crypt_method];
	if (!name)
		return 0;
	return json_object_set_new(root, "encrypt",
				   json_pack("{s:s}", "format", name));
}

static int fill_specific(json_t *root, const struct qcow2 *q,
			 const struct qcow2_bitmap *bitmaps,
			 size_t bitmap_count)
{
	const struct qcow2_header *h = &q->header;
	bool v3 = h->version >= 3;
	bool zstd = h->compression_type == QCOW2_COMPRESSION_ZSTD;
	bool lazy = h->compatible & QCOW2_COMPAT_LAZY;
	bool corrupt = h->incompatible & QCOW2_INCOMPAT_CORRUPT;
	bool extended = h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2;
	int ret;

	ret = json_object_set_new(root, "compat",
				  json_string(v3 ? "1.1" : "0.10"));
	ret |= json_object_set_new(root, "compression-type",
				   json_string(zstd ? "zstd" : "zlib"));
	if (v3)
		ret |= json_object_set_new(root, "lazy-refcounts",
					   json_boolean(lazy));
	ret |= add_bitmaps(root, bitmaps, bitmap_count);
	ret |= json_object_set_new(root, "refcount-bits",
				   json_integer(1 << h->refcount_order));
	ret |= add_data_file(root, q);
	ret |= add_encryption(root, q);
	if (v3) {
		ret |= json_object_set_new(root, "corrupt",
					   json_boolean(corrupt));
		ret |= json_object_set_new(root, "extended-l2",
					   json_boolean(extended));
	}
	return ret;
}

/*
 * What qemu-img shows of them at most. A table may hold 64 MiB of text, which
 * whoever prints it would have in memory several times.
 */
#define SHOWN_ID_MAX   127
#define SHOWN_NAME_MAX 255

static char *cut_text(char *text, size_t max)
{
	if (strlen(text) > max)
		text[max] = '\0';
	return text;
}

/* Names move over; the list keeps what it still owns. */
static int take_snapshots(struct image_info *out, struct qcow2_snapshot *list,
			  size_t count)
{
	out->snapshots = calloc(count ? count : 1, sizeof(*out->snapshots));
	if (!out->snapshots)
		return -ENOMEM;
	out->snapshot_count = count;
	for (size_t i = 0; i < count; i++) {
		out->snapshots[i] = (struct image_snapshot_info){
			.id = cut_text(list[i].id, SHOWN_ID_MAX),
			.name = cut_text(list[i].name, SHOWN_NAME_MAX),
			.vm_state_size = list[i].vm_state_size,
			.date_sec = list[i].date_sec,
			.date_nsec = list[i].date_nsec,
			.vm_clock_nsec = list[i].vm_clock_nsec,
			.icount = list[i].icount,
		};
		list[i].id = NULL;
		list[i].name = NULL;
	}
	return 0;
}

/*
 * Bitmaps that make no sense, or are of a kind that we do not know, are left
 * out: the disk is usable without them. Of those that could not be read nobody
 * knows whether there are any.
 */
static int make_specific(json_t **out, struct qcow2 *q, struct error *err)
{
	struct qcow2_bitmap *bitmaps;
	struct error why = {0};
	size_t count;
	int ret = qcow2_bitmaps_read(q, &bitmaps, &count, &why);

	if (ret < 0 && ret != -ERROR_CORRUPT && ret != -ENOTSUP)
		return error_set(err, -ret, "%s", why.message);
	*out = json_object();
	ret = *out ? fill_specific(*out, q, bitmaps, count) : -1;
	qcow2_bitmaps_free(bitmaps, count);
	return ret ? error_set(err, ENOMEM, "No memory for the facts") : 0;
}

int qcow2_info(struct image *img, struct image_info *out, struct error *err)
{
	struct qcow2 *q = img->state;
	struct qcow2_snapshot *list;
	size_t count;
	int ret = qcow2_snapshots_read(q, &list, &count, err);

	if (ret < 0)
		return ret;
	ret = take_snapshots(out, list, count);
	qcow2_snapshots_free(list, count);
	out->cluster_size = 1u << q->header.cluster_bits;
	out->dirty = q->header.incompatible & QCOW2_INCOMPAT_DIRTY;
	out->corrupt = q->header.incompatible & QCOW2_INCOMPAT_CORRUPT;
	out->encrypted = q->header.crypt_method != QCOW2_CRYPT_NONE;
	if (ret < 0)
		return error_set(err, ENOMEM, "No memory for the facts");
	return make_specific(&out->specific, q, err);
}
