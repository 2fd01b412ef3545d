/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. */
#include "tests/support/workload.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/image.h"
#include "block/options.h"
#include "block/storage/memory.h"
#include "block/storage/overlay.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/qcow2.h"
#include "formats/raw/raw.h"
#include "tests/support/internal-snapshot.h"
#include "tests/support/log-storage.h"

#define TINY_CACHES "l2-cache-size=4096,refcount-cache-size=4096"
#define BASE	    "backing_file=base,backing_fmt=raw"

/* Tags of what is there at the start. */
#define TAG_BASE     1
#define TAG_SNAPSHOT 2

/* Small disks: a state is judged whole, and there are very many states. */
const struct workload_geometry workload_geometries[] = {
	{.name = "512",
	 .create = "cluster_size=512",
	 .open = TINY_CACHES,
	 .size_bytes = 64 * 1024,
	 .size_max = 160 * 1024},
	{.name = "4k",
	 .create = "cluster_size=4096",
	 .open = TINY_CACHES,
	 .size_bytes = 256 * 1024,
	 .size_max = 512 * 1024},
	{.name = "64k",
	 .create = "cluster_size=65536",
	 .open = "l2-cache-size=524288",
	 .size_bytes = 1024 * 1024,
	 .size_max = 1536 * 1024},
	{.name = "512-v2",
	 .create = "cluster_size=512,compat=0.10",
	 .open = TINY_CACHES,
	 .size_bytes = 64 * 1024,
	 .size_max = 160 * 1024},
	{.name = "4k-lazy",
	 .create = "cluster_size=4096,lazy_refcounts=on",
	 .open = TINY_CACHES,
	 .size_bytes = 256 * 1024,
	 .size_max = 512 * 1024},
	{.name = "1k-1bit",
	 .create = "cluster_size=1024,refcount_bits=1",
	 .open = TINY_CACHES,
	 .size_bytes = 128 * 1024,
	 .size_max = 256 * 1024},
	{.name = "512-64bit",
	 .create = "cluster_size=512,refcount_bits=64",
	 .open = TINY_CACHES,
	 .size_bytes = 64 * 1024,
	 .size_max = 160 * 1024},
	{.name = "4k-zstd",
	 .create = "cluster_size=4096,compression_type=zstd",
	 .open = TINY_CACHES,
	 .size_bytes = 256 * 1024,
	 .size_max = 512 * 1024},
	{.name = "512-base",
	 .create = "cluster_size=512," BASE,
	 .open = TINY_CACHES,
	 .size_bytes = 64 * 1024,
	 .size_max = 160 * 1024,
	 .base_bytes = 100 * 1024},
	{.name = "4k-v2-base",
	 .create = "cluster_size=4096,compat=0.10," BASE,
	 .open = TINY_CACHES,
	 .size_bytes = 128 * 1024,
	 .size_max = 256 * 1024,
	 .base_bytes = 160 * 1024},
	{.name = "512-snapshot",
	 .create = "cluster_size=512",
	 .open = TINY_CACHES,
	 .size_bytes = 64 * 1024,
	 .size_max = 160 * 1024,
	 .snapshot = true},
	{.name = "4k-lazy-snapshot",
	 .create = "cluster_size=4096,lazy_refcounts=on",
	 .open = TINY_CACHES,
	 .size_bytes = 128 * 1024,
	 .size_max = 256 * 1024,
	 .snapshot = true},
	/* One refcount table cluster describes 4096 clusters of this kind. */
	{.name = "512-full-table",
	 .create = "cluster_size=512,refcount_bits=64",
	 .open = TINY_CACHES,
	 .size_bytes = 64 * 1024,
	 .size_max = 160 * 1024,
	 .wasted_clusters = 4096 - 100},
};
const unsigned workload_geometry_count =
	sizeof(workload_geometries) / sizeof(workload_geometries[0]);

uint64_t workload_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *state = x;
}

void workload_oracle_init(struct disk_oracle *oracle,
			  const struct workload_geometry *geometry)
{
	uint64_t shown = min_u64(geometry->base_bytes, geometry->size_bytes);

	disk_oracle_init(oracle, geometry->size_max);
	if (shown)
		disk_oracle_write(oracle, 0, shown, TAG_BASE);
	if (geometry->snapshot)
		disk_oracle_write(oracle, 0, geometry->size_bytes / 2,
				  TAG_SNAPSHOT);
	disk_oracle_flushed(oracle);
	oracle->next_tag = TAG_SNAPSHOT + 1;
}

