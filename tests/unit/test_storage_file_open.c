/* SPDX-License-Identifier: BSD-3-Clause */
/* What may be opened as a storage, and who keeps whom out. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "block/error.h"
#include "block/storage/file.h"
#include "block/storage/memory.h"
#include "tests/support/file-fixture.h"

/* --- opening ----------------------------------------------------------------
 */

static void missing_files_are_named(void **state)
{
	(void)state;
	file_fixture_refused(
		"no.img", 0, ENOENT,
		"Could not open 'no.img': No such file or directory");
	file_fixture_refused("no/no.img", FILE_OPEN_WRITE | FILE_OPEN_CREATE,
			     ENOENT,
			     "Could not create 'no/no.img': No such file");
}

/* A hang here is ended by the alarm, which fails the test. */
static void what_is_no_file_is_refused_at_once(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	snprintf(address.sun_path, sizeof(address.sun_path), "sock");
	assert_int_equal(
		bind(sock, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(mkfifo("fifo", 0600), 0);
	alarm(20);
	for (unsigned flags = 0; flags <= FILE_OPEN_WRITE; flags++) {
		file_fixture_refused("fifo", flags, EINVAL, "a pipe");
		file_fixture_refused("sock", flags, EINVAL, "a socket");
		file_fixture_refused("/", flags, EISDIR, "a directory");
		file_fixture_refused("/dev/null", flags, EINVAL,
				     "a character device");
	}
	alarm(0);
	close(sock);
}

/* The look at the path can be outrun, so the descriptor has the last word. */
static void descriptors_are_checked_as_well(void **state)
{
	struct error err = {0};
	struct storage *s = NULL;
	int fd;

	(void)state;
	assert_int_equal(mkfifo("fifo", 0600), 0);
	fd = open("fifo", O_RDWR | O_NONBLOCK);
	assert_int_equal(storage_file_from_fd(&s, fd, "fifo", 0, &err),
			 -EINVAL);
	assert_non_null(strstr(err.message, "a pipe"));
	assert_int_equal(fcntl(fd, F_GETFD), -1);

	file_fixture_make("a.img", 100, 1);
	fd = open("a.img", O_RDONLY);
	assert_int_equal(
		storage_file_from_fd(&s, fd, "a.img", FILE_OPEN_WRITE, &err),
		-EBADF);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

/* Linux appends with O_APPEND whatever the offset says. */
static void appending_descriptors_write_in_place(void **state)
{
	struct storage *s = NULL;
	int fd;

	(void)state;
	file_fixture_make("a.img", 100, 1);
	fd = open("a.img", O_RDWR | O_APPEND);
	assert_int_equal(
		storage_file_from_fd(&s, fd, "a.img", FILE_OPEN_WRITE, NULL),
		0);
	assert_int_equal(s->fd, fd);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(storage_write(s, "x", 1, 5), 0);
	file_fixture_expect(s, 5, 1, 'x');
	assert_int_equal(storage_size(s), 100);
	storage_close(s);
}

static void links_are_followed_only_if_allowed(void **state)
{
	(void)state;
	file_fixture_make("a.img", 100, 1);
	assert_int_equal(symlink("a.img", "link"), 0);
	file_fixture_refused("link", FILE_OPEN_NO_FOLLOW, ELOOP,
			     "symbolic link");
	storage_close(file_fixture_open("link", 0));
	storage_close(file_fixture_open("a.img", FILE_OPEN_NO_FOLLOW));
}

static void create_never_touches_what_exists(void **state)
{
	struct stat st;

	(void)state;
	file_fixture_make("a.img", 100, 1);
	file_fixture_refused("a.img", FILE_OPEN_WRITE | FILE_OPEN_CREATE,
			     EEXIST, "Could not create 'a.img': File exists");
	assert_int_equal(stat("a.img", &st), 0);
	assert_int_equal(st.st_size, 100);
}

static void the_same_file_is_known_by_any_name(void **state)
{
	struct storage *a;
	struct storage *b;
	struct storage *c;
	struct storage *m = NULL, *n = NULL;

	(void)state;
	file_fixture_make("a.img", 1, 1);
	file_fixture_make("b.img", 1, 1);
	assert_int_equal(link("a.img", "hard"), 0);
	a = file_fixture_open("a.img", 0);
	b = file_fixture_open("hard", 0);
	c = file_fixture_open("b.img", 0);
	assert_int_equal(storage_memory_new(&m, "a.img", 1), 0);
	assert_int_equal(storage_memory_new(&n, "a.img", 1), 0);
	assert_true(storage_same(a, b));
	assert_false(storage_same(a, c));
	assert_false(storage_same(a, m));
	assert_true(storage_same(m, m));
	assert_false(storage_same(m, n));
	storage_close(a);
	storage_close(b);
	storage_close(c);
	storage_close(m);
	storage_close(n);
}

/* --- locks ------------------------------------------------------------------
 */

static void storages_of_one_process_exclude_each_other(void **state)
{
	struct storage *s = file_fixture_create("a.img");
	struct storage *reader;

	(void)state;
	file_fixture_refused(
		"a.img", FILE_OPEN_WRITE, EAGAIN,
		"Failed to get \"write\" lock\nIs another process using "
		"the image [a.img]? (held by ");
	file_fixture_refused(
		"a.img", 0, EAGAIN,
		"Failed to get shared \"write\" lock\nIs another process "
		"using the image [a.img]?");
	storage_close(file_fixture_open("a.img", FILE_OPEN_NO_LOCK));
	file_fixture_refused("a.img", FILE_OPEN_NO_LOCK | FILE_OPEN_WRITE,
			     EINVAL, "without locks");
	storage_close(s);

	reader = file_fixture_open("a.img", 0);
	storage_close(file_fixture_open("a.img", 0));
	file_fixture_refused("a.img", FILE_OPEN_WRITE, EAGAIN,
			     "\"write\" lock");
	storage_close(reader);

	reader = file_fixture_open("a.img", FILE_OPEN_SHARE_WRITERS);
	storage_close(file_fixture_open("a.img", FILE_OPEN_WRITE));
	storage_close(reader);
}

/* A child that holds the file until it is killed. */
static pid_t hold_in_child(const char *path, unsigned flags)
{
	int ready[2];
	char byte = 0;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		struct storage *s;

		alarm(60);
		if (storage_file_open(&s, path, flags, NULL) == 0 &&
		    write(ready[1], "y", 1) == 1)
			pause();
		_exit(1);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static void end_child(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void other_processes_are_excluded_and_named(void **state)
{
	char words[64];
	struct stat st;
	pid_t pid;

	(void)state;
	file_fixture_make("a.img", 4096, 1);
	pid = hold_in_child("a.img", FILE_OPEN_WRITE);
	snprintf(words, sizeof(words), ", pid %ld)", (long)pid);
	file_fixture_refused("a.img", FILE_OPEN_WRITE, EAGAIN, words);
	file_fixture_refused("a.img", 0, EAGAIN, words);
	/* The refusal comes before the truncation. */
	file_fixture_refused("a.img", FILE_OPEN_WRITE | FILE_OPEN_TRUNCATE,
			     EAGAIN, words);
	assert_int_equal(stat("a.img", &st), 0);
	assert_int_equal(st.st_size, 4096);
	end_child(pid);

	pid = hold_in_child("a.img", 0);
	storage_close(file_fixture_open("a.img", 0));
	file_fixture_refused("a.img", FILE_OPEN_WRITE | FILE_OPEN_TRUNCATE,
			     EAGAIN, words + strlen(words) - 1);
	end_child(pid);

	struct storage *s = file_fixture_open(
		"a.img", FILE_OPEN_WRITE | FILE_OPEN_TRUNCATE);
	assert_int_equal(storage_size(s), 0);
	storage_close(s);
}

/* What QEMU 7.2 sets on an image that it writes, byte by byte. */
static void locks_lie_where_qemu_looks(void **state)
{
	static const off_t locked[] = {100, 101, 103, 201, 203};
	struct storage *s = file_fixture_create("a.img");
	int fd = open("a.img", O_RDWR);

	(void)state;
	assert_true(fd >= 0);
	for (off_t byte = 0, next = 0; byte < 300; byte++) {
		struct flock lock = {
			.l_type = F_WRLCK, .l_start = byte, .l_len = 1};
		bool want = next < 5 && byte == locked[next];

		assert_int_equal(fcntl(fd, F_OFD_GETLK, &lock), 0);
		assert_int_equal(lock.l_type, want ? F_RDLCK : F_UNLCK);
		next += want;
	}
	close(fd);
	storage_close(s);
}

#define FILE_TEST(f)                                            \
	cmocka_unit_test_setup_teardown(f, file_fixture_set_up, \
					file_fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		FILE_TEST(missing_files_are_named),
		FILE_TEST(what_is_no_file_is_refused_at_once),
		FILE_TEST(descriptors_are_checked_as_well),
		FILE_TEST(appending_descriptors_write_in_place),
		FILE_TEST(links_are_followed_only_if_allowed),
		FILE_TEST(create_never_touches_what_exists),
		FILE_TEST(the_same_file_is_known_by_any_name),
		FILE_TEST(storages_of_one_process_exclude_each_other),
		FILE_TEST(other_processes_are_excluded_and_named),
		FILE_TEST(locks_lie_where_qemu_looks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
