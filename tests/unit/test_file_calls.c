/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files and outputs when the system refuses: each call that they make fails, as
 * it would on another file system, on an old kernel, on a bad disk. What can be
 * done in another way is; what cannot is an error that leaves nothing behind.
 *
 * The calls are the functions below, in front of those of the C library. A file
 * can be made to look like a block device, which no test machine need have.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#include "block/error.h"
#include "block/output.h"
#include "block/storage/file.h"
#include "formats/raw/raw.h"
#include "tests/support/file-fixture.h"

#define PAGE 4096u

enum call {
	CALL_NONE,
	CALL_FCNTL,
	CALL_SETLK, /* the fcntl() that sets a lock */
	CALL_FSTAT,
	CALL_STATX,
	CALL_FTRUNCATE,
	CALL_FALLOCATE,
	CALL_IOCTL,
	CALL_SYNC,
	CALL_RENAME,
	CALL_RANDOM,
	CALL_CHMOD,
	CALL_OPEN,
};

/* Which call fails, from the nth on for so many times, and how. */
static struct {
	enum call call;
	unsigned nth, times, code;
	unsigned seen;
} plan;

static void fail_calls(enum call call, unsigned nth, unsigned times, int code)
{
	plan.call = call;
	plan.nth = nth;
	plan.times = times;
	plan.code = (unsigned)code;
	plan.seen = 0;
}

#define FOR_EVER 1000000u

static bool fails(enum call call)
{
	if (plan.call != call)
		return false;
	plan.seen++;
	if (plan.seen < plan.nth || plan.seen - plan.nth >= plan.times)
		return false;
	errno = (int)plan.code;
	return true;
}

/* What regular files look like instead, if it is on. */
static struct {
	bool on;
	uint64_t size_bytes;
	int sector;
	bool no_zero_out;
	unsigned zeroed, discarded; /* calls */
	uint64_t range[2];	    /* of the last one */
} device;

/* The attributes of files, instead of the real ones, if it is on. */
static struct {
	bool on;
	int flags;
	struct fsxattr xattr;
} attributes;

