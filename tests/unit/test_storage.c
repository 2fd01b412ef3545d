/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The checked front: what it refuses, what it falls back to, what it remembers,
 * and unaligned I/O on a store that asserts its own alignment.
 */
#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/storage.h"
#include "tests/support/storage-model.h"

#define FAKE_CAPACITY (4u << 20)
#define THREAD_COUNT  4

/* A store in an array, with an error to give for every operation. */
struct fake {
	struct storage base;
	pthread_mutex_t lock; /* of the array and its length */
	uint8_t *bytes;
	uint64_t len; /* of what is there, like the length of a file */

	int read_error;
	int write_error;
	int zero_error;
	int discard_error;
	int sync_error;
	int resize_error;
	int extent_error;
	struct storage_extent extent_answer;

	bool dawdle; /* after a write, before the caller knows of it */
	unsigned call_count;
	unsigned write_count;
	size_t largest_write;
	unsigned zero_flags;
	uint64_t last_off;
	uint64_t last_len;
	atomic_uint sync_begun;
	atomic_uint sync_ended;
	atomic_bool sync_overlap;
};

static struct fake *to_fake(struct storage *s)
{
	return (struct fake *)s;
}

/* What the contract promises to implementers. */
static uint64_t check_vector(struct fake *f, const struct iovec *iov, int count,
			     uint64_t off)
{
	uint64_t sum = 0;

	assert(is_aligned(off, f->base.align));
	for (int i = 0; i < count; i++) {
		assert(is_aligned(iov[i].iov_len, f->base.align));
		assert(is_aligned((uintptr_t)iov[i].iov_base,
				  f->base.mem_align));
		sum += iov[i].iov_len;
	}
	assert(sum > 0 && off + sum <= FAKE_CAPACITY);
	return sum;
}

static void check_range(struct fake *f, uint64_t off, uint64_t len)
{
	assert(len > 0 && is_aligned(off, f->base.align));
	assert(off + len <= f->len);
	assert(is_aligned(len, f->base.align) || off + len == f->len);
}

static int fake_readv(struct storage *s, const struct iovec *iov, int count,
		      uint64_t off)
{
	struct fake *f = to_fake(s);
	uint64_t sum = check_vector(f, iov, count, off);

	pthread_mutex_lock(&f->lock);
	f->call_count++;
	assert(off + sum <= align_up(f->len, s->align));
	for (int i = 0; i < count && !f->read_error; i++) {
		memcpy(iov[i].iov_base, f->bytes + off, iov[i].iov_len);
		off += iov[i].iov_len;
	}
	pthread_mutex_unlock(&f->lock);
	return f->read_error;
}

static int fake_writev(struct storage *s, const struct iovec *iov, int count,
		       uint64_t off)
{
	struct fake *f = to_fake(s);
	uint64_t sum = check_vector(f, iov, count, off);

	pthread_mutex_lock(&f->lock);
	f->call_count++;
	f->write_count++;
	f->largest_write = max_u64(f->largest_write, sum);
	for (int i = 0; i < count && !f->write_error; i++) {
		memcpy(f->bytes + off, iov[i].iov_base, iov[i].iov_len);
		off += iov[i].iov_len;
		f->len = max_u64(f->len, off);
	}
	pthread_mutex_unlock(&f->lock);
	if (f->dawdle)
		usleep(100);
	return f->write_error;
}

static int fake_zero(struct storage *s, uint64_t off, uint64_t len,
		     unsigned flags)
{
	struct fake *f = to_fake(s);

	pthread_mutex_lock(&f->lock);
	check_range(f, off, len);
	f->call_count++;
	f->zero_flags = flags;
	f->last_off = off;
	f->last_len = len;
	if (!f->zero_error)
		memset(f->bytes + off, 0, len);
	pthread_mutex_unlock(&f->lock);
	return f->zero_error;
}

static int fake_discard(struct storage *s, uint64_t off, uint64_t len)
{
	struct fake *f = to_fake(s);

	check_range(f, off, len);
	f->call_count++;
	f->last_off = off;
	f->last_len = len;
	if (!f->discard_error)
		memset(f->bytes + off, 0xdd, len);
	return f->discard_error;
}

static int fake_sync(struct storage *s)
{
	struct fake *f = to_fake(s);

	if (atomic_fetch_add(&f->sync_begun, 1) != atomic_load(&f->sync_ended))
		atomic_store(&f->sync_overlap, true);
	usleep(200);
	atomic_fetch_add(&f->sync_ended, 1);
	return f->sync_error;
}