/* The part of the image that its snapshot shares, and the snapshot. */
static int add_snapshot(struct image *img)
{
	size_t len = img->size_bytes / 2;
	uint8_t *buf = malloc(len);
	int ret;

	if (!buf)
		abort();
	disk_oracle_fill(buf, len, 0, TAG_SNAPSHOT);
	ret = image_write(img, buf, len, 0);
	free(buf);
	return ret < 0 ? ret : internal_snapshot_take(img);
}

static int waste_clusters(struct image *img, uint64_t end)
{
	struct qcow2_run run = {0};
	int ret = 0;

	while (!ret && run.first + run.count < end)
		ret = qcow2_alloc(img->state, end, &run);
	return ret;
}

/* What no option of create makes. */
static int prepare(struct storage *storage,
		   const struct workload_geometry *geometry)
{
	struct flat_disk before = {0};
	struct storage_log log = {0};
	struct storage *s;
	struct image *img;
	int ret;

	flat_disk_read(&before, storage);
	ret = storage_log_new(&s, &log, &before);
	if (!ret)
		ret = workload_open(&img, s, geometry, true);
	if (!ret && geometry->snapshot)
		ret = add_snapshot(img);
	if (!ret && geometry->wasted_clusters)
		ret = waste_clusters(img, geometry->wasted_clusters);
	if (!ret)
		ret = image_close(img);
	for (size_t i = 0; !ret && i < log.count; i++)
		flat_disk_apply(&before, &log.entries[i]);
	if (!ret)
		ret = storage_write(storage, before.data, before.size, 0);
	storage_log_release(&log);
	flat_disk_release(&before);
	return ret;
}

static int format(struct storage *storage,
		  const struct workload_geometry *geometry)
{
	struct options opts = {0};
	struct error err = {0};
	char size[64];
	int ret;

	snprintf(size, sizeof(size), "size=%" PRIu64, geometry->size_bytes);
	ret = options_parse(&opts, geometry->create, &err);
	if (!ret)
		ret = options_parse(&opts, size, &err);
	if (!ret) {
		struct create_args args = {
			.storage = storage,
			.filename = "test",
			.size_bytes = geometry->size_bytes,
			.options = &opts,
		};

		ret = qcow2_driver.create(&args, &err);
	}
	if (ret < 0)
		fprintf(stderr, "create %s: %s\n", geometry->name, err.message);
	options_release(&opts);
	return ret;
}

int workload_create(struct storage *storage,
		    const struct workload_geometry *geometry)
{
	int ret = format(storage, geometry);

	if (!ret && (geometry->snapshot || geometry->wasted_clusters))
		ret = prepare(storage, geometry);
	return ret;
}

uint8_t *workload_base_data(const struct workload_geometry *geometry)
{
	uint8_t *buf = malloc(geometry->base_bytes);

	if (!buf)
		abort();
	disk_oracle_fill(buf, geometry->base_bytes, 0, TAG_BASE);
	return buf;
}

static void add_base(struct image *img,
		     const struct workload_geometry *geometry)
{
	uint8_t *buf = workload_base_data(geometry);
	struct storage *s;
	struct image *base;

	if (storage_memory_from(&s, "base", buf, geometry->base_bytes) < 0 ||
	    image_open_storage(&base, s, &raw_driver, NULL, 0, NULL) < 0)
		abort();
	free(buf);
	image_set_backing(img, base);
}

int workload_open(struct image **out, struct storage *storage,
		  const struct workload_geometry *geometry, bool writable)
{
	struct options opts = {0};
	struct error err = {0};
	int ret = options_parse(&opts, geometry->open, &err);

	if (ret < 0)
		abort();
	ret = image_open_storage(out, storage, &qcow2_driver, &opts,
				 writable ? IMAGE_WRITE : 0, &err);
	options_release(&opts);
	if (!ret && geometry->base_bytes)
		add_base(*out, geometry);
	return ret;
}

/* A range of whole sectors, mostly short, sometimes aligned to clusters. */
static void pick_range(struct workload_op *op, uint64_t *random,
		       const struct image *img)
{
	uint64_t sectors = img->size_bytes / ORACLE_SECTOR;
	uint64_t cluster_sectors = img->cluster_size / ORACLE_SECTOR;
	uint64_t start = workload_random(random) % sectors;
	uint64_t count = 1 + workload_random(random) % (cluster_sectors * 3);

	if (workload_random(random) % 2) {
		start = align_down(start, cluster_sectors);
		count = align_up(count, cluster_sectors);
	}
	count = min_u64(count, sectors - start);
	op->guest_off = start * ORACLE_SECTOR;
	op->len = count * ORACLE_SECTOR;
}

