/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The crash states of small logs, against what was worked out by hand. A state
 * is written as a text, a letter for each sector of each file: '.' is a sector
 * of zeros, and files are apart by '/'.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/crash-states.h"
#include "tests/support/undo-disk.h"
#include "tests/support/workload.h"

#define SECTOR	   512u
#define FILES	   2u
#define TEXT_SIZE  64u
#define STATES_MAX 4096u

struct states {
	struct flat_disk start[FILES];
	struct storage_log log;
	unsigned file_count;
	uint64_t random;
	unsigned sparse;

	char texts[STATES_MAX][TEXT_SIZE];
	size_t reached[STATES_MAX]; /* how far the log had come */
	size_t count, now;
};

static void add(struct states *s, struct log_entry e)
{
	struct storage_log *log = &s->log;

	log->entries = reallocarray(log->entries, log->count + 1,
				    sizeof(*log->entries));
	assert_non_null(log->entries);
	log->entries[log->count++] = e;
}

static void add_write(struct states *s, unsigned file, uint64_t sector,
		      uint64_t count, char letter)
{
	struct log_entry e = {
		.kind = LOG_WRITE,
		.file = file,
		.off = sector * SECTOR,
		.len = count * SECTOR,
		.data = malloc(count * SECTOR),
	};

	assert_non_null(e.data);
	memset(e.data, letter, e.len);
	add(s, e);
}

static void add_sync(struct states *s, unsigned file)
{
	add(s, (struct log_entry){.kind = LOG_SYNC, .file = file});
}

static char *tell(char *text, const struct flat_disk *disk)
{
	for (uint64_t at = 0; at < disk->size; at += SECTOR) {
		char letter = (char)disk->data[at];

		for (uint64_t i = 0; i < SECTOR; i++)
			assert_int_equal(disk->data[at + i], letter);
		*text++ = letter ? letter : '.';
	}
	return text;
}

static void judge(void *opaque, const struct flat_disk *files)
{
	struct states *s = opaque;
	char *text = s->texts[s->count];

	assert_in_range(s->count, 0, STATES_MAX - 1);
	for (unsigned f = 0; f < s->file_count; f++) {
		if (f)
			*text++ = '/';
		text = tell(text, &files[f]);
	}
	s->reached[s->count++] = s->now;
}

static void reach(void *opaque, size_t log_pos)
{
	((struct states *)opaque)->now = log_pos;
}

static void run(struct states *s)
{
	const struct crash_states crash = {
		.log = &s->log,
		.start = s->start,
		.file_count = s->file_count,
		.random = &s->random,
		.sparse = s->sparse,
		.reach = reach,
		.judge = judge,
		.opaque = s,
	};

	crash_states_run(&crash);
}

/* `sectors` of zeros in every file. */
static struct states *states_new(unsigned file_count, uint64_t sectors)
{
	const struct log_entry resize = {.kind = LOG_RESIZE,
					 .len = sectors * SECTOR};
	struct states *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->file_count = file_count;
	s->random = 7;
	for (unsigned f = 0; f < FILES; f++)
		flat_disk_apply(&s->start[f], &resize);
	return s;
}

static void states_free(struct states *s)
{
	for (unsigned f = 0; f < FILES; f++)
		flat_disk_release(&s->start[f]);
	storage_log_release(&s->log);
	free(s);
}

static unsigned times(const struct states *s, const char *text)
{
	unsigned n = 0;

	for (size_t i = 0; i < s->count; i++)
		n += !strcmp(s->texts[i], text);
	return n;
}

/* Each of them once, before the end of the log is reached, and no others. */
static void assert_states(const struct states *s, const char *const *texts)
{
	size_t found = 0, last = s->count - 1;

	for (; *texts; texts++, found++)
		assert_int_equal(times(s, *texts),
				 1 + !strcmp(*texts, s->texts[last]));
	/* And once more, what a crash after everything leaves. */
	assert_int_equal(found, last);
	assert_int_equal(s->reached[last], s->log.count);
}

/* ---- what arrives ---- */