static int fake_resize(struct storage *s, uint64_t new_size,
		       enum prealloc_mode mode, struct error *err)
{
	struct fake *f = to_fake(s);

	(void)mode;
	assert(new_size <= FAKE_CAPACITY);
	if (f->resize_error)
		return error_set(err, -f->resize_error, "as told");
	pthread_mutex_lock(&f->lock);
	if (new_size < f->len)
		memset(f->bytes + new_size, 0, f->len - new_size);
	f->len = new_size;
	pthread_mutex_unlock(&f->lock);
	return 0;
}

static int fake_extent(struct storage *s, uint64_t off, uint64_t len,
		       struct storage_extent *out)
{
	struct fake *f = to_fake(s);

	assert(len > 0 && off + len <= f->len);
	*out = f->extent_answer;
	return f->extent_error;
}

static void fake_close(struct storage *s)
{
	struct fake *f = to_fake(s);

	storage_release(s);
	pthread_mutex_destroy(&f->lock);
	free(f->bytes);
	free(f);
}

static const struct storage_ops full_ops = {
	.name = "fake",
	.readv = fake_readv,
	.writev = fake_writev,
	.zero = fake_zero,
	.discard = fake_discard,
	.sync = fake_sync,
	.resize = fake_resize,
	.extent = fake_extent,
	.close = fake_close,
};

/* What every store has to offer, and no more. */
static const struct storage_ops bare_ops = {
	.name = "bare fake",
	.readv = fake_readv,
	.writev = fake_writev,
	.close = fake_close,
};

static struct fake *new_fake(const struct storage_ops *ops, uint64_t size_bytes,
			     uint32_t align)
{
	struct fake *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->bytes = calloc(1, FAKE_CAPACITY);
	assert_non_null(f->bytes);
	pthread_mutex_init(&f->lock, NULL);
	assert_int_equal(storage_init(&f->base, ops, "fake.img"), 0);
	f->base.align = align;
	f->base.mem_align = align;
	f->base.writable = true;
	f->base.can_grow = true;
	f->len = size_bytes;
	f->extent_error = -EOPNOTSUPP;
	storage_raise_size(&f->base, size_bytes);
	return f;
}

static void fill(struct fake *f, int byte)
{
	memset(f->bytes, byte, f->len);
}

static void empty_requests_do_nothing(void **state)
{
	struct fake *f = new_fake(&full_ops, 1000, 1);
	struct storage *s = &f->base;
	struct iovec none = {.iov_base = NULL, .iov_len = 0};

	(void)state;
	assert_int_equal(storage_read(s, NULL, 0, 5000), 0);
	assert_int_equal(storage_readv(s, &none, 1, 0), 0);
	assert_int_equal(storage_write(s, NULL, 0, 5000), 0);
	assert_int_equal(storage_zero(s, 5000, 0, 0), 0);
	assert_int_equal(storage_discard(s, 0, 0), 0);
	assert_int_equal(storage_clone(s, 0, s, 0, 0), 0);
	s->writable = false;
	assert_int_equal(storage_write(s, NULL, 0, 0), 0);
	assert_int_equal(f->call_count, 0);
	assert_int_equal(storage_size(s), 1000);
	storage_close(s);
	storage_close(NULL);
}

static void reads_past_the_end_are_errors(void **state)
{
	struct fake *f = new_fake(&full_ops, 1000, 1);
	struct storage *s = &f->base;
	uint8_t buf[16];
	struct iovec huge[2] = {
		{.iov_base = buf, .iov_len = SIZE_MAX},
		{.iov_base = buf, .iov_len = 2},
	};

	(void)state;
	assert_int_equal(storage_read(s, buf, 1, 1000), -EIO);
	assert_int_equal(storage_read(s, buf, 2, 999), -EIO);
	assert_int_equal(storage_read(s, buf, 2, UINT64_MAX), -EIO);
	assert_int_equal(storage_readv(s, huge, 2, 0), -EIO);
	assert_int_equal(f->call_count, 0);
	assert_int_equal(storage_read(s, buf, 1, 999), 0);
	storage_close(s);
}

