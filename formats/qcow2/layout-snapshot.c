/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Entries of the snapshot table (spec: qcow2 8.1):
 *
 *	fixed 40 bytes | extra data | id | name | padding to 8
 *
 * Extra data grew over time; what an entry does not have gets the value that
 * absence means. The padding behind the last entry need not be in the file.
 */
#include "formats/qcow2/layout.h"

#include <inttypes.h>
#include <stdlib.h>

#include "block/error.h"

struct snapshot_disk {
	be64_t l1_off;
	be32_t l1_entries;
	be16_t id_len, name_len;
	be32_t date_sec, date_nsec;
	be64_t vm_clock_nsec;
	be32_t vm_state_size, extra_len;
};

_Static_assert(sizeof(struct snapshot_disk) == 40, "snapshot entry size");

struct snapshot_extra {
	be64_t vm_state_size, disk_size, icount;
};

/* Version 3 always says how large the disk was. */
#define V3_EXTRA_MIN 16

static void decode_extra(struct qcow2_snapshot *s, const uint8_t *data)
{
	struct snapshot_extra extra;

	memset(&extra, 0, sizeof(extra));
	memcpy(&extra, data, min_u64(s->extra_len, sizeof(extra)));
	if (s->extra_len >= 8)
		s->vm_state_size = be64_get(extra.vm_state_size);
	if (s->extra_len >= 16)
		s->disk_size = be64_get(extra.disk_size);
	if (s->extra_len >= 24)
		s->icount = be64_get(extra.icount);
}

static int take_text(char **out, const char *what, const uint8_t *data,
		     size_t len, struct error *err)
{
	if (memchr(data, 0, len))
		return error_set(err, ERROR_CORRUPT,
				 "Snapshot %s contains a zero byte", what);
	*out = strndup((const char *)data, len);
	return *out ? 0 : error_default(err, -ENOMEM, "snapshot table");
}

int64_t qcow2_snapshot_decode(struct qcow2_snapshot *out, const uint8_t *table,
			      size_t len, size_t pos, uint64_t current_size,
			      struct error *err)
{
	struct snapshot_disk disk;
	struct qcow2_snapshot s;
	size_t id_len, name_len, at;
	int ret;

	if (!range_inside(pos, sizeof(disk), len))
		return error_set(err, ERROR_CORRUPT,
				 "Snapshot table ends inside an entry");
	memcpy(&disk, table + pos, sizeof(disk));
	s = (struct qcow2_snapshot){
		.l1_off = be64_get(disk.l1_off),
		.l1_entries = be32_get(disk.l1_entries),
		.date_sec = be32_get(disk.date_sec),
		.date_nsec = be32_get(disk.date_nsec),
		.vm_clock_nsec = be64_get(disk.vm_clock_nsec),
		.vm_state_size = be32_get(disk.vm_state_size),
		.disk_size = current_size,
		.icount = UINT64_MAX,
		.extra_len = be32_get(disk.extra_len),
	};
	id_len = be16_get(disk.id_len);
	name_len = be16_get(disk.name_len);
	if (s.extra_len > QCOW2_SNAPSHOT_EXTRA_MAX)
		return error_set(err, ERROR_CORRUPT,
				 "Snapshot table entry has %" PRIu32
				 " bytes of extra data, the limit is %d",
				 s.extra_len, QCOW2_SNAPSHOT_EXTRA_MAX);
	at = pos + sizeof(disk);
	if (!range_inside(at, s.extra_len + id_len + name_len, len))
		return error_set(err, ERROR_CORRUPT,
				 "Snapshot table ends inside an entry");
	decode_extra(&s, table + at);
	at += s.extra_len;
	if ((ret = take_text(&s.id, "id", table + at, id_len, err)) < 0 ||
	    (ret = take_text(&s.name, "name", table + at + id_len, name_len,
			     err)) < 0) {
		qcow2_snapshot_release(&s);
		return ret;
	}
	*out = s;
	return (int64_t)align_up(at + id_len + name_len, 8);
}

int qcow2_snapshot_validate(const struct qcow2_snapshot *s,
			    const struct qcow2_header *h, struct error *err)
{
	if (h->version >= 3 && s->extra_len < V3_EXTRA_MIN)
		return error_set(err, ERROR_CORRUPT,
				 "Snapshot %s has %" PRIu32
				 " bytes of extra data, version 3 needs %d",
				 s->id, s->extra_len, V3_EXTRA_MIN);
	if (s->l1_entries > QCOW2_L1_ENTRIES_MAX)
		return error_set(err, EFBIG,
				 "Snapshot %s: L1 table too large: %" PRIu32
				 " entries, the limit is %u",
				 s->id, s->l1_entries, QCOW2_L1_ENTRIES_MAX);
	if (!is_aligned(s->l1_off, 1ull << h->cluster_bits) ||
	    !range_inside(s->l1_off, s->l1_entries * 8ull, QCOW2_HOST_OFF_MAX))
		return error_set(err, ERROR_CORRUPT,
				 "Snapshot %s: L1 table offset invalid: "
				 "0x%" PRIx64
				 " is not a multiple of the cluster size "
				 "below 2^56",
				 s->id, s->l1_off);
	if (s->disk_size > (uint64_t)INT64_MAX - 511)
		return error_set(err, EFBIG,
				 "Snapshot %s: disk size %" PRIu64
				 " is above the limit 2^63 - 512",
				 s->id, s->disk_size);
	return 0;
}

void qcow2_snapshot_release(struct qcow2_snapshot *s)
{
	free(s->id);
	free(s->name);
	s->id = NULL;
	s->name = NULL;
}
