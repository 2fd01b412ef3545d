/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory that runs out: the same work on an image again and again, with the
 * first, the second, ... allocation in block/ and formats/ failing, once or
 * from then on, until none is left to fail. The work is opening, guest
 * operations, resizing, asking, checking, repairing and closing. No call but
 * one that could not have memory returns an error; what was acknowledged is
 * there; the image checks without corruption, and can be used and repaired
 * afterwards as if nothing had been. Nothing is leaked: that the sanitizer says
 * in its variant.
 *
 * The allocator's functions are wrapped by the linker (see the makefile), so
 * that this program's own support code, while it is not armed, has memory.
 *
 *	fault_memory [--short] [--seed N] [--geometry NAME]
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/image-info.h"
#include "block/image.h"
#include "block/options.h"
#include "block/storage/memory.h"
#include "formats/qcow2/driver.h"
#include "tests/support/fault-storage.h"
#include "tests/support/log-storage.h"
#include "tests/support/workload.h"

/* More than any disk of workload.c. */
#define DISK_MAX (4u << 20)

/* ---- the allocator ---- */

static struct {
	uint64_t nth;
	bool for_ever;
	_Atomic bool armed;
	_Atomic uint64_t calls;
	_Atomic bool fired;
} memory;

static bool runs_out(void)
{
	uint64_t call;

	if (!atomic_load(&memory.armed))
		return false;
	call = atomic_fetch_add(&memory.calls, 1) + 1;
	if (call < memory.nth || (call > memory.nth && !memory.for_ever))
		return false;
	atomic_store(&memory.fired, true);
	errno = ENOMEM;
	return true;
}

/* The names are the linker's. NOLINTBEGIN(*-reserved-identifier,*-identifiers)
 */
#define WRAP(type, name, parameters, arguments)                     \
	type __real_##name parameters;                              \
	type __wrap_##name parameters;                              \
	type __wrap_##name parameters                               \
	{                                                           \
		return runs_out() ? NULL : __real_##name arguments; \
	}

WRAP(void *, malloc, (size_t len), (len))
WRAP(void *, calloc, (size_t count, size_t len), (count, len))
WRAP(void *, realloc, (void *old, size_t len), (old, len))
WRAP(void *, reallocarray, (void *old, size_t count, size_t len),
     (old, count, len))
WRAP(void *, aligned_alloc, (size_t align, size_t len), (align, len))
WRAP(char *, strdup, (const char *text), (text))
WRAP(char *, strndup, (const char *text, size_t len), (text, len))

int __real_posix_memalign(void **out, size_t align, size_t len);
int __wrap_posix_memalign(void **out, size_t align, size_t len);
int __wrap_posix_memalign(void **out, size_t align, size_t len)
{
	return runs_out() ? ENOMEM : __real_posix_memalign(out, align, len);
}
/* NOLINTEND(*-reserved-identifier,*-identifiers) */

/* The value of a call during which memory runs out as planned. */
#define WITH_FAULTS(call)                           \
	({                                          \
		int got_;                           \
		atomic_store(&memory.armed, true);  \
		got_ = (call);                      \
		atomic_store(&memory.armed, false); \
		got_;                               \
	})

/* ---- trials ---- */

struct trial {
	const struct workload_geometry *geometry;
	uint64_t seed;
	unsigned steps;
	struct flat_disk start;
	struct storage *file; /* NULL while an image has it */
	struct disk_oracle oracle;
	bool failed; /* a call has returned an error */
	uint64_t failures;
};

static uint8_t buffer[DISK_MAX];

static void fail(struct trial *t, const char *what, const char *why)
{
	t->failures++;
	fprintf(stderr,
		"geometry %s seed %" PRIu64 " allocation %" PRIu64 "%s: %s "
		"%s\n",
		t->geometry->name, t->seed, memory.nth,
		memory.for_ever ? " and all after it" : "", what, why);
}

/* A storage to be closed, after which the file is in t->file again. */
static struct storage *lend(struct trial *t)
{
	/* Fails nothing. Whoever has the last one lent closes it first. */
	static struct fault_plan plan;
	struct storage *s;