#define REAL(name)                                          \
	({                                                  \
		typeof(&name) found;                        \
		*(void **)&found = dlsym(RTLD_NEXT, #name); \
		found;                                      \
	})

int fcntl(int fd, int command, ...)
{
	va_list args;
	void *arg;

	va_start(args, command);
	arg = va_arg(args, void *);
	va_end(args);
	if (fails(command == F_OFD_SETLK ? CALL_SETLK : CALL_FCNTL))
		return -1;
	return REAL(fcntl)(fd, command, arg);
}

int fstat(int fd, struct stat *st)
{
	int ret = fails(CALL_FSTAT) ? -1 : REAL(fstat)(fd, st);

	if (!ret && device.on && S_ISREG(st->st_mode)) {
		st->st_mode = S_IFBLK | 0600;
		st->st_rdev = makedev(7, 0);
	}
	return ret;
}

int statx(int fd, const char *path, int flags, unsigned mask, struct statx *st)
{
	return fails(CALL_STATX) ? -1 : REAL(statx)(fd, path, flags, mask, st);
}

int ftruncate(int fd, off_t len)
{
	return fails(CALL_FTRUNCATE) ? -1 : REAL(ftruncate)(fd, len);
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
	return fails(CALL_FALLOCATE) ? -1 : REAL(fallocate)(fd, mode, off, len);
}

/* The device zeroes by writing zeros, and forgets nothing. */
static int device_ioctl(int fd, unsigned long request, void *arg)
{
	uint64_t *range = arg;
	uint8_t *zeros;

	switch (request) {
	case BLKGETSIZE64:
		*(uint64_t *)arg = device.size_bytes;
		return 0;
	case BLKSSZGET:
		*(int *)arg = device.sector;
		return 0;
	case BLKZEROOUT:
		if (device.no_zero_out)
			break;
		device.zeroed++;
		memcpy(device.range, range, sizeof(device.range));
		zeros = calloc(1, range[1]);
		assert_non_null(zeros);
		assert_int_equal(pwrite(fd, zeros, range[1], (off_t)range[0]),
				 range[1]);
		free(zeros);
		return 0;
	case BLKDISCARD:
		device.discarded++;
		memcpy(device.range, range, sizeof(device.range));
		return 0;
	default:
		break;
	}
	errno = EOPNOTSUPP;
	return -1;
}

static int attribute_ioctl(unsigned long request, void *arg)
{
	switch (request) {
	case FS_IOC_GETFLAGS:
		*(int *)arg = attributes.flags;
		return 0;
	case FS_IOC_SETFLAGS:
		attributes.flags = *(int *)arg;
		return 0;
	case FS_IOC_FSGETXATTR:
		*(struct fsxattr *)arg = attributes.xattr;
		return 0;
	case FS_IOC_FSSETXATTR:
		attributes.xattr = *(struct fsxattr *)arg;
		return 0;
	default:
		errno = ENOTTY;
		return -1;
	}
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (fails(CALL_IOCTL))
		return -1;
	if (device.on)
		return device_ioctl(fd, request, arg);
	if (attributes.on)
		return attribute_ioctl(request, arg);
	return REAL(ioctl)(fd, request, arg);
}

int fdatasync(int fd)
{
	return fails(CALL_SYNC) ? -1 : REAL(fdatasync)(fd);
}

int fsync(int fd)
{
	return fails(CALL_SYNC) ? -1 : REAL(fsync)(fd);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to,
	      unsigned flags)
{
	return fails(CALL_RENAME)
		       ? -1
		       : REAL(renameat2)(from_fd, from, to_fd, to, flags);
}

int rename(const char *from, const char *to)
{
	return fails(CALL_RENAME) ? -1 : REAL(rename)(from, to);
}

ssize_t getrandom(void *buf, size_t len, unsigned flags)
{
	return fails(CALL_RANDOM) ? -1 : REAL(getrandom)(buf, len, flags);
}

int fchmod(int fd, mode_t mode)
{
	return fails(CALL_CHMOD) ? -1 : REAL(fchmod)(fd, mode);
}

int open(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list args;

	if (flags & (O_CREAT | O_TMPFILE)) {
		va_start(args, flags);
		mode = va_arg(args, mode_t);
		va_end(args);
	}
	return fails(CALL_OPEN) ? -1 : REAL(open)(path, flags, mode);
}

static int set_up(void **state)
{
	fail_calls(CALL_NONE, 0, 0, 0);
	memset(&device, 0, sizeof(device));
	memset(&attributes, 0, sizeof(attributes));
	return file_fixture_set_up(state);
}

static int tear_down(void **state)
{
	fail_calls(CALL_NONE, 0, 0, 0);
	memset(&device, 0, sizeof(device));
	return file_fixture_tear_down(state);
}

static unsigned count_entries(void)
{
	DIR *dir = opendir(".");
	unsigned count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count - 2;
}

static off_t length_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

/* ---- opening ---- */

/* Every call of the kind, one after the other, until none is left. */
static void expect_each_open_to_fail(enum call call, unsigned flags, int code)
{
	struct storage *s = NULL;
	unsigned failed = 0;

	for (unsigned nth = 1; !s; nth++) {
		struct error err = {0};
		int ret;

		fail_calls(call, nth, 1, code);
		ret = storage_file_open(&s, "file", flags, &err);
		fail_calls(CALL_NONE, 0, 0, 0);
		if (!ret)
			break;
		failed++;
		assert_int_equal(ret, -code);
		assert_int_equal(err.code, code);
		assert_non_null(strstr(err.message, "file"));
		assert_null(s);
		/* A file of ours that cannot be used does not stay. */
		if (flags & FILE_OPEN_CREATE)
			assert_int_equal(count_entries(), 0);
	}
	assert_true(failed > 0);
	storage_close(s);
}

static void an_open_that_fails_leaves_nothing(void **state)
{
	(void)state;
	expect_each_open_to_fail(CALL_FSTAT, FILE_OPEN_WRITE | FILE_OPEN_CREATE,
				 EIO);
	assert_int_equal(unlink("file"), 0);
	expect_each_open_to_fail(CALL_FCNTL, FILE_OPEN_WRITE | FILE_OPEN_CREATE,
				 EIO);
	expect_each_open_to_fail(CALL_FCNTL, 0, EIO);
	expect_each_open_to_fail(CALL_OPEN, 0, EMFILE);
}

static void a_file_without_locks_can_be_opened(void **state)
{
	static const int codes[] = {EINVAL, ENOLCK, EOPNOTSUPP, ENOSYS};

	(void)state;
	file_fixture_make("file", PAGE, 1);
	for (size_t i = 0; i < 4; i++) {
		fail_calls(CALL_SETLK, 1, FOR_EVER, codes[i]);
		storage_close(file_fixture_open("file", FILE_OPEN_WRITE));
	}
	fail_calls(CALL_SETLK, 1, 2, EINTR);
	storage_close(file_fixture_open("file", FILE_OPEN_WRITE));
	fail_calls(CALL_SETLK, 1, FOR_EVER, EIO);
	file_fixture_refused("file", FILE_OPEN_WRITE, EIO, "Could not lock");
	fail_calls(CALL_SETLK, 1, FOR_EVER, EACCES);
	file_fixture_refused("file", FILE_OPEN_WRITE, EAGAIN, "Failed to get");
	assert_int_equal(length_of("file"), PAGE);
}

static void truncation_waits_for_the_lock_and_can_fail(void **state)
{
	const unsigned flags = FILE_OPEN_WRITE | FILE_OPEN_TRUNCATE;

	(void)state;
	file_fixture_make("file", PAGE, 1);
	fail_calls(CALL_SETLK, 1, FOR_EVER, EAGAIN);
	file_fixture_refused("file", flags, EAGAIN, "Failed to get");
	assert_int_equal(length_of("file"), PAGE);
	fail_calls(CALL_FTRUNCATE, 1, FOR_EVER, EIO);
	file_fixture_refused("file", flags, EIO, "Could not truncate");
	assert_int_equal(length_of("file"), PAGE);
	fail_calls(CALL_FTRUNCATE, 1, 2, EINTR);
	storage_close(file_fixture_open("file", flags));
	assert_int_equal(length_of("file"), 0);
}

/* An old kernel says nothing of alignment: it is found by trying. */
static void alignment_is_found_without_the_kernels_word(void **state)
{
	struct storage *s;
	uint8_t buf[3] = {0};

	(void)state;
	file_fixture_make("small", 100, 7);
	file_fixture_make("large", 4 * PAGE, 7);
	fail_calls(CALL_STATX, 1, FOR_EVER, ENOSYS);
	s = file_fixture_open("small", FILE_OPEN_DIRECT);
	assert_int_equal(s->align, PAGE);
	assert_int_equal(s->mem_align, PAGE);
	storage_close(s);
	s = file_fixture_open("large", FILE_OPEN_DIRECT);
	assert_in_range(s->align, 512, PAGE);
	assert_int_equal(s->align & (s->align - 1), 0);
	/* Whatever was found, odd ranges can be read. */
	assert_int_equal(storage_read(s, buf, 3, 511), 0);
	assert_memory_equal(buf, "\7\7\7", 3);
	storage_close(s);
}

/* ---- space ---- */

static void zeros_are_written_where_nothing_else_works(void **state)
{
	static const int codes[] = {EOPNOTSUPP, ENOSYS, ENOSPC, EPERM};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct storage *s;

		file_fixture_make("file", 4 * PAGE, 1);
		s = file_fixture_open("file", FILE_OPEN_WRITE);
		fail_calls(CALL_FALLOCATE, 1, FOR_EVER, codes[i]);
		assert_int_equal(
			storage_zero(s, PAGE + 1, PAGE, STORAGE_ZERO_MAY_UNMAP),
			0);
		/* Who cannot do it is not asked twice; a reason may pass. */
		plan.seen = 0;
		assert_int_equal(
			storage_zero(s, 3 * PAGE, 9, STORAGE_ZERO_MAY_UNMAP),
			0);
		assert_int_equal(plan.seen, i < 2 ? 0 : 2);
		assert_int_equal(
			storage_zero(s, 3 * PAGE, 9, STORAGE_ZERO_NO_FALLBACK),
			-EOPNOTSUPP);
		file_fixture_expect(s, 0, PAGE + 1, 1);
		file_fixture_expect(s, PAGE + 1, PAGE, 0);
		file_fixture_expect(s, 2 * PAGE + 1, PAGE - 1, 1);
		file_fixture_expect(s, 3 * PAGE, 9, 0);
		file_fixture_expect(s, 3 * PAGE + 9, PAGE - 9, 1);
		storage_close(s);
	}
}

