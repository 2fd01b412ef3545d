/* SPDX-License-Identifier: BSD-3-Clause */
/* What images name is resolved as text, and opened only under a policy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "block/error.h"
#include "block/opener.h"
#include "block/storage/file.h"

static char folder[] = "/tmp/platter-opener-XXXXXX";

/* In the folder: allowed/{base,sub/deep,links}, outside, allowed-not/base. */
static int make_folder(void **state)
{
	(void)state;
	if (!mkdtemp(folder) || chdir(folder))
		return -1;
	if (mkdir("allowed", 0700) || mkdir("allowed/sub", 0700) ||
	    mkdir("allowed-not", 0700) || mkfifo("allowed/pipe", 0600))
		return -1;
	for (const char *const *name =
		     (const char *const[]){"allowed/base", "allowed/sub/deep",
					   "outside", "allowed-not/base", NULL};
	     *name; name++) {
		FILE *file = fopen(*name, "w");

		if (!file || fputs(*name, file) < 0 || fclose(file))
			return -1;
	}
	if (symlink("sub/deep", "allowed/inward") ||
	    symlink("../outside", "allowed/outward") ||
	    symlink("..", "allowed/sub/up") || symlink("nothing", "dangling") ||
	    symlink("allowed", "alias"))
		return -1;
	return 0;
}

static int remove_folder(void **state)
{
	char command[100];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return chdir("/") || system(command);
}

static void expect_resolved(const char *image, const char *name,
			    const char *path)
{
	struct error err = {0};
	char *out;

	if (opener_resolve(image, name, &out, &err))
		fail_msg("%s", err.message);
	assert_string_equal(out, path);
	free(out);
}

static void expect_refused(const char *name, const char *part)
{
	struct error err = {0};
	char *out = NULL;

	assert_int_equal(opener_resolve("a/b", name, &out, &err), -EINVAL);
	assert_null(out);
	if (!strstr(err.message, part))
		fail_msg("%s: no '%s' in it", err.message, part);
}

static void relative_names_start_at_the_image(void **state)
{
	(void)state;
	expect_resolved("top", "base", "base");
	expect_resolved("a/top", "base", "a/base");
	expect_resolved("/a/b/top", "../base", "/a/b/../base");
	expect_resolved("/top", "base", "/base");
	expect_resolved("a/top", "/base", "/base");
	expect_resolved("a/top", "./x:y", "a/./x:y");
	expect_resolved("a:b/top", "base", "a:b/base");
	expect_resolved("top", "%n\n", "%n\n");
}

static void exports_are_where_their_names_say(void **state)
{
	struct error err = {0};
	char *out;

	(void)state;
	expect_resolved("a/top", "nbd://host/x", "nbd://host/x");
	expect_resolved("a/top", "nbd:unix:s", "nbd:unix:s");
	expect_resolved("a/top", "nbd+vsock://2", "nbd+vsock://2");
	expect_resolved("nbd://host/x", "nbd://host/y", "nbd://host/y");
	expect_resolved("nbd://host/x", "/base", "/base");
	/* A server has no folder. */
	assert_int_equal(opener_resolve("nbd://host/x", "base", &out, &err),
			 -EINVAL);
	assert_non_null(strstr(err.message, "'base', which is relative"));
}

static void names_that_are_no_paths_are_refused(void **state)
{
	(void)state;
	expect_refused("", "no name");
	expect_refused("json:{\"driver\":\"nbd\"}", "'json:{");
	expect_refused("nbd+ssh://2", "'nbd+ssh://2'");
	expect_refused("fd:3", "'fd:3'");
	expect_refused("host:path", "'host:path'");
	expect_refused("file:base", "'file:base'");
	expect_refused(":", "':'");
	expect_refused("x:\x1b[2J\n", "'x:\\x1b[2J\\n'");
}

static int try_open(const struct opener *opener, const char *path,
		    struct error *err)
{
	struct storage *s = NULL;
	int ret;

	*err = (struct error){0};
	ret = opener_open(opener, path, false, &s, err);
	if (ret) {
		assert_null(s);
		assert_int_equal(err->code, -ret);
	} else {
		assert_false(s->writable);
		assert_string_equal(s->name, path);
	}
	storage_close(s);
	return ret;
}

static void nothing_is_opened_by_default(void **state)
{
	struct opener opener = {.policy = OPENER_NONE};
	struct error err;

	(void)state;
	assert_int_equal(try_open(&opener, "allowed/base", &err), -EACCES);
	assert_int_equal(try_open(&opener, "missing", &err), -EACCES);
	assert_int_equal(try_open(&opener, "a\x1b", &err), -EACCES);
	assert_non_null(strstr(err.message, "'a\\x1b'"));
}