	plan = (struct fault_plan){.keep = &t->file};
	if (!t->file || storage_fault_new(&s, t->file, &plan) < 0)
		abort();
	t->file = NULL;
	return s;
}

/* What a call under faults has returned; the first error has to name them. */
static bool note(struct trial *t, const char *what, int ret)
{
	if (ret >= 0)
		return true;
	if (!t->failed && (ret != -ENOMEM || !memory.fired))
		fail(t, what, strerror(-ret));
	t->failed = true;
	disk_oracle_uncertain(&t->oracle);
	return false;
}

static int open_image(struct image **out, struct storage *s,
		      const struct options *opts, unsigned flags)
{
	struct error err = {0};
	int ret = image_open_storage(out, s, &qcow2_driver, opts, flags, &err);

	return ret;
}

/* A chain is made by support code, which has memory always. */
static int open_with_faults(struct trial *t, struct image **out)
{
	struct options opts = {0};
	struct storage *s = lend(t);
	int ret;

	if (t->geometry->base_bytes)
		return workload_open(out, s, t->geometry, true);
	if (options_parse(&opts, t->geometry->open, NULL) < 0)
		abort();
	ret = WITH_FAULTS(open_image(out, s, &opts, IMAGE_WRITE));
	options_release(&opts);
	return ret;
}

static int write_op(struct image *img, const struct workload_op *op)
{
	int ret = -EEXIST;

	if (op->kind == WORK_PACKED)
		ret = image_write_packed(img, buffer, op->len, op->guest_off,
					 0);
	if (ret == -EEXIST)
		ret = image_write(img, buffer, op->len, op->guest_off);
	return ret;
}

static int do_op(struct image *img, const struct workload_op *op)
{
	bool writes = op->kind == WORK_WRITE || op->kind == WORK_PACKED;

	if (writes)
		disk_oracle_fill(buffer, op->len, op->guest_off, op->tag);
	return WITH_FAULTS(writes ? write_op(img, op) : workload_do(img, op));
}

static int ask(struct image *img)
{
	struct image_info info = {0};
	int ret = image_info_get(img, &info, NULL);

	image_info_release(&info);
	if (!ret)
		ret = image_read(img, buffer, img->size_bytes, 0);
	return ret;
}

static void use_with_faults(struct trial *t)
{
	uint64_t random = t->seed;
	struct image *img;

	if (!note(t, "open:", open_with_faults(t, &img)))
		return;
	for (unsigned left = t->steps; left; left--) {
		struct workload_op op;

		workload_next_of(&op, &random, &t->oracle, img, t->geometry,
				 left);
		workload_begun(&t->oracle, &op);
		if (note(t, "operation:", do_op(img, &op)) &&
		    op.kind == WORK_FLUSH && !t->failed)
			disk_oracle_flushed(&t->oracle);
	}
	note(t, "asking:", WITH_FAULTS(ask(img)));
	if (note(t, "close:", WITH_FAULTS(image_close(img))) && !t->failed)
		disk_oracle_flushed(&t->oracle);
}

/* Negative errno; else how much is wrong. Takes the storage. */
static int check(struct storage *s, bool fix)
{
	const struct check_args args = {.fix_leaks = fix, .fix_errors = fix};
	struct check_result result = {0};
	struct image *img;
	int ret = open_image(&img, s, NULL,
			     IMAGE_FOR_CHECK | (fix ? IMAGE_WRITE : 0));

	if (ret < 0)
		return ret;
	ret = image_check(img, &args, &result, NULL);
	if (image_close(img) < 0 && !ret)
		ret = -EIO;
	return ret ? ret : result.corruptions + result.check_errors > 0;
}

static void judge(struct trial *t, const char *when)
{
	char why[300] = "";
	struct image *img;

	if (workload_open(&img, lend(t), t->geometry, false) < 0) {
		fail(t, when, "the image does not open");
		return;
	}
	if (workload_judge(img, &t->oracle, NULL, why, sizeof(why)) < 0)
		fail(t, when, why);
	image_close(img);
	/* Repaired, also what lazy counts leave behind a failure. */
	if (check(lend(t), true) != 0)
		fail(t, when, "damage that a repair leaves");
	if (check(lend(t), false) != 0)
		fail(t, when, "a check finds damage");
}

