/* SPDX-License-Identifier: BSD-3-Clause */
/* Arguments that are one of a few words. */
#ifndef PLATTER_CLI_WORD_H
#define PLATTER_CLI_WORD_H

#include <stddef.h>

/* The index of `word` among `count` words; negative: it is none of them. */
int word_find(const char *word, const char *const *words, size_t count);

/* The same for an array of words, which its values are the indices of. */
#define WORD_FIND(word, words) \
	word_find(word, words, sizeof(words) / sizeof((words)[0]))

#endif