static void a_bad_disk_is_not_written_over(void **state)
{
	struct storage *s;

	(void)state;
	file_fixture_make("file", 2 * PAGE, 1);
	s = file_fixture_open("file", FILE_OPEN_WRITE);
	fail_calls(CALL_FALLOCATE, 1, FOR_EVER, EIO);
	assert_int_equal(storage_zero(s, 0, PAGE, STORAGE_ZERO_MAY_UNMAP),
			 -EIO);
	assert_int_equal(storage_discard(s, 0, PAGE), -EIO);
	file_fixture_expect(s, 0, 2 * PAGE, 1);
	fail_calls(CALL_FALLOCATE, 1, 3, EINTR);
	assert_int_equal(storage_zero(s, 0, PAGE, 0), 0);
	assert_int_equal(plan.seen, 4);
	file_fixture_expect(s, 0, PAGE, 0);
	file_fixture_expect(s, PAGE, PAGE, 1);
	storage_close(s);
}

static void growing_that_fails_gives_the_old_length_back(void **state)
{
	struct error err = {0};
	struct storage *s;

	(void)state;
	file_fixture_make("file", PAGE, 1);
	s = file_fixture_open("file", FILE_OPEN_WRITE);
	fail_calls(CALL_FALLOCATE, 1, FOR_EVER, ENOSPC);
	assert_int_equal(storage_resize(s, 4 * PAGE, PREALLOC_FALLOC, &err),
			 -ENOSPC);
	assert_non_null(strstr(err.message, "could not resize from 4096"));
	assert_int_equal(storage_size(s), PAGE);
	assert_int_equal(length_of("file"), PAGE);
	/* A file system that cannot reserve takes zeros instead. */
	fail_calls(CALL_FALLOCATE, 1, FOR_EVER, EOPNOTSUPP);
	assert_int_equal(storage_resize(s, 4 * PAGE, PREALLOC_FALLOC, NULL), 0);
	assert_true(storage_allocated_bytes(s) >= 4 * (int64_t)PAGE);
	file_fixture_expect(s, PAGE, 3 * PAGE, 0);
	fail_calls(CALL_FTRUNCATE, 1, FOR_EVER, EIO);
	assert_int_equal(storage_resize(s, PAGE, PREALLOC_OFF, NULL), -EIO);
	fail_calls(CALL_FTRUNCATE, 1, 1, EIO);
	assert_int_equal(storage_resize(s, 9 * PAGE, PREALLOC_FULL, NULL),
			 -EIO);
	assert_int_equal(storage_size(s), 4 * PAGE);
	assert_int_equal(storage_size(s), length_of("file"));
	fail_calls(CALL_FTRUNCATE, 1, 2, EINTR);
	assert_int_equal(storage_resize(s, PAGE, PREALLOC_OFF, NULL), 0);
	assert_int_equal(length_of("file"), PAGE);
	file_fixture_expect(s, 0, PAGE, 1);
	storage_close(s);
}