static void test_few_changes_arrive_in_every_subset(void **state)
{
	const char *const expected[] = {"..", "A.", ".B", "AB", NULL};
	struct states *s = states_new(1, 2);

	(void)state;
	add_write(s, 0, 0, 1, 'A');
	add_write(s, 0, 1, 1, 'B');
	run(s);
	assert_states(s, expected);
	states_free(s);
}

static void test_a_sync_keeps_what_came_before_it(void **state)
{
	struct states *s = states_new(1, 2);

	(void)state;
	add_write(s, 0, 0, 1, 'A');
	add_sync(s, 0);
	add_write(s, 0, 1, 1, 'B');
	run(s);
	for (size_t i = 0; i < s->count; i++)
		assert_true(s->reached[i] < 2 || s->texts[i][0] == 'A');
	assert_int_equal(times(s, ".."), 1);
	assert_int_equal(times(s, ".B"), 0);
	states_free(s);
}

static void test_zeros_and_holes_are_changes_too(void **state)
{
	const char *const expected[] = {"AA", ".A", "A.", "..", NULL};
	struct states *s = states_new(1, 2);

	(void)state;
	memset(s->start[0].data, 'A', 2 * SECTOR);
	add(s, (struct log_entry){.kind = LOG_ZERO, .len = SECTOR});
	add(s, (struct log_entry){
		       .kind = LOG_DISCARD, .off = SECTOR, .len = SECTOR});
	run(s);
	assert_states(s, expected);
	states_free(s);
}

/* Prefixes, all but one, one alone: of twelve letters. */
static void test_many_changes_arrive_in_part(void **state)
{
	static const char all[] = "ABCDEFGHIJKL";
	const unsigned n = sizeof(all) - 1;
	struct states *s = states_new(1, n);

	(void)state;
	for (unsigned i = 0; i < n; i++)
		add_write(s, 0, i, 1, all[i]);
	run(s);
	for (unsigned i = 0; i < n; i++) {
		char prefix[] = "............", without[sizeof(all)];
		char alone[] = "............";

		memcpy(prefix, all, i);
		memcpy(without, all, sizeof(all));
		without[i] = '.';
		alone[i] = all[i];
		assert_int_equal(times(s, prefix), 1);
		assert_int_equal(times(s, without), 1);
		assert_int_equal(times(s, alone), 1);
	}
	/* And the random ones, most of which differ from all of these. */
	assert_in_range(s->count, 3 * n + 100, STATES_MAX);
	states_free(s);
}

static void test_a_write_is_torn_at_sectors(void **state)
{
	static const char *const halves[] = {"AA..", "..AA"};
	struct states *s = states_new(1, 4);
	unsigned three = 0;

	(void)state;
	add_write(s, 0, 0, 4, 'A');
	run(s);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(times(s, halves[i]), 1);
	for (size_t i = 0; i < s->count; i++) {
		unsigned there = 0;

		for (unsigned k = 0; k < 4; k++)
			there += s->texts[i][k] == 'A';
		three += there == 3;
	}
	assert_in_range(three, 1, 4);
	states_free(s);
}

/* A hole is never torn, so that only the order leads to the third one. */
static void test_overlapping_changes_arrive_in_both_orders(void **state)
{
	const char *const expected[] = {"AA", "BA", "B.", "..", NULL};
	struct states *s = states_new(1, 2);

	(void)state;
	memset(s->start[0].data, 'A', 2 * SECTOR);
	add_write(s, 0, 0, 1, 'B');
	add(s, (struct log_entry){.kind = LOG_DISCARD, .len = 2 * SECTOR});
	run(s);
	assert_states(s, expected);
	states_free(s);
}

static void test_the_length_lags_or_leads(void **state)
{
	struct states *s = states_new(1, 1);

	(void)state;
	add_write(s, 0, 1, 2, 'A');
	run(s);
	assert_int_equal(times(s, "."), 1);
	assert_int_equal(times(s, "..."), 1); /* length without bytes */
	assert_int_equal(times(s, ".A"), 1);  /* a torn write ends early */
	assert_int_equal(times(s, "..A"), 1);
	assert_int_equal(times(s, ".AA"), 2);
	states_free(s);
}

