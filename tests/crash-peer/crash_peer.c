/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a power cut leaves of an image that a shipped program writes: `platter
 * io` and qemu-io side by side. Both get the same random commands; what they do
 * to the file is recorded below libc (tests/shim/record.c). From each record
 * crash states are made, as crash_qcow2.c makes them from the driver's own log,
 * and each is judged by our driver: does it open, does every sector hold what
 * it may, does a check find corruption?
 *
 *	crash_peer --platter PATH --recorder PATH [--peer NAME] [--short]
 *	           [--seed N] [--sequences N]
 *
 * A sequence is one image and the commands on it; seeds count up from the first
 * one, and each is run with every geometry: with a base, packed writes,
 *resizing or a snapshot too. A violation of ours fails, one of the peer's is
 *reported.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/bytes.h"
#include "block/image.h"
#include "block/storage/memory.h"
#include "tests/support/borrowed-storage.h"
#include "tests/support/crash-states.h"
#include "tests/support/peer-report.h"
#include "tests/support/peer-workload.h"
#include "tests/support/record-log.h"
#include "tests/support/recorded-program.h"

#define OPS	  100 /* commands of one sequence */
#define PATH_SIZE 512

struct settings {
	const char *recorder;
	uint64_t seed, sequences;
	char folder[PATH_SIZE];
};

/* ---- one sequence ---- */

struct sequence {
	const struct settings *settings;
	const struct peer_subject *subject;
	const struct peer_geometry *geometry;
	uint64_t seed, random;
	struct peer_tally *tally;
	struct flat_disk start;
	struct workload_op ops[OPS];
	char image[PATH_SIZE + 16], log[PATH_SIZE + 16], source[PATH_SIZE + 16];
	char base[PATH_SIZE + 16];

	/* replay */
	struct record_log record;
	struct disk_oracle oracle;
	size_t next_mark;
};

static void report(const struct sequence *q, const char *what, const char *why)
{
	fprintf(stderr, "%s: geometry %s seed %" PRIu64 ": %s: %s\n",
		q->subject->label, q->geometry->image.name, q->seed, what, why);
}

static void make_start(struct sequence *q)
{
	struct storage *s;

	if (storage_memory_new(&s, "start", 0) < 0 ||
	    workload_create(s, &q->geometry->image) < 0)
		abort();
	flat_disk_read(&q->start, s);
	storage_close(s);
}

/* ---- recording ---- */

static int write_file(const char *path, const void *data, size_t len)
{
	FILE *file = fopen(path, "we");
	int ret = file && fwrite(data, 1, len, file) == len ? 0 : -1;

	if (file && fclose(file) != 0)
		ret = -1;
	return ret;
}

static int write_source(const struct sequence *q, const struct workload_op *op)
{
	uint8_t *buf;
	int ret;

	if (op->kind != WORK_WRITE && op->kind != WORK_PACKED)
		return 0;
	buf = malloc(op->len);
	if (!buf)
		abort();
	disk_oracle_fill(buf, op->len, op->guest_off, op->tag);
	ret = write_file(q->source, buf, op->len);
	free(buf);
	return ret;
}

/* The image and what it is on. */
static int write_files(const struct sequence *q)
{
	const struct workload_geometry *g = &q->geometry->image;
	uint8_t *base;
	int ret;

	if (write_file(q->image, q->start.data, q->start.size) < 0)
		return -1;
	if (!g->base_bytes)
		return 0;
	base = workload_base_data(g);
	ret = write_file(q->base, base, g->base_bytes);
	free(base);
	return ret;
}

