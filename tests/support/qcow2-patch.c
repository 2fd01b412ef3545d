/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See the header. The images are those of the crash tests (workload.h), as far
 * as they are small, with some clusters of each kind.
 */
#include "tests/support/qcow2-patch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "block/image.h"
#include "block/storage/memory.h"
#include "formats/qcow2/layout.h"
#include "tests/support/workload.h"

/* Larger disks would make every execution slow. */
#define BASE_DISK_MAX (512u * 1024)
#define BASES_MAX     32u
#define TABLES_MAX    64u
#define FILLED_MAX    32u /* clusters of the disk that hold something */
#define GROW_MAX      (64u * 1024)

struct base {
	const struct workload_geometry *geometry;
	struct qcow2_bytes bytes; /* empty: not made yet */
	struct qcow2_header header;
	uint64_t l2_offs[TABLES_MAX], block_offs[TABLES_MAX];
	size_t l2_count, block_count;
};

static struct base bases[BASES_MAX];
static unsigned base_count;
static bool base_listed;

/* ---- making them ---- */

static void fill_cluster(struct image *img, uint64_t cluster)
{
	size_t len = img->cluster_size;
	uint64_t off = cluster * len;
	uint8_t *buf = malloc(len);

	assert(buf);
	disk_oracle_fill(buf, len, off, 100 + cluster);
	switch (cluster % 4) {
	case 0:
		assert(!image_write(img, buf, len, off));
		break;
	case 1:
		memset(buf, (int)cluster, len);
		image_zero(img, off, len, FORMAT_ZERO_MAY_UNMAP);
		/* Refused where data is shared with a snapshot. */
		(void)image_write_packed(img, buf, len, off, 0);
		break;
	case 2:
		assert(!image_zero(img, off, len, 0));
		break;
	default:
		break;
	}
	free(buf);
}

static struct qcow2_bytes all_of(struct storage *s)
{
	struct qcow2_bytes b = {.len = (size_t)storage_size(s)};

	b.data = malloc(b.len);
	assert(b.data && !storage_read(s, b.data, b.len, 0));
	return b;
}

static void make_image(struct base *base)
{
	struct storage *s;
	struct image *img;

	assert(!storage_memory_new(&s, "base.qcow2", 0));
	assert(!workload_create(s, base->geometry));
	assert(!workload_open(&img, s, base->geometry, true));
	for (uint64_t i = 0;
	     i < FILLED_MAX && (i + 1) * img->cluster_size <= img->size_bytes;
	     i++)
		fill_cluster(img, i);
	assert(!image_flush(img));
	base->bytes = all_of(s);
	assert(!image_close(img));
}

static uint64_t entry_at(const struct base *base, uint64_t off)
{
	be64_t disk;

	memcpy(&disk, base->bytes.data + off, sizeof(disk));
	return be64_get(disk) & QCOW2_OFFSET_MASK;
}

static size_t list_tables(const struct base *base, uint64_t off, uint64_t count,
			  uint64_t *out)
{
	size_t found = 0;

	for (uint64_t i = 0; i < count && found < TABLES_MAX; i++) {
		uint64_t table = entry_at(base, off + i * sizeof(be64_t));

		if (table)
			out[found++] = table;
	}
	return found;
}

static uint64_t cluster_size(const struct base *base)
{
	return 1ull << base->header.cluster_bits;
}

static void make_base(struct base *base)
{
	const struct qcow2_header *h = &base->header;

	make_image(base);
	qcow2_header_decode(&base->header, base->bytes.data);
	base->l2_count =
		list_tables(base, h->l1_off, h->l1_entries, base->l2_offs);
	base->block_count = list_tables(
		base, h->reftable_off,
		h->reftable_clusters * cluster_size(base) / sizeof(be64_t),
		base->block_offs);
	assert(base->l2_count && base->block_count);
}

static bool is_small(const struct workload_geometry *g)
{
	return g->size_bytes <= BASE_DISK_MAX && !g->wasted_clusters;
}

unsigned qcow2_patch_bases(void)
{
	for (unsigned i = 0; !base_listed && i < workload_geometry_count; i++) {
		assert(base_count < BASES_MAX);
		if (is_small(&workload_geometries[i]))
			bases[base_count++].geometry = &workload_geometries[i];
	}
	base_listed = true;
	return base_count;
}

/* ---- values ---- */

