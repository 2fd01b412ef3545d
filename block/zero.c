/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Looking for zeros.
 *
 * The vector routines or whole blocks together and test once per block: memory
 * is the limit, not the instructions. Ends that do not fill a block are read
 * with loads that overlap what was read already, so no routine has a byte loop
 * and none reads outside [buf, buf + len).
 *
 * The choice of routine is a test of a word that libgcc fills before main():
 * no state of ours, nothing to initialise.
 */
#include "block/zero.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Below this the call of a vector routine costs more than it saves. */
#define VECTOR_LEN_MIN 64

static uint64_t load_u64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

bool is_zero_portable(const void *buf, size_t len)
{
	const uint8_t *p = buf;
	size_t i = 0;

	if (len < 8) {
		for (; i < len; i++)
			if (p[i])
				return false;
		return true;
	}
	for (; len - i >= 64; i += 64) {
		uint64_t any = 0;

		for (size_t k = 0; k < 64; k += 8)
			any |= load_u64(p + i + k);
		if (any)
			return false;
	}
	for (; len - i >= 8; i += 8)
		if (load_u64(p + i))
			return false;
	return !load_u64(p + len - 8);
}

#if defined(__x86_64__)

static __m128i load_128(const uint8_t *p)
{
	return _mm_loadu_si128((const void *)p);
}

/* len >= 16 */
static bool is_zero_sse2(const uint8_t *p, size_t len)
{
	const __m128i zero = _mm_setzero_si128();
	__m128i any;
	size_t i = 0;

	for (; len - i >= 64; i += 64) {
		any = _mm_or_si128(
			_mm_or_si128(load_128(p + i), load_128(p + i + 16)),
			_mm_or_si128(load_128(p + i + 32),
				     load_128(p + i + 48)));
		if (_mm_movemask_epi8(_mm_cmpeq_epi8(any, zero)) != 0xffff)
			return false;
	}
	any = load_128(p + len - 16);
	for (; len - i >= 16; i += 16)
		any = _mm_or_si128(any, load_128(p + i));
	return _mm_movemask_epi8(_mm_cmpeq_epi8(any, zero)) == 0xffff;
}

__attribute__((target("avx2"))) static __m256i load_256(const uint8_t *p)
{
	return _mm256_loadu_si256((const void *)p);
}

/* len >= 32 */
__attribute__((target("avx2"))) static bool is_zero_avx2(const uint8_t *p,
							 size_t len)
{
	__m256i a, b;
	size_t i = 0;

	for (; len - i >= 256; i += 256) {
		a = load_256(p + i);
		b = load_256(p + i + 32);
		for (size_t k = 64; k < 256; k += 64) {
			a = _mm256_or_si256(a, load_256(p + i + k));
			b = _mm256_or_si256(b, load_256(p + i + k + 32));
		}
		a = _mm256_or_si256(a, b);
		if (!_mm256_testz_si256(a, a))
			return false;
	}
	a = load_256(p + len - 32);
	for (; len - i >= 32; i += 32)
		a = _mm256_or_si256(a, load_256(p + i));
	return _mm256_testz_si256(a, a);
}

static bool is_zero_vector(const uint8_t *p, size_t len)
{
	if (__builtin_cpu_supports("avx2"))
		return is_zero_avx2(p, len);
	return is_zero_sse2(p, len);
}

#else

static bool is_zero_vector(const uint8_t *p, size_t len)
{
	return is_zero_portable(p, len);
}

#endif

bool is_zero(const void *buf, size_t len)
{
	const uint8_t *p = buf;

	if (len < VECTOR_LEN_MIN)
		return is_zero_portable(buf, len);
	/* Most data shows itself in its first word. */
	if (load_u64(p))
		return false;
	return is_zero_vector(p, len);
}

size_t zero_run(const void *buf, size_t len, size_t unit, bool *zero)
{
	const uint8_t *p = buf;
	size_t run;

	assert(unit > 0);
	run = len < unit ? len : unit;
	*zero = is_zero(p, run);
	while (run < len) {
		size_t next = len - run < unit ? len - run : unit;

		if (is_zero(p + run, next) != *zero)
			break;
		run += next;
	}
	return run;
}
