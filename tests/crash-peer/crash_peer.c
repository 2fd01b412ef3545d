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
 * one, and each is run with every geometry. A violation of ours fails, one of
 * the peer's is reported.
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
#include "tests/support/record-log.h"
#include "tests/support/recorded-program.h"
#include "tests/support/workload.h"

#define OPS	     100 /* commands of one sequence */
#define PATH_SIZE    512
#define TINY_CACHES  "l2-cache-size=4096,refcount-cache-size=4096"
#define LIKE_DEFAULT "l2-cache-size=1048576"

/* No resize among the commands, so these disks keep their size. */
static const struct workload_geometry geometries[] = {
	{.name = "512",
	 .create = "cluster_size=512",
	 .open = TINY_CACHES,
	 .size_bytes = 64 * 1024,
	 .size_max = 64 * 1024},
	{.name = "4k",
	 .create = "cluster_size=4096",
	 .open = TINY_CACHES,
	 .size_bytes = 256 * 1024,
	 .size_max = 256 * 1024},
	{.name = "64k",
	 .create = "cluster_size=65536",
	 .open = LIKE_DEFAULT,
	 .size_bytes = 1024 * 1024,
	 .size_max = 1024 * 1024},
	{.name = "512-v2",
	 .create = "cluster_size=512,compat=0.10",
	 .open = TINY_CACHES,
	 .size_bytes = 64 * 1024,
	 .size_max = 64 * 1024},
};
#define GEOMETRIES (sizeof(geometries) / sizeof(geometries[0]))

/* LOST: nobody was about to overwrite it; UNWRITTEN: somebody was. */
enum violation { LOST, UNWRITTEN, FOREIGN, CORRUPT, SHUT, VIOLATIONS };

static const char *const violation_names[VIOLATIONS] = {
	"flushed data lost", "neither old nor new", "another address's data",
	"metadata corrupt",  "does not open",
};

/* All that is known of one program's runs; passes through a pipe. */
struct tally {
	uint64_t sequences, writes, punches, syncs, states, wrong_states;
	uint64_t violations[VIOLATIONS]; /* states that show it */
	uint64_t broken_runs;		 /* that could not be judged */
};

struct subject {
	const char *label; /* for messages */
	const char *path;
	bool is_ours;
};

struct settings {
	const char *recorder;
	uint64_t seed, sequences;
	char folder[PATH_SIZE];
};

/* ---- one sequence ---- */

struct sequence {
	const struct settings *settings;
	const struct subject *subject;
	const struct workload_geometry *geometry;
	uint64_t seed, random;
	struct tally *tally;
	struct flat_disk start;
	struct workload_op ops[OPS];
	char image[PATH_SIZE + 16], log[PATH_SIZE + 16], source[PATH_SIZE + 16];

	/* replay */
	struct record_log record;
	struct disk_oracle oracle;
	size_t next_mark;
};

static void report(const struct sequence *q, const char *what, const char *why)
{
	fprintf(stderr, "%s: geometry %s seed %" PRIu64 ": %s: %s\n",
		q->subject->label, q->geometry->name, q->seed, what, why);
}

static void make_start(struct sequence *q)
{
	struct storage *s;

	if (storage_memory_new(&s, "start", 0) < 0 ||
	    workload_create(s, q->geometry) < 0)
		abort();
	flat_disk_read(&q->start, s);
	storage_close(s);
}

/* The same ones for every program: they depend on the seed alone. */
static void make_ops(struct sequence *q)
{
	struct disk_oracle oracle;
	struct storage *s;
	struct image *img;

	if (storage_memory_from(&s, "start", q->start.data, q->start.size) <
		    0 ||
	    workload_open(&img, s, q->geometry, false) < 0)
		abort();
	workload_oracle_init(&oracle, q->geometry);
	for (size_t i = 0; i < OPS; i++) {
		struct workload_op *op = &q->ops[i];

		do {
			workload_next(op, &q->random, &oracle, img,
				      q->geometry);
		} while (op->kind == WORK_RESIZE);
		/* What QEMU 7.2 packs late it may lose: another test's. */
		if (op->kind == WORK_PACKED)
			op->kind = WORK_WRITE;
		workload_begun(&oracle, op);
		if (op->kind == WORK_FLUSH)
			disk_oracle_flushed(&oracle);
	}
	disk_oracle_release(&oracle);
	image_close(img);
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
	uint8_t *buf = malloc(op->len);
	int ret;

	if (!buf)
		abort();
	disk_oracle_fill(buf, op->len, op->guest_off, op->tag);
	ret = write_file(q->source, buf, op->len);
	free(buf);
	return ret;
}

