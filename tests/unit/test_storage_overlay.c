/* SPDX-License-Identifier: BSD-3-Clause */
/* The overlay shows every change and its base sees none. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "block/error.h"
#include "block/storage/memory.h"
#include "block/storage/overlay.h"
#include "tests/support/storage-model.h"

#define PAGE	  65536u
#define BASE_SIZE (3u * PAGE + 1000u)

/*
 * The base belongs to the overlay, so what is to be looked at afterwards stands
 * below a view of it: a storage of the test's own that reads through.
 */
struct view {
	struct storage base;
	struct storage *below;
	int read_error;
	bool closed;
};

static int view_readv(struct storage *s, const struct iovec *iov, int iov_count,
		      uint64_t off)
{
	struct view *v = (struct view *)s;

	return v->read_error ? v->read_error
			     : storage_readv(v->below, iov, iov_count, off);
}

static int view_writev(struct storage *s, const struct iovec *iov,
		       int iov_count, uint64_t off)
{
	(void)s;
	(void)iov;
	(void)iov_count;
	(void)off;
	fail_msg("the overlay wrote to its base");
	return -EIO;
}

static int view_extent(struct storage *s, uint64_t off, uint64_t len,
		       struct storage_extent *out)
{
	return storage_extent_at(((struct view *)s)->below, off, len, out);
}

static void view_close(struct storage *s)
{
	((struct view *)s)->closed = true;
	storage_release(s);
}

static const struct storage_ops view_ops = {
	.name = "view",
	.readv = view_readv,
	.writev = view_writev,
	.extent = view_extent,
	.close = view_close,
};

struct fixture {
	struct view view;
	struct storage *base;
	struct storage *overlay;
	uint8_t bytes[BASE_SIZE];
};

static int set_up(void **state)
{
	static struct fixture f;

	memset(&f, 0, sizeof(f));
	for (size_t i = 0; i < BASE_SIZE; i++)
		f.bytes[i] = (uint8_t)(i * 7 + i / 256 + 1);
	memset(f.bytes + PAGE, 0, PAGE);
	if (storage_memory_from(&f.base, "base", f.bytes, PAGE) ||
	    storage_write(f.base, f.bytes + 2 * PAGE, BASE_SIZE - 2 * PAGE,
			  2 * PAGE))
		return -1;
	if (storage_init(&f.view.base, &view_ops, "view"))
		return -1;
	f.view.below = f.base;
	f.view.base.writable = true;
	f.view.base.can_grow = true;
	storage_raise_size(&f.view.base, BASE_SIZE);
	*state = &f;
	return storage_overlay_new(&f.overlay, &f.view.base);
}

/* In every test: the base is as it was, and closed with the overlay. */
static int tear_down(void **state)
{
	static uint8_t got[BASE_SIZE];
	struct fixture *f = *state;

	storage_close(f->overlay);
	assert_true(f->view.closed);
	assert_int_equal(storage_size(f->base), BASE_SIZE);
	assert_int_equal(storage_read(f->base, got, BASE_SIZE, 0), 0);
	assert_memory_equal(got, f->bytes, BASE_SIZE);
	storage_close(f->base);
	return 0;
}

static void check_contents(struct storage *s, const uint8_t *want, size_t len)
{
	static uint8_t got[BASE_SIZE + PAGE];

	assert_true(len <= sizeof(got));
	assert_int_equal(storage_read(s, got, len, 0), 0);
	assert_memory_equal(got, want, len);
}

static void the_base_shows_through(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(storage_size(f->overlay), BASE_SIZE);
	check_contents(f->overlay, f->bytes, BASE_SIZE);
	assert_int_equal(storage_read(f->overlay, f->bytes, 1, BASE_SIZE),
			 -EIO);
}

static void a_write_changes_its_bytes_only(void **state)
{
	struct fixture *f = *state;
	uint8_t want[BASE_SIZE];

	memcpy(want, f->bytes, BASE_SIZE);
	memcpy(want + PAGE - 2, "edge", 4);
	memcpy(want + BASE_SIZE - 3, "end", 3);
	assert_int_equal(storage_write(f->overlay, "edge", 4, PAGE - 2), 0);
	assert_int_equal(storage_write(f->overlay, "end", 3, BASE_SIZE - 3), 0);
	check_contents(f->overlay, want, BASE_SIZE);
}