/* Bytes inside the old length arrive whatever becomes of the length. */
static void test_a_lagging_length_cuts_what_extends(void **state)
{
	struct states *s = states_new(1, 2);

	(void)state;
	add_write(s, 0, 0, 1, 'A');
	add_write(s, 0, 2, 1, 'B');
	run(s);
	assert_int_equal(times(s, "A."), 1);
	assert_int_equal(times(s, "A.."), 1);
	assert_int_equal(times(s, "..B"), 1);
	states_free(s);
}

static void test_a_shorter_file_loses_its_end(void **state)
{
	const char *const expected[] = {"AA", "A", "BA", "B", NULL};
	const struct log_entry cut = {.kind = LOG_RESIZE, .len = SECTOR};
	struct states *s = states_new(1, 2);

	(void)state;
	memset(s->start[0].data, 'A', 2 * SECTOR);
	add(s, cut);
	add_write(s, 0, 0, 1, 'B');
	run(s);
	assert_states(s, expected);
	states_free(s);
}

/* ---- several files ---- */

static void test_files_arrive_in_every_combination(void **state)
{
	const char *const expected[] = {"./.", "A/.", "./B", "A/B", NULL};
	struct states *s = states_new(2, 1);

	(void)state;
	add_write(s, 0, 0, 1, 'A');
	add_write(s, 1, 0, 1, 'B');
	run(s);
	assert_states(s, expected);
	states_free(s);
}

static void test_a_sync_is_for_its_own_file(void **state)
{
	struct states *s = states_new(2, 1);

	(void)state;
	add_write(s, 1, 0, 1, 'B');
	add_write(s, 0, 0, 1, 'A');
	add_sync(s, 0);
	add_write(s, 0, 0, 1, 'C');
	add_sync(s, 1);
	add_write(s, 1, 0, 1, 'D');
	run(s);
	/* Up to the first sync: any. */
	assert_int_equal(times(s, "./."), 1);
	assert_int_equal(times(s, "./B"), 1);
	/* Up to the second: A or C is there, B may be missing. */
	assert_int_equal(times(s, "A/."), 2);
	assert_int_equal(times(s, "C/."), 1);
	/* After it B or D is there, and C may still be missing. */
	assert_int_equal(times(s, "A/D"), 1);
	assert_int_equal(times(s, "C/D"), 2);
	states_free(s);
}

/* Ten changes of each: all of one file with nothing of the other. */
static void test_many_changes_of_files_are_combined(void **state)
{
	struct states *s = states_new(2, 10);

	(void)state;
	for (unsigned i = 0; i < 20; i++)
		add_write(s, i % 2, i / 2, 1, (char)('A' + i));
	run(s);
	assert_int_equal(times(s, "ACEGIKMOQS/.........."), 1);
	assert_int_equal(times(s, "........../BDFHJLNPRT"), 1);
	states_free(s);
}

/* ---- the whole ---- */

static void test_the_same_numbers_give_the_same_states(void **state)
{
	struct states *s[3];
	size_t n;

	(void)state;
	for (unsigned k = 0; k < 3; k++) {
		s[k] = states_new(1, 24);
		s[k]->random = k < 2 ? 5 : 6;
		for (unsigned i = 0; i < 20; i++)
			add_write(s[k], 0, i, 1 + i % 3, (char)('A' + i));
		run(s[k]);
	}
	n = s[0]->count * TEXT_SIZE;
	assert_int_equal(s[0]->count, s[1]->count);
	assert_memory_equal(s[0]->texts, s[1]->texts, n);
	assert_int_not_equal(memcmp(s[0]->texts, s[2]->texts, n), 0);
	for (unsigned k = 0; k < 3; k++)
		states_free(s[k]);
}

static void test_no_state_is_judged_twice(void **state)
{
	struct states *s = states_new(1, 12);

	(void)state;
	for (unsigned i = 0; i < 30; i++)
		add_write(s, 0, i % 10, 1 + i % 3, (char)('A' + i));
	run(s);
	for (size_t i = 0; i + 1 < s->count; i++)
		assert_int_equal(
			times(s, s->texts[i]),
			1 + !strcmp(s->texts[i], s->texts[s->count - 1]));
	states_free(s);
}