static void padded_reads_end_in_zeros(void **state)
{
	struct fake *f = new_fake(&full_ops, 10, 1);
	uint8_t want[16] = {0};
	uint8_t buf[16];

	(void)state;
	fill(f, 0x33);
	memset(want, 0x33, 4);
	memset(buf, 0xff, sizeof(buf));
	assert_int_equal(storage_read_padded(&f->base, buf, 16, 6), 0);
	assert_memory_equal(buf, want, 16);
	memset(buf, 0xff, sizeof(buf));
	assert_int_equal(storage_read_padded(&f->base, buf, 12, 1ull << 62), 0);
	assert_memory_equal(buf, want + 4, 12);
	f->read_error = -EIO;
	assert_int_equal(storage_read_padded(&f->base, buf, 16, 6), -EIO);
	storage_close(&f->base);
}

static void changes_need_permission_and_room(void **state)
{
	struct fake *f = new_fake(&full_ops, 1000, 1);
	struct storage *s = &f->base;

	(void)state;
	assert_int_equal(storage_write(s, "x", 1, INT64_MAX), -EFBIG);
	assert_int_equal(storage_write(s, "xy", 2, UINT64_MAX), -EFBIG);
	assert_int_equal(storage_zero(s, 5, UINT64_MAX, 0), -EFBIG);
	s->can_grow = false;
	assert_int_equal(storage_write(s, "xy", 2, 999), -ENOSPC);
	assert_int_equal(storage_zero(s, 900, 101, 0), -ENOSPC);
	assert_int_equal(storage_resize(s, 999, PREALLOC_OFF, NULL), -ENOTSUP);
	assert_int_equal(storage_resize(s, 1000, PREALLOC_OFF, NULL), 0);
	s->can_grow = true;
	s->writable = false;
	assert_int_equal(storage_write(s, "x", 1, 0), -EACCES);
	assert_int_equal(storage_zero(s, 0, 1, 0), -EACCES);
	assert_int_equal(storage_discard(s, 0, 1), -EACCES);
	assert_int_equal(storage_clone(s, 0, s, 0, 1), -EACCES);
	assert_int_equal(storage_resize(s, 5, PREALLOC_OFF, NULL), -EACCES);
	assert_int_equal(f->call_count, 0);
	storage_close(s);
}

static void resize_says_what_is_wrong(void **state)
{
	struct fake *f = new_fake(&full_ops, 1000, 1);
	struct storage *s = &f->base;
	struct error err = {0};

	(void)state;
	assert_int_equal(storage_resize(s, 2000, PREALLOC_METADATA, &err),
			 -EINVAL);
	assert_non_null(strstr(err.message, "metadata"));
	assert_int_equal(storage_resize(s, 1ull << 63, PREALLOC_OFF, &err),
			 -EFBIG);
	assert_non_null(strstr(err.message, "9223372036854775808"));
	f->resize_error = -ENOSPC;
	assert_int_equal(storage_resize(s, 2000, PREALLOC_OFF, &err), -ENOSPC);
	assert_string_equal(err.message, "as told");
	assert_int_equal(storage_size(s), 1000);
	f->resize_error = 0;
	assert_int_equal(storage_resize(s, 2000, PREALLOC_OFF, &err), 0);
	assert_int_equal(storage_size(s), 2000);
	storage_close(s);
}

static void the_size_grows_with_what_is_written(void **state)
{
	struct fake *f = new_fake(&full_ops, 10, 1);
	struct storage *s = &f->base;

	(void)state;
	assert_int_equal(storage_write(s, "abc", 3, 8), 0);
	assert_int_equal(storage_size(s), 11);
	assert_int_equal(storage_write(s, "abc", 3, 0), 0);
	assert_int_equal(storage_size(s), 11);
	f->write_error = -ENOSPC;
	assert_int_equal(storage_write(s, "abc", 3, 20), -ENOSPC);
	assert_int_equal(storage_size(s), 11);
	storage_close(s);
}

static void a_failed_sync_is_never_forgotten(void **state)
{
	struct fake *f = new_fake(&full_ops, 10, 1);
	struct storage *s = &f->base;

	(void)state;
	assert_int_equal(storage_sync(s), 0);
	f->sync_error = -ENOSPC;
	assert_int_equal(storage_sync(s), -ENOSPC);
	f->sync_error = 0;
	assert_int_equal(storage_sync(s), -EIO);
	assert_int_equal(storage_sync(s), -EIO);
	/* And the kernel is not asked again: it would say that all is well. */
	assert_int_equal(atomic_load(&f->sync_begun), 2);
	storage_close(s);
}

