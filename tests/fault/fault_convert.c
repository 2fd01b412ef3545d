/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fault test of copying and of creating: the same job again and again, with the
 * first, the second, ... storage call of the source or the target failing, once
 * or from then on, until none is left to fail.
 *
 * A call that failed must make the job fail, with the code of the failure; and
 * whatever happened, a job that reports success has made a target that holds
 * the source's bytes (CVE-2022-0485 is the opposite). No job may hang or leak.
 *
 *	fault_convert [--short] [--seed N] [--kind NAME]
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/create.h"
#include "block/error.h"
#include "block/image.h"
#include "block/jobs/convert.h"
#include "block/options.h"
#include "block/storage/memory.h"
#include "formats/registry.h"
#include "tests/support/fault-storage.h"
#include "tests/support/log-storage.h"
#include "tests/support/workload.h"

#define UNIT	     4096u
#define FAILURES_MAX 5

/* What is copied into what. */
struct copy_kind {
	const char *name;
	const char *source; /* format, and options of its creation */
	const char *source_options;
	bool source_packed;
	const char *target;
	const char *target_options;
	bool pack;
	bool dirty; /* the target is full of other data: convert -n */
};

static const struct copy_kind copy_kinds[] = {
	{"raw-to-qcow2", "raw", "", false, "qcow2", "", false, false},
	{"packed-to-raw", "qcow2", "", true, "raw", "", false, false},
	{"raw-to-packed", "raw", "", false, "qcow2", "", true, false},
	{"raw-to-small-clusters", "raw", "", false, "qcow2",
	 "cluster_size=4k,refcount_bits=1", false, false},
	{"raw-to-packed-zstd", "raw", "", false, "qcow2",
	 "cluster_size=16k,compression_type=zstd", true, false},
	{"qcow2-to-full-qcow2", "qcow2", "cluster_size=4k", false, "qcow2", "",
	 false, true},
	{"qcow2-to-full-raw", "qcow2", "", false, "raw", "", false, true},
};

static const struct create_kind {
	const char *name;
	const char *format;
	const char *options;
} create_kinds[] = {
	{"create-raw", "raw", ""},
	{"create-raw-falloc", "raw", "preallocation=falloc"},
	{"create-raw-full", "raw", "preallocation=full"},
	{"create-qcow2", "qcow2", ""},
	{"create-qcow2-metadata", "qcow2", "preallocation=metadata"},
	{"create-qcow2-small", "qcow2",
	 "preallocation=metadata,cluster_size=512,lazy_refcounts=on"},
	{"create-qcow2-falloc", "qcow2", "preallocation=falloc"},
	{"create-qcow2-full", "qcow2", "preallocation=full,compat=0.10"},
};

struct trial {
	const char *name;
	const struct copy_kind *copy;	  /* or */
	const struct create_kind *create; /* the other one is NULL */
	unsigned threads;
	bool on_source; /* where calls fail; else on the target */
	uint8_t *disk;	/* what the source holds */
	uint64_t size;
	struct flat_disk source, target; /* files, as the job finds them */
	struct fault_plan plan;
	struct storage *left; /* the target's file after the job */
	uint64_t failures;
};

/* The arguments that lead here again come with the complaint. */
static void fail(struct trial *t, const char *what, const char *why)
{
	t->failures++;
	fprintf(stderr,
		"%s, %u threads: %s call %" PRIu64 "%s, code %d: %s %s\n",
		t->name, t->threads, t->on_source ? "source" : "target",
		t->plan.nth, t->plan.for_ever ? " and all after it" : "",
		t->plan.code, what, why);
}

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "fault_convert: preparing: %s\n", what);
	abort();
}

/* ---- disks and files ---- */

/* Noise, text, zeros and mixtures; the end is no multiple of anything. */
static void fill_disk(uint8_t *disk, uint64_t size, uint64_t seed)
{
	for (uint64_t off = 0; off < size; off += UNIT) {
		uint64_t len = min_u64(UNIT, size - off), kind = off >> 16 & 3;

		if (kind == 3)
			kind = workload_random(&seed) % 3;
		for (uint64_t i = 0; i < len; i++) {
			if (kind == 0)
				disk[off + i] = (uint8_t)workload_random(&seed);
			else if (kind == 1)
				disk[off + i] = (uint8_t)(off / UNIT + i % 7);
			else
				disk[off + i] = 0;
		}
	}
}

static int format(struct storage *s, const char *name, const char *text,
		  uint64_t size, struct error *err)
{
	static char path[] = "test";
	struct output out = {.storage = s, .final_path = path};
	struct options options = {0};
	char digits[32];
	int ret;

	snprintf(digits, sizeof(digits), "%" PRIu64, size);
	need(!options_parse(&options, text, NULL), text);
	need(!options_set(&options, "size", digits), "size");
	ret = create_format(&out, format_find(name), &options, size, NULL, err);
	options_release(&options);
	return ret;
}

/* A storage whose base outlives it, in `*kept`. */
static struct storage *faulty(struct storage *base, struct fault_plan *plan,
			      struct storage **kept)
{
	struct storage *s;