static int run_program(struct sequence *q, char *why, size_t why_len)
{
	char opts[PATH_SIZE + 128], line[PATH_SIZE + 128];
	const char *argv[] = {q->subject->path,
			      q->subject->is_ours ? "io" : "-d",
			      q->subject->is_ours ? "-d" : "unmap",
			      q->subject->is_ours ? "unmap" : "--aio=threads",
			      "--image-opts",
			      opts,
			      NULL};
	const struct recorded_program_args args = {argv, q->settings->recorder,
						   q->image, q->log};
	struct recorded_program p;
	int ret;

	snprintf(opts, sizeof(opts), "driver=qcow2,file.filename=%s,%s",
		 q->image, q->geometry->image.open);
	ret = recorded_program_start(&p, &args, why, why_len);
	for (size_t i = 0; !ret && i < OPS; i++) {
		if (write_source(q, &q->ops[i]) < 0) {
			snprintf(why, why_len, "writing its source: %s",
				 strerror(errno));
			ret = -1;
			break;
		}
		peer_command(&q->ops[i], q->source, line, sizeof(line));
		ret = recorded_program_do(&p, line, i, why, why_len);
	}
	if (ret < 0)
		recorded_program_kill(&p);
	else
		ret = recorded_program_quit(&p, OPS, why, why_len);
	return ret;
}

/* ---- judging one state ---- */

static void note(struct sequence *q, enum peer_violation kind, const char *why)
{
	/* The first one of each kind is shown. */
	if (!q->tally->violations[kind]++)
		report(q, peer_violation_names[kind], why);
}

static enum peer_violation sector_violation(const struct sequence *q,
					    const uint8_t *bytes,
					    uint64_t guest_off)
{
	if (disk_oracle_origin(bytes, guest_off) == ORACLE_OTHER)
		return PEER_FOREIGN;
	return q->oracle.sectors[guest_off / ORACLE_SECTOR].count == 1
		       ? PEER_LOST
		       : PEER_UNWRITTEN;
}

/* All bad sectors, since one state may show several kinds. */
static bool judge_sectors(struct sequence *q, const uint8_t *disk,
			  uint64_t size)
{
	uint64_t off = 0;
	char why[300], first[PEER_VIOLATIONS][300] = {""};
	bool good = true;
	int64_t sector;

	while (off < size && (sector = disk_oracle_judge(&q->oracle, disk + off,
							 off, size - off, why,
							 sizeof(why))) >= 0) {
		uint64_t at = (uint64_t)sector * ORACLE_SECTOR;
		enum peer_violation kind = sector_violation(q, disk + at, at);

		if (!first[kind][0])
			memcpy(first[kind], why, sizeof(why));
		off = at + ORACLE_SECTOR;
		good = false;
	}
	for (unsigned kind = 0; kind < PEER_VIOLATIONS; kind++) {
		if (first[kind][0])
			note(q, kind, first[kind]);
	}
	return good;
}

/* What cannot be read stays zeros, and does not hide the rest. */
static bool read_clusters(struct sequence *q, struct image *img, uint8_t *disk)
{
	bool good = true;

	for (uint64_t off = 0; off < img->size_bytes;
	     off += img->cluster_size) {
		uint64_t len =
			min_u64(img->cluster_size, img->size_bytes - off);
		int ret = image_read(img, disk + off, len, off);
		char why[100];

		if (ret == 0)
			continue;
		snprintf(why, sizeof(why), "%s at %" PRIu64, strerror(-ret),
			 off);
		if (good)
			note(q, PEER_UNREADABLE, why);
		good = false;
	}
	return good;
}

static bool judge_content(struct sequence *q, const struct flat_disk *state)
{
	struct image *img;
	uint8_t *disk;
	bool good;

	if (workload_open(&img, storage_borrow(state), &q->geometry->image,
			  false) < 0) {
		note(q, PEER_SHUT, "the driver refuses it");
		return false;
	}
	disk = calloc(1, img->size_bytes);
	if (!disk)
		abort();
	good = read_clusters(q, img, disk);
	good = judge_sectors(q, disk, img->size_bytes) && good;
	free(disk);
	image_close(img);
	return good;
}

static bool judge_snapshot(struct sequence *q, const struct flat_disk *state)
{
	char why[300] = "";

	if (!q->geometry->image.snapshot ||
	    workload_judge_snapshot(storage_borrow(state), &q->geometry->image,
				    why, sizeof(why)) == 0)
		return true;
	note(q, PEER_SNAPSHOT, why);
	return false;
}

