/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The life of a qcow2 image with a few fields changed: read, checked, repaired,
 * opened for writing, changed, flushed and opened again.
 *
 * Input: number of the image to start from, what to do, number of patches, the
 * patches (qcow2-patch.h), and operations of four bytes each (flat-model.h).
 *
 * What must hold beyond what qcow2-judge.h says: reading changes nothing. An
 * image in which check finds no fault behaves like an array of bytes, also when
 * it is opened again, and stays without fault, but for flags of clusters that
 * had two references (qcow2-judge.h); leaks come up only where patches have put
 * them. In any image what one write puts into one cluster is read back.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/image.h"
#include "block/options.h"
#include "formats/qcow2/qcow2.h"
#include "tests/support/flat-model.h"
#include "tests/support/qcow2-judge.h"
#include "tests/support/qcow2-patch.h"

#define PREFIX	    3u
#define PATCHES_MAX 12u
#define OPS_MAX	    48u
#define OP_BYTES    4u
#define READ_MAX    (512u * 1024)
#define WALK_MAX    2000
/* What patches, operations and new tables may add to a file. */
#define GROWTH_MAX (8u << 20)

#define DO_READ	  0x01u
#define DO_JUDGE  0x02u
#define DO_REPAIR 0x04u /* then change what came out of it */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max,
			       unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

struct plan {
	uint8_t base, todo;
	const struct qcow2_patch *patches;
	size_t patch_count;
	const uint8_t *ops;
	size_t op_count;
};

static bool plan_decode(struct plan *p, const uint8_t *data, size_t size)
{
	size_t patches_len;

	if (size < PREFIX)
		return false;
	p->base = data[0];
	p->todo = data[1];
	p->patch_count = min_u64(data[2] % (PATCHES_MAX + 1),
				 (size - PREFIX) / sizeof(*p->patches));
	p->patches = (const struct qcow2_patch *)(data + PREFIX);
	patches_len = p->patch_count * sizeof(*p->patches);
	p->ops = data + PREFIX + patches_len;
	p->op_count =
		min_u64((size - PREFIX - patches_len) / OP_BYTES, OPS_MAX);
	return true;
}

/* ---- reading ---- */

static void walk_some(struct image *img)
{
	struct image_walk walk;
	struct mapping m;
	uint64_t at = 0;

	image_walk_start(&walk, img, 0, img->size_bytes, 0);
	for (int i = 0; i < WALK_MAX; i++) {
		if (image_walk_next(&walk, &m) < 0 || !m.len)
			return;
		assert(m.guest_off == at);
		at += m.len;
		assert(at <= img->size_bytes);
	}
}

static void read_some(struct image *img)
{
	static uint8_t buf[64 * 1024];
	uint64_t end = min_u64(img->size_bytes, READ_MAX);

	for (uint64_t off = 0; off < end; off += sizeof(buf))
		image_read(img, buf, min_u64(sizeof(buf), end - off), off);
}

static void read_only(const struct qcow2_bytes *b)
{
	struct image *img = qcow2_judge_open(b, 0);
	struct qcow2_bytes after;

	if (!img)
		return;
	walk_some(img);
	read_some(img);
	after = qcow2_judge_copy(img->file);
	assert(after.len == b->len && !memcmp(after.data, b->data, b->len));
	free(after.data);
	image_close(img);
}

/* ---- changing ---- */

/* Two guest clusters of a bad image may share one of the host. */
static void write_one(struct image *img, const uint8_t op[OP_BYTES])
{
	uint64_t off = (uint64_t)(op[1] << 8 | op[2]) * 37;
	uint8_t written[512], back[512];
	size_t len;

	off %= max_u64(img->size_bytes, 1);
	len = min_u64(1 + op[3], img->cluster_size - off % img->cluster_size);
	len = min_u64(len, img->size_bytes - off);
	memset(written, op[3], sizeof(written));
	if (!image_write(img, written, len, off) &&
	    !image_read(img, back, len, off))
		assert(!memcmp(written, back, len));
}

/* Nothing but what holds for any image. */
static void change_bad(struct image *img, const struct plan *p)
{
	struct flat_model unused;

	flat_model_load(&unused, img);
	for (size_t i = 0; i < p->op_count; i++) {
		const uint8_t *op = p->ops + i * OP_BYTES;

		if (op[0] % 2)
			flat_model_step(&unused, img, op);
		else
			write_one(img, op);
	}
	image_flush(img);
}

/* Counts of such an image are not what the next opening will see. */
static bool is_dirty(const struct qcow2_bytes *b)
{
	struct qcow2_header h;

	assert(b->len >= QCOW2_V3_HEADER_BYTES);
	qcow2_header_decode(&h, b->data);
	return h.incompatible & QCOW2_INCOMPAT_DIRTY;
}

static void judge_changed(const struct qcow2_bytes *b,
			  const struct flat_model *m,
			  const struct check_result *before, bool counts_known)
{
	bool dirty = is_dirty(b);
	struct check_result now;
	struct qcow2_bytes looked;
	struct image *img;

	assert(qcow2_judge_check(b, dirty, dirty, &now, &looked));
	free(looked.data);
	/* A repair has set the flags. */
	assert(now.corruptions == (dirty ? 0 : qcow2_judge_missing_flags()));
	assert(!now.check_errors);
	if (counts_known && !m->failures)
		assert(now.leaks <= before->leaks);
	img = qcow2_judge_open(b, 0);
	assert(img);
	flat_model_compare(m, img);
	image_close(img);
}