/* Also what the command needs. */
static int make_command(const struct sequence *q, const struct workload_op *op,
			char *line, size_t size)
{
	const char *words = "";

	switch (op->kind) {
	case WORK_FLUSH:
		snprintf(line, size, "flush");
		return 0;
	case WORK_WRITE:
		snprintf(line, size, "write -q -s %s %" PRIu64 " %" PRIu64,
			 q->source, op->guest_off, op->len);
		return write_source(q, op);
	case WORK_ZERO:
		words = "write -q -z";
		break;
	case WORK_UNMAP:
		words = "write -q -z -u";
		break;
	case WORK_DISCARD:
		words = "discard -q";
		break;
	case WORK_PACKED:
	case WORK_RESIZE:
		abort();
	}
	snprintf(line, size, "%s %" PRIu64 " %" PRIu64, words, op->guest_off,
		 op->len);
	return 0;
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
		 q->image, q->geometry->open);
	ret = recorded_program_start(&p, &args, why, why_len);
	for (size_t i = 0; !ret && i < OPS; i++) {
		if (make_command(q, &q->ops[i], line, sizeof(line)) < 0) {
			snprintf(why, why_len, "writing its source: %s",
				 strerror(errno));
			ret = -1;
			break;
		}
		ret = recorded_program_do(&p, line, i, why, why_len);
	}
	if (ret < 0)
		recorded_program_kill(&p);
	else
		ret = recorded_program_quit(&p, OPS, why, why_len);
	return ret;
}

/* ---- judging one state ---- */

static void note(struct sequence *q, enum violation kind, const char *why)
{
	/* The first one of each kind is shown. */
	if (!q->tally->violations[kind]++)
		report(q, violation_names[kind], why);
}

static enum violation sector_violation(const struct sequence *q,
				       const uint8_t *bytes, uint64_t guest_off)
{
	if (disk_oracle_origin(bytes, guest_off) == ORACLE_OTHER)
		return FOREIGN;
	return q->oracle.sectors[guest_off / ORACLE_SECTOR].count == 1
		       ? LOST
		       : UNWRITTEN;
}

/* All bad sectors, since one state may show several kinds. */
static bool judge_sectors(struct sequence *q, const uint8_t *disk)
{
	uint64_t size = q->geometry->size_bytes, off = 0;
	char why[300], first[VIOLATIONS][300] = {""};
	bool good = true;
	int64_t sector;

	while (off < size && (sector = disk_oracle_judge(&q->oracle, disk + off,
							 off, size - off, why,
							 sizeof(why))) >= 0) {
		uint64_t at = (uint64_t)sector * ORACLE_SECTOR;
		enum violation kind = sector_violation(q, disk + at, at);

		if (!first[kind][0])
			memcpy(first[kind], why, sizeof(why));
		off = at + ORACLE_SECTOR;
		good = false;
	}
	for (unsigned kind = 0; kind < VIOLATIONS; kind++) {
		if (first[kind][0])
			note(q, kind, first[kind]);
	}
	return good;
}

static bool judge_content(struct sequence *q, const struct flat_disk *state)
{
	struct image *img;
	uint8_t *disk;
	bool good = true;
	int ret;

	if (workload_open(&img, storage_borrow(state), q->geometry, false) <
	    0) {
		note(q, SHUT, "the driver refuses it");
		return false;
	}
	disk = malloc(q->geometry->size_bytes);
	if (!disk)
		abort();
	ret = image_read(img, disk, q->geometry->size_bytes, 0);
	if (ret < 0) {
		note(q, CORRUPT, strerror(-ret));
		good = false;
	} else {
		good = judge_sectors(q, disk);
	}
	free(disk);
	image_close(img);
	return good;
}