static void zeros_hide_the_base(void **state)
{
	struct fixture *f = *state;
	uint8_t want[BASE_SIZE];
	struct storage_extent extent;

	memcpy(want, f->bytes, BASE_SIZE);
	memset(want + 10, 0, 2 * PAGE);
	assert_int_equal(storage_zero(f->overlay, 10, 2 * PAGE, 0), 0);
	check_contents(f->overlay, want, BASE_SIZE);
	assert_int_equal(storage_extent_at(f->overlay, PAGE, PAGE, &extent), 0);
	assert_true(extent.hole && extent.len == PAGE);

	/* A write into a zeroed page does not bring the base back. */
	memcpy(want + PAGE + 5, "new", 3);
	assert_int_equal(storage_write(f->overlay, "new", 3, PAGE + 5), 0);
	check_contents(f->overlay, want, BASE_SIZE);
}

static void holes_of_the_base_stay_holes(void **state)
{
	struct fixture *f = *state;
	struct storage_extent extent;

	assert_int_equal(storage_extent_at(f->overlay, 0, BASE_SIZE, &extent),
			 0);
	assert_true(!extent.hole && extent.len == PAGE);
	assert_int_equal(
		storage_extent_at(f->overlay, PAGE, BASE_SIZE - PAGE, &extent),
		0);
	assert_true(extent.hole && extent.len == PAGE);
}

static void what_a_shrink_cuts_off_stays_away(void **state)
{
	struct fixture *f = *state;
	uint8_t want[BASE_SIZE + PAGE];

	memset(want, 0, sizeof(want));
	memcpy(want, f->bytes, 100);
	assert_int_equal(storage_write(f->overlay, "x", 1, 2 * PAGE), 0);
	assert_int_equal(storage_resize(f->overlay, 100, PREALLOC_OFF, NULL),
			 0);
	assert_int_equal(
		storage_resize(f->overlay, sizeof(want), PREALLOC_OFF, NULL),
		0);
	check_contents(f->overlay, want, sizeof(want));
}

static void it_grows_over_a_partial_page(void **state)
{
	struct fixture *f = *state;
	uint8_t want[BASE_SIZE + PAGE];

	memset(want, 0, sizeof(want));
	memcpy(want, f->bytes, BASE_SIZE);
	want[sizeof(want) - 1] = 'z';
	assert_int_equal(storage_write(f->overlay, "z", 1, sizeof(want) - 1),
			 0);
	check_contents(f->overlay, want, sizeof(want));
}

static void a_failed_write_changes_nothing(void **state)
{
	struct fixture *f = *state;
	uint8_t ones[2 * PAGE];

	memset(ones, 1, sizeof(ones));
	f->view.read_error = -EIO;
	assert_int_equal(storage_write(f->overlay, ones, sizeof(ones), 100),
			 -EIO);
	assert_int_equal(storage_zero(f->overlay, 1, 1, 0), -EIO);
	f->view.read_error = 0;
	check_contents(f->overlay, f->bytes, BASE_SIZE);
}

static void random_operations_match_a_byte_array(void **state)
{
	struct fixture *f = *state;

	for (uint64_t seed = 1; seed <= 4; seed++)
		storage_model_run(f->overlay,
				  (struct storage_model_params){
					  .seed = seed,
					  .step_count = 400,
					  .max_size = BASE_SIZE + 2 * PAGE,
				  });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_base_shows_through, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_write_changes_its_bytes_only,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(zeros_hide_the_base, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(holes_of_the_base_stay_holes,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			what_a_shrink_cuts_off_stays_away, set_up, tear_down),
		cmocka_unit_test_setup_teardown(it_grows_over_a_partial_page,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_failed_write_changes_nothing,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			random_operations_match_a_byte_array, set_up,
			tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