/*
 * A guest cluster may lie in a table, with a count that allows for both: no
 * fault to check, nor to QEMU's. It shows whatever the table becomes.
 */
static void doubt_tables(struct flat_model *m, struct image *img)
{
	struct qcow2 *q = img->state;
	uint64_t end = min_u64(img->size_bytes, FLAT_MODEL_MAX);

	for (uint64_t off = 0; off < end; off += img->cluster_size) {
		struct mapping at;
		struct qcow2_run run = {.count = 1};

		if (image_map(img, off, img->cluster_size, &at) < 0 ||
		    (at.kind != MAPPING_DATA && at.kind != MAPPING_PACKED))
			continue;
		run.first = at.host_off >> q->cluster_bits;
		/* A packed cluster may end in the next one. */
		run.count += at.kind == MAPPING_PACKED;
		if (qcow2_run_hits_metadata(q, run))
			flat_model_doubt(m, off, img->cluster_size);
	}
}

static void change_good(struct image *img, const struct plan *p,
			const struct check_result *before)
{
	struct flat_model model;
	struct qcow2_bytes after;

	flat_model_load(&model, img);
	doubt_tables(&model, img);
	for (size_t i = 0; i < p->op_count; i++)
		flat_model_step(&model, img, p->ops + i * OP_BYTES);
	flat_model_compare(&model, img);
	/* The second writes the counts of what the first could let go of. */
	if (image_flush(img) || image_flush(img))
		return;
	after = qcow2_judge_copy(img->file);
	/* Check does not see a patched count behind the end until it grows. */
	judge_changed(&after, &model, before, p->patch_count == 0);
	free(after.data);
}

/* `found` by check; NULL: it could not say. */
static void change(const struct qcow2_bytes *b, const struct plan *p,
		   const struct check_result *found)
{
	bool good = found && !found->corruptions && !found->check_errors;
	struct image *img = qcow2_judge_open(b, IMAGE_WRITE);

	if (!img)
		return;
	/* Zeroing a huge disk is honest work, but not what is tested here. */
	if (img->size_bytes <= 4 * FLAT_MODEL_MAX) {
		if (good)
			change_good(img, p, found);
		else
			change_bad(img, p);
	}
	/* Entries of a bad image may place guest data far behind its end. */
	assert(!good || storage_size(img->file) <= b->len + GROWTH_MAX);
	image_close(img);
}

static bool check(const struct qcow2_bytes *b, struct check_result *found)
{
	struct qcow2_bytes looked;
	bool checked = qcow2_judge_check(b, false, false, found, &looked);

	if (checked)
		free(looked.data);
	return checked;
}

static void live(struct qcow2_bytes *b, const struct plan *p)
{
	struct check_result found, fixed;
	struct qcow2_bytes mended;
	bool checked = check(b, &found);

	if (checked && !qcow2_judge_is_bearable(&found))
		return;
	if (p->todo & DO_JUDGE)
		qcow2_judge_repairs(b);
	if ((p->todo & DO_REPAIR) &&
	    qcow2_judge_check(b, true, true, &fixed, &mended)) {
		free(b->data);
		*b = mended;
		checked = check(b, &found);
	}
	change(b, p, checked ? &found : NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qcow2_bytes b;
	struct plan p;

	if (!plan_decode(&p, data, size))
		return 0;
	b = qcow2_patched(p.base, p.patches, p.patch_count);
	if (p.todo & DO_READ)
		read_only(&b);
	live(&b, &p);
	free(b.data);
	return 0;
}

/* ---- mutations that keep records whole ---- */

static uint32_t next_random(unsigned *state)
{
	*state = *state * 1103515245u + 12345u;
	return *state >> 8;
}

/* A fresh record in place of one, or before it. */
static size_t change_record(uint8_t *data, size_t size, size_t max,
			    unsigned *random)
{
	size_t count = min_u64(data[2] % (PATCHES_MAX + 1),
			       (size - PREFIX) / sizeof(struct qcow2_patch));
	size_t len = sizeof(struct qcow2_patch);
	bool insert = count < PATCHES_MAX && size + len <= max &&
		      (count == 0 || next_random(random) % 3 == 0);
	uint8_t *at;

	if (!insert && count == 0)
		return LLVMFuzzerMutate(data, size, max);
	at = data + PREFIX + next_random(random) % (count + insert) * len;
	if (insert) {
		memmove(at + len, at, size - (size_t)(at - data));
		data[2] = (uint8_t)(count + 1);
		size += len;
	}
	for (size_t i = 0; i < len; i++)
		at[i] = (uint8_t)next_random(random);
	at[0] %= QCOW2_PATCH_WHATS;
	return size;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max,
			       unsigned seed)
{
	unsigned random = seed;
	size_t at;

	if (size < PREFIX || next_random(&random) % 3 == 0)
		return LLVMFuzzerMutate(data, size, max);
	if (next_random(&random) % 2)
		return change_record(data, size, max, &random);
	/* A byte of what there is, lengths kept. */
	at = next_random(&random) % size;
	data[at] = (uint8_t)next_random(&random);
	return size;
}
