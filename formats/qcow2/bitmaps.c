/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading the directory of persistent bitmaps (spec: qcow2 10). */
#include <stdlib.h>

#include "block/error.h"
#include "block/storage.h"
#include "formats/qcow2/qcow2.h"

void qcow2_bitmaps_free(struct qcow2_bitmap *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		qcow2_bitmap_release(&list[i]);
	free(list);
}

static int decode_all(struct qcow2 *q, const uint8_t *directory, size_t len,
		      struct qcow2_bitmap *list, size_t *count,
		      struct error *err)
{
	int64_t pos = 0;

	for (; *count < q->tail.bitmap_count; (*count)++) {
		pos = qcow2_bitmap_decode(&list[*count], directory, len,
					  (size_t)pos, q->header.cluster_bits,
					  err);
		if (pos < 0) {
			error_prefix(err, "Bitmap %zu: ", *count + 1);
			return (int)pos;
		}
	}
	if ((size_t)pos == len)
		return 0;
	return error_set(err, ERROR_CORRUPT,
			 "Bitmap directory has %zu bytes, its entries have "
			 "%lld",
			 len, (long long)pos);
}

int qcow2_bitmaps_read(struct qcow2 *q, struct qcow2_bitmap **out,
		       size_t *count, struct error *err)
{
	struct qcow2_bitmap *list = NULL;
	uint8_t *directory = NULL;
	size_t len, done = 0;
	int ret = 0;

	*out = NULL;
	*count = 0;
	if (!q->tail.bitmaps_valid)
		return 0;
	len = (size_t)q->tail.bitmap_directory_len;
	if (!range_inside(q->tail.bitmap_directory_off, len,
			  storage_size(q->file)))
		return error_set(err, ERROR_CORRUPT,
				 "Bitmap directory ends behind the end of the "
				 "file");
	directory = malloc(len);
	list = calloc(q->tail.bitmap_count, sizeof(*list));
	if (!directory || !list)
		ret = error_set(err, ENOMEM, "No memory for bitmaps");
	if (!ret) {
		ret = storage_read(q->file, directory, len,
				   q->tail.bitmap_directory_off);
		if (ret < 0)
			error_set_errno(err, -ret,
					"Could not read the bitmap directory");
	}
	if (!ret)
		ret = decode_all(q, directory, len, list, &done, err);
	free(directory);
	if (ret < 0) {
		qcow2_bitmaps_free(list, done);
		return ret;
	}
	*out = list;
	*count = done;
	return 0;
}
