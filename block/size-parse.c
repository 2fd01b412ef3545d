/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sizes as users write them (spec: cli-contract 1).
 *
 *	size    = blanks ["+"] (decimal | hex)
 *	hex     = "0x" hexdigits
 *	decimal = digits ["." [digits]] [letter]
 *
 * Arithmetic is exact: a fraction is scaled as an integer, never as a float, so
 * 7.9999E is the same number on every machine. What the fraction leaves over of
 * a byte is rounded to the nearest, up at one half. A fraction of bytes is
 * refused unless it is zero.
 */
#include "block/options.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

/* Digits of a fraction that count: 10^19 fits in 64 bits, times 2^60 in 128. */
#define FRACTION_DIGITS_MAX 19

struct decimal {
	uint64_t whole;
	uint64_t fraction, fraction_one; /* numerator, denominator */
	bool overflow;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int hex_value(char c)
{
	if (is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Digits have to be there, and nothing behind them. */
static int parse_hex(const char *p, uint64_t *out)
{
	uint64_t v = 0;
	bool overflow = false;

	if (!*p)
		return -EINVAL;
	for (; *p; p++) {
		int digit = hex_value(*p);

		if (digit < 0)
			return -EINVAL;
		overflow = overflow || v >> 60;
		v = v << 4 | (unsigned)digit;
	}
	if (overflow || v > INT64_MAX)
		return -ERANGE;
	*out = v;
	return 0;
}

/* Returns what follows the number, or NULL if there is none. */
static const char *parse_decimal(const char *p, struct decimal *d)
{
	int digits = 0;

	*d = (struct decimal){.fraction_one = 1};
	if (!is_digit(*p))
		return NULL;
	for (; is_digit(*p); p++) {
		uint64_t digit = (uint64_t)(*p - '0');

		if (__builtin_mul_overflow(d->whole, 10, &d->whole) ||
		    __builtin_add_overflow(d->whole, digit, &d->whole))
			d->overflow = true;
	}
	if (*p != '.')
		return p;
	for (p++; is_digit(*p); p++) {
		if (digits++ >= FRACTION_DIGITS_MAX)
			continue;
		d->fraction = d->fraction * 10 + (uint64_t)(*p - '0');
		d->fraction_one *= 10;
	}
	return p;
}

/* The power of two of a suffix letter, or -1. */
static int suffix_shift(char c)
{
	static const char letters[] = "bkmgtpe";
	const char *at = c ? strchr(letters, tolower((unsigned char)c)) : NULL;

	return at ? (int)(at - letters) * 10 : -1;
}

int size_parse(const char *text, uint64_t *out)
{
	unsigned __int128 sum;
	struct decimal d;
	int shift = 0;

	while (isspace((unsigned char)*text))
		text++;
	if (*text == '+')
		text++;
	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
		return parse_hex(text + 2, out);

	text = parse_decimal(text, &d);
	if (!text)
		return -EINVAL;
	if (*text) {
		shift = suffix_shift(*text++);
		if (shift < 0 || *text)
			return -EINVAL;
	}
	if (!shift && d.fraction)
		return -EINVAL;
	sum = (unsigned __int128)d.fraction << shift;
	sum = (sum + d.fraction_one / 2) / d.fraction_one;
	sum += (unsigned __int128)d.whole << shift;
	if (d.overflow || sum > INT64_MAX)
		return -ERANGE;
	*out = (uint64_t)sum;
	return 0;
}