static void syncs_can_be_off_or_not_offered(void **state)
{
	struct fake *f = new_fake(&full_ops, 10, 1);
	struct fake *bare = new_fake(&bare_ops, 10, 1);

	(void)state;
	f->sync_error = -EIO;
	f->base.ignore_sync = true;
	assert_int_equal(storage_sync(&f->base), 0);
	assert_int_equal(atomic_load(&f->sync_begun), 0);
	assert_int_equal(storage_sync(&bare->base), 0);
	storage_close(&f->base);
	storage_close(&bare->base);
}

/* What a thread has to say goes through a pointer without const. */
static void *complaint(const char *text)
{
	return (void *)(uintptr_t)text;
}

static void *sync_often(void *arg)
{
	struct fake *f = arg;

	for (int i = 0; i < 50; i++) {
		unsigned begun = atomic_load(&f->sync_begun);

		if (storage_sync(&f->base))
			return complaint("sync failed");
		/* One that began after our call has ended. */
		if (atomic_load(&f->sync_ended) <= begun)
			return complaint("returned without a sync");
	}
	return NULL;
}

static void run_threads(void *(*work)(void *), void **args)
{
	pthread_t thread[THREAD_COUNT];
	void *text;

	for (int i = 0; i < THREAD_COUNT; i++)
		assert_int_equal(
			pthread_create(&thread[i], NULL, work, args[i]), 0);
	for (int i = 0; i < THREAD_COUNT; i++) {
		assert_int_equal(pthread_join(thread[i], &text), 0);
		if (text)
			fail_msg("thread %d: %s", i, (char *)text);
	}
}

static void syncs_are_shared_and_one_at_a_time(void **state)
{
	struct fake *f = new_fake(&full_ops, 10, 1);
	void *args[THREAD_COUNT] = {f, f, f, f};

	(void)state;
	run_threads(sync_often, args);
	assert_false(atomic_load(&f->sync_overlap));
	assert_in_range(atomic_load(&f->sync_begun), 50, 4 * 50);
	storage_close(&f->base);
}

static void check_zeroed(struct fake *f, uint64_t off, uint64_t len)
{
	for (uint64_t i = 0; i < f->len; i++)
		assert_int_equal(f->bytes[i],
				 i >= off && i < off + len ? 0 : 0x55);
}

static void zeroing_prefers_what_the_store_offers(void **state)
{
	struct fake *f = new_fake(&full_ops, 10000, 1);

	(void)state;
	fill(f, 0x55);
	assert_int_equal(
		storage_zero(&f->base, 17, 5000, STORAGE_ZERO_MAY_UNMAP), 0);
	assert_int_equal(f->zero_flags, STORAGE_ZERO_MAY_UNMAP);
	assert_int_equal(f->write_count, 0);
	check_zeroed(f, 17, 5000);
	storage_close(&f->base);
}

/* A store's end counts as aligned: nothing behind it needs to be kept. */
static void zeroing_up_to_an_odd_end_writes_nothing(void **state)
{
	struct fake *f = new_fake(&full_ops, 10000, 512);

	(void)state;
	fill(f, 0x55);
	assert_int_equal(
		storage_zero(&f->base, 512, 9488, STORAGE_ZERO_NO_FALLBACK), 0);
	assert_int_equal(f->write_count, 0);
	check_zeroed(f, 512, 9488);
	/* Else the edges are written, and the blocks between are not. */
	fill(f, 0x55);
	assert_int_equal(storage_zero(&f->base, 700, 2000, 0), 0);
	assert_int_equal(f->last_off, 1024);
	assert_int_equal(f->last_len, 1536);
	assert_int_equal(f->write_count, 2);
	check_zeroed(f, 700, 2000);
	storage_close(&f->base);
}

