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
#include "formats/qcow2/driver.h"

#define TINY_CACHES "l2-cache-size=4096,refcount-cache-size=4096"

/* Small disks: a state is judged whole, and there are very many states. */
const struct workload_geometry workload_geometries[] = {
	{"512", "cluster_size=512", TINY_CACHES, 64 * 1024, 160 * 1024},
	{"4k", "cluster_size=4096", TINY_CACHES, 256 * 1024, 512 * 1024},
	{"64k", "cluster_size=65536", "l2-cache-size=524288", 1024 * 1024,
	 1536 * 1024},
	{"512-v2", "cluster_size=512,compat=0.10", TINY_CACHES, 64 * 1024,
	 160 * 1024},
	{"4k-lazy", "cluster_size=4096,lazy_refcounts=on", TINY_CACHES,
	 256 * 1024, 512 * 1024},
	{"1k-1bit", "cluster_size=1024,refcount_bits=1", TINY_CACHES,
	 128 * 1024, 256 * 1024},
	{"512-64bit", "cluster_size=512,refcount_bits=64", TINY_CACHES,
	 64 * 1024, 160 * 1024},
	{"4k-zstd", "cluster_size=4096,compression_type=zstd", TINY_CACHES,
	 256 * 1024, 512 * 1024},
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

int workload_create(struct storage *storage,
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
	/* Onto what is allocated: plain, as a guest would. */
	if (ret == -EEXIST || ret == -EIO)
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

static void note_finding(void *opaque, const char *text)
{
	char *why = opaque;

	if (!*why)
		snprintf(why, 200, "%s", text);
}

int workload_check(struct storage *storage, char *why, size_t why_len)
{
	char first[200] = "";
	struct check_args args = {.finding = note_finding, .opaque = first};
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
	ret = image_check(img, &args, &result, &err);
	image_close(img);
	if (ret < 0) {
		snprintf(why, why_len, "check: %.150s", err.message);
		return -1;
	}
	if (!result.corruptions && !result.check_errors)
		return 0;
	snprintf(why, why_len, "check: %" PRIu64 " corruptions (%.150s)",
		 result.corruptions, first);
	return -1;
}
