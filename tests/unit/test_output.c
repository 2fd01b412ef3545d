/* SPDX-License-Identifier: BSD-3-Clause */
/* A name never shows half a file, and what was there stays until the end. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "block/create.h"
#include "block/error.h"
#include "block/format.h"
#include "block/options.h"
#include "block/output.h"
#include "block/storage/file.h"
#include "formats/registry.h"

/* Each test starts in an empty folder of its own. */
static char folder[64];

static int make_folder(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/platter-output-XXXXXX");
	return !mkdtemp(folder) || chdir(folder);
}

static int remove_folder(void **state)
{
	char command[100];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return chdir("/") || system(command);
}

static void make_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void expect_file(const char *path, const char *text)
{
	char buf[100] = {0};
	FILE *file = fopen(path, "r");

	assert_non_null(file);
	assert_int_equal(fread(buf, 1, sizeof(buf) - 1, file), strlen(text));
	fclose(file);
	assert_string_equal(buf, text);
}

static struct stat stat_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st;
}

static int is_entry(const struct dirent *entry)
{
	return strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
}

static int count_entries(void)
{
	struct dirent **entries;
	int count = scandir(".", &entries, is_entry, NULL);

	assert_true(count >= 0);
	for (int i = 0; i < count; i++)
		free(entries[i]);
	free(entries);
	return count;
}

static void open_output(struct output *out, const char *path)
{
	struct error err = {0};

	if (output_open(out, path, false, &err))
		fail_msg("%s", err.message);
	assert_non_null(out->storage);
	assert_true(out->storage->writable);
	assert_int_equal(storage_size(out->storage), 0);
}

static void write_text(struct storage *s, const char *text)
{
	assert_int_equal(storage_write(s, text, strlen(text), 0), 0);
}

static void expect_empty(const struct output *out)
{
	assert_null(out->storage);
	assert_null(out->temp_path);
	assert_null(out->final_path);
	assert_null(out->old);
}

static void a_new_file_appears_on_commit(void **state)
{
	struct output out;

	(void)state;
	open_output(&out, "new");
	assert_string_equal(out.storage->name, "new");
	write_text(out.storage, "data");
	assert_int_equal(access("new", F_OK), -1);
	assert_int_equal(output_commit(&out, true, NULL), 0);
	expect_empty(&out);
	expect_file("new", "data");
	assert_int_equal(count_entries(), 1);
}

static void a_taken_storage_is_the_callers(void **state)
{
	struct output out;
	struct storage *s;

	(void)state;
	open_output(&out, "new");
	s = output_take(&out);
	write_text(s, "data");
	assert_int_equal(storage_sync(s), 0);
	storage_close(s);
	assert_int_equal(output_commit(&out, true, NULL), 0);
	expect_file("new", "data");
}

static void discard_leaves_nothing_behind(void **state)
{
	struct output out;
	struct storage *s;

	(void)state;
	open_output(&out, "new");
	output_discard(&out);
	expect_empty(&out);
	assert_int_equal(count_entries(), 0);
	open_output(&out, "new");
	s = output_take(&out);
	output_discard(&out);
	assert_int_equal(count_entries(), 0);
	storage_close(s);
	output_discard(&out);
}

static void the_old_file_stays_until_commit(void **state)
{
	struct output out;

	(void)state;
	make_file("old", "before");
	open_output(&out, "old");
	write_text(out.storage, "half");
	expect_file("old", "before");
	output_discard(&out);
	expect_file("old", "before");
	open_output(&out, "old");
	write_text(out.storage, "after");
	assert_int_equal(output_commit(&out, false, NULL), 0);
	expect_file("old", "after");
	assert_int_equal(count_entries(), 1);
}

static void mode_and_owner_carry_over(void **state)
{
	bool root = geteuid() == 0;
	struct output out;
	struct stat st;
	mode_t mask;

	(void)state;
	make_file("old", "before");
	assert_int_equal(chmod("old", 0660), 0);
	if (root)
		assert_int_equal(chown("old", 1234, 4321), 0);
	open_output(&out, "old");
	assert_int_equal(output_commit(&out, true, NULL), 0);
	st = stat_of("old");
	assert_int_equal(st.st_mode & 07777, 0660);
	assert_int_equal(st.st_uid, root ? 1234 : geteuid());
	assert_int_equal(st.st_gid, root ? 4321 : getegid());

	mask = umask(027);
	open_output(&out, "new");
	umask(mask);
	assert_int_equal(output_commit(&out, true, NULL), 0);
	assert_int_equal(stat_of("new").st_mode & 07777, 0640);
}

