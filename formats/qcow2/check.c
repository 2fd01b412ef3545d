/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checking an image: gather, hand out slices to threads, merge what they found;
 * then repair, and check again, which decides.
 */
#include "formats/qcow2/check.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "block/error.h"
#include "block/image.h"
#include "block/progress.h"
#include "block/storage.h"

/* Less than this in L2 tables is not worth a second thread. */
#define THREADED_BYTES_MIN (32ull << 20)
/*
 * Each thread reads all tables for its half of the clusters. Two halve the time
 * of counting in random order; more would mostly read.
 */
#define THREADS_MAX 2u
/* Huge pages: one look-up of an address in random order costs half. */
#define HUGE_BYTES_MIN (4ull << 20)

/* More than any damage was seen to need; it only has to end. */
#define REPAIR_ROUNDS_MAX 4

void qcheck_tally_add(struct qcheck_tally *sum, const struct qcheck_tally *t)
{
	sum->errors += t->errors;
	sum->corruptions += t->corruptions;
	sum->leaks += t->leaks;
	sum->copied += t->copied;
	sum->misplaced_zeros += t->misplaced_zeros;
	sum->allocated += t->allocated;
	sum->fragmented += t->fragmented;
	sum->compressed += t->compressed;
	sum->end_cluster = max_u64(sum->end_cluster, t->end_cluster);
	sum->rebuild |= t->rebuild;
	sum->pointers_lost |= t->pointers_lost;
}

int qcheck_begin(struct qcheck *c, struct qcow2 *q,
		 const struct check_args *args, unsigned flags,
		 struct error *err)
{
	int ret;

	*c = (struct qcheck){
		.q = q,
		.file = q->file,
		.progress = args->progress,
		.fix_leaks = args->fix_leaks,
		.fix_errors = args->fix_errors,
		.cluster_bits = q->cluster_bits,
		.cluster_size = q->cluster_size,
		.file_size = min_u64(storage_size(q->file), QCOW2_HOST_OFF_MAX),
		.has_data_file =
			q->header.incompatible & QCOW2_INCOMPAT_DATA_FILE,
		.extended_l2 =
			q->header.incompatible & QCOW2_INCOMPAT_EXTENDED_L2,
		.skip_old_refcounts = flags & QCHECK_NEW_REFCOUNTS,
	};
	if (flags & QCHECK_REPORT && args->finding)
		c->report.lines_max = CHECK_FINDINGS_MAX;
	c->cluster_count = div_round_up(c->file_size, c->cluster_size);
	if (c->cluster_count > QCHECK_CLUSTERS_MAX)
		return error_set(err, EFBIG,
				 "the file has %" PRIu64
				 " clusters, at most %" PRIu64
				 " can be checked",
				 c->cluster_count, QCHECK_CLUSTERS_MAX);
	ret = qcheck_gather(c);
	if (ret < 0) {
		qcheck_end(c);
		return error_default(err, ret, "checking");
	}
	return 0;
}

void qcheck_end(struct qcheck *c)
{
	qcheck_spans_release(&c->l1);
	qcheck_spans_release(&c->bitmap_tables);
	qcheck_spans_release(&c->fixed);
	qcheck_spans_release(&c->dangling);
	free(c->reftable);
	qcheck_report_release(&c->report);
	memset(c, 0, sizeof(*c));
}

static uint16_t *counts_map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	if (bytes >= HUGE_BYTES_MIN)
		madvise(p, bytes, MADV_HUGEPAGE);
	return p;
}

int qcheck_slice_init(struct qcheck_slice *s, struct qcheck *c, uint64_t first,
		      uint64_t count)
{
	*s = (struct qcheck_slice){
		.c = c,
		.first = first,
		.count = count,
		.lead = !first,
		.report = s->report,
		/* The bits that replace the counters come in words of 64. */
		.counts_bytes = align_up(count, 64) * sizeof(*s->counts),
	};
	assert(is_aligned(first, qcheck_block_slots(c)));
	s->counts = counts_map(s->counts_bytes);
	s->buf = malloc(max_u64(c->cluster_size, QCHECK_READ_BYTES));
	s->block = malloc(c->cluster_size);
	if (s->counts && s->buf && s->block)
		return 0;
	qcheck_slice_release(s);
	return -ENOMEM;
}

void qcheck_slice_release(struct qcheck_slice *s)
{
	if (s->counts)
		munmap(s->counts, s->counts_bytes);
	free(s->excess);
	free(s->buf);
	free(s->block);
	s->counts = NULL;
	s->excess = NULL;
	s->buf = NULL;
	s->block = NULL;
}

uint64_t qcheck_slice_clusters(const struct qcheck *c, uint64_t max)
{
	return max_u64(align_down(max, qcheck_block_slots(c)),
		       qcheck_block_slots(c));
}

