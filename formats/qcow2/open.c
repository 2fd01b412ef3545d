/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening and closing, the dirty and the corrupt bit (spec: qcow2 9, 22).
 *
 * What this driver cannot serve yet (encryption, extended L2 entries, external
 * data files) may be looked at and checked, but no guest byte is read or
 * written; images with bitmaps are not written, because their bitmaps would
 * stop telling the truth.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/image.h"
#include "block/options.h"
#include "formats/qcow2/qcow2.h"

/* Larger clusters' tables are cached in pieces of this size. */
#define CACHE_UNIT_MAX (64u * 1024)
/* Covers 256 GiB of disk with 64 KiB clusters. */
#define L2_CACHE_BYTES	     (32u * 1024 * 1024)
#define REFBLOCK_CACHE_BYTES (4u * 1024 * 1024)
#define CACHE_UNITS_MIN	     8

const struct option_def qcow2_open_options[] = {
	{"l2-cache-size", OPTION_SIZE, "Maximum L2 table cache size", NULL},
	{"lazy-refcounts", OPTION_BOOL, "Postpone refcount updates", NULL},
	{"refcount-cache-size", OPTION_SIZE,
	 "Maximum refcount block cache size", NULL},
	{NULL, 0, NULL, NULL},
};

int qcow2_features_change(struct qcow2 *q, uint64_t set, uint64_t clear)
{
	uint64_t before;
	int ret;

	pthread_mutex_lock(&q->header_lock);
	before = q->header.incompatible;
	q->header.incompatible = (before | set) & ~clear;
	ret = qcow2_header_write_features(q);
	if (ret < 0)
		q->header.incompatible = before;
	pthread_mutex_unlock(&q->header_lock);
	return ret;
}

int qcow2_mark_corrupt(struct qcow2 *q)
{
	if (!q->img->writable)
		return -EIO;
	if (!atomic_exchange(&q->corrupt, true) && q->header.version >= 3)
		qcow2_features_change(q, QCOW2_INCOMPAT_CORRUPT, 0);
	return -EIO;
}

/* What the image needs and this driver does not have. */
static int refuse_unsupported(const struct qcow2 *q, const char *name,
			      struct error *err)
{
	uint64_t bits = q->header.incompatible;

	if (q->header.crypt_method == QCOW2_CRYPT_AES)
		return error_set(err, ENOTSUP,
				 "'%s' is encrypted with the legacy AES "
				 "method, which is not supported yet",
				 name);
	if (q->header.crypt_method)
		return error_set(err, ENOTSUP,
				 "'%s' is encrypted (LUKS), which is not "
				 "supported yet",
				 name);
	if (bits & QCOW2_INCOMPAT_DATA_FILE)
		return error_set(err, ENOTSUP,
				 "'%s' keeps its data in an external data "
				 "file, which is not supported yet",
				 name);
	if (bits & QCOW2_INCOMPAT_EXTENDED_L2)
		return error_set(err, ENOTSUP,
				 "'%s' has extended L2 entries, which are not "
				 "supported yet",
				 name);
	return 0;
}

static int refuse_writing(const struct qcow2 *q, const char *name,
			  struct error *err)
{
	if (q->header.incompatible & QCOW2_INCOMPAT_CORRUPT)
		return error_set(err, EACCES,
				 "qcow2: Image is corrupt; cannot be opened "
				 "read/write (repair it with: check -r all)");
	if (q->tail.has_bitmaps &&
	    (q->header.autoclear & QCOW2_AUTOCLEAR_BITMAPS))
		return error_set(err, ENOTSUP,
				 "'%s' has persistent bitmaps, which writing "
				 "would leave out of date; only read-only use "
				 "is supported yet",
				 name);
	return 0;
}

static void set_geometry(struct qcow2 *q)
{
	q->cluster_bits = q->header.cluster_bits;
	q->cluster_size = 1u << q->cluster_bits;
	q->l2_bits = q->cluster_bits - 3;
	q->refcount_order = q->header.refcount_order;
	q->refblock_bits = q->cluster_bits + 3 - q->refcount_order;
	q->refcount_max = q->refcount_order == 6
				  ? UINT64_MAX
				  : (1ull << (1u << q->refcount_order)) - 1;
	q->discards_to_zero = q->header.version >= 3;
}

/*
 * A table of 64-bit entries in host order. Only what the file holds is read:
 * a few bytes cannot claim megabytes of tables and get them filled.
 */