static void a_file_in_use_is_not_replaced(void **state)
{
	struct storage *user;
	struct error err = {0};
	struct output out;

	(void)state;
	make_file("used", "before");
	assert_int_equal(storage_file_open(&user, "used", 0, NULL), 0);
	assert_true(output_open(&out, "used", false, &err) < 0);
	assert_non_null(strstr(err.message, "lock"));
	expect_empty(&out);
	expect_file("used", "before");
	assert_int_equal(count_entries(), 1);
	storage_close(user);
}

static void the_old_file_is_locked_meanwhile(void **state)
{
	struct storage *user;
	struct output out;

	(void)state;
	make_file("old", "before");
	open_output(&out, "old");
	assert_true(storage_file_open(&user, "old", 0, NULL) < 0);
	assert_int_equal(output_commit(&out, true, NULL), 0);
	assert_int_equal(storage_file_open(&user, "old", 0, NULL), 0);
	storage_close(user);
}

/* Somebody else's file of the same name came meanwhile: it is kept. */
static void a_file_that_came_meanwhile_is_kept(void **state)
{
	struct error err = {0};
	struct output out;

	(void)state;
	open_output(&out, "new");
	make_file("new", "theirs");
	assert_int_equal(output_commit(&out, true, &err), -EEXIST);
	expect_empty(&out);
	expect_file("new", "theirs");
	assert_int_equal(count_entries(), 1);
}

static void links_are_followed_and_stay(void **state)
{
	static const char *const links[] = {"link", "second"};
	struct output out;
	struct stat st;

	(void)state;
	assert_int_equal(mkdir("real", 0700), 0);
	assert_int_equal(symlink("real/file", "link"), 0);
	assert_int_equal(symlink("link", "second"), 0);
	/* The first leads to nothing yet, the second to an old file. */
	for (size_t i = 0; i < 2; i++) {
		open_output(&out, links[i]);
		assert_string_equal(out.final_path, "real/file");
		write_text(out.storage, links[i]);
		assert_int_equal(output_commit(&out, true, NULL), 0);
		expect_file("real/file", links[i]);
		assert_int_equal(lstat(links[i], &st), 0);
		assert_true(S_ISLNK(st.st_mode));
	}
	assert_int_equal(symlink("loop", "loop"), 0);
	assert_int_equal(output_open(&out, "loop", false, NULL), -ELOOP);
}

