/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See the header. Whatever the active tables refer to is counted once more and
 * loses its COPIED flag; a copy of the L1 table is the snapshot's.
 */
#include "tests/support/internal-snapshot.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "block/image.h"
#include "block/storage.h"
#include "formats/qcow2/qcow2.h"

/* One entry of the snapshot table, with the extra data that v3 demands. */
struct snapshot_disk {
	be64_t l1_off;
	be32_t l1_entries;
	be16_t id_len, name_len;
	be32_t date_sec, date_nsec;
	be64_t vm_clock_nsec;
	be32_t vm_state_size, extra_len;
	be64_t vm_state_size_large, disk_size;
	char id[1], name[7];
};

static int count_once_more(struct qcow2 *q, uint64_t host_off)
{
	struct qcow2_run run = {qcow2_cluster_index(q, host_off), 1, false};

	return qcow2_refcount_change(q, run, +1);
}

static int share_l2(struct qcow2 *q, uint64_t l2_off)
{
	size_t count = q->cluster_size / sizeof(be64_t);
	be64_t *table = malloc(q->cluster_size);
	int ret = table ? count_once_more(q, l2_off) : -ENOMEM;

	if (!ret)
		ret = storage_read(q->file, table, q->cluster_size, l2_off);
	for (size_t i = 0; i < count && !ret; i++) {
		uint64_t entry = be64_get(table[i]);

		if (entry & QCOW2_OFFSET_MASK)
			ret = count_once_more(q, entry & QCOW2_OFFSET_MASK);
		table[i] = be64_make(entry & ~QCOW2_COPIED);
	}
	if (!ret)
		ret = storage_write(q->file, table, q->cluster_size, l2_off);
	free(table);
	return ret;
}

static int write_l1(struct qcow2 *q, uint64_t l1_off)
{
	be64_t entry;
	int ret = 0;

	for (uint32_t i = 0; i < q->l1_entries && !ret; i++) {
		entry = be64_make(q->l1[i] & ~QCOW2_COPIED);
		ret = storage_write(q->file, &entry, sizeof(entry),
				    l1_off + i * sizeof(entry));
	}
	return ret;
}

static int write_entry(struct qcow2 *q, uint64_t table_off, uint64_t l1_off)
{
	struct snapshot_disk entry = {
		.l1_off = be64_make(l1_off),
		.l1_entries = be32_make(q->l1_entries),
		.id_len = be16_make(sizeof(entry.id)),
		.name_len = be16_make(sizeof(entry.name)),
		.extra_len = be32_make(16),
		.disk_size = be64_make(q->header.size_bytes),
		.id = {'1'},
		.name = {'a', 't', 's', 't', 'a', 'r', 't'},
	};
	struct {
		be32_t count;
		be64_t off;
	} field = {be32_make(1), be64_make(table_off)};
	int ret = storage_write(q->file, &entry, sizeof(entry), table_off);

	if (ret < 0)
		return ret;
	return storage_write(q->file, &field, sizeof(field),
			     offsetof(struct qcow2_header_disk, nb_snapshots));
}

int internal_snapshot_take(struct image *img)
{
	struct qcow2 *q = img->state;
	struct qcow2_run l1 = {0}, table = {0};
	int ret = image_flush(img);

	for (uint32_t i = 0; i < q->l1_entries && !ret; i++)
		if (q->l1[i])
			ret = share_l2(q, q->l1[i] & QCOW2_OFFSET_MASK);
	if (!ret)
		ret = qcow2_alloc_exact(
			q,
			div_round_up(q->l1_entries * sizeof(be64_t),
				     q->cluster_size),
			&l1);
	if (!ret)
		ret = qcow2_alloc(q, 1, &table);
	if (!ret)
		ret = write_l1(q, q->header.l1_off);
	if (!ret)
		ret = write_l1(q, l1.first << q->cluster_bits);
	if (!ret)
		ret = write_entry(q, table.first << q->cluster_bits,
				  l1.first << q->cluster_bits);
	return ret;
}

int internal_snapshot_expose(struct storage *storage, uint64_t size_bytes)
{
	struct qcow2_header_disk header;
	struct snapshot_disk entry;
	int ret = storage_read(storage, &header, sizeof(header), 0);

	if (!ret && be32_get(header.nb_snapshots) != 1)
		return -ENOENT;
	if (!ret)
		ret = storage_read(storage, &entry, sizeof(entry),
				   be64_get(header.snapshots_offset));
	if (ret < 0)
		return ret;
	header.size = be64_make(size_bytes);
	header.l1_size = entry.l1_entries;
	header.l1_table_offset = entry.l1_off;
	return storage_write(storage, &header, sizeof(header), 0);
}