static const uint64_t edges[] = {
	0,
	1,
	2,
	511,
	512,
	0xffff,
	0x10000,
	0x7fffffff,
	0x80000000,
	0xffffffff,
	0x100000000,
	(1ull << 55) - 1,
	1ull << 55,
	QCOW2_OFFSET_MASK,
	1ull << 56,
	INT64_MAX - 511,
	INT64_MAX,
	1ull << 63,
	UINT64_MAX - 511,
	UINT64_MAX,
};

static uint64_t flags_of(uint8_t how)
{
	return (how & 0x10 ? QCOW2_COPIED : 0) |
	       (how & 0x20 ? QCOW2_L2_COMPRESSED : 0) |
	       (how & 0x40 ? QCOW2_L2_ZERO : 0) |
	       (how & 0x80 ? 1ull << 8 : 0); /* reserved, or an offset */
}

static uint64_t packed_value(const struct base *base, uint64_t v)
{
	uint64_t off = v % base->bytes.len;
	uint32_t len = 1 + (uint32_t)((v >> 32) % cluster_size(base));

	return qcow2_packed_encode(off, len, base->header.cluster_bits);
}

/* `other` is the value of another field of the kind. */
static uint64_t new_value(const struct base *base, const struct qcow2_patch *p,
			  uint64_t old, uint64_t other)
{
	uint64_t v = be64_get(p->value);
	uint64_t clusters = base->bytes.len / cluster_size(base);

	switch ((enum qcow2_patch_how)(p->how % 16 % QCOW2_PATCH_HOWS)) {
	case QCOW2_PATCH_FLIP:
		return old ^ 1ull << v % 64;
	case QCOW2_PATCH_ADD:
		return old + (uint64_t)(int64_t)(int8_t)v;
	case QCOW2_PATCH_CLUSTERS:
		return old + (uint64_t)(int64_t)(int8_t)v * cluster_size(base);
	case QCOW2_PATCH_PLACE:
		return v % (clusters + 2) * cluster_size(base) |
		       flags_of(p->how);
	case QCOW2_PATCH_COPY:
		return other | flags_of(p->how);
	case QCOW2_PATCH_EDGE:
		return edges[v % (sizeof(edges) / sizeof(edges[0]))];
	case QCOW2_PATCH_PACK:
		return packed_value(base, v);
	case QCOW2_PATCH_SET:
	case QCOW2_PATCH_HOWS:
		break;
	}
	return v;
}

/* ---- fields ---- */

static uint64_t get_bytes(const uint8_t *at, size_t width)
{
	uint64_t v = 0;

	for (size_t i = 0; i < width; i++)
		v = v << 8 | at[i];
	return v;
}

static void put_bytes(uint8_t *at, size_t width, uint64_t v)
{
	for (size_t i = width; i-- > 0; v >>= 8)
		at[i] = (uint8_t)v;
}

/* A field of a file that may have become shorter. */
static void patch_at(const struct base *base, struct qcow2_bytes *b,
		     const struct qcow2_patch *p, uint64_t off, uint64_t other,
		     size_t width)
{
	if (!range_inside(off, width, b->len) ||
	    !range_inside(other, width, b->len))
		return;
	put_bytes(b->data + off, width,
		  new_value(base, p, get_bytes(b->data + off, width),
			    get_bytes(b->data + other, width)));
}

#define FIELD(name)                                                   \
	{                                                             \
		offsetof(struct qcow2_header_disk, name),             \
			sizeof(((struct qcow2_header_disk *)0)->name) \
	}

static void patch_header(const struct base *base, struct qcow2_bytes *b,
			 const struct qcow2_patch *p)
{
	static const struct {
		size_t off, width;
	} fields[] = {
		FIELD(version),
		FIELD(backing_file_offset),
		FIELD(backing_file_size),
		FIELD(cluster_bits),
		FIELD(size),
		FIELD(crypt_method),
		FIELD(l1_size),
		FIELD(l1_table_offset),
		FIELD(refcount_table_offset),
		FIELD(refcount_table_clusters),
		FIELD(nb_snapshots),
		FIELD(snapshots_offset),
		FIELD(incompatible_features),
		FIELD(compatible_features),
		FIELD(autoclear_features),
		FIELD(refcount_order),
		FIELD(header_length),
		FIELD(compression_type),
	};
	const size_t count = sizeof(fields) / sizeof(fields[0]);
	size_t i = be16_get(p->idx) % count;
	size_t other = be64_get(p->value) % count;

	patch_at(base, b, p, fields[i].off,
		 fields[other].width == fields[i].width ? fields[other].off
							: fields[i].off,
		 fields[i].width);
}