static int read_table(struct qcow2 *q, uint64_t table_off, uint64_t entries,
		      uint64_t **out)
{
	uint64_t present = 0;
	uint64_t *table = calloc(entries ? entries : 1, sizeof(*table));
	int ret = 0;

	if (!table)
		return -ENOMEM;
	if (table_off < storage_size(q->file))
		present = min_u64(
			div_round_up(storage_size(q->file) - table_off, 8),
			entries);
	if (present)
		ret = storage_read_padded(q->file, table, present * 8,
					  table_off);
	if (ret < 0) {
		free(table);
		return ret;
	}
	for (uint64_t i = 0; i < present; i++)
		table[i] = be64toh(table[i]);
	*out = table;
	return 0;
}

static int check_reftable(const struct qcow2 *q, struct error *err)
{
	for (uint64_t i = 0; i < q->reftable_entries; i++) {
		uint64_t e = q->reftable[i];

		if ((e & (q->cluster_size - 1)) || e >= QCOW2_HOST_OFF_MAX)
			return error_set(
				err, ERROR_CORRUPT,
				"Refcount table entry %" PRIu64 " is 0x%" PRIx64
				", but must be a multiple of the cluster size "
				"%u below 2^56 (repair with: check -r all)",
				i, e, q->cluster_size);
	}
	return 0;
}

static int load_tables(struct qcow2 *q, struct error *err)
{
	int ret;

	q->l1_entries = q->header.l1_entries;
	q->reftable_entries = (uint64_t)q->header.reftable_clusters
			      << (q->cluster_bits - 3);
	ret = read_table(q, q->header.l1_off, q->l1_entries, &q->l1);
	if (ret < 0)
		return error_set_errno(err, -ret,
				       "Could not read the L1 table");
	ret = read_table(q, q->header.reftable_off, q->reftable_entries,
			 &q->reftable);
	if (ret < 0)
		return error_set_errno(err, -ret,
				       "Could not read the refcount table");
	if (!q->img->writable)
		return 0;
	ret = check_reftable(q, err);
	if (ret < 0)
		return ret;
	return qcow2_metadata_collect(q, err);
}

static void drop_tables(struct qcow2 *q)
{
	free(q->l1);
	free(q->reftable);
	qcow2_metadata_release(q);
	q->l1 = q->reftable = NULL;
	q->l1_dirty = q->reftable_dirty = (struct qcow2_dirty_range){0, 0};
}

int qcow2_reload_tables(struct qcow2 *q, struct error *err)
{
	drop_tables(q);
	table_cache_clear(q->l2_cache);
	table_cache_clear(q->refblock_cache);
	q->free_hint = 0;
	q->pack_off = 0;
	qcow2_run_list_release(&q->quarantine);
	return load_tables(q, err);
}

static int make_cache(struct qcow2 *q, const struct options *opts,
		      const char *name, uint64_t bytes,
		      struct table_cache **out, struct error *err)
{
	uint32_t unit = (uint32_t)min_u64(q->cluster_size, CACHE_UNIT_MAX);
	bool present;
	uint64_t units;
	int ret;

	if (opts) {
		uint64_t asked;

		ret = options_get_size(opts, qcow2_open_options, name, &asked,
				       &present, err);
		if (ret < 0)
			return ret;
		if (present)
			bytes = asked;
	}
	units = max_u64(bytes / unit, CACHE_UNITS_MIN);
	ret = table_cache_new(out, q->file, unit, units);
	if (ret < 0)
		return error_set_errno(err, -ret, "Could not make a cache");
	return 0;
}

/* No more than there are tables to keep: small images open fast. */
static int make_caches(struct qcow2 *q, const struct options *opts,
		       struct error *err)
{
	uint64_t all_tables = (uint64_t)q->header.l1_entries * q->cluster_size;
	int ret;

	ret = make_cache(q, opts, "l2-cache-size",
			 min_u64(L2_CACHE_BYTES, all_tables), &q->l2_cache,
			 err);
	if (ret < 0)
		return ret;
	return make_cache(q, opts, "refcount-cache-size", REFBLOCK_CACHE_BYTES,
			  &q->refblock_cache, err);
}

static int copy_text(char **out, const char *text)
{
	*out = text ? strdup(text) : NULL;
	return text && !*out ? -ENOMEM : 0;
}

/* The names stay here too: a rewritten header needs them. */
static int publish_to_image(struct image *img, const struct qcow2 *q)
{
	int ret;

	/* Sectors, as everywhere: an odd size on disk is rounded down. */
	img->size_bytes = align_down(q->header.size_bytes, 512);
	img->cluster_size = q->cluster_size;
	ret = copy_text(&img->backing_name, q->tail.backing_name);
	if (!ret)
		ret = copy_text(&img->backing_format, q->tail.backing_format);
	return ret;
}