/* "Connection refused" would mean that somebody was asked. */
static void servers_are_asked_by_one_policy_only(void **state)
{
	struct opener opener = {.policy = OPENER_NONE};
	struct error err;

	(void)state;
	assert_int_equal(try_open(&opener, "nbd:unix:s", &err), -EACCES);
	opener = (struct opener){
		.policy = OPENER_BENEATH,
		.directory = ".",
	};
	assert_int_equal(try_open(&opener, "nbd:unix:s", &err), -EACCES);
	assert_non_null(strstr(err.message, "outside"));
	opener = (struct opener){.policy = OPENER_ANY};
	assert_int_equal(try_open(&opener, "nbd:unix:s", &err), -ENOENT);
	assert_int_equal(try_open(&opener, "nbd:\x1b", &err), -EINVAL);
	assert_non_null(strstr(err.message, "'nbd:\\x1b'"));
}

static void any_file_is_opened_if_allowed(void **state)
{
	struct opener opener = {.policy = OPENER_ANY};
	struct error err;

	(void)state;
	assert_int_equal(try_open(&opener, "allowed/base", &err), 0);
	assert_int_equal(try_open(&opener, "allowed/outward", &err), 0);
	assert_int_equal(try_open(&opener, "missing", &err), -ENOENT);
	assert_int_equal(try_open(&opener, "dangling", &err), -ENOENT);
	assert_int_equal(try_open(&opener, "mis\nsing", &err), -ENOENT);
	assert_non_null(strstr(err.message, "'mis\\nsing'"));
}

static void beneath_a_folder_is_beneath_it(void **state)
{
	static const char *const inside[] = {
		"allowed/base",
		"allowed/sub/deep",
		"allowed/inward",
		"allowed/sub/../base",
		"allowed/sub/up/base",
		"alias/base",
		"allowed/../allowed/base",
	};
	static const char *const outside[] = {
		"outside",
		"allowed/outward",
		"allowed/../outside",
		"allowed/sub/up/../outside",
		"allowed-not/base",
		"/etc/passwd",
		"/proc/self/exe",
		"/dev/null",
		"allowed",
	};
	struct opener opener = {.policy = OPENER_BENEATH};
	struct error err;

	(void)state;
	for (int alias = 0; alias < 2; alias++) {
		opener.directory = alias ? "alias/." : "allowed";
		for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++)
			if (try_open(&opener, inside[i], &err))
				fail_msg("%s", err.message);
		for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]);
		     i++)
			if (try_open(&opener, outside[i], &err) != -EACCES)
				fail_msg("%s was not refused", outside[i]);
		assert_int_equal(try_open(&opener, "allowed/missing", &err),
				 -ENOENT);
	}
	opener.directory = "/";
	assert_int_equal(try_open(&opener, "outside", &err), 0);
	opener.directory = "missing";
	assert_int_equal(try_open(&opener, "outside", &err), -ENOENT);
	assert_non_null(strstr(err.message, "'missing'"));
}

static void an_open_descriptor_is_no_way_around(void **state)
{
	struct opener opener = {.policy = OPENER_BENEATH,
				.directory = "allowed"};
	FILE *file = fopen("outside", "r");
	struct error err;
	char path[64];

	(void)state;
	assert_non_null(file);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fileno(file));
	assert_int_equal(try_open(&opener, path, &err), -EACCES);
	fclose(file);
}

/* None of these may block, either. */
static void only_regular_files_are_opened(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	snprintf(address.sun_path, sizeof(address.sun_path), "allowed/socket");
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)),
			 0);
	for (enum opener_policy policy = OPENER_BENEATH; policy <= OPENER_ANY;
	     policy++) {
		struct opener opener = {.policy = policy,
					.directory = "allowed"};
		struct error err;

		assert_true(try_open(&opener, "allowed/pipe", &err) < 0);
		assert_true(try_open(&opener, "allowed/sub", &err) < 0);
		assert_true(try_open(&opener, "allowed/socket", &err) < 0);
		assert_true(try_open(&opener, "/dev/zero", &err) < 0);
	}
	close(fd);
}

static void a_base_in_use_by_a_writer_is_refused(void **state)
{
	struct opener opener = {.policy = OPENER_ANY};
	struct storage *writer;
	struct error err = {0};

	(void)state;
	assert_int_equal(storage_file_open(&writer, "allowed/base",
					   FILE_OPEN_WRITE, &err),
			 0);
	assert_true(try_open(&opener, "allowed/base", &err) < 0);
	opener.force_share = true;
	assert_int_equal(try_open(&opener, "allowed/base", &err), 0);
	opener.policy = OPENER_BENEATH;
	opener.directory = "allowed";
	assert_int_equal(try_open(&opener, "allowed/base", &err), 0);
	opener.force_share = false;
	assert_true(try_open(&opener, "allowed/base", &err) < 0);
	storage_close(writer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(relative_names_start_at_the_image),
		cmocka_unit_test(exports_are_where_their_names_say),
		cmocka_unit_test(servers_are_asked_by_one_policy_only),
		cmocka_unit_test(names_that_are_no_paths_are_refused),
		cmocka_unit_test(nothing_is_opened_by_default),
		cmocka_unit_test(any_file_is_opened_if_allowed),
		cmocka_unit_test(beneath_a_folder_is_beneath_it),
		cmocka_unit_test(an_open_descriptor_is_no_way_around),
		cmocka_unit_test(only_regular_files_are_opened),
		cmocka_unit_test(a_base_in_use_by_a_writer_is_refused),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
