/* SPDX-License-Identifier: BSD-3-Clause */
/* Random operations on a storage against a byte array; see the header. */
#include "tests/support/storage-model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "block/bytes.h"
#include "block/error.h"

#define VECTOR_MAX 5

struct model {
	struct storage *s;
	struct storage_model_params params;
	uint8_t *bytes;	  /* what the store has to hold */
	uint8_t *scratch; /* both of max_size */
	uint64_t size;
	uint64_t random;
};

/* xorshift: the same numbers on every machine. */
static uint64_t next_random(struct model *m)
{
	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	return m->random;
}

static uint64_t below(struct model *m, uint64_t limit)
{
	return limit ? next_random(m) % limit : 0;
}

/* A place that is often near something that matters. */
static uint64_t pick_offset(struct model *m, uint64_t limit)
{
	static const uint32_t units[] = {1, 512, 4096, 65536};
	uint64_t off = below(m, limit + 1);

	off = align_down(off, units[below(m, 4)]);
	if (below(m, 4) == 0)
		off += below(m, 3);
	if (below(m, 8) == 0)
		off = m->size;
	return min_u64(off, limit);
}

static void pick_range(struct model *m, uint64_t limit, uint64_t *off,
		       uint64_t *len)
{
	uint64_t a = pick_offset(m, limit);
	uint64_t b = pick_offset(m, limit);

	if (below(m, 2))
		b = min_u64(limit, a + below(m, 9000));
	*off = min_u64(a, b);
	*len = max_u64(a, b) - *off;
}

/* What the store may come to hold by this operation. */
static uint64_t change_limit(const struct model *m)
{
	return m->params.keep_size ? m->size : m->params.max_size;
}

/* Cuts [0, len) of a buffer into a vector with odd and empty elements. */
static int cut_vector(struct model *m, uint8_t *buf, uint64_t len,
		      struct iovec *iov)
{
	int count = 1 + (int)below(m, VECTOR_MAX - 1);

	for (int i = 0; i < count; i++) {
		uint64_t part = i == count - 1 ? len : below(m, len + 1);

		if (below(m, 2) && part != len)
			part = align_down(part, 512);
		iov[i] = (struct iovec){.iov_base = buf, .iov_len = part};
		buf += part;
		len -= part;
	}
	return count;
}

static void note_size(struct model *m, uint64_t end)
{
	m->size = max_u64(m->size, end);
}

static void do_write(struct model *m)
{
	struct iovec iov[VECTOR_MAX];
	uint64_t off;
	uint64_t len;
	int count;

	pick_range(m, change_limit(m), &off, &len);
	for (uint64_t i = 0; i < len; i++)
		m->bytes[off + i] = (uint8_t)next_random(m);
	memcpy(m->scratch + off, m->bytes + off, len);
	count = cut_vector(m, m->scratch + off, len, iov);
	assert_int_equal(storage_writev(m->s, iov, count, off), 0);
	if (len)
		note_size(m, off + len);
}

static void do_zero(struct model *m)
{
	unsigned flags = below(m, 2) ? STORAGE_ZERO_MAY_UNMAP : 0;
	uint64_t off;
	uint64_t len;

	pick_range(m, change_limit(m), &off, &len);
	memset(m->bytes + off, 0, len);
	assert_int_equal(storage_zero(m->s, off, len, flags), 0);
	if (len)
		note_size(m, off + len);
}

/* What is discarded may read as anything, so that is what it is from now on. */
static void do_discard(struct model *m)
{
	uint64_t off;
	uint64_t len;

	pick_range(m, change_limit(m), &off, &len);
	assert_int_equal(storage_discard(m->s, off, len), 0);
	if (off >= m->size)
		return;
	len = min_u64(len, m->size - off);
	assert_int_equal(storage_read(m->s, m->bytes + off, len, off), 0);
}

static void do_resize(struct model *m)
{
	enum prealloc_mode mode = PREALLOC_OFF;
	uint64_t size = pick_offset(m, m->params.max_size);
	struct error err = {0};

	if (m->params.keep_size)
		return;
	if (below(m, 4) == 0)
		mode = below(m, 2) ? PREALLOC_FULL : PREALLOC_FALLOC;
	assert_int_equal(storage_resize(m->s, size, mode, &err), 0);
	memset(m->bytes + size, 0, m->params.max_size - size);
	m->size = size;
}

static void check_read(struct model *m)
{
	struct iovec iov[VECTOR_MAX];
	uint64_t off;
	uint64_t len;
	int count;

	pick_range(m, m->size, &off, &len);
	memset(m->scratch, 0xa5, m->params.max_size);
	count = cut_vector(m, m->scratch + off, len, iov);
	assert_int_equal(storage_readv(m->s, iov, count, off), 0);
	assert_memory_equal(m->scratch + off, m->bytes + off, len);
}

/* All bytes, and zeros behind the end. */
static void check_all(struct model *m)
{
	assert_true(storage_size(m->s) == m->size);
	memset(m->scratch, 0xa5, m->params.max_size);
	assert_int_equal(
		storage_read_padded(m->s, m->scratch, m->params.max_size, 0),
		0);
	assert_memory_equal(m->scratch, m->bytes, m->params.max_size);
}

/* A hole that is not zeros would lose data in every copy. */
static void check_extents(struct model *m)
{
	uint64_t off = pick_offset(m, m->size);

	while (off < m->size) {
		struct storage_extent extent = {0};
		uint64_t len = 1 + below(m, m->size - off);

		assert_int_equal(storage_extent_at(m->s, off, len, &extent), 0);
		assert_in_range(extent.len, 1, len);
		for (uint64_t i = 0; extent.hole && i < extent.len; i++)
			assert_int_equal(m->bytes[off + i], 0);
		off += extent.len;
	}
}

static void step(struct model *m)
{
	switch (below(m, 10)) {
	case 0:
	case 1:
	case 2:
	case 3:
		do_write(m);
		break;
	case 4:
	case 5:
		do_zero(m);
		break;
	case 6:
		do_discard(m);
		break;
	case 7:
		do_resize(m);
		break;
	default:
		check_extents(m);
		break;
	}
	check_read(m);
}

void storage_model_run(struct storage *s, struct storage_model_params params)
{
	struct model m = {
		.s = s,
		.params = params,
		.bytes = calloc(1, params.max_size),
		.scratch = calloc(1, params.max_size),
		.size = storage_size(s),
		.random = params.seed * 0x9e3779b97f4a7c15u | 1,
	};

	printf("seed %llu\n", (unsigned long long)params.seed);
	assert_non_null(m.bytes);
	assert_non_null(m.scratch);
	assert_true(m.size <= params.max_size);
	assert_int_equal(storage_read(s, m.bytes, m.size, 0), 0);
	for (unsigned i = 0; i < params.step_count; i++) {
		step(&m);
		if (i % 16 == 0)
			check_all(&m);
	}
	check_all(&m);
	free(m.bytes);
	free(m.scratch);
}
