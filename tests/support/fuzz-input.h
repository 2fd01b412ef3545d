/* SPDX-License-Identifier: BSD-3-Clause */
/* The input of a fuzz target, eaten from its start; behind its end it is 0. */
#ifndef PLATTER_TESTS_SUPPORT_FUZZ_INPUT_H
#define PLATTER_TESTS_SUPPORT_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct fuzz_input {
	const uint8_t *at;
	size_t left;
};

static inline uint8_t fuzz_next_byte(struct fuzz_input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->at++;
}

static inline uint16_t fuzz_next_half(struct fuzz_input *in)
{
	uint16_t high = fuzz_next_byte(in);

	return (uint16_t)(high << 8 | fuzz_next_byte(in));
}

static inline uint32_t fuzz_next_word(struct fuzz_input *in)
{
	uint32_t high = fuzz_next_half(in);

	return high << 16 | fuzz_next_half(in);
}

/* Up to `len` bytes as they are; `*len` says how many. */
static inline const uint8_t *fuzz_next_bytes(struct fuzz_input *in, size_t *len)
{
	const uint8_t *at = in->at;

	if (*len > in->left)
		*len = in->left;
	in->at += *len;
	in->left -= *len;
	return at;
}

/* Puts as much as fits behind what is there; returns how much that is then. */
static inline size_t fuzz_append(uint8_t *out, size_t used, size_t max,
				 const void *bytes, size_t len)
{
	if (len > max - used)
		len = max - used;
	if (len)
		memcpy(out + used, bytes, len);
	return used + len;
}

#endif