static void test_a_share_of_the_states_is_judged(void **state)
{
	struct states *all = states_new(1, 24), *some = states_new(1, 24);

	(void)state;
	some->sparse = 5;
	for (unsigned i = 0; i < 20; i++) {
		add_write(all, 0, i, 1, (char)('A' + i));
		add_write(some, 0, i, 1, (char)('A' + i));
	}
	run(all);
	run(some);
	assert_in_range(some->count, all->count / 8, all->count / 3);
	assert_string_equal(some->texts[some->count - 1],
			    "ABCDEFGHIJKLMNOPQRST....");
	states_free(all);
	states_free(some);
}

/* ---- the disk that is taken back ---- */

static struct log_entry random_change(uint64_t *random, const uint8_t *bytes)
{
	static const enum log_kind kinds[] = {LOG_WRITE, LOG_WRITE, LOG_ZERO,
					      LOG_DISCARD, LOG_RESIZE};
	/* Lengths and offsets of no multiple of anything. */
	struct log_entry e = {
		.kind = kinds[workload_random(random) % 5],
		.off = workload_random(random) % 30000,
		.len = 1 + workload_random(random) % 9000,
	};

	if (e.kind == LOG_RESIZE)
		e.len = workload_random(random) % 40000;
	if (e.kind == LOG_WRITE) {
		e.data = malloc(e.len);
		assert_non_null(e.data);
		memcpy(e.data, bytes + workload_random(random) % 1000, e.len);
	}
	return e;
}

static void assert_same(const struct undo_disk *u, const struct flat_disk *disk)
{
	struct undo_disk fresh;

	assert_int_equal(u->now.size, disk->size);
	if (disk->size)
		assert_memory_equal(u->now.data, disk->data, disk->size);
	undo_disk_init(&fresh, disk);
	assert_int_equal(undo_disk_hash(u), undo_disk_hash(&fresh));
	undo_disk_release(&fresh);
}

static void test_a_disk_is_taken_back_and_kept(void **state)
{
	struct flat_disk durable = {0}, now = {0};
	uint8_t bytes[10000];
	uint64_t random = 3;
	struct undo_disk u;

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)workload_random(&random);
	undo_disk_init(&u, &durable);
	for (unsigned i = 0; i < 20000; i++) {
		struct log_entry e = random_change(&random, bytes);
		uint64_t mask = workload_random(&random) % 2
					? UINT64_MAX
					: workload_random(&random);

		undo_disk_apply(&u, &e, mask);
		if (mask == UINT64_MAX)
			flat_disk_apply(&now, &e);
		else
			flat_disk_apply_torn(&now, &e, mask);
		free(e.data);
		if (i % 7 == 0) {
			undo_disk_reset(&u);
			flat_disk_copy(&now, &durable);
		} else if (i % 11 == 0) {
			undo_disk_keep(&u);
			flat_disk_copy(&durable, &now);
		}
		assert_same(&u, &now);
	}
	undo_disk_release(&u);
	flat_disk_release(&durable);
	flat_disk_release(&now);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_few_changes_arrive_in_every_subset),
		cmocka_unit_test(test_a_sync_keeps_what_came_before_it),
		cmocka_unit_test(test_zeros_and_holes_are_changes_too),
		cmocka_unit_test(test_many_changes_arrive_in_part),
		cmocka_unit_test(test_a_write_is_torn_at_sectors),
		cmocka_unit_test(
			test_overlapping_changes_arrive_in_both_orders),
		cmocka_unit_test(test_the_length_lags_or_leads),
		cmocka_unit_test(test_a_lagging_length_cuts_what_extends),
		cmocka_unit_test(test_a_shorter_file_loses_its_end),
		cmocka_unit_test(test_files_arrive_in_every_combination),
		cmocka_unit_test(test_a_sync_is_for_its_own_file),
		cmocka_unit_test(test_many_changes_of_files_are_combined),
		cmocka_unit_test(test_the_same_numbers_give_the_same_states),
		cmocka_unit_test(test_no_state_is_judged_twice),
		cmocka_unit_test(test_a_share_of_the_states_is_judged),
		cmocka_unit_test(test_a_disk_is_taken_back_and_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
