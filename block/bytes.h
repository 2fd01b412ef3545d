/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Numbers in files and on wires, and arithmetic that cannot wrap.
 *
 * Disk and wire structs are made only of the byte-array types below, so their
 * alignment is 1, they need no packing attribute, and a forgotten conversion
 * does not compile. Both compilers turn each accessor into one load and swap.
 *
 * All functions: any thread, no errors.
 */
#ifndef PLATTER_BLOCK_BYTES_H
#define PLATTER_BLOCK_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define BYTES_DEFINE(order, bits)                                          \
	typedef struct {                                                   \
		uint8_t byte[(bits) / 8];                                  \
	} order##bits##_t;                                                 \
	static inline uint##bits##_t order##bits##_get(order##bits##_t v)  \
	{                                                                  \
		uint##bits##_t raw;                                        \
		memcpy(&raw, v.byte, sizeof(raw));                         \
		return order##bits##toh(raw);                              \
	}                                                                  \
	static inline order##bits##_t order##bits##_make(uint##bits##_t v) \
	{                                                                  \
		order##bits##_t out;                                       \
		uint##bits##_t raw = hto##order##bits(v);                  \
		memcpy(out.byte, &raw, sizeof(raw));                       \
		return out;                                                \
	}

BYTES_DEFINE(be, 16)
BYTES_DEFINE(be, 32)
BYTES_DEFINE(be, 64)
BYTES_DEFINE(le, 16)
BYTES_DEFINE(le, 32)
BYTES_DEFINE(le, 64)

/* True if the sum or product did not fit; *out is then not to be used. */
static inline bool add_overflows(uint64_t a, uint64_t b, uint64_t *out)
{
	return __builtin_add_overflow(a, b, out);
}

static inline bool mul_overflows(uint64_t a, uint64_t b, uint64_t *out)
{
	return __builtin_mul_overflow(a, b, out);
}

/* True if [off, off + len) lies inside [0, size): never wraps. */
static inline bool range_inside(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

static inline bool is_power_of_2(uint64_t v)
{
	return v && !(v & (v - 1));
}

/* `align` is a power of two; align_up's caller knows that v + align fits. */
static inline uint64_t align_down(uint64_t v, uint64_t align)
{
	return v & ~(align - 1);
}

static inline uint64_t align_up(uint64_t v, uint64_t align)
{
	return (v + align - 1) & ~(align - 1);
}

static inline bool is_aligned(uint64_t v, uint64_t align)
{
	return !(v & (align - 1));
}

/* Rounded up; `unit` > 0 of any value; does not wrap. */
static inline uint64_t div_round_up(uint64_t v, uint64_t unit)
{
	return v / unit + (v % unit != 0);
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

#endif
