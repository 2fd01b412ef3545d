/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Snapshot tables and bitmap directories: both are packed lists of entries of
 * varying length. The first byte of the input chooses the version or the kind.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "block/error.h"
#include "formats/qcow2/layout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk_snapshots(const uint8_t *table, size_t len, uint32_t version)
{
	struct qcow2_header h = {.version = version, .cluster_bits = 16};
	int64_t next;

	for (size_t pos = 0; pos < len; pos = (size_t)next) {
		struct qcow2_snapshot s;
		struct error err = {0};

		next = qcow2_snapshot_decode(&s, table, len, pos, 1 << 30,
					     &err);
		if (next < 0) {
			assert(err.code && err.message[0]);
			return;
		}
		assert((size_t)next >= pos + 40 && next % 8 == 0);
		assert(strlen(s.id) <= 65535 && strlen(s.name) <= 65535);
		if (!qcow2_snapshot_validate(&s, &h, &err))
			assert(s.l1_entries <= QCOW2_L1_ENTRIES_MAX &&
			       s.l1_off <= QCOW2_HOST_OFF_MAX);
		qcow2_snapshot_release(&s);
	}
}

static void walk_bitmaps(const uint8_t *directory, size_t len)
{
	int64_t next;

	for (size_t pos = 0; pos < len; pos = (size_t)next) {
		struct qcow2_bitmap b;
		struct error err = {0};

		next = qcow2_bitmap_decode(&b, directory, len, pos, 16, &err);
		if (next < 0) {
			assert(err.code && err.message[0]);
			return;
		}
		assert((size_t)next > pos && (size_t)next <= len);
		assert(b.granularity_bits >= 9 && b.granularity_bits <= 31);
		assert(b.name[0]);
		qcow2_bitmap_release(&b);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (data[0] == 'b')
		walk_bitmaps(data + 1, size - 1);
	else
		walk_snapshots(data + 1, size - 1, data[0] == '2' ? 2 : 3);
	return 0;
}