static void judge(void *opaque, const struct flat_disk *state)
{
	struct sequence *q = opaque;
	char why[300] = "";
	bool good = judge_content(q, state);

	q->tally->states++;
	good = judge_snapshot(q, state) && good;
	if (workload_check(storage_borrow(state), NULL, why, sizeof(why)) < 0) {
		note(q, PEER_CORRUPT, why);
		good = false;
	}
	if (!good)
		q->tally->wrong_states++;
}

/* ---- making states ---- */

static void reach(void *opaque, size_t log_pos)
{
	struct sequence *q = opaque;

	for (; q->next_mark < q->record.mark_count; q->next_mark++) {
		const struct record_mark *m = &q->record.marks[q->next_mark];

		if (m->log_pos > log_pos)
			return;
		/* The last command is to quit, which flushes. */
		if (m->command == OPS) {
			if (m->done)
				disk_oracle_flushed(&q->oracle);
		} else if (!m->done) {
			workload_begun(&q->oracle, &q->ops[m->command]);
		} else if (q->ops[m->command].kind == WORK_FLUSH) {
			disk_oracle_flushed(&q->oracle);
		}
	}
}

static void count_changes(struct sequence *q)
{
	const struct storage_log *log = &q->record.changes;

	for (size_t i = 0; i < log->count; i++) {
		enum log_kind kind = log->entries[i].kind;

		q->tally->writes += kind == LOG_WRITE || kind == LOG_ZERO;
		q->tally->punches += kind == LOG_DISCARD;
		q->tally->syncs += kind == LOG_SYNC;
	}
}

static void replay(struct sequence *q)
{
	const struct crash_states crash = {
		.log = &q->record.changes,
		.start = &q->start,
		.random = &q->random,
		.reach = reach,
		.judge = judge,
		.opaque = q,
	};

	count_changes(q);
	workload_oracle_init(&q->oracle, &q->geometry->image);
	crash_states_run(&crash);
	disk_oracle_release(&q->oracle);
}

static void name_files(struct sequence *q)
{
	const char *folder = q->settings->folder;

	snprintf(q->image, sizeof(q->image), "%s/disk.qcow2", folder);
	snprintf(q->base, sizeof(q->base), "%s/base", folder);
	snprintf(q->log, sizeof(q->log), "%s/log", folder);
	snprintf(q->source, sizeof(q->source), "%s/source", folder);
}

static void remove_files(const struct sequence *q)
{
	unlink(q->image);
	unlink(q->base);
	unlink(q->log);
	unlink(q->source);
}

static int record(struct sequence *q, char *why, size_t why_len)
{
	if (write_files(q) < 0) {
		snprintf(why, why_len, "writing the image: %s",
			 strerror(errno));
		return -1;
	}
	if (run_program(q, why, why_len) < 0)
		return -1;
	return record_log_read(&q->record, q->log, &q->start, q->image, why,
			       why_len);
}

static void run_sequence(const struct settings *settings,
			 const struct peer_subject *subject,
			 const struct peer_geometry *geometry, uint64_t seed,
			 struct peer_tally *tally)
{
	struct sequence *q = calloc(1, sizeof(*q));
	char why[300] = "";

	if (!q)
		abort();
	*q = (struct sequence){.settings = settings,
			       .subject = subject,
			       .geometry = geometry,
			       .seed = seed,
			       .random = seed,
			       .tally = tally};
	name_files(q);
	make_start(q);
	peer_ops_make(q->ops, OPS, q->geometry, &q->start, &q->random);
	if (record(q, why, sizeof(why)) == 0) {
		tally->sequences++;
		replay(q);
	} else {
		tally->broken_runs++;
		report(q, "cannot be judged", why);
	}
	record_log_release(&q->record);
	flat_disk_release(&q->start);
	remove_files(q);
	free(q);
}