static void lay_out(struct trial *t)
{
	memory.calls = 0;
	memory.fired = t->failed = false;
	workload_oracle_init(&t->oracle, t->geometry);
	if (storage_memory_from(&t->file, "file", t->start.data,
				t->start.size) < 0)
		abort();
}

static void clear_up(struct trial *t)
{
	storage_close(t->file);
	disk_oracle_release(&t->oracle);
}

/* False when the fault did not come: there was no nth allocation. */
static bool run_trial(struct trial *t)
{
	char why[300] = "";

	lay_out(t);
	use_with_faults(t);
	if (!strstr(t->geometry->create, "lazy") &&
	    workload_check(lend(t), NULL, why, sizeof(why)) < 0)
		fail(t, "afterwards:", why);
	judge(t, "afterwards:");
	clear_up(t);
	return memory.fired;
}

/* A repair of an image whose counts are lost, and the check after it. */
static bool run_repair(struct trial *t)
{
	struct storage *s;
	be64_t reftable_off;
	be64_t none = be64_make(0);
	int ret;

	lay_out(t);
	memcpy(&reftable_off, t->start.data + 48, sizeof(reftable_off));
	if (storage_write(t->file, &none, sizeof(none),
			  be64_get(reftable_off)) < 0)
		abort();
	ret = check(lend(t), false);
	if (ret <= 0)
		fail(t, "the damage is", "not found");
	s = lend(t);
	note(t, "check:", WITH_FAULTS(check(s, false)));
	s = lend(t);
	ret = WITH_FAULTS(check(s, true));
	note(t, "repair:", ret);
	if (ret > 0)
		fail(t, "a repair leaves damage", "and no error");
	judge(t, "after a repair:");
	clear_up(t);
	return memory.fired;
}

/* ---- all of them ---- */

static void make_start(struct trial *t)
{
	struct storage *s;

	if (storage_memory_new(&s, "start", 0) < 0 ||
	    workload_create(s, t->geometry) < 0)
		abort();
	flat_disk_read(&t->start, s);
	storage_close(s);
}

static uint64_t run_geometry(const struct workload_geometry *geometry,
			     uint64_t seed, unsigned steps,
			     uint64_t *injections)
{
	bool (*const works[])(struct trial * t) = {run_trial, run_repair};
	struct trial t = {.geometry = geometry, .seed = seed, .steps = steps};

	make_start(&t);
	for (unsigned i = 0; i < 4; i++) {
		memory.for_ever = i % 2;
		for (memory.nth = 1; works[i / 2](&t) && t.failures < 5;
		     memory.nth++)
			(*injections)++;
	}
	flat_disk_release(&t.start);
	return t.failures;
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, injections = 0, passed = 0, failed = 0;
	unsigned rounds = 8, steps = 60;
	const char *only = NULL;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--short")) {
			rounds = 1;
			steps = 30;
		} else if (!strcmp(argv[i], "--seed") && i + 1 < argc) {
			seed = strtoull(argv[++i], NULL, 0);
		} else if (!strcmp(argv[i], "--geometry") && i + 1 < argc) {
			only = argv[++i];
		}
	}
	for (uint64_t end = seed + rounds; seed < end; seed++) {
		for (unsigned g = 0; g < workload_geometry_count; g++) {
			const struct workload_geometry *geometry =
				&workload_geometries[g];

			if (only && strcmp(only, geometry->name) != 0)
				continue;
			if (run_geometry(geometry, seed, steps, &injections))
				failed++;
			else
				passed++;
		}
	}
	printf("fault_memory: %" PRIu64 " injections\n", injections);
	printf("%" PRIu64 " passed, %" PRIu64 " failed\n", passed,
	       failed + !injections);
	return failed || !injections ? 1 : 0;
}
