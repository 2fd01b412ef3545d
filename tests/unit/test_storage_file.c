/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Storage in real files. The system calls that can fail in interesting ways go
 * through functions of this file, which pass them on unless told otherwise.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/loop.h>
#include <linux/magic.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cmocka.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/storage/file.h"
#include "block/storage/memory.h"
#include "tests/support/file-fixture.h"
#include "tests/support/storage-model.h"

#define MIB (1u << 20)

/* --- system calls that can be told to fail -------------------------------- */

static struct {
	int fallocate_error;
	unsigned fallocate_count;
	int sync_error;
	unsigned sync_count;
	bool short_transfers; /* and an EINTR before each */
	bool interrupt_next;
	int64_t bytes_until_enospc; /* < 0: no limit */
	int seek_data_error;
	int64_t seek_data_answer; /* < 0: the true one */
	int64_t seek_hole_answer;
	unsigned sync_range_flags;
} shim;

static void shim_reset(void)
{
	memset(&shim, 0, sizeof(shim));
	shim.bytes_until_enospc = -1;
	shim.seek_data_answer = -1;
	shim.seek_hole_answer = -1;
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
	shim.fallocate_count++;
	if (shim.fallocate_error) {
		errno = shim.fallocate_error;
		return -1;
	}
	return syscall(SYS_fallocate, fd, mode, off, len);
}

int fdatasync(int fd)
{
	shim.sync_count++;
	if (shim.sync_error) {
		errno = shim.sync_error;
		return -1;
	}
	return syscall(SYS_fdatasync, fd);
}

int sync_file_range(int fd, off_t off, off_t len, unsigned flags)
{
	shim.sync_range_flags |= flags;
	return syscall(SYS_sync_file_range, fd, off, len, flags);
}

/* Linux splits the offset of these two for the sake of 32-bit machines. */
static ssize_t vector_call(long number, int fd, const struct iovec *iov,
			   int count, off_t off)
{
	struct iovec part = *iov;

	if (count > IOV_MAX) {
		errno = EINVAL;
		return -1;
	}
	if (!shim.short_transfers)
		return syscall(number, fd, iov, count, off, 0);
	shim.interrupt_next = !shim.interrupt_next;
	if (shim.interrupt_next) {
		errno = EINTR;
		return -1;
	}
	part.iov_len = min_u64(part.iov_len, 700);
	return syscall(number, fd, &part, 1, off, 0);
}

ssize_t preadv(int fd, const struct iovec *iov, int count, off_t off)
{
	return vector_call(SYS_preadv, fd, iov, count, off);
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t off)
{
	struct iovec part = *iov;
	ssize_t done;

	if (shim.bytes_until_enospc < 0)
		return vector_call(SYS_pwritev, fd, iov, count, off);
	if (!shim.bytes_until_enospc) {
		errno = ENOSPC;
		return -1;
	}
	part.iov_len = min_u64(part.iov_len, shim.bytes_until_enospc);
	done = vector_call(SYS_pwritev, fd, &part, 1, off);
	if (done > 0)
		shim.bytes_until_enospc -= done;
	return done;
}

off_t lseek(int fd, off_t off, int whence)
{
	if (whence == SEEK_DATA && shim.seek_data_error) {
		errno = shim.seek_data_error;
		return -1;
	}
	if (whence == SEEK_DATA && shim.seek_data_answer >= 0)
		return shim.seek_data_answer;
	if (whence == SEEK_HOLE && shim.seek_hole_answer >= 0)
		return shim.seek_hole_answer;
	return syscall(SYS_lseek, fd, off, whence);
}

static int set_up(void **state)
{
	shim_reset();
	return file_fixture_set_up(state);
}

static void write_byte_run(struct storage *s, uint64_t off, size_t len,
			   int byte)
{
	uint8_t *buf = malloc(len);

	assert_non_null(buf);
	memset(buf, byte, len);
	assert_int_equal(storage_write(s, buf, len, off), 0);
	free(buf);
}

/* --- moving bytes -----------------------------------------------------------
 */

static void run_model(struct storage *s, uint64_t seed)
{
	storage_model_run(s, (struct storage_model_params){
				     .seed = seed,
				     .step_count = 200,
				     .max_size = 300000,
				     .keep_size = s->is_device,
			     });
}