static void judge(void *opaque, const struct flat_disk *state)
{
	struct sequence *q = opaque;
	char why[300] = "";
	bool good = judge_content(q, state);

	q->tally->states++;
	if (workload_check(storage_borrow(state), NULL, why, sizeof(why)) < 0) {
		note(q, CORRUPT, why);
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
	workload_oracle_init(&q->oracle, q->geometry);
	crash_states_run(&crash);
	disk_oracle_release(&q->oracle);
}

static void run_sequence(const struct settings *settings,
			 const struct subject *subject,
			 const struct workload_geometry *geometry,
			 uint64_t seed, struct tally *tally)
{
	struct sequence *q = calloc(1, sizeof(*q));
	char why[300] = "";
	int ret;

	if (!q)
		abort();
	*q = (struct sequence){.settings = settings,
			       .subject = subject,
			       .geometry = geometry,
			       .seed = seed,
			       .random = seed,
			       .tally = tally};
	snprintf(q->image, sizeof(q->image), "%s/disk.qcow2", settings->folder);
	snprintf(q->log, sizeof(q->log), "%s/log", settings->folder);
	snprintf(q->source, sizeof(q->source), "%s/source", settings->folder);
	make_start(q);
	make_ops(q);
	ret = write_file(q->image, q->start.data, q->start.size);
	if (ret < 0)
		snprintf(why, sizeof(why), "writing the image: %s",
			 strerror(errno));
	else
		ret = run_program(q, why, sizeof(why));
	if (!ret)
		ret = record_log_read(&q->record, q->log, &q->start, q->image,
				      why, sizeof(why));
	if (!ret) {
		tally->sequences++;
		replay(q);
	} else {
		tally->broken_runs++;
		report(q, "cannot be judged", why);
	}
	record_log_release(&q->record);
	flat_disk_release(&q->start);
	unlink(q->image);
	unlink(q->log);
	unlink(q->source);
	free(q);
}

/* ---- both programs, each in a process of its own ---- */

static void run_subject(const struct settings *common,
			const struct subject *subject, int out)
{
	const char *tmp = getenv("TMPDIR");
	struct settings own = *common;
	struct tally tally = {0};

	snprintf(own.folder, sizeof(own.folder), "%s/platter-crash-XXXXXX",
		 tmp ? tmp : "/tmp");
	if (!mkdtemp(own.folder))
		abort();
	for (uint64_t i = 0; i < own.sequences; i++)
		run_sequence(&own, subject, &geometries[i % GEOMETRIES],
			     own.seed + i / GEOMETRIES, &tally);
	rmdir(own.folder);
	_exit(write(out, &tally, sizeof(tally)) == sizeof(tally) ? 0 : 1);
}

static pid_t start_subject(const struct settings *settings,
			   const struct subject *subject, int *from)
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
static bool finish_subject(pid_t pid, int from, struct tally *tally)
{
	bool told = read(from, tally, sizeof(*tally)) == sizeof(*tally);
	int status;

	close(from);
	return waitpid(pid, &status, 0) == pid && status == 0 && told;
}

/* ---- the report ---- */

static void print_version(const struct subject *subject, char *out, size_t size)
{
	char command[PATH_SIZE + 32], line[128] = "";
	FILE *from;
	size_t at;

	snprintf(command, sizeof(command), "'%s' --version", subject->path);
	from = popen(command, "re");
	if (!from || !fgets(line, sizeof(line), from))
		snprintf(line, sizeof(line), "unknown");
	if (from)
		pclose(from);
	at = strcspn(line, "0123456789");
	snprintf(out, size, "%s %.*s", subject->label,
		 (int)strspn(line + at, "0123456789."), line + at);
}

static void print_row(const char *what, uint64_t ours, uint64_t peers)
{
	printf("%-24s %20" PRIu64 " %20" PRIu64 "\n", what, ours, peers);
}

static void print_table(const char *const versions[2], const struct tally t[2])
{
	printf("%-24s %20s %20s\n", "", versions[0], versions[1]);
	print_row("sequences", t[0].sequences, t[1].sequences);
	print_row("writes recorded", t[0].writes, t[1].writes);
	print_row("holes recorded", t[0].punches, t[1].punches);
	print_row("syncs recorded", t[0].syncs, t[1].syncs);
	print_row("crash states", t[0].states, t[1].states);
	print_row("states with a violation", t[0].wrong_states,
		  t[1].wrong_states);
	for (unsigned i = 0; i < VIOLATIONS; i++)
		print_row(violation_names[i], t[0].violations[i],
			  t[1].violations[i]);
}

/* A run that proves nothing must not pass for a good one. */
static bool is_proof(const struct tally *t)
{
	return !t->broken_runs && t->sequences && t->states && t->writes &&
	       t->syncs;
}

static int conclude(const struct settings *settings,
		    const struct subject subjects[2], const struct tally t[2])
{
	char names[2][64];
	const char *const versions[2] = {names[0], names[1]};

	for (unsigned i = 0; i < 2; i++)
		print_version(&subjects[i], names[i], sizeof(names[i]));
	printf("%" PRIu64 " sequences of %d commands from seed %" PRIu64 "\n",
	       settings->sequences, OPS, settings->seed);
	print_table(versions, t);
	for (int i = 1; i >= 0; i--)
		printf("%s: %" PRIu64 " crash states, %" PRIu64
		       " with a violation\n",
		       versions[i], t[i].states, t[i].wrong_states);
	return is_proof(&t[0]) && is_proof(&t[1]) && !t[0].wrong_states ? 0 : 1;
}

static bool take_argument(struct settings *settings, struct subject subjects[2],
			  const char *name, const char *value)
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
	struct subject subjects[2] = {{"platter", NULL, true},
				      {"qemu-io", "qemu-io", false}};
	struct settings settings = {.seed = 1, .sequences = 400};
	struct tally tallies[2] = {{0}};
	pid_t pids[2];
	int from[2];
	bool told = true;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--short")) {
			settings.sequences = 16;
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