/* An entry of a list of tables of 8 bytes each. */
static void patch_tables(const struct base *base, struct qcow2_bytes *b,
			 const struct qcow2_patch *p, const uint64_t *tables,
			 size_t table_count, uint64_t entries)
{
	uint64_t i = be16_get(p->idx) % (table_count * entries);
	uint64_t other = be64_get(p->value) % (table_count * entries);

	patch_at(base, b, p, tables[i / entries] + i % entries * 8,
		 tables[other / entries] + other % entries * 8, 8);
}

static void patch_refcount(const struct base *base, struct qcow2_bytes *b,
			   const struct qcow2_patch *p)
{
	unsigned order = base->header.refcount_order;
	uint64_t slots = cluster_size(base) * 8 >> order;
	uint64_t i = be16_get(p->idx) % (base->block_count * slots);
	uint64_t block = base->block_offs[i / slots];
	uint64_t max = order == 6 ? UINT64_MAX : (1ull << (1u << order)) - 1;
	uint64_t old;

	if (!range_inside(block, cluster_size(base), b->len))
		return;
	old = qcow2_refcount_get(b->data + block, i % slots, order);
	qcow2_refcount_put(b->data + block, i % slots, order,
			   new_value(base, p, old, 1) & max);
}

static void patch_length(struct qcow2_bytes *b, const struct qcow2_patch *p)
{
	uint64_t len = be64_get(p->value) % (b->len + GROW_MAX);
	uint8_t *data = realloc(b->data, len + 1);

	assert(data);
	if (len > b->len)
		memset(data + b->len, 0, len - b->len);
	*b = (struct qcow2_bytes){data, len};
}

/* Any 8 bytes of a place that is not one table of entries. */
static void patch_words(const struct base *base, struct qcow2_bytes *b,
			const struct qcow2_patch *p, uint64_t off, uint64_t len)
{
	uint64_t at = off + be16_get(p->idx) % len;

	patch_at(base, b, p, at, at, p->how & 0x80 ? 8 : 4);
}

static void apply(const struct base *base, struct qcow2_bytes *b,
		  const struct qcow2_patch *p)
{
	const struct qcow2_header *h = &base->header;
	uint64_t size = cluster_size(base);

	switch ((enum qcow2_patch_what)(p->what % QCOW2_PATCH_WHATS)) {
	case QCOW2_PATCH_L1:
		patch_tables(base, b, p, &h->l1_off, 1, h->l1_entries);
		break;
	case QCOW2_PATCH_L2:
		patch_tables(base, b, p, base->l2_offs, base->l2_count,
			     size / 8);
		break;
	case QCOW2_PATCH_REFTABLE:
		patch_tables(base, b, p, &h->reftable_off, 1,
			     h->reftable_clusters * size / 8);
		break;
	case QCOW2_PATCH_REFCOUNT:
		patch_refcount(base, b, p);
		break;
	case QCOW2_PATCH_SNAPSHOT:
		patch_words(base, b, p, h->snapshots_off, 96);
		break;
	case QCOW2_PATCH_TAIL:
		patch_words(base, b, p, QCOW2_V2_HEADER_BYTES,
			    size - QCOW2_V2_HEADER_BYTES - 8);
		break;
	case QCOW2_PATCH_LENGTH:
		patch_length(b, p);
		break;
	case QCOW2_PATCH_BYTE:
		if (b->len)
			b->data[be64_get(p->value) % b->len] ^=
				(uint8_t)be16_get(p->idx);
		break;
	case QCOW2_PATCH_HEADER:
	case QCOW2_PATCH_WHATS:
		patch_header(base, b, p);
		break;
	}
}

struct qcow2_bytes qcow2_patched(unsigned base_idx,
				 const struct qcow2_patch *patches,
				 size_t count)
{
	struct base *base = &bases[base_idx % qcow2_patch_bases()];
	struct qcow2_bytes b;

	if (!base->bytes.data)
		make_base(base);
	b.len = base->bytes.len;
	b.data = malloc(b.len + 1);
	assert(b.data);
	memcpy(b.data, base->bytes.data, b.len);
	for (size_t i = 0; i < count; i++)
		apply(base, &b, &patches[i]);
	return b;
}