static void random_operations_match_a_byte_array(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 6; seed++) {
		struct storage *s;
		struct stat st;

		file_fixture_make("a.img", seed * 1111, 7);
		/* The ways in which zeroing can fail are all as good. */
		shim.fallocate_error = seed == 4 ? EOPNOTSUPP : 0;
		shim.short_transfers = seed == 5;
		s = file_fixture_open(
			"a.img",
			FILE_OPEN_WRITE |
				(seed == 6 ? FILE_OPEN_DISTRUST_HOLES : 0));
		run_model(s, seed);
		assert_int_equal(stat("a.img", &st), 0);
		assert_int_equal(st.st_size, storage_size(s));
		storage_close(s);
		shim_reset();
	}
}

static void direct_io_matches_a_byte_array(void **state)
{
	struct error err = {0};
	struct storage *s = NULL;
	unsigned flags = FILE_OPEN_WRITE | FILE_OPEN_DIRECT;

	(void)state;
	file_fixture_make("a.img", 20011, 7);
	if (storage_file_open(&s, "a.img", flags, &err)) {
		assert_non_null(strstr(err.message, "O_DIRECT"));
		skip();
	}
	assert_true(s->align >= 512);
	for (uint64_t seed = 1; seed <= 4; seed++) {
		struct stat st;

		run_model(s, seed);
		assert_int_equal(stat("a.img", &st), 0);
		assert_int_equal(st.st_size, storage_size(s));
	}
	storage_close(s);
}

static void vectors_may_be_longer_than_one_call_takes(void **state)
{
	static struct iovec iov[3000];
	static uint8_t bytes[3000];
	static uint8_t got[3000];
	struct storage *s = file_fixture_create("a.img");

	(void)state;
	for (size_t i = 0; i < 3000; i++) {
		bytes[i] = (uint8_t)(i * 13);
		iov[i] = (struct iovec){.iov_base = &bytes[i], .iov_len = 1};
	}
	assert_int_equal(storage_writev(s, iov, 3000, 9), 0);
	assert_int_equal(storage_read(s, got, 3000, 9), 0);
	assert_memory_equal(got, bytes, 3000);
	storage_close(s);
}

static void a_file_cut_by_others_is_an_error(void **state)
{
	uint8_t buf[100];
	struct storage *s;

	(void)state;
	file_fixture_make("a.img", 10000, 1);
	s = file_fixture_open("a.img", 0);
	assert_int_equal(truncate("a.img", 5000), 0);
	assert_int_equal(storage_read(s, buf, 100, 4950), -EIO);
	assert_int_equal(storage_read(s, buf, 50, 4950), 0);
	storage_close(s);
}

/* Bytes that a failed write left behind the end must not show up later. */
static void a_failed_append_leaves_no_ghosts(void **state)
{
	struct storage *s = file_fixture_create("a.img");
	uint8_t buf[8192];

	(void)state;
	memset(buf, 0xee, sizeof(buf));
	write_byte_run(s, 0, 1000, 1);
	shim.bytes_until_enospc = 3000;
	assert_int_equal(storage_write(s, buf, sizeof(buf), 1000), -ENOSPC);
	shim.bytes_until_enospc = -1;
	assert_int_equal(storage_size(s), 4000);
	assert_int_equal(storage_zero(s, 1000, 20000, 0), 0);
	file_fixture_expect(s, 1000, 20000, 0);
	file_fixture_expect(s, 0, 1000, 1);
	storage_close(s);
}

static void sync_errors_stick(void **state)
{
	struct storage *s = file_fixture_create("a.img");

	(void)state;
	assert_int_equal(storage_sync(s), 0);
	assert_int_equal(shim.sync_count, 1);
	shim.sync_error = EIO;
	assert_int_equal(storage_sync(s), -EIO);
	shim.sync_error = 0;
	assert_int_equal(storage_sync(s), -EIO);
	assert_int_equal(shim.sync_count, 2);
	storage_close(s);
}

/* Waiting would take the error of a lost page away from the next sync. */
static void write_behind_never_waits(void **state)
{
	struct storage *s = file_fixture_create("a.img");

	(void)state;
	write_byte_run(s, 0, MIB, 1);
	storage_write_behind(s, 0, 2 * MIB);
	assert_int_equal(shim.sync_range_flags, SYNC_FILE_RANGE_WRITE);
	storage_close(s);
}

/* --- holes and space --------------------------------------------------------
 */

/* Which file systems tell of holes is not ours to say; this one's answer. */
static bool folder_has_holes(void)
{
	struct stat st;

	return stat("a.img", &st) == 0 && st.st_blocks == 0;
}

static void check_extent(struct storage *s, uint64_t off, uint64_t len,
			 bool hole, uint64_t want_len)
{
	struct storage_extent extent;

	assert_int_equal(storage_extent_at(s, off, len, &extent), 0);
	assert_int_equal(extent.hole, hole);
	assert_int_equal(extent.len, want_len);
}

