/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The header area in the file: reading, rewriting, feature bits.
 *
 * A rewrite touches only the sectors that differ from the file. So a change
 * within the fixed part is one write of one sector, and a crash leaves the old
 * header or the new one; only a changed name or extension may span more.
 */
#include "formats/qcow2/qcow2.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "block/error.h"
#include "block/image.h"
#include "block/storage.h"

#define SECTOR_BYTES 512u

static int read_tail(struct qcow2 *q, struct storage *file, struct error *err)
{
	size_t len = (size_t)1 << q->header.cluster_bits;
	uint8_t *buf = malloc(len);
	int ret;

	if (!buf)
		return error_set(err, ENOMEM, "No memory for the header");
	ret = storage_read_padded(file, buf, len, 0);
	if (ret < 0)
		error_set_errno(err, -ret, "Could not read the header");
	else
		ret = qcow2_header_tail_decode(&q->tail, &q->header, buf, len,
					       err);
	free(buf);
	return ret;
}

int qcow2_header_read(struct qcow2 *q, struct storage *file, unsigned flags,
		      struct error *err)
{
	uint8_t buf[QCOW2_V3_HEADER_BYTES];
	be32_t magic;
	int ret = storage_read_padded(file, buf, sizeof(buf), 0);

	if (ret < 0)
		return error_set_errno(err, -ret, "Could not read the header");
	memcpy(&magic, buf, sizeof(magic));
	if (be32_get(magic) != QCOW2_MAGIC)
		return error_set(err, EINVAL,
				 "Image is not in qcow2 format: the file "
				 "starts with 0x%08" PRIx32 ", not 0x%08x",
				 be32_get(magic), QCOW2_MAGIC);
	qcow2_header_decode(&q->header, buf);
	if (!q->img->writable)
		flags |= QCOW2_VALIDATE_READ_ONLY;
	ret = qcow2_header_validate(&q->header, storage_size(file), flags, err);
	if (ret < 0)
		return ret;
	return read_tail(q, file, err);
}

/* Writes those sectors of `area` in which it differs from the file. */
static int write_changes(struct storage *file, const uint8_t *area,
			 const uint8_t *old, size_t len)
{
	size_t at = 0, end;
	int ret = 0;

	while (at < len && ret >= 0) {
		if (!memcmp(area + at, old + at, SECTOR_BYTES)) {
			at += SECTOR_BYTES;
			continue;
		}
		end = at + SECTOR_BYTES;
		while (end < len && memcmp(area + end, old + end, SECTOR_BYTES))
			end += SECTOR_BYTES;
		ret = storage_write(file, area + at, end - at, at);
		at = end;
	}
	return ret;
}

int qcow2_header_write(struct qcow2 *q, struct error *err)
{
	size_t cluster_size = (size_t)1 << q->header.cluster_bits, used, len;
	struct qcow2_header header = q->header;
	uint8_t *area = malloc(2 * cluster_size);
	int ret;

	if (!area)
		return error_set(err, ENOMEM, "No memory for the header");
	ret = qcow2_header_encode(&header, &q->tail, area, cluster_size, &used,
				  err);
	if (ret < 0)
		goto out;
	len = (size_t)align_up(used, SECTOR_BYTES);
	ret = storage_read_padded(q->file, area + cluster_size, len, 0);
	if (ret >= 0)
		ret = write_changes(q->file, area, area + cluster_size, len);
	if (ret < 0)
		error_set_errno(err, -ret, "Could not write the header");
	else
		q->header = header;
out:
	free(area);
	return ret;
}

int qcow2_header_write_features(struct qcow2 *q)
{
	be64_t bits[3] = {be64_make(q->header.incompatible),
			  be64_make(q->header.compatible),
			  be64_make(q->header.autoclear)};
	size_t at = offsetof(struct qcow2_header_disk, incompatible_features);
	int ret;

	assert(q->header.version >= 3);
	ret = storage_write(q->file, bits, sizeof(bits), at);
	return ret < 0 ? ret : storage_sync(q->file);
}