static void sharing_extents_is_given_up_only_where_it_cannot_be(void **state)
{
	static const struct {
		int code;
		bool remembered;
	} cases[] = {{EXDEV, false},	{EINVAL, false}, {EIO, false},
		     {ENOSPC, false},	{EDQUOT, false}, {ETXTBSY, false},
		     {EOPNOTSUPP, true}};

	(void)state;
	file_fixture_make("from", PAGE, 1);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct storage *from = file_fixture_open("from", 0);
		struct storage *to = file_fixture_create("to");
		int code =
			cases[i].code == ETXTBSY ? EOPNOTSUPP : cases[i].code;

		fail_calls(CALL_IOCTL, 1, FOR_EVER, cases[i].code);
		assert_int_equal(storage_clone(to, 0, from, 0, PAGE), -code);
		plan.seen = 0;
		assert_int_equal(storage_clone(to, 0, from, 0, PAGE), -code);
		assert_int_equal(plan.seen, !cases[i].remembered);
		assert_int_equal(storage_size(to), 0);
		fail_calls(CALL_IOCTL, 1, 2, EINTR);
		storage_clone(to, 0, from, 0, PAGE);
		assert_int_equal(plan.seen, cases[i].remembered ? 0 : 3);
		storage_close(from);
		storage_close(to);
		assert_int_equal(unlink("to"), 0);
	}
}