/* Until the start a reservation can be given back without a trace. */
static void a_reservation_leaves_the_old_file_alone(void **state)
{
	struct output out;
	char path[64];
	int fd;

	(void)state;
	make_file("old", "before");
	fd = open("old", O_RDWR);
	assert_true(fd >= 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_int_equal(output_reserve(&out, path, false, NULL), 0);
	expect_file("old", "before");
	output_discard(&out);
	expect_file("old", "before");
	assert_int_equal(output_reserve(&out, path, false, NULL), 0);
	assert_int_equal(output_start(&out, NULL), 0);
	expect_file("old", "");
	assert_int_equal(output_commit(&out, true, NULL), 0);
	close(fd);
}

static void a_reserved_file_is_put_in_place(void **state)
{
	struct output out;

	(void)state;
	make_file("new", "before");
	assert_int_equal(output_reserve(&out, "new", false, NULL), 0);
	assert_true(out.has_folder);
	assert_int_equal(output_start(&out, NULL), 0);
	assert_int_equal(storage_write(out.storage, "after", 5, 0), 0);
	expect_file("new", "before");
	assert_int_equal(output_commit(&out, true, NULL), 0);
	expect_file("new", "after");
	assert_int_equal(count_entries(), 1);
}

static void an_open_descriptor_is_written_in_place(void **state)
{
	struct output out;
	char path[64];
	ino_t before;
	int fd;

	(void)state;
	make_file("old", "before");
	before = stat_of("old").st_ino;
	fd = open("old", O_RDWR | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	open_output(&out, path);
	assert_null(out.temp_path);
	write_text(out.storage, "after");
	assert_int_equal(output_commit(&out, true, NULL), 0);
	expect_file("old", "after");
	assert_int_equal(stat_of("old").st_ino, before);
	close(fd);
}

/* Run as root, the folder has to belong to another than who writes. */
static void in_a_closed_folder_the_file_is_written_in_place(void **state)
{
	bool root = geteuid() == 0;
	struct error err = {0};
	struct output out;
	ino_t before;

	(void)state;
	make_file("old", "before");
	before = stat_of("old").st_ino;
	assert_int_equal(chmod("old", 0666), 0);
	assert_int_equal(chmod(".", 0555), 0);
	if (root)
		assert_int_equal(seteuid(65534), 0);
	open_output(&out, "old");
	assert_null(out.temp_path);
	write_text(out.storage, "after");
	assert_int_equal(output_commit(&out, true, NULL), 0);
	assert_int_equal(output_open(&out, "new", false, &err), -EACCES);
	assert_non_null(strstr(err.message, "Could not create 'new'"));
	if (root)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(chmod(".", 0700), 0);
	expect_file("old", "after");
	assert_int_equal(stat_of("old").st_ino, before);
}

static void what_is_no_file_is_refused(void **state)
{
	static const char *const paths[] = {
		"",	".",	"folder", "folder/",   "missing/new",
		"new/", "pipe", "old/x",  "/dev/zero",
	};
	struct output out;

	(void)state;
	assert_int_equal(mkdir("folder", 0700), 0);
	assert_int_equal(mkfifo("pipe", 0600), 0);
	make_file("old", "before");
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		struct error err = {0};
		int ret = output_open(&out, paths[i], false, &err);

		if (ret >= 0)
			fail_msg("'%s' was accepted", paths[i]);
		assert_int_equal(err.code, -ret);
		expect_empty(&out);
	}
	assert_int_equal(count_entries(), 3);
}

static void long_names_leave_room_for_the_temporary_one(void **state)
{
	static const char *const units[] = {"a", "\xc3\xa4", "\xe2\x82\xac"};
	struct output out;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		char name[256] = "";

		while (strlen(name) + strlen(units[i]) <= 255)
			strncat(name, units[i],
				sizeof(name) - strlen(name) - 1);
		open_output(&out, name);
		write_text(out.storage, "data");
		assert_int_equal(output_commit(&out, true, NULL), 0);
		expect_file(name, "data");
	}
	assert_int_equal(count_entries(), 3);
}

static const struct format_driver no_create = {.name = "peculiar"};

static void creating_checks_before_it_formats(void **state)
{
	const struct format_driver *raw = format_find("raw");
	struct options opts = {0};
	struct error err = {0};
	struct output out;

	(void)state;
	open_output(&out, "new");
	assert_true(create_format(&out, &no_create, &opts, 512, NULL, &err) <
		    0);
	assert_string_equal(err.message, "Format driver 'peculiar' does not "
					 "support image creation");
	assert_int_equal(
		create_format(&out, raw, &opts, UINT64_MAX, NULL, &err),
		-EFBIG);
	assert_int_equal(create_format(&out, raw, &opts, INT64_MAX, NULL, &err),
			 -EFBIG);
	assert_int_equal(options_set(&opts, "foo", "on"), 0);
	assert_int_equal(create_format(&out, raw, &opts, 512, NULL, &err),
			 -EINVAL);
	assert_string_equal(err.message, "Invalid parameter 'foo'");
	options_release(&opts);
	assert_int_equal(storage_size(out.storage), 0);
	assert_int_equal(create_format(&out, raw, &opts, 1000, NULL, &err), 0);
	assert_int_equal(storage_size(out.storage), 1024);
	assert_int_equal(output_commit(&out, true, NULL), 0);
	assert_int_equal(stat_of("new").st_size, 1024);
}

#define TEST(function) \
	cmocka_unit_test_setup_teardown(function, make_folder, remove_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_new_file_appears_on_commit),
		TEST(a_taken_storage_is_the_callers),
		TEST(discard_leaves_nothing_behind),
		TEST(the_old_file_stays_until_commit),
		TEST(mode_and_owner_carry_over),
		TEST(a_file_in_use_is_not_replaced),
		TEST(the_old_file_is_locked_meanwhile),
		TEST(a_file_that_came_meanwhile_is_kept),
		TEST(links_are_followed_and_stay),
		TEST(a_reservation_leaves_the_old_file_alone),
		TEST(a_reserved_file_is_put_in_place),
		TEST(an_open_descriptor_is_written_in_place),
		TEST(in_a_closed_folder_the_file_is_written_in_place),
		TEST(what_is_no_file_is_refused),
		TEST(long_names_leave_room_for_the_temporary_one),
		TEST(creating_checks_before_it_formats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