/* ---- both programs, each in a process of its own ---- */

static void run_subject(const struct settings *common,
			const struct peer_subject *subject, int out)
{
	const char *tmp = getenv("TMPDIR");
	struct settings own = *common;
	struct peer_tally tally = {0};

	snprintf(own.folder, sizeof(own.folder), "%s/platter-crash-XXXXXX",
		 tmp ? tmp : "/tmp");
	if (!mkdtemp(own.folder))
		abort();
	for (uint64_t i = 0; i < own.sequences; i++)
		run_sequence(&own, subject,
			     &peer_geometries[i % peer_geometry_count],
			     own.seed + i / peer_geometry_count, &tally);
	rmdir(own.folder);
	_exit(write(out, &tally, sizeof(tally)) == sizeof(tally) ? 0 : 1);
}

static pid_t start_subject(const struct settings *settings,
			   const struct peer_subject *subject, int *from)
{
	int ends[2];
	pid_t pid;

	if (pipe(ends) < 0)
		abort();
	pid = fork();
	if (pid < 0)
		abort();
	if (pid == 0) {
		close(ends[0]);
		run_subject(settings, subject, ends[1]);
	}
	close(ends[1]);
	*from = ends[0];
	return pid;
}

/* False if it died before it could tell. */
static bool finish_subject(pid_t pid, int from, struct peer_tally *tally)
{
	bool told = read(from, tally, sizeof(*tally)) == sizeof(*tally);
	int status;

	close(from);
	return waitpid(pid, &status, 0) == pid && status == 0 && told;
}

static int conclude(const struct settings *settings,
		    const struct peer_subject subjects[2],
		    const struct peer_tally t[2])
{
	printf("%" PRIu64 " sequences of %d commands from seed %" PRIu64 "\n",
	       settings->sequences, OPS, settings->seed);
	peer_report(subjects, t);
	return peer_tally_proves(&t[0]) && peer_tally_proves(&t[1]) &&
			       !t[0].wrong_states
		       ? 0
		       : 1;
}

static bool take_argument(struct settings *settings,
			  struct peer_subject subjects[2], const char *name,
			  const char *value)
{
	if (!strcmp(name, "--platter"))
		subjects[0].path = value;
	else if (!strcmp(name, "--peer"))
		subjects[1].path = value;
	else if (!strcmp(name, "--recorder"))
		settings->recorder = value;
	else if (!strcmp(name, "--seed"))
		settings->seed = strtoull(value, NULL, 0);
	else if (!strcmp(name, "--sequences"))
		settings->sequences = strtoull(value, NULL, 0);
	else
		return false;
	return true;
}

int main(int argc, char **argv)
{
	struct peer_subject subjects[2] = {{"platter", NULL, true},
					   {"qemu-io", "qemu-io", false}};
	struct settings settings = {.seed = 1, .sequences = 400};
	struct peer_tally tallies[2] = {{0}};
	pid_t pids[2];
	int from[2];
	bool told = true;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--short")) {
			settings.sequences = 2 * peer_geometry_count;
		} else if (i + 1 == argc ||
			   !take_argument(&settings, subjects, argv[i],
					  argv[i + 1])) {
			fprintf(stderr, "crash_peer: what is %s?\n", argv[i]);
			return 2;
		} else {
			i++;
		}
	}
	if (!subjects[0].path || !settings.recorder || !settings.seed) {
		fprintf(stderr, "crash_peer: --platter and --recorder are "
				"needed, and no seed is 0\n");
		return 2;
	}
	for (unsigned i = 0; i < 2; i++)
		pids[i] = start_subject(&settings, &subjects[i], &from[i]);
	for (unsigned i = 0; i < 2; i++)
		told = finish_subject(pids[i], from[i], &tallies[i]) && told;
	if (!told)
		fprintf(stderr, "crash_peer: a run ended without a result\n");
	return conclude(&settings, subjects, tallies) || !told;
}