static void an_interrupted_sync_goes_on(void **state)
{
	struct storage *s = file_fixture_create("file");

	(void)state;
	assert_int_equal(storage_write(s, "x", 1, 0), 0);
	fail_calls(CALL_SYNC, 1, 2, EINTR);
	assert_int_equal(storage_sync(s), 0);
	assert_int_equal(plan.seen, 3);
	fail_calls(CALL_SYNC, 1, 1, EIO);
	assert_int_equal(storage_sync(s), -EIO);
	assert_int_equal(storage_sync(s), -EIO);
	assert_int_equal(plan.seen, 1);
	storage_close(s);
}

/* Advice for new files: what was there before stays, and no call must work. */
static void advice_is_added_to_what_a_file_has(void **state)
{
	struct storage *s = file_fixture_create("file");

	(void)state;
	attributes.on = true;
	attributes.flags = FS_NOATIME_FL;
	attributes.xattr.fsx_projid = 7;
	raw_advise(s, false, 0);
	assert_int_equal(attributes.flags, FS_NOATIME_FL);
	assert_int_equal(attributes.xattr.fsx_xflags, 0);
	fail_calls(CALL_IOCTL, 1, FOR_EVER, ENOTTY);
	raw_advise(s, true, PAGE);
	assert_int_equal(plan.seen, 2);
	fail_calls(CALL_NONE, 0, 0, 0);
	raw_advise(s, true, 1ull << 32);
	assert_int_equal(attributes.flags, FS_NOATIME_FL | FS_NOCOW_FL);
	assert_int_equal(attributes.xattr.fsx_extsize, 0);
	raw_advise(s, false, PAGE);
	assert_int_equal(attributes.xattr.fsx_xflags, FS_XFLAG_EXTSIZE);
	assert_int_equal(attributes.xattr.fsx_extsize, PAGE);
	assert_int_equal(attributes.xattr.fsx_projid, 7);
	storage_close(s);
}

/* ---- block devices ---- */

static struct storage *open_device(unsigned flags)
{
	file_fixture_make("device", 8 * PAGE, 1);
	device.on = true;
	device.size_bytes = 8 * PAGE;
	device.sector = PAGE;
	return file_fixture_open("device", flags);
}