static void holes_are_found_and_punched(void **state)
{
	struct storage *s = file_fixture_create("a.img");
	int64_t before;

	(void)state;
	assert_int_equal(storage_resize(s, 8 * MIB, PREALLOC_OFF, NULL), 0);
	if (!folder_has_holes() || !s->can_punch) {
		storage_close(s);
		skip();
	}
	write_byte_run(s, MIB, 2 * MIB, 1);
	check_extent(s, 0, 8 * MIB, true, MIB);
	check_extent(s, 0, 4096, true, 4096);
	check_extent(s, MIB, 8 * MIB, false, 2 * MIB);
	check_extent(s, 3 * MIB, 5 * MIB, true, 5 * MIB);
	check_extent(s, 8 * MIB, 100, true, 100);

	before = storage_allocated_bytes(s);
	assert_true(before >= 2 * MIB);
	assert_int_equal(storage_zero(s, MIB, MIB, STORAGE_ZERO_MAY_UNMAP), 0);
	assert_true(storage_allocated_bytes(s) <= before - (int64_t)MIB);
	file_fixture_expect(s, MIB, MIB, 0);
	assert_int_equal(storage_discard(s, 2 * MIB, MIB), 0);
	assert_true(storage_allocated_bytes(s) < before - (int64_t)MIB);
	assert_int_equal(storage_size(s), 8 * MIB);
	storage_close(s);

	s = file_fixture_open("a.img", FILE_OPEN_DISTRUST_HOLES);
	check_extent(s, 0, 9 * MIB, false, 8 * MIB);
	storage_close(s);
}

/* The table of raw-and-probing 2, by a file system that answers so. */
static void odd_answers_about_holes_mean_data(void **state)
{
	static const struct {
		int error;
		int64_t data;
		int64_t hole;
		bool want_hole;
		uint64_t want_len;
	} cases[] = {
		{ENXIO, -1, -1, true, 5000},
		{EINVAL, -1, -1, false, 5000},
		{EIO, -1, -1, false, 5000},
		{0, 999, -1, false, 5000},   /* before what was asked */
		{0, 3000, -1, true, 2000},   /* a hole in front */
		{0, 9000, -1, true, 5000},   /* data behind the range */
		{0, 10000, -1, false, 5000}, /* behind the end */
		{0, 99999, -1, false, 5000},
		{0, 1000, 4000, false, 3000},
		{0, 1000, 1000, false, 5000}, /* a hole without progress */
		{0, 1000, 10, false, 5000},
		{0, 1000, 99999, false, 5000},
	};
	struct storage *s;

	(void)state;
	file_fixture_make("a.img", 10000, 1);
	s = file_fixture_open("a.img", 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		shim.seek_data_error = cases[i].error;
		shim.seek_data_answer = cases[i].data;
		shim.seek_hole_answer = cases[i].hole;
		check_extent(s, 1000, 5000, cases[i].want_hole,
			     cases[i].want_len);
	}
	/* "No data" about a file that was cut is no hole but a loss. */
	shim.seek_data_error = ENXIO;
	assert_int_equal(truncate("a.img", 3000), 0);
	check_extent(s, 1000, 5000, false, 5000);
	storage_close(s);
}

static void every_failure_to_zero_falls_back_to_writing(void **state)
{
	static const int errors[] = {EOPNOTSUPP, EINVAL, EBUSY,	 EPERM, ETXTBSY,
				     ENOSYS,	 ENODEV, ENOSPC, EFBIG};
	const unsigned fast = STORAGE_ZERO_NO_FALLBACK;
	const unsigned unmap = STORAGE_ZERO_MAY_UNMAP;

	(void)state;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		struct storage *s;

		file_fixture_make("a.img", 0, 0);
		s = file_fixture_open("a.img", FILE_OPEN_WRITE);
		write_byte_run(s, 0, 3 * MIB, 1);
		shim.fallocate_error = errors[i];
		assert_int_equal(storage_zero(s, 10, 2 * MIB, fast | unmap),
				 -EOPNOTSUPP);
		file_fixture_expect(s, 0, 3 * MIB, 1);
		assert_int_equal(storage_zero(s, 10, 2 * MIB, unmap), 0);
		file_fixture_expect(s, 10, 2 * MIB, 0);
		file_fixture_expect(s, 10 + 2 * MIB, 100, 1);
		assert_int_equal(storage_discard(s, 0, MIB), 0);
		storage_close(s);
		shim_reset();
	}
}

