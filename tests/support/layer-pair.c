/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. */
#include "tests/support/layer-pair.h"

#include <stdio.h>
#include <stdlib.h>

#include "block/bytes.h"
#include "block/image.h"
#include "formats/qcow2/qcow2.h"

#define PUSH_EVERY  4
#define TAG_START   1
#define TINY_CACHES "l2-cache-size=4096,refcount-cache-size=4096"
#define ON_BASE	    ",backing_file=base,backing_fmt=qcow2"

#define FILE_OF(options)                                                   \
	{                                                                  \
		.name = options, .create = options, .open = TINY_CACHES,   \
		.size_bytes = PAIR_DISK_BYTES, .size_max = PAIR_DISK_BYTES \
	}

const struct pair_kind pair_kinds[] = {
	{"512 on 512",
	 {FILE_OF("cluster_size=512"), FILE_OF("cluster_size=512" ON_BASE)}},
	{"512 on 4k",
	 {FILE_OF("cluster_size=4096"), FILE_OF("cluster_size=512" ON_BASE)}},
	{"4k on lazy 512",
	 {FILE_OF("cluster_size=512,lazy_refcounts=on"),
	  FILE_OF("cluster_size=4096" ON_BASE)}},
	{"lazy 4k on v2",
	 {FILE_OF("cluster_size=1024,compat=0.10"),
	  FILE_OF("cluster_size=4096,lazy_refcounts=on" ON_BASE)}},
};
const unsigned pair_kind_count = sizeof(pair_kinds) / sizeof(pair_kinds[0]);

/* ---- opening ---- */

int layer_pair_open(struct layer_pair *p, struct storage *files[PAIR_FILES],
		    bool writable)
{
	const struct workload_geometry *as = p->kind->files;
	struct image *base;
	int ret = workload_open(&base, files[PAIR_BASE], &as[PAIR_BASE],
				writable);

	if (ret < 0) {
		storage_close(files[PAIR_LAYER]);
		return ret;
	}
	ret = workload_open(&p->layer, files[PAIR_LAYER], &as[PAIR_LAYER],
			    writable);
	if (ret < 0)
		image_close(base);
	else
		image_set_backing(p->layer, base);
	return ret;
}

int layer_pair_open_logged(struct layer_pair *p, struct storage_log *log,
			   const struct flat_disk from[PAIR_FILES])
{
	struct storage *files[PAIR_FILES];

	for (unsigned f = 0; f < PAIR_FILES; f++)
		if (storage_log_new_file(&files[f], log, f, &from[f]) < 0)
			abort();
	return layer_pair_open(p, files, true);
}

int layer_pair_close(struct layer_pair *p)
{
	int ret = image_close(p->layer);

	p->layer = NULL;
	return ret;
}

/* ---- the start ---- */

static void apply_log(struct flat_disk *files, const struct storage_log *log)
{
	for (size_t i = 0; i < log->count; i++)
		flat_disk_apply(&files[log->entries[i].file], &log->entries[i]);
}

static void create_file(const struct pair_kind *kind, unsigned file,
			struct flat_disk *start)
{
	struct flat_disk empty = {0};
	struct storage_log log = {0};
	struct storage *s;

	if (storage_log_new_file(&s, &log, file, &empty) < 0 ||
	    workload_create(s, &kind->files[file]) < 0)
		abort();
	storage_close(s);
	apply_log(start, &log);
	storage_log_release(&log);
}

void layer_pair_create(const struct pair_kind *kind,
		       struct flat_disk start[PAIR_FILES])
{
	struct layer_pair p = {.kind = kind};
	struct storage_log log = {0};
	uint8_t *buf = malloc(PAIR_DISK_BYTES);

	for (unsigned f = 0; f < PAIR_FILES; f++)
		create_file(kind, f, start);
	if (!buf || layer_pair_open_logged(&p, &log, start) < 0)
		abort();
	disk_oracle_fill(buf, PAIR_DISK_BYTES, 0, TAG_START);
	if (image_write(p.layer->backing, buf, PAIR_DISK_BYTES, 0) < 0 ||
	    layer_pair_close(&p) < 0)
		abort();
	apply_log(start, &log);
	storage_log_release(&log);
	free(buf);
}

static void init_oracle(struct disk_oracle *oracle)
{
	disk_oracle_init(oracle, PAIR_DISK_BYTES);
	disk_oracle_write(oracle, 0, PAIR_DISK_BYTES, TAG_START);
	disk_oracle_flushed(oracle);
	oracle->next_tag = TAG_START + 1;
}

void layer_pair_init(struct layer_pair *p, const struct pair_kind *kind)
{
	*p = (struct layer_pair){.kind = kind};
	init_oracle(&p->disk);
	init_oracle(&p->base);
}

void layer_pair_release(struct layer_pair *p)
{
	disk_oracle_release(&p->disk);
	disk_oracle_release(&p->base);
}

/* ---- what happened ---- */

static void base_written(struct disk_oracle *base, const struct workload_op *op,
			 const uint64_t *tags)
{
	for (uint64_t i = 0; i < op->len / ORACLE_SECTOR; i++)
		disk_oracle_write(base, op->guest_off + i * ORACLE_SECTOR,
				  ORACLE_SECTOR, tags[i]);
}