static void a_device_says_its_size(void **state)
{
	struct storage *s = open_device(FILE_OPEN_WRITE | FILE_OPEN_TRUNCATE);
	struct storage *again = open_device(FILE_OPEN_NO_LOCK);

	(void)state;
	assert_true(s->is_device);
	assert_int_equal(storage_size(s), 8 * PAGE);
	assert_int_equal(storage_resize(s, PAGE, PREALLOC_OFF, NULL), -ENOTSUP);
	assert_false(storage_file_is_at(s, "device")); /* of another number */
	assert_true(storage_same(s, again));
	storage_close(again);
	file_fixture_expect(s, 0, 8 * PAGE, 1); /* nothing was truncated */
	storage_close(s);

	device.size_bytes = 1ull << 63;
	file_fixture_refused("device", 0, EINVAL, "the device reports");
	device.size_bytes = PAGE;
	device.sector = 0;
	file_fixture_refused("device", 0, EINVAL, "in sectors of 0");
	device.sector = 520;
	file_fixture_refused("device", 0, EINVAL, "in sectors of 520");
	device.sector = 512;
	for (unsigned nth = 1; nth <= 2; nth++) {
		fail_calls(CALL_IOCTL, nth, FOR_EVER, EIO);
		file_fixture_refused("device", 0, EIO, "size of the device");
	}
}

static void a_device_zeroes_whole_sectors_itself(void **state)
{
	struct storage *s = open_device(FILE_OPEN_WRITE);

	(void)state;
	fail_calls(CALL_FALLOCATE, 1, FOR_EVER, EOPNOTSUPP);
	assert_int_equal(storage_zero(s, 10, 3 * PAGE, STORAGE_ZERO_MAY_UNMAP),
			 0);
	assert_int_equal(device.zeroed, 1);
	assert_int_equal(device.range[0], PAGE);
	assert_int_equal(device.range[1], 2 * PAGE);
	file_fixture_expect(s, 0, 10, 1);
	file_fixture_expect(s, 10, 3 * PAGE, 0);
	file_fixture_expect(s, 3 * PAGE + 10, PAGE, 1);
	/* Less than a sector, or no help from the kernel: written. */
	assert_int_equal(storage_zero(s, 5 * PAGE, 100, 0), 0);
	device.no_zero_out = true;
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(storage_zero(s, 6 * PAGE, PAGE, 0), 0);
	assert_int_equal(device.zeroed, 1);
	file_fixture_expect(s, 5 * PAGE, 100, 0);
	file_fixture_expect(s, 5 * PAGE + 100, PAGE - 100, 1);
	file_fixture_expect(s, 6 * PAGE, PAGE, 0);
	assert_int_equal(
		storage_zero(s, 7 * PAGE, PAGE, STORAGE_ZERO_NO_FALLBACK),
		-EOPNOTSUPP);
	file_fixture_expect(s, 7 * PAGE, PAGE, 1);
	storage_close(s);
}

static void a_device_discards_whole_sectors_only(void **state)
{
	struct storage *s = open_device(FILE_OPEN_WRITE);

	(void)state;
	assert_int_equal(storage_discard(s, 1, PAGE), 0);
	assert_int_equal(device.discarded, 0);
	assert_int_equal(storage_discard(s, PAGE - 1, 2 * PAGE + 2), 0);
	assert_int_equal(device.discarded, 1);
	assert_int_equal(device.range[0], PAGE);
	assert_int_equal(device.range[1], 2 * PAGE);
	fail_calls(CALL_IOCTL, 1, FOR_EVER, EIO);
	assert_int_equal(storage_discard(s, 0, PAGE), -EIO);
	/* Advice that cannot be followed is none, and not given again. */
	fail_calls(CALL_IOCTL, 1, 2, EINTR);
	assert_int_equal(storage_discard(s, 0, PAGE), 0);
	fail_calls(CALL_IOCTL, 1, FOR_EVER, ENOTTY);
	assert_int_equal(storage_discard(s, 0, PAGE), 0);
	assert_int_equal(storage_discard(s, 0, PAGE), 0);
	assert_int_equal(plan.seen, 1);
	storage_close(s);
}