static void unsupported_calls_are_made_once(void **state)
{
	struct storage *s = file_fixture_create("a.img");

	(void)state;
	write_byte_run(s, 0, MIB, 1);
	shim.fallocate_error = EOPNOTSUPP;
	shim.fallocate_count = 0;
	for (int i = 0; i < 5; i++)
		assert_int_equal(
			storage_zero(s, 0, 4096, STORAGE_ZERO_MAY_UNMAP), 0);
	assert_int_equal(shim.fallocate_count, 2);
	/* A passing reason is asked again. */
	storage_close(s);
	shim_reset();
	s = file_fixture_open("a.img", FILE_OPEN_WRITE);
	shim.fallocate_error = EBUSY;
	shim.fallocate_count = 0;
	for (int i = 0; i < 5; i++)
		assert_int_equal(storage_zero(s, 0, 4096, 0), 0);
	assert_int_equal(shim.fallocate_count, 5);
	storage_close(s);
}

static void abilities_are_told_truthfully(void **state)
{
	struct storage *s = file_fixture_create("a.img");

	(void)state;
	assert_true(s->writable && s->can_grow && !s->is_device);
	assert_true(s->align == 1 && s->fd >= 0);
	storage_close(s);
	shim.fallocate_error = EOPNOTSUPP;
	s = file_fixture_open("a.img", FILE_OPEN_WRITE);
	assert_false(s->can_punch || s->zero_is_fast);
	storage_close(s);
	s = file_fixture_open("a.img", 0);
	assert_false(s->writable || s->can_grow);
	assert_int_equal(storage_write(s, "x", 1, 0), -EACCES);
	storage_close(s);
}

static void preallocation_takes_space(void **state)
{
	static const enum prealloc_mode modes[] = {PREALLOC_FALLOC,
						   PREALLOC_FULL};

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct storage *s;

		file_fixture_make("a.img", 1000, 1);
		s = file_fixture_open("a.img", FILE_OPEN_WRITE);
		/* Without fallocate() the zeros are written. */
		shim.fallocate_error = i / 2 ? EOPNOTSUPP : 0;
		assert_int_equal(
			storage_resize(s, 2 * MIB + 5, modes[i % 2], NULL), 0);
		assert_true(storage_allocated_bytes(s) >= 2 * MIB);
		file_fixture_expect(s, 0, 1000, 1);
		file_fixture_expect(s, 1000, 2 * MIB + 5 - 1000, 0);
		storage_close(s);
		shim_reset();
	}
}

static void a_failed_resize_restores_the_size(void **state)
{
	struct error err = {0};
	struct storage *s;
	struct stat st;

	(void)state;
	file_fixture_make("a.img", 1000, 1);
	s = file_fixture_open("a.img", FILE_OPEN_WRITE);
	shim.bytes_until_enospc = 100000;
	assert_int_equal(storage_resize(s, 4 * MIB, PREALLOC_FULL, &err),
			 -ENOSPC);
	assert_string_equal(err.message,
			    "a.img: could not resize from 1000 to 4194304 "
			    "bytes: No space left on device");
	assert_int_equal(storage_size(s), 1000);
	assert_int_equal(stat("a.img", &st), 0);
	assert_int_equal(st.st_size, 1000);
	shim.fallocate_error = ENOSPC;
	assert_int_equal(storage_resize(s, 4 * MIB, PREALLOC_FALLOC, NULL),
			 -ENOSPC);
	assert_int_equal(storage_size(s), 1000);
	storage_close(s);
}

static bool on_ext4(const char *path)
{
	struct statfs fs;

	assert_int_equal(statfs(path, &fs), 0);
	return fs.f_type == EXT4_SUPER_MAGIC;
}

/* Whether space could be reserved or not, only the write's answer counts. */
static void large_writes_need_no_reserved_space(void **state)
{
	static const int errors[] = {0, ENOSPC, EOPNOTSUPP};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct storage *s = file_fixture_create("a.img");
		uint8_t *buf = malloc(MIB), *back = malloc(MIB);
		struct stat st;

		memset(buf, 0x5a, MIB);
		shim.fallocate_error = errors[i];
		shim.fallocate_count = 0;
		for (unsigned n = 0; n < 3; n++)
			assert_int_equal(storage_write(s, buf, MIB, n * MIB),
					 0);
		if (on_ext4("a.img"))
			assert_int_equal(shim.fallocate_count,
					 errors[i] == EOPNOTSUPP ? 1 : 3);
		else
			assert_int_equal(shim.fallocate_count, 0);
		assert_int_equal(storage_read(s, back, MIB, 2 * MIB), 0);
		assert_memory_equal(buf, back, MIB);
		assert_int_equal(stat("a.img", &st), 0);
		assert_int_equal(st.st_size, 3 * MIB);
		storage_close(s);
		assert_int_equal(unlink("a.img"), 0);
		shim_reset();
		free(back);
		free(buf);
	}
}

