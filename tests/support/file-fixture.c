/* SPDX-License-Identifier: BSD-3-Clause */
/* A folder for each test, and files in it; see the header. */
#include "tests/support/file-fixture.h"

#include <dirent.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "block/error.h"
#include "block/storage/file.h"

static char folder[PATH_MAX];

int file_fixture_set_up(void **state)
{
	(void)state;
	/* Not in /tmp, which is often in memory and then has no O_DIRECT. */
	snprintf(folder, sizeof(folder), "%s/platter-test.XXXXXX",
		 getenv("TEST_FOLDER") ? getenv("TEST_FOLDER") : "/var/tmp");
	return mkdtemp(folder) && !chdir(folder) ? 0 : -1;
}

int file_fixture_tear_down(void **state)
{
	struct dirent *entry;
	DIR *dir = opendir(folder);

	(void)state;
	if (!dir)
		return -1;
	while ((entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
	return chdir("/") || rmdir(folder) ? -1 : 0;
}

struct storage *file_fixture_open(const char *path, unsigned flags)
{
	struct error err = {0};
	struct storage *s = NULL;

	if (storage_file_open(&s, path, flags, &err))
		fail_msg("%s", err.message);
	return s;
}

struct storage *file_fixture_create(const char *path)
{
	return file_fixture_open(path, FILE_OPEN_WRITE | FILE_OPEN_CREATE);
}

void file_fixture_make(const char *path, size_t len, int byte)
{
	uint8_t *buf = malloc(len + 1);
	FILE *file = fopen(path, "w");

	assert_true(buf && file);
	memset(buf, byte, len);
	assert_int_equal(fwrite(buf, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
	free(buf);
}

void file_fixture_expect(struct storage *s, uint64_t off, size_t len, int byte)
{
	uint8_t *buf = malloc(len);

	assert_non_null(buf);
	assert_int_equal(storage_read(s, buf, len, off), 0);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(buf[i], byte);
	free(buf);
}

void file_fixture_refused(const char *path, unsigned flags, int code,
			  const char *words)
{
	struct error err = {0};
	struct storage *s = NULL;

	assert_int_equal(storage_file_open(&s, path, flags, &err), -code);
	assert_int_equal(err.code, code);
	if (!strstr(err.message, words))
		fail_msg("\"%s\" does not say \"%s\"", err.message, words);
	assert_int_equal(storage_file_open(&s, path, flags, NULL), -code);
	assert_null(s);
}