int qcheck_each_slice(struct qcheck *c, uint64_t clusters,
		      int (*fn)(struct qcheck_slice *s, void *opaque),
		      void *opaque)
{
	uint64_t step = qcheck_slice_clusters(c, QCHECK_WINDOW_CLUSTERS);
	struct qcheck_slice s;
	int ret = 0;

	for (uint64_t first = 0; first < clusters && !ret; first += step) {
		memset(&s, 0, sizeof(s));
		ret = qcheck_slice_init(&s, c, first,
					min_u64(step, clusters - first));
		if (ret < 0)
			return ret;
		ret = fn(&s, opaque);
		qcheck_slice_release(&s);
	}
	return ret;
}

static int count_tables(struct qcheck *c)
{
	struct qcheck_walk walk = {.c = c};
	int ret = qcheck_walk(&walk);

	c->table_count = walk.tables;
	return ret;
}

/* The slices of one run, and who takes the next. */
struct plan {
	struct qcheck *c;
	struct qcheck_slice *slices; /* memory only while worked on */
	size_t count;
	uint64_t step; /* clusters of all but the last */
	unsigned threads;
	_Atomic size_t next; /* only a ticket: publishes nothing */
	_Atomic int error;   /* first one; read after joining */
};

static unsigned cpu_count(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;
	return (unsigned)CPU_COUNT(&set);
}

static int plan_make(struct plan *plan, struct qcheck *c)
{
	uint64_t clusters = qcheck_clusters(c);
	uint64_t slots = qcheck_block_slots(c);

	memset(plan, 0, sizeof(*plan));
	plan->c = c;
	plan->threads = 1;
	if (c->table_count >= THREADED_BYTES_MIN >> c->cluster_bits)
		plan->threads = (unsigned)min_u64(cpu_count(), THREADS_MAX);
	plan->step = qcheck_slice_clusters(c, QCHECK_WINDOW_CLUSTERS /
						      plan->threads);
	plan->step =
		min_u64(plan->step,
			align_up(div_round_up(clusters, plan->threads), slots));
	plan->count = div_round_up(clusters, plan->step);
	plan->slices = calloc(plan->count, sizeof(*plan->slices));
	return plan->slices ? 0 : -ENOMEM;
}

static int run_slice(struct plan *plan, size_t i)
{
	struct qcheck_slice *s = &plan->slices[i];
	uint64_t first = i * plan->step;
	int ret;

	if (plan->c->report.lines_max)
		s->report.lines_max =
			(unsigned)max_u64(CHECK_FINDINGS_MAX / plan->count, 1);
	ret = qcheck_slice_init(
		s, plan->c, first,
		min_u64(plan->step, qcheck_clusters(plan->c) - first));
	if (ret < 0)
		return ret;
	ret = qcheck_count(s);
	if (!ret)
		ret = qcheck_compare(s);
	if (!ret)
		ret = qcheck_copied(s);
	qcheck_slice_release(s);
	return ret;
}

static void *run_slices(void *opaque)
{
	struct plan *plan = opaque;
	size_t i;

	while ((i = atomic_fetch_add(&plan->next, 1)) < plan->count) {
		int none = 0;
		int ret = atomic_load(&plan->error);

		if (!ret)
			ret = run_slice(plan, i);
		if (ret < 0)
			atomic_compare_exchange_strong(&plan->error, &none,
						       ret);
	}
	return NULL;
}

/* The calling thread works too, so one that cannot be started is no loss. */
static int plan_run(struct plan *plan)
{
	pthread_t threads[THREADS_MAX];
	unsigned started = 0;

	progress_total(plan->c->progress, 2 * plan->count * plan->c->table_count
						  << plan->c->cluster_bits);
	while (started + 1 < plan->threads &&
	       !pthread_create(&threads[started], NULL, run_slices, plan))
		started++;
	run_slices(plan);
	while (started)
		pthread_join(threads[--started], NULL);
	return plan->error;
}

static unsigned deliver(const struct qcheck_report *r,
			const struct check_args *args, bool *cut)
{
	for (size_t pos = 0; pos < r->len; pos += strlen(r->text + pos) + 1)
		args->finding(args->opaque, r->text + pos);
	*cut |= r->cut;
	return r->lines;
}

/* Findings in the order of the file, whoever found them first. */
static void plan_deliver(const struct plan *plan, const struct check_args *args)
{
	bool cut = false;

	if (!plan->c->report.lines_max)
		return;
	deliver(&plan->c->report, args, &cut);
	for (size_t i = 0; i < plan->count; i++)
		deliver(&plan->slices[i].report, args, &cut);
	if (cut)
		args->finding(args->opaque,
			      "There are more findings like these, not shown");
}

static void plan_end(struct plan *plan)
{
	for (size_t i = 0; i < plan->count; i++)
		qcheck_report_release(&plan->slices[i].report);
	free(plan->slices);
}

int qcheck_run(struct qcow2 *q, const struct check_args *args, unsigned flags,
	       struct qcheck_tally *out, struct error *err)
{
	struct plan plan;
	struct qcheck c;
	int ret;

