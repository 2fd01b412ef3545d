/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For tests of real files: a folder of its own for each test, which is also the
 * current one, and short ways to make and open files there.
 */
#ifndef PLATTER_TESTS_SUPPORT_FILE_FIXTURE_H
#define PLATTER_TESTS_SUPPORT_FILE_FIXTURE_H

#include <stddef.h>

#include "block/storage.h"

/*
 * Setup and teardown of a cmocka test. The folder is made in $TEST_FOLDER, else
 * /var/tmp: /tmp is often in memory and then has no O_DIRECT.
 */
int file_fixture_set_up(void **state);
int file_fixture_tear_down(void **state);

/* All of these fail the running test if they cannot do their work. */
void file_fixture_make(const char *path, size_t len, int byte);
struct storage *file_fixture_open(const char *path, unsigned flags);
struct storage *file_fixture_create(const char *path);
/* Opening gives this errno, and a message with these words in it. */
void file_fixture_refused(const char *path, unsigned flags, int code,
			  const char *words);

/* Every byte of a range of the store has this value. */
void file_fixture_expect(struct storage *s, uint64_t off, size_t len, int byte);

#endif