static void pick_packed(struct workload_op *op, const struct image *img)
{
	op->guest_off = align_down(op->guest_off, img->cluster_size);
	op->len = min_u64(img->cluster_size, img->size_bytes - op->guest_off);
}

static void pick_size(struct workload_op *op, uint64_t *random,
		      const struct image *img,
		      const struct workload_geometry *geometry)
{
	uint64_t sectors = geometry->size_max / ORACLE_SECTOR;

	op->old_size = img->size_bytes;
	op->guest_off = 0;
	op->len = (1 + workload_random(random) % sectors) * ORACLE_SECTOR;
}

static enum workload_kind pick_kind(uint64_t *random)
{
	static const enum workload_kind wheel[] = {
		WORK_WRITE, WORK_WRITE,	  WORK_WRITE, WORK_WRITE,
		WORK_WRITE, WORK_PACKED,  WORK_ZERO,  WORK_UNMAP,
		WORK_UNMAP, WORK_DISCARD, WORK_FLUSH, WORK_FLUSH,
	};

	if (workload_random(random) % 40 == 0)
		return WORK_RESIZE;
	return wheel[workload_random(random) %
		     (sizeof(wheel) / sizeof(wheel[0]))];
}

void workload_next(struct workload_op *op, uint64_t *random,
		   struct disk_oracle *oracle, const struct image *img,
		   const struct workload_geometry *geometry)
{
	*op = (struct workload_op){.kind = pick_kind(random)};
	if (disk_oracle_spread(oracle) + 3 > ORACLE_VALUES_MAX) {
		op->kind = WORK_FLUSH;
		return;
	}
	pick_range(op, random, img);
	if (op->kind == WORK_PACKED)
		pick_packed(op, img);
	if (op->kind == WORK_RESIZE)
		pick_size(op, random, img, geometry);
	if (op->kind == WORK_WRITE || op->kind == WORK_PACKED)
		op->tag = disk_oracle_new_tag(oracle);
}

/* Fills what is not 0 yet. */
static void pick_last(struct workload_op *op, const struct image *img,
		      const struct workload_geometry *geometry, unsigned left)
{
	const uint64_t half = align_down(img->size_bytes / 2, ORACLE_SECTOR);

	switch (left) {
	case 6: /* new tables; the end is no multiple of a cluster */
		op->kind = WORK_RESIZE;
		op->len = geometry->size_max - ORACLE_SECTOR;
		break;
	case 5: /* far from all that is there: not allocated yet */
		op->kind = WORK_PACKED;
		op->guest_off =
			align_down(img->size_bytes - 1, img->cluster_size);
		op->len = img->size_bytes - op->guest_off;
		break;
	case 4:
		op->kind = WORK_FLUSH;
		break;
	case 3:
		op->kind = WORK_DISCARD;
		op->len = half;
		break;
	case 2:
		op->kind = WORK_RESIZE;
		op->len = align_up(geometry->size_bytes / 2, ORACLE_SECTOR) +
			  ORACLE_SECTOR;
		break;
	default: /* allocates what the others have freed */
		op->kind = WORK_WRITE;
		op->len = max_u64(half, ORACLE_SECTOR);
	}
}

void workload_next_of(struct workload_op *op, uint64_t *random,
		      struct disk_oracle *oracle, const struct image *img,
		      const struct workload_geometry *geometry, unsigned left)
{
	workload_next(op, random, oracle, img, geometry);
	if (left > WORKLOAD_LAST_STEPS || op->kind == WORK_FLUSH)
		return;
	*op = (struct workload_op){.old_size = img->size_bytes};
	pick_last(op, img, geometry, left);
	if (op->kind == WORK_WRITE || op->kind == WORK_PACKED)
		op->tag = disk_oracle_new_tag(oracle);
}

static int do_write(struct image *img, const struct workload_op *op)
{
	uint8_t *buf = malloc(op->len);
	int ret;

	if (!buf)
		abort();
	disk_oracle_fill(buf, op->len, op->guest_off, op->tag);
	ret = -EEXIST;
	if (op->kind == WORK_PACKED)
		ret = image_write_packed(img, buf, op->len, op->guest_off, 0);
	/*
	 * Onto what is allocated: plain, as a guest would. Any other answer is
	 * a failure, which a second try would hide.
	 */
	if (ret == -EEXIST)
		ret = image_write(img, buf, op->len, op->guest_off);
	free(buf);
	return ret;
}