	plan->keep = kept;
	plan->calls = 0;
	plan->fired = plan->mattered = false;
	need(!storage_fault_new(&s, base, plan), "no memory");
	return s;
}

static struct storage *memory_of(const struct flat_disk *content)
{
	struct storage *s;

	need(!storage_memory_from(&s, "memory", content->data, content->size),
	     "no memory");
	return s;
}

static int write_cluster(struct image *img, const uint8_t *buf, size_t len,
			 uint64_t off, bool packed)
{
	return packed ? image_write_packed(img, buf, len, off, 1)
		      : image_write(img, buf, len, off);
}

/* An image that holds `disk`; clusters of zeros are left out. */
static void make_file(struct flat_disk *out, const char *name,
		      const char *options, const uint8_t *disk, uint64_t size,
		      bool packed)
{
	struct fault_plan none = {0};
	struct storage *s, *kept = NULL;
	struct image *img;

	need(!storage_memory_new(&s, "memory", 0), "no memory");
	s = faulty(s, &none, &kept);
	need(!format(s, name, options, size, NULL), "create");
	need(!image_open_storage(&img, s, format_find(name), NULL, IMAGE_WRITE,
				 NULL),
	     "open");
	for (uint64_t off = 0; disk && off < size; off += img->cluster_size) {
		size_t len = min_u64(img->cluster_size, size - off);

		if (disk[off] || memcmp(disk + off, disk + off + 1, len - 1))
			need(!write_cluster(img, disk + off, len, off, packed),
			     "write");
	}
	need(!image_close(img), "close");
	flat_disk_read(out, kept);
	storage_close(kept);
}

/* ---- looking at what is left ---- */

static bool is_qcow2(const struct trial *t)
{
	const char *name = t->copy ? t->copy->target : t->create->format;

	return !strcmp(name, "qcow2");
}

static struct storage *copy_of_left(const struct trial *t)
{
	struct flat_disk content = {0};
	struct storage *s;

	flat_disk_read(&content, t->left);
	s = memory_of(&content);
	flat_disk_release(&content);
	return s;
}

/* Whatever has happened to it: what opens has no corruption. */
static void check_metadata(struct trial *t)
{
	char why[300] = "";

	if (workload_check(copy_of_left(t), NULL, why, sizeof(why)) < 0)
		fail(t, "the target is corrupt:", why);
}

static void check_content(struct trial *t)
{
	const char *name = t->copy ? t->copy->target : t->create->format;
	uint8_t *got = malloc(t->size);
	struct error err = {0};
	struct image *img;

	need(got, "no memory");
	if (image_open_storage(&img, copy_of_left(t), format_find(name), NULL,
			       0, &err) < 0) {
		fail(t, "success, but the target does not open:", err.message);
		free(got);
		return;
	}
	if (img->size_bytes != t->size)
		fail(t, "success, but the target is of another size", "");
	else if (image_read(img, got, t->size, 0) < 0)
		fail(t, "success, but the target cannot be read", "");
	else if (memcmp(got, t->disk, t->size) != 0)
		fail(t, "success, but the target holds something else", "");
	image_close(img);
	free(got);
}

/* `code` is what the job has returned. */
static void look_at_result(struct trial *t, int code)
{
	char text[64];

	snprintf(text, sizeof(text), "%s", strerror(-code));
	if (code < 0 && !t->plan.fired)
		fail(t, "an error without a fault:", text);
	if (code < 0 && t->plan.fired && code != -t->plan.code)
		fail(t, "another error is reported:", text);
	if (code == 0 && t->plan.mattered)
		fail(t, "no error is reported", "");
	if (code == 0)
		check_content(t);
}

/* ---- jobs ---- */

static int copy(const struct trial *t, struct image *source,
		struct image *target)
{
	struct convert_source from = {.img = source, .len = source->size_bytes};
	struct convert_args args = {
		.sources = &from,
		.source_count = 1,
		.target = target,
		.target_state = t->copy->dirty ? CONVERT_TARGET_UNKNOWN
					       : CONVERT_TARGET_ZERO,
		.threads = t->threads,
		.sparse_size = CONVERT_SPARSE_DEFAULT,
		.pack = t->copy->pack,
		.pack_level = 1,
		.share = true,
		.write_behind = true,
	};
	struct error err = {0};
	int ret = convert_images(&args, &err);

	return ret < 0 && !*err.message ? -ENOMSG : ret;
}

/* As a command does it: open both, copy, flush, close. */
static int run_copy(struct trial *t)
{
	struct fault_plan none = {0};
	struct storage *source_left = NULL;
	struct image *source, *target = NULL;
	int ret, close_ret;

	ret = image_open_storage(&source,
				 faulty(memory_of(&t->source),
					t->on_source ? &t->plan : &none,
					&source_left),
				 format_find(t->copy->source), NULL, 0, NULL);
	if (!ret) {
		ret = image_open_storage(
			&target,
			faulty(memory_of(&t->target),
			       t->on_source ? &none : &t->plan, &t->left),
			format_find(t->copy->target), NULL, IMAGE_WRITE, NULL);
		if (!ret)
			ret = copy(t, source, target);
		else
			target = NULL;
		if (!ret)
			ret = image_flush(target);
		close_ret = image_close(target);
		if (!ret)
			ret = close_ret;
		image_close(source);
	}
	storage_close(source_left);
	return ret;
}