static void zeroing_falls_back_to_writing(void **state)
{
	const uint64_t size = 3u << 20;
	struct fake *f = new_fake(&full_ops, size, 1);

	(void)state;
	fill(f, 0x55);
	f->zero_error = -EOPNOTSUPP;
	assert_int_equal(storage_zero(&f->base, 100, size - 300,
				      STORAGE_ZERO_NO_FALLBACK),
			 -EOPNOTSUPP);
	assert_int_equal(f->write_count, 0);
	check_zeroed(f, 0, 0);
	assert_int_equal(storage_zero(&f->base, 100, size - 300, 0), 0);
	check_zeroed(f, 100, size - 300);
	assert_in_range(f->largest_write, 1, 1u << 20);

	f->zero_error = -EIO;
	fill(f, 0x55);
	assert_int_equal(storage_zero(&f->base, 100, 300, 0), -EIO);
	check_zeroed(f, 0, 0);
	f->zero_error = -EOPNOTSUPP;
	f->write_error = -ENOSPC;
	assert_int_equal(storage_zero(&f->base, 100, 300, 0), -ENOSPC);
	storage_close(&f->base);
}

static void zeroing_past_the_end_writes_no_data(void **state)
{
	struct fake *f = new_fake(&full_ops, 1000, 1);

	(void)state;
	fill(f, 0x55);
	assert_int_equal(
		storage_zero(&f->base, 900, 100000, STORAGE_ZERO_NO_FALLBACK),
		0);
	assert_int_equal(storage_size(&f->base), 100900);
	assert_int_equal(f->last_off, 900);
	assert_int_equal(f->last_len, 100);
	check_zeroed(f, 900, 100000);
	assert_int_equal(f->write_count, 0);

	f->resize_error = -EFBIG;
	assert_int_equal(storage_zero(&f->base, 200000, 1, 0), -EFBIG);
	assert_int_equal(storage_size(&f->base), 100900);
	storage_close(&f->base);
}

static void a_bare_store_is_enough(void **state)
{
	struct fake *f = new_fake(&bare_ops, 1000, 1);
	struct storage *s = &f->base;
	struct storage_extent extent;

	(void)state;
	fill(f, 0x55);
	assert_int_equal(storage_zero(s, 500, 1000, STORAGE_ZERO_NO_FALLBACK),
			 -EOPNOTSUPP);
	assert_int_equal(storage_zero(s, 500, 1000, 0), 0);
	assert_int_equal(storage_size(s), 1500);
	check_zeroed(f, 500, 1000);
	assert_int_equal(storage_discard(s, 0, 100), 0);
	storage_write_behind(s, 0, 100);
	assert_int_equal(storage_clone(s, 0, s, 0, 100), -EOPNOTSUPP);
	assert_int_equal(storage_resize(s, 5, PREALLOC_OFF, NULL), -ENOTSUP);
	assert_int_equal(storage_allocated_bytes(s), -EOPNOTSUPP);
	assert_int_equal(storage_extent_at(s, 0, 1u << 20, &extent), 0);
	assert_true(!extent.hole && extent.len == 1500);
	storage_close(s);
}

static void doubtful_extents_are_data(void **state)
{
	static const struct {
		int error;
		struct storage_extent answer;
		bool hole;
		uint64_t len;
	} cases[] = {
		{0, {.len = 300, .hole = true}, true, 300},
		{0, {.len = 400, .hole = false}, false, 400},
		{-EIO, {.len = 300, .hole = true}, false, 500},
		{0, {.len = 0, .hole = true}, false, 500},
		{0, {.len = 501, .hole = true}, false, 500},
	};
	struct fake *f = new_fake(&full_ops, 1000, 1);
	struct storage_extent extent;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		f->extent_error = cases[i].error;
		f->extent_answer = cases[i].answer;
		assert_int_equal(
			storage_extent_at(&f->base, 500, 9000, &extent), 0);
		assert_int_equal(extent.hole, cases[i].hole);
		assert_int_equal(extent.len, cases[i].len);
	}
	assert_int_equal(storage_extent_at(&f->base, 1000, 77, &extent), 0);
	assert_true(extent.hole && extent.len == 77);
	storage_close(&f->base);
}

static void discards_round_inwards(void **state)
{
	struct fake *f = new_fake(&full_ops, 10000, 512);
	struct storage *s = &f->base;

	(void)state;
	assert_int_equal(storage_discard(s, 100, 2000), 0);
	assert_int_equal(f->last_off, 512);
	assert_int_equal(f->last_len, 1536);
	assert_int_equal(storage_discard(s, 9000, UINT64_MAX), 0);
	assert_int_equal(f->last_off, 9216);
	assert_int_equal(f->last_len, 10000 - 9216);
	assert_int_equal(f->call_count, 2);
	assert_int_equal(storage_discard(s, 1, 600), 0);
	assert_int_equal(storage_discard(s, 10000, 600), 0);
	assert_int_equal(f->call_count, 2);
	f->discard_error = -EOPNOTSUPP;
	assert_int_equal(storage_discard(s, 0, 512), 0);
	f->discard_error = -EIO;
	assert_int_equal(storage_discard(s, 0, 512), -EIO);
	storage_close(s);
}