/* Either the bytes are shared, or nothing has happened. */
static void clones_are_whole_or_nothing(void **state)
{
	struct storage *src = file_fixture_create("src.img");
	struct storage *dst = file_fixture_create("dst.img");
	struct storage *mem = NULL;
	int ret;

	(void)state;
	write_byte_run(src, 0, MIB, 3);
	assert_int_equal(storage_memory_new(&mem, "mem", MIB), 0);
	assert_int_equal(storage_clone(dst, 0, mem, 0, MIB), -EOPNOTSUPP);
	assert_int_equal(storage_clone(dst, 0, src, MIB, 1), -EIO);
	ret = storage_clone(dst, MIB, src, 0, MIB);
	if (ret) {
		assert_true(ret == -EOPNOTSUPP || ret == -EXDEV ||
			    ret == -EINVAL);
		assert_int_equal(storage_size(dst), 0);
	} else {
		assert_int_equal(storage_size(dst), 2 * MIB);
		file_fixture_expect(dst, 0, MIB, 0);
		file_fixture_expect(dst, MIB, MIB, 3);
	}
	storage_close(src);
	storage_close(dst);
	storage_close(mem);
}

/* --- block devices ----------------------------------------------------------
 */

/* A loop device over `path`, or false if this machine or user cannot. */
static bool attach_loop(const char *path, char *device, size_t size, int *fd)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	struct loop_config config = {
		.info.lo_flags = LO_FLAGS_AUTOCLEAR,
	};
	bool attached;

	close(control);
	if (number < 0)
		return false;
	snprintf(device, size, "/dev/loop%d", number);
	*fd = open(device, O_RDWR | O_CLOEXEC);
	config.fd = open(path, O_RDWR | O_CLOEXEC);
	attached = *fd >= 0 && ioctl(*fd, LOOP_CONFIGURE, &config) == 0;
	close((int)config.fd);
	if (!attached)
		close(*fd);
	return attached;
}

static void devices_match_a_byte_array(void **state)
{
	char device[32];
	struct storage *s;
	int fd = -1;

	(void)state;
	file_fixture_make("disk.img", 262144, 1);
	if (!attach_loop("disk.img", device, sizeof(device), &fd))
		skip();
	file_fixture_refused(device, FILE_OPEN_NO_DEVICE, EINVAL,
			     "block device");
	for (int direct = 0; direct < 2; direct++) {
		s = file_fixture_open(device,
				      FILE_OPEN_WRITE |
					      (direct ? FILE_OPEN_DIRECT : 0u));
		assert_true(s->is_device && !s->can_grow);
		assert_string_equal(s->ops->name, "host_device");
		assert_int_equal(storage_size(s), 262144);
		assert_int_equal(storage_write(s, "xy", 2, 262143), -ENOSPC);
		assert_int_equal(storage_resize(s, 5, PREALLOC_OFF, NULL),
				 -ENOTSUP);
		run_model(s, 1 + direct);
		assert_int_equal(storage_sync(s), 0);
		storage_close(s);
	}
	/* With a kernel that zeroes nothing for us. */
	s = file_fixture_open(device, FILE_OPEN_WRITE);
	shim.fallocate_error = EOPNOTSUPP;
	run_model(s, 3);
	storage_close(s);
	close(fd);
}

#define FILE_TEST(f) \
	cmocka_unit_test_setup_teardown(f, set_up, file_fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		FILE_TEST(random_operations_match_a_byte_array),
		FILE_TEST(direct_io_matches_a_byte_array),
		FILE_TEST(vectors_may_be_longer_than_one_call_takes),
		FILE_TEST(a_file_cut_by_others_is_an_error),
		FILE_TEST(a_failed_append_leaves_no_ghosts),
		FILE_TEST(sync_errors_stick),
		FILE_TEST(write_behind_never_waits),
		FILE_TEST(holes_are_found_and_punched),
		FILE_TEST(odd_answers_about_holes_mean_data),
		FILE_TEST(every_failure_to_zero_falls_back_to_writing),
		FILE_TEST(unsupported_calls_are_made_once),
		FILE_TEST(abilities_are_told_truthfully),
		FILE_TEST(preallocation_takes_space),
		FILE_TEST(a_failed_resize_restores_the_size),
		FILE_TEST(large_writes_need_no_reserved_space),
		FILE_TEST(clones_are_whole_or_nothing),
		FILE_TEST(devices_match_a_byte_array),
	};

	shim_reset();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
