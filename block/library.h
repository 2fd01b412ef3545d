/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shared libraries that are loaded when they are first needed: most commands
 * never need them, and each would cost every start of the program its time.
 *
 * A user lists the functions it calls in a macro, and makes three things of it:
 * a struct of pointers, and for library_load() the symbols, so that compiler
 * and loader agree on each name and type.
 */
#ifndef PLATTER_BLOCK_LIBRARY_H
#define PLATTER_BLOCK_LIBRARY_H

#include <stddef.h>

struct error;

struct library_symbol {
	const char *name;
	size_t at; /* offset of its pointer in the table */
};

/*
 * Fills `table`; all symbols are there, or it is an error. `file` stays loaded
 * for good. Any thread, for a table that no other thread looks at yet.
 */
int library_load(void *table, const char *file,
		 const struct library_symbol *symbols, size_t count,
		 struct error *err);

#endif