static void release(struct qcow2 *q)
{
	drop_tables(q);
	table_cache_free(q->l2_cache);
	table_cache_free(q->refblock_cache);
	qcow2_run_list_release(&q->quarantine);
	qcow2_header_tail_release(&q->tail);
	pthread_mutex_destroy(&q->change_lock);
	pthread_mutex_destroy(&q->table_lock);
	pthread_mutex_destroy(&q->header_lock);
	free(q);
}

/*
 * Unknown autoclear bits vouch for things that this writer will not keep true:
 * they go, durably, before anything else changes.
 */
static int clear_autoclear(struct qcow2 *q)
{
	uint64_t keep = q->header.autoclear & QCOW2_AUTOCLEAR_KNOWN;

	if (q->header.version < 3 || keep == q->header.autoclear)
		return 0;
	q->header.autoclear = keep;
	return qcow2_header_write_features(q);
}

static int make_writable(struct qcow2 *q, const struct options *opts,
			 struct error *err)
{
	bool lazy = q->header.compatible & QCOW2_COMPAT_LAZY;
	int ret;

	if (opts && options_get(opts, "lazy-refcounts")) {
		ret = options_get_bool(opts, qcow2_open_options,
				       "lazy-refcounts", &lazy, err);
		if (ret < 0)
			return ret;
	}
	q->lazy = lazy && q->header.version >= 3;
	ret = clear_autoclear(q);
	if (ret < 0)
		return error_set_errno(
			err, -ret, "Could not clear unknown autoclear bits");
	if (q->header.incompatible & QCOW2_INCOMPAT_DIRTY)
		return qcow2_repair_dirty(q, err);
	return 0;
}

static int open_state(struct qcow2 *q, const struct options *opts,
		      struct error *err)
{
	struct image *img = q->img;
	bool for_check = img->open_flags & IMAGE_FOR_CHECK;
	int ret;

	ret = qcow2_header_read(q, img->file,
				for_check ? QCOW2_VALIDATE_FOR_CHECK : 0, err);
	if (ret < 0)
		return ret;
	set_geometry(q);
	if (img->open_flags & IMAGE_INFO_ONLY)
		return 0;
	if (!for_check) {
		ret = refuse_unsupported(q, img->filename, err);
		if (!ret && img->writable)
			ret = refuse_writing(q, img->filename, err);
		if (ret < 0)
			return ret;
	}
	ret = make_caches(q, opts, err);
	/* A check reads the tables itself, and may mend them. */
	if (!ret && !for_check)
		ret = load_tables(q, err);
	return ret;
}

int qcow2_open(struct image *img, const struct options *opts, struct error *err)
{
	struct qcow2 *q = calloc(1, sizeof(*q));
	int ret;

	if (!q)
		return error_set_errno(err, ENOMEM, "Could not open the image");
	q->img = img;
	q->file = img->file;
	pthread_mutex_init(&q->change_lock, NULL);
	pthread_mutex_init(&q->table_lock, NULL);
	pthread_mutex_init(&q->header_lock, NULL);
	ret = open_state(q, opts, err);
	if (ret < 0) {
		release(q);
		return ret;
	}
	img->state = q;
	ret = publish_to_image(img, q);
	if (!ret && img->writable &&
	    !(img->open_flags & (IMAGE_FOR_CHECK | IMAGE_INFO_ONLY)))
		ret = make_writable(q, opts, err);
	if (ret < 0) {
		img->state = NULL;
		release(q);
	}
	return ret;
}

/* After the last flush: what the quarantine released, and the dirty bit. */
static int settle(struct qcow2 *q)
{
	bool dirty = q->dirty_bit;
	int ret;

	q->dirty_bit = false; /* counts are written by this flush */
	ret = qcow2_flush_locked(q);
	if (!ret && table_cache_has_dirty(q->refblock_cache, TABLES_ALL))
		ret = qcow2_flush_locked(q);
	if (!ret && dirty)
		ret = qcow2_features_change(q, 0, QCOW2_INCOMPAT_DIRTY);
	return ret;
}

int qcow2_close(struct image *img)
{
	struct qcow2 *q = img->state;
	int ret = 0;

	if (!q)
		return 0;
	if (img->writable && q->l1 && !atomic_load(&q->corrupt)) {
		pthread_mutex_lock(&q->change_lock);
		ret = settle(q);
		pthread_mutex_unlock(&q->change_lock);
	}
	release(q);
	img->state = NULL;
	return ret;
}