/* ---- outputs ---- */

/* The output cannot be opened or finished; the old file is whole, alone. */
static void expect_output_to_fail(enum call call, unsigned nth, int code,
				  const char *words)
{
	struct error err = {0};
	struct output out;
	int ret;

	fail_calls(call, nth, FOR_EVER, code);
	ret = output_open(&out, "target", false, &err);
	if (!ret) {
		assert_int_equal(storage_write(out.storage, "new", 3, 0), 0);
		ret = output_commit(&out, true, &err);
	}
	fail_calls(CALL_NONE, 0, 0, 0);
	assert_int_equal(ret, -code);
	if (!strstr(err.message, words))
		fail_msg("\"%s\" does not say \"%s\"", err.message, words);
}

static void an_output_that_fails_keeps_what_was_there(void **state)
{
	(void)state;
	for (unsigned old = 0; old < 2; old++) {
		if (old)
			file_fixture_make("target", PAGE, 1);
		expect_output_to_fail(CALL_RANDOM, 1, EIO, "Could not create");
		expect_output_to_fail(CALL_SYNC, 1, EIO, "Could not sync");
		expect_output_to_fail(CALL_RENAME, 1, EIO, "in place");
		assert_int_equal(count_entries(), old);
	}
	expect_output_to_fail(CALL_CHMOD, 1, EIO, "Could not create");
	assert_int_equal(count_entries(), 1);
	assert_int_equal(length_of("target"), PAGE);
}

/* The name is there, and the user hears what is missing. */
static void a_folder_that_cannot_be_synced_is_told(void **state)
{
	(void)state;
	expect_output_to_fail(CALL_SYNC, 2, EIO, "is complete, but");
	assert_int_equal(length_of("target"), 3);
	assert_int_equal(count_entries(), 1);
}

static void file_systems_without_these_calls_do_as_well(void **state)
{
	static const struct {
		enum call call;
		unsigned nth, times;
		int code;
	} cases[] = {
		{CALL_RENAME, 1, 1, EINVAL}, /* no RENAME_NOREPLACE */
		{CALL_RENAME, 1, 1, ENOSYS},
		{CALL_SYNC, 2, 1, EINVAL}, /* folders are not synced */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct error err = {0};
		struct output out;

		fail_calls(cases[i].call, cases[i].nth, cases[i].times,
			   cases[i].code);
		assert_int_equal(output_open(&out, "target", false, &err), 0);
		assert_int_equal(storage_write(out.storage, "new", 3, 0), 0);
		if (output_commit(&out, true, &err))
			fail_msg("%s", err.message);
		assert_true(plan.seen >= cases[i].nth);
		assert_int_equal(length_of("target"), 3);
		assert_int_equal(count_entries(), 1);
		assert_int_equal(unlink("target"), 0);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_open_that_fails_leaves_nothing),
		TEST(a_file_without_locks_can_be_opened),
		TEST(truncation_waits_for_the_lock_and_can_fail),
		TEST(alignment_is_found_without_the_kernels_word),
		TEST(zeros_are_written_where_nothing_else_works),
		TEST(a_bad_disk_is_not_written_over),
		TEST(growing_that_fails_gives_the_old_length_back),
		TEST(sharing_extents_is_given_up_only_where_it_cannot_be),
		TEST(an_interrupted_sync_goes_on),
		TEST(advice_is_added_to_what_a_file_has),
		TEST(a_device_says_its_size),
		TEST(a_device_zeroes_whole_sectors_itself),
		TEST(a_device_discards_whole_sectors_only),
		TEST(an_output_that_fails_keeps_what_was_there),
		TEST(a_folder_that_cannot_be_synced_is_told),
		TEST(file_systems_without_these_calls_do_as_well),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