int workload_do(struct image *img, const struct workload_op *op)
{
	switch (op->kind) {
	case WORK_WRITE:
	case WORK_PACKED:
		return do_write(img, op);
	case WORK_ZERO:
		return image_zero(img, op->guest_off, op->len, 0);
	case WORK_UNMAP:
		return image_zero(img, op->guest_off, op->len,
				  FORMAT_ZERO_MAY_UNMAP);
	case WORK_DISCARD:
		return image_discard(img, op->guest_off, op->len);
	case WORK_FLUSH:
		return image_flush(img);
	case WORK_RESIZE:
		return image_resize(img, op->len, PREALLOC_OFF, true, NULL);
	}
	return -EINVAL;
}

void workload_begun(struct disk_oracle *oracle, const struct workload_op *op)
{
	switch (op->kind) {
	case WORK_WRITE:
	case WORK_PACKED:
		disk_oracle_write(oracle, op->guest_off, op->len, op->tag);
		break;
	case WORK_ZERO:
	case WORK_UNMAP:
		disk_oracle_zero(oracle, op->guest_off, op->len);
		break;
	case WORK_DISCARD:
		disk_oracle_discard(oracle, op->guest_off, op->len);
		break;
	case WORK_FLUSH:
		break;
	case WORK_RESIZE:
		/* What is cut off comes back as zeros. */
		if (op->len < op->old_size)
			disk_oracle_zero(oracle, op->len,
					 op->old_size - op->len);
		break;
	}
}

int workload_judge(struct image *img, const struct disk_oracle *oracle,
		   uint8_t *disk, char *why, size_t why_len)
{
	uint8_t *buf = disk ? disk : malloc(img->size_bytes);
	int ret;

	if (!buf)
		abort();
	ret = image_read(img, buf, img->size_bytes, 0);
	if (ret < 0)
		snprintf(why, why_len, "reading the disk: %s", strerror(-ret));
	else if (disk_oracle_judge(oracle, buf, 0, img->size_bytes, why,
				   why_len) >= 0)
		ret = -1;
	if (!disk)
		free(buf);
	return ret;
}

int workload_judge_snapshot(struct storage *storage,
			    const struct workload_geometry *geometry, char *why,
			    size_t why_len)
{
	struct disk_oracle oracle;
	struct image *img;
	int ret = storage_overlay_new(&storage, storage);

	if (ret < 0)
		abort();
	ret = internal_snapshot_expose(storage, geometry->size_bytes);
	if (ret < 0) {
		storage_close(storage);
		snprintf(why, why_len, "no snapshot: %s", strerror(-ret));
		return -1;
	}
	ret = workload_open(&img, storage, geometry, false);
	if (ret < 0) {
		snprintf(why, why_len, "the snapshot does not open");
		return -1;
	}
	workload_oracle_init(&oracle, geometry);
	ret = workload_judge(img, &oracle, NULL, why, why_len);
	disk_oracle_release(&oracle);
	image_close(img);
	return ret;
}

static void note_finding(void *opaque, const char *text)
{
	char *why = opaque;

	if (!*why)
		snprintf(why, 200, "%s", text);
}

/* Findings are put into words only where there is something to tell. */
static int check_opened(struct image *img, struct check_result *result,
			char *why, size_t why_len)
{
	char first[200] = "";
	struct check_args args = {0};
	struct error err = {0};
	int ret = image_check(img, &args, result, &err);

	if (!ret && !result->corruptions && !result->check_errors)
		return 0;
	args = (struct check_args){.finding = note_finding, .opaque = first};
	if (!ret)
		ret = image_check(img, &args, result, &err);
	if (ret < 0)
		snprintf(why, why_len, "check: %.150s", err.message);
	else
		snprintf(why, why_len,
			 "check: %" PRIu64 " corruptions (%.150s)",
			 result->corruptions, first);
	return -1;
}

int workload_check(struct storage *storage, uint64_t *leaks, char *why,
		   size_t why_len)
{
	struct check_result result;
	struct error err = {0};
	struct image *img;
	int ret;

	ret = image_open_storage(&img, storage, &qcow2_driver, NULL,
				 IMAGE_FOR_CHECK, &err);
	if (ret < 0) {
		snprintf(why, why_len, "open for check: %.150s", err.message);
		return -1;
	}
	ret = check_opened(img, &result, why, why_len);
	image_close(img);
	if (!ret && leaks)
		*leaks = result.leaks;
	return ret;
}