void layer_pair_replay(struct layer_pair *p, const struct pair_event *event)
{
	switch (event->kind) {
	case PAIR_BEGUN:
		workload_begun(&p->disk, &event->op);
		break;
	case PAIR_FLUSHED:
		disk_oracle_flushed(&p->disk);
		break;
	case PAIR_COPIED:
		base_written(&p->base, &event->op, event->tags);
		break;
	case PAIR_BASE_FLUSHED:
		disk_oracle_flushed(&p->base);
		break;
	}
}

/* Takes the tags. */
static void happened(struct layer_pair *p, struct pair_event event)
{
	struct pair_history *h = p->history;

	layer_pair_replay(p, &event);
	if (!h) {
		free(event.tags);
		return;
	}
	if (h->count == h->capacity) {
		h->capacity = h->capacity ? h->capacity * 2 : 256;
		h->events = reallocarray(h->events, h->capacity,
					 sizeof(*h->events));
		if (!h->events)
			abort();
	}
	event.log_pos = p->log->count;
	h->events[h->count++] = event;
}

void pair_history_release(struct pair_history *history)
{
	for (size_t i = 0; i < history->count; i++)
		free(history->events[i].tags);
	free(history->events);
	*history = (struct pair_history){0};
}

/* ---- operations ---- */

static int flush_base(struct layer_pair *p)
{
	int ret = image_flush(p->layer->backing);

	if (!ret)
		happened(p, (struct pair_event){.kind = PAIR_BASE_FLUSHED});
	return ret;
}

/* Copies what the layer shows of the range into the base. */
static int copy_down(struct layer_pair *p, const struct workload_op *op)
{
	uint64_t sectors = op->len / ORACLE_SECTOR;
	uint64_t *tags = calloc(sectors, sizeof(*tags));
	uint8_t *buf = malloc(op->len);
	int ret;

	if (!tags || !buf)
		abort();
	ret = image_read(p->layer, buf, op->len, op->guest_off);
	for (uint64_t i = 0; i < sectors; i++)
		tags[i] = disk_oracle_tag(buf + i * ORACLE_SECTOR);
	happened(p, (struct pair_event){
			    .kind = PAIR_COPIED, .op = *op, .tags = tags});
	if (!ret)
		ret = image_write(p->layer->backing, buf, op->len,
				  op->guest_off);
	free(buf);
	return ret;
}

/* The whole clusters of the range show the base from then on. */
static int give_up(struct layer_pair *p, const struct workload_op *op)
{
	uint64_t size = p->layer->cluster_size;
	uint64_t off = align_up(op->guest_off, size);
	uint64_t end = align_down(op->guest_off + op->len, size);

	if (off >= end)
		return 0;
	return qcow2_forget_range(p->layer->state, off, end - off);
}

static int push(struct layer_pair *p, const struct workload_op *op, bool keep)
{
	bool full = disk_oracle_spread(&p->base) + 3 > ORACLE_VALUES_MAX;
	int ret = copy_down(p, op);

	if (!ret && (!p->careless || full))
		ret = flush_base(p);
	if (!ret && !keep)
		ret = give_up(p, op);
	return ret;
}

static int do_op(struct layer_pair *p, const struct workload_op *op)
{
	int ret;

	happened(p, (struct pair_event){.kind = PAIR_BEGUN, .op = *op});
	ret = workload_do(p->layer, op);
	if (!ret && op->kind == WORK_FLUSH)
		happened(p, (struct pair_event){.kind = PAIR_FLUSHED});
	return ret;
}

int layer_pair_work(struct layer_pair *p, uint64_t *random, unsigned steps)
{
	int ret = 0;

	for (unsigned i = 0; !ret && i < steps; i++) {
		struct workload_op op;

		do {
			workload_next(&op, random, &p->disk, p->layer,
				      &p->kind->files[PAIR_LAYER]);
		} while (op.kind == WORK_RESIZE);
		ret = do_op(p, &op);
		if (!ret && op.len && i % PUSH_EVERY == 0)
			ret = push(p, &op, workload_random(random) >> 32 & 1);
	}
	return ret;
}

/* ---- judging ---- */

int layer_pair_judge(const struct layer_pair *p, char *why, size_t why_len)
{
	char base_why[300];

	if (workload_judge(p->layer, &p->disk, NULL, why, why_len) < 0)
		return -1;
	if (workload_judge(p->layer->backing, &p->base, NULL, base_why,
			   sizeof(base_why)) == 0)
		return 0;
	snprintf(why, why_len, "the base: %s", base_why);
	return -1;
}

static void adopt(struct disk_oracle *oracle, struct image *img, uint8_t *buf)
{
	if (image_read(img, buf, PAIR_DISK_BYTES, 0) < 0)
		abort();
	disk_oracle_adopt(oracle, buf, PAIR_DISK_BYTES);
}

void layer_pair_adopt(struct layer_pair *p)
{
	uint8_t *buf = malloc(PAIR_DISK_BYTES);

	if (!buf)
		abort();
	adopt(&p->disk, p->layer, buf);
	adopt(&p->base, p->layer->backing, buf);
	free(buf);
}
