/* SPDX-License-Identifier: BSD-3-Clause */
/* See word.h. */
#include "cli/word.h"

#include <string.h>

int word_find(const char *word, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(word, words[i]))
			return (int)i;
	return -1;
}
