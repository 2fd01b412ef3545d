/* SPDX-License-Identifier: BSD-3-Clause */
/* Sets of metadata contexts: see context.h. */
#include "nbd-server/context.h"

#include <assert.h>

bool nbd_context_in(const struct nbd_context_set *set, unsigned number)
{
	assert(number < NBD_CONTEXTS_MAX);
	return set->words[number / 64] >> number % 64 & 1;
}

bool nbd_context_add(struct nbd_context_set *set, unsigned number)
{
	if (nbd_context_in(set, number))
		return false;
	set->words[number / 64] |= UINT64_C(1) << number % 64;
	set->count++;
	return true;
}

unsigned nbd_context_next(const struct nbd_context_set *set, unsigned number)
{
	for (unsigned word = number / 64; word < NBD_CONTEXTS_MAX / 64;
	     word++, number = word * 64) {
		uint64_t rest = set->words[word] >> number % 64;

		if (rest)
			return number + (unsigned)__builtin_ctzll(rest);
	}
	return NBD_CONTEXTS_MAX;
}