static void unaligned_random_operations_match_a_byte_array(void **state)
{
	static const uint32_t aligns[] = {1, 512, 4096};
	const struct storage_ops *const kinds[] = {&full_ops, &bare_ops};

	(void)state;
	for (uint64_t seed = 1; seed <= 12; seed++) {
		const struct storage_ops *ops = kinds[seed % 4 == 3];
		uint64_t size = ops == &bare_ops ? 12288 : 10000 + seed;
		struct fake *f = new_fake(ops, size, aligns[seed % 3]);

		/* Memory may matter where offsets do not, and the reverse. */
		if (seed > 6)
			f->base.mem_align = aligns[seed % 2];
		fill(f, 0x55);
		/* A bare store cannot cut back, so its blocks stay whole. */
		storage_model_run(
			&f->base,
			(struct storage_model_params){
				.seed = seed,
				.step_count = 250,
				.max_size = 300000,
				.keep_size = ops == &bare_ops || seed % 5 == 0,
			});
		if (ops == &full_ops)
			assert_int_equal(f->len, storage_size(&f->base));
		storage_close(&f->base);
	}
}

static void a_store_that_cannot_be_cut_back_keeps_whole_blocks(void **state)
{
	struct fake *f = new_fake(&bare_ops, 512, 512);

	(void)state;
	assert_int_equal(storage_write(&f->base, "x", 1, 600), 0);
	assert_int_equal(storage_size(&f->base), 1024);
	assert_int_equal(f->len, 1024);
	storage_close(&f->base);
}

static void large_unaligned_io_goes_in_bounded_pieces(void **state)
{
	const size_t len = (3u << 20) + 77;
	struct fake *f = new_fake(&full_ops, 0, 512);
	uint8_t *want = malloc(len);
	uint8_t *got = malloc(len);

	(void)state;
	assert_true(want && got);
	for (size_t i = 0; i < len; i++)
		want[i] = (uint8_t)(i * 31 + i / 512);
	assert_int_equal(storage_write(&f->base, want, len, 333), 0);
	assert_int_equal(storage_size(&f->base), 333 + len);
	assert_int_equal(f->len, 333 + len);
	assert_int_equal(f->largest_write, 1u << 20);
	assert_int_equal(storage_read(&f->base, got, len, 333), 0);
	assert_memory_equal(got, want, len);
	free(want);
	free(got);
	storage_close(&f->base);
}

static void errors_of_edges_are_reported(void **state)
{
	struct fake *f = new_fake(&full_ops, 4096, 512);

	(void)state;
	fill(f, 0x55);
	f->read_error = -EIO;
	assert_int_equal(storage_write(&f->base, "x", 1, 700), -EIO);
	assert_int_equal(f->write_count, 0);
	f->read_error = 0;
	f->write_error = -ENOSPC;
	assert_int_equal(storage_write(&f->base, "x", 1, 700), -ENOSPC);
	f->write_error = 0;
	/* The data is there, the length on disk is not as it should be. */
	f->resize_error = -EIO;
	assert_int_equal(storage_write(&f->base, "x", 1, 5000), -EIO);
	f->resize_error = 0;
	assert_int_equal(f->bytes[5000], 'x');
	assert_int_equal(storage_size(&f->base), 5001);
	storage_close(&f->base);
}

/* Each thread owns every fourth byte of the same few blocks. */
struct lane {
	struct fake *f;
	pthread_barrier_t *round; /* keeps the threads side by side */
	unsigned number;
};

#define LANE_SPAN   2048u
#define LANE_ROUNDS 40u

static void *write_lane(void *arg)
{
	struct lane *lane = arg;
	struct storage *s = &lane->f->base;

	for (unsigned round = 1; round <= LANE_ROUNDS; round++) {
		for (unsigned i = lane->number; i < LANE_SPAN;
		     i += THREAD_COUNT) {
			uint8_t byte = (uint8_t)(round + lane->number);
			uint8_t got;

			if (storage_write(s, &byte, 1, i))
				return complaint("write failed");
			if (storage_read(s, &got, 1, i) || got != byte)
				return complaint("own byte lost");
		}
	}
	return NULL;
}