	ret = qcheck_begin(&c, q, args, flags, err);
	if (ret < 0)
		return ret;
	ret = count_tables(&c);
	if (!ret)
		ret = plan_make(&plan, &c);
	if (ret < 0)
		goto out;
	ret = plan_run(&plan);
	if (!ret) {
		plan_deliver(&plan, args);
		*out = c.tally;
		for (size_t i = 0; i < plan.count; i++)
			qcheck_tally_add(out, &plan.slices[i].tally);
	}
	plan_end(&plan);
out:
	qcheck_end(&c);
	return ret < 0 ? error_default(err, ret, "checking") : 0;
}

/* Both bits stand for damage that is no more. */
static int clear_damage_bits(struct qcow2 *q, struct error *err)
{
	const uint64_t bits = QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT;
	int ret;

	if (q->header.version < 3 || !(q->header.incompatible & bits))
		return 0;
	ret = qcow2_features_change(q, 0, bits);
	if (ret < 0)
		return error_default(err, ret, "clearing the dirty bit");
	q->dirty_bit = false;
	q->corrupt = false;
	return 0;
}

static void fill_result(struct check_result *out, const struct qcow2 *q,
			const struct qcheck_tally *found,
			const struct qcheck_tally *left)
{
	uint64_t size = align_down(q->header.size_bytes, 512);

	*out = (struct check_result){
		.check_errors = left->errors,
		.corruptions = left->corruptions,
		.leaks = left->leaks,
		.image_end_offset = max_u64(left->end_cluster, 1)
				    << q->cluster_bits,
		.has_counts = true,
		.total_clusters = div_round_up(size, q->cluster_size),
		.allocated_clusters = left->allocated,
		.fragmented_clusters = left->fragmented,
		.compressed_clusters = left->compressed,
	};
	if (found->corruptions > left->corruptions)
		out->corruptions_fixed = found->corruptions - left->corruptions;
	if (found->leaks > left->leaks)
		out->leaks_fixed = found->leaks - left->leaks;
}

/*
 * What is in memory, if anything, is what the file said before: it is read anew
 * whether the repair went well or not.
 */
static int repair_and_reload(struct qcow2 *q, const struct check_args *args,
			     const struct qcheck_tally *found,
			     struct error *err)
{
	int ret = qcheck_repair(q, args, found, err);
	int reload = 0;

	if (q->l1)
		reload = qcow2_reload_tables(q, ret ? NULL : err);
	return ret ? ret : reload;
}

static bool is_clean(const struct qcheck_tally *t)
{
	return !t->corruptions && !t->leaks && !t->errors;
}

static bool is_same(const struct qcheck_tally *a, const struct qcheck_tally *b)
{
	return a->corruptions == b->corruptions && a->leaks == b->leaks &&
	       a->errors == b->errors;
}

/*
 * Repairs until nothing changes any more: what was mended first may have been
 * in the way of the rest. A pointer that was lost stays lost, even if it leads
 * into a file that has grown since: in this repair nothing is freed any more.
 */
static int repair_all(struct qcow2 *q, const struct check_args *args,
		      struct qcheck_tally *left, struct error *err)
{
	bool lost = left->pointers_lost;
	struct qcheck_tally before;
	int ret;

	for (int round = 0; round < REPAIR_ROUNDS_MAX && !is_clean(left);
	     round++) {
		before = *left;
		before.pointers_lost = lost;
		ret = repair_and_reload(q, args, &before, err);
		if (!ret)
			ret = qcheck_run(q, args, 0, left, err);
		if (ret < 0)
			return ret;
		if (is_same(&before, left))
			break;
	}
	return 0;
}

static int check_and_repair(struct qcow2 *q, const struct check_args *args,
			    struct check_result *out, struct error *err)
{
	bool fix = args->fix_leaks || args->fix_errors;
	struct qcheck_tally found, left;
	int ret;

	ret = qcheck_run(q, args, QCHECK_REPORT, &found, err);
	if (ret < 0)
		return ret;
	left = found;
	if (fix) {
		ret = repair_all(q, args, &left, err);
		if (ret < 0)
			return ret;
	}
	if (fix && !left.corruptions && !left.errors) {
		ret = clear_damage_bits(q, err);
		if (ret < 0)
			return ret;
	}
	fill_result(out, q, &found, &left);
	return 0;
}

int qcow2_check(struct image *img, const struct check_args *args,
		struct check_result *out, struct error *err)
{
	struct qcow2 *q = img->state;
	int ret;

	/* The check reads the file, so all that is in memory goes there. */
	if (img->writable) {
		ret = qcow2_flush(img);
		if (ret < 0)
			return error_default(err, ret, "flushing");
	}
	return check_and_repair(q, args, out, err);
}

int qcow2_repair_dirty(struct qcow2 *q, struct error *err)
{
	const struct check_args args = {.fix_leaks = true, .fix_errors = true};
	struct check_result result;
	int ret;

	ret = check_and_repair(q, &args, &result, err);
	if (ret < 0) {
		error_prefix(err, "repairing counts after an unclean end: ");
		return ret;
	}
	if (!result.corruptions && !result.check_errors)
		return 0;
	return error_set(
		err, ERROR_CORRUPT,
		"the image was not closed properly, and a repair left %" PRIu64
		" errors; see what check says, or open it read-only",
		result.corruptions + result.check_errors);
}