static int run_create(struct trial *t)
{
	struct error err = {0};
	struct storage *s;
	int ret;

	need(!storage_memory_new(&s, "memory", 0), "no memory");
	s = faulty(s, &t->plan, &t->left);
	ret = format(s, t->create->format, t->create->options, t->size, &err);
	storage_close(s);
	return ret < 0 && !*err.message ? -ENOMSG : ret;
}

/* A file that was only half made must not look whole. */
static bool looks_whole(const struct trial *t)
{
	struct image *img;

	if (image_open_storage(&img, copy_of_left(t), format_find("qcow2"),
			       NULL, 0, NULL) < 0)
		return false;
	image_close(img);
	return true;
}

/* False when the fault did not come: there was no nth call. */
static bool run_trial(struct trial *t)
{
	int ret;

	t->left = NULL;
	ret = t->copy ? run_copy(t) : run_create(t);
	look_at_result(t, ret);
	if (t->left && is_qcow2(t) && (t->copy || looks_whole(t)))
		check_metadata(t);
	storage_close(t->left);
	return t->plan.fired;
}

/* All failures of one kind on one side; adds to `injections`. */
static void run_side(struct trial *t, uint64_t *injections)
{
	static const int codes[] = {EIO, ENOSPC, EDQUOT};
	unsigned count = t->on_source ? 1 : 3;

	for (unsigned c = 0; c < 2 * count; c++) {
		t->plan = (struct fault_plan){
			.code = codes[c / 2],
			.for_ever = c % 2,
		};
		for (t->plan.nth = 1; run_trial(t); t->plan.nth++) {
			(*injections)++;
			if (t->failures > FAILURES_MAX)
				return;
		}
	}
}

/* Returns how many complaints there were. */
static uint64_t run_copies(const struct copy_kind *kind, unsigned threads,
			   uint8_t *disk, uint64_t size, uint64_t *injections)
{
	struct trial t = {
		.name = kind->name,
		.copy = kind,
		.threads = threads,
		.disk = disk,
		.size = size,
	};
	uint8_t *old = NULL;

	if (kind->dirty) {
		old = malloc(size);
		need(old, "no memory");
		memset(old, 0xff, size);
	}
	make_file(&t.source, kind->source, kind->source_options, disk, size,
		  kind->source_packed);
	make_file(&t.target, kind->target, kind->target_options, old, size,
		  false);
	for (int side = 0; side < 2; side++) {
		t.on_source = side == 0;
		run_side(&t, injections);
	}
	flat_disk_release(&t.source);
	flat_disk_release(&t.target);
	free(old);
	return t.failures;
}

static uint64_t run_creates(const struct create_kind *kind, uint64_t size,
			    uint64_t *injections)
{
	struct trial t = {
		.name = kind->name,
		.create = kind,
		.threads = 1,
		.disk = calloc(1, size),
		.size = size,
	};

	need(t.disk, "no memory");
	run_side(&t, injections);
	free(t.disk);
	return t.failures;
}

/* ---- the program ---- */

struct totals {
	uint64_t injections, passed, failed;
};

static void count(struct totals *totals, uint64_t failures)
{
	if (failures)
		totals->failed++;
	else
		totals->passed++;
}

static void run_all(struct totals *totals, const char *only, uint64_t seed,
		    uint64_t size)
{
	static const unsigned threads[] = {1, 3};
	uint8_t *disk = malloc(size);

	need(disk, "no memory");
	fill_disk(disk, size, seed);
	for (size_t i = 0; i < sizeof(copy_kinds) / sizeof(*copy_kinds); i++) {
		const struct copy_kind *kind = &copy_kinds[i];

		for (int n = 0; n < 2; n++)
			if (!only || !strcmp(only, kind->name))
				count(totals,
				      run_copies(kind, threads[n], disk, size,
						 &totals->injections));
	}
	for (size_t i = 0; i < sizeof(create_kinds) / sizeof(*create_kinds);
	     i++)
		if (!only || !strcmp(only, create_kinds[i].name))
			count(totals, run_creates(&create_kinds[i], size,
						  &totals->injections));
	free(disk);
}

int main(int argc, char **argv)
{
	struct totals totals = {0};
	uint64_t seed = 1, size = 11 * 1024 * 1024 + 3 * 512;
	const char *only = NULL;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--short"))
			size = 3 * 1024 * 1024 + 3 * 512;
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--kind") && i + 1 < argc)
			only = argv[++i];
	}
	run_all(&totals, only, seed, size);
	printf("fault_convert: %" PRIu64 " injections\n", totals.injections);
	printf("%" PRIu64 " passed, %" PRIu64 " failed\n", totals.passed,
	       totals.failed);
	return totals.failed ? 1 : 0;
}