static void neighbours_in_a_block_lose_nothing(void **state)
{
	struct fake *f = new_fake(&full_ops, LANE_SPAN, 512);
	struct lane lane[THREAD_COUNT];
	void *args[THREAD_COUNT];

	(void)state;
	for (unsigned i = 0; i < THREAD_COUNT; i++) {
		lane[i] = (struct lane){.f = f, .number = i};
		args[i] = &lane[i];
	}
	run_threads(write_lane, args);
	for (unsigned i = 0; i < LANE_SPAN; i++)
		assert_int_equal(f->bytes[i], LANE_ROUNDS + i % THREAD_COUNT);
	storage_close(&f->base);
}

#define APPEND_COUNT 1000u

static bool appends_data(uint64_t block)
{
	return block % THREAD_COUNT >= THREAD_COUNT / 2;
}

/*
 * Side by side, two append zeros and two append data behind these: a zeroing
 * that sets the length must not cut off what is being appended meanwhile.
 */
static void *append_lane(void *arg)
{
	struct lane *lane = arg;
	struct storage *s = &lane->f->base;
	uint8_t block[512];
	void *text = NULL;

	memset(block, 0x77, sizeof(block));
	for (uint64_t i = lane->number; i < APPEND_COUNT; i += THREAD_COUNT) {
		int ret;

		/* A thread that fails must not leave the others waiting. */
		pthread_barrier_wait(lane->round);
		if (appends_data(i)) {
			ret = storage_write(s, block, 512, i * 512);
		} else {
			usleep(50);
			ret = storage_zero(s, i * 512, 512, 0);
		}
		if (ret)
			text = complaint("append failed");
	}
	return text;
}

static void appending_threads_cut_nothing_off(void **state)
{
	struct lane lane[THREAD_COUNT];
	void *args[THREAD_COUNT];
	pthread_barrier_t round;

	(void)state;
	assert_int_equal(pthread_barrier_init(&round, NULL, THREAD_COUNT), 0);
	for (uint32_t align = 1; align <= 512; align *= 512) {
		struct fake *f = new_fake(&full_ops, 0, align);

		f->dawdle = true;
		for (unsigned i = 0; i < THREAD_COUNT; i++) {
			lane[i] = (struct lane){
				.f = f, .round = &round, .number = i};
			args[i] = &lane[i];
		}
		run_threads(append_lane, args);
		assert_int_equal(f->len, APPEND_COUNT * 512);
		assert_int_equal(storage_size(&f->base), APPEND_COUNT * 512);
		for (unsigned i = 0; i < APPEND_COUNT * 512; i++)
			assert_int_equal(f->bytes[i],
					 appends_data(i / 512) ? 0x77 : 0);
		storage_close(&f->base);
	}
	pthread_barrier_destroy(&round);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty_requests_do_nothing),
		cmocka_unit_test(reads_past_the_end_are_errors),
		cmocka_unit_test(padded_reads_end_in_zeros),
		cmocka_unit_test(changes_need_permission_and_room),
		cmocka_unit_test(resize_says_what_is_wrong),
		cmocka_unit_test(the_size_grows_with_what_is_written),
		cmocka_unit_test(a_failed_sync_is_never_forgotten),
		cmocka_unit_test(syncs_can_be_off_or_not_offered),
		cmocka_unit_test(syncs_are_shared_and_one_at_a_time),
		cmocka_unit_test(zeroing_prefers_what_the_store_offers),
		cmocka_unit_test(zeroing_up_to_an_odd_end_writes_nothing),
		cmocka_unit_test(zeroing_falls_back_to_writing),
		cmocka_unit_test(zeroing_past_the_end_writes_no_data),
		cmocka_unit_test(a_bare_store_is_enough),
		cmocka_unit_test(doubtful_extents_are_data),
		cmocka_unit_test(discards_round_inwards),
		cmocka_unit_test(
			unaligned_random_operations_match_a_byte_array),
		cmocka_unit_test(
			a_store_that_cannot_be_cut_back_keeps_whole_blocks),
		cmocka_unit_test(large_unaligned_io_goes_in_bounded_pieces),
		cmocka_unit_test(errors_of_edges_are_reported),
		cmocka_unit_test(neighbours_in_a_block_lose_nothing),
		cmocka_unit_test(appending_threads_cut_nothing_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
