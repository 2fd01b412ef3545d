/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options as users write them: `a=b,c=d` (a comma inside a value doubled), and
 * the dotted keys of --image-opts. One table per format drives the checks, the
 * defaults, `-o help` and the manual.
 *
 * Not for use by several threads at once.
 */
#ifndef PLATTER_BLOCK_OPTIONS_H
#define PLATTER_BLOCK_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;

enum option_type { OPTION_STRING, OPTION_NUMBER, OPTION_SIZE, OPTION_BOOL };

/* One option of a table; tables end with a NULL name. */
struct option_def {
	const char *name;
	enum option_type type;
	const char *help;
	const char *default_text; /* NULL: unset */
};

struct option {
	char *name, *value;
};

struct options {
	struct option *items; /* in order; a later one of a name wins */
	size_t count;
};

/*
 * These add to what is there; on failure (-EINVAL, -ENOMEM) nothing is added.
 * In a text a name alone means "on" (and noNAME "off").
 */
int options_parse(struct options *opts, const char *text, struct error *err);
int options_set(struct options *opts, const char *name, const char *value);
int options_copy(struct options *dst, const struct options *src);
/* The last value of the name, or NULL. Borrowed. */
const char *options_get(const struct options *opts, const char *name);
/* Removes every item of the name. `name` is none of the items' own. */
void options_remove(struct options *opts, const char *name);
/* Moves items `prefix.x` behind those of `out`, as `x`. 0 or -ENOMEM. */
int options_split(struct options *opts, const char *prefix,
		  struct options *out);
/* Zeroed is empty. Frees the items. */
void options_release(struct options *opts);

/*
 * Every item must be in the table and parse as its type, otherwise an error:
 * "Invalid parameter 'foo'".
 */
int options_check(const struct options *opts, const struct option_def *defs,
		  struct error *err);

/*
 * Typed look-ups: the value or the table's default, else 0, false or NULL;
 * `*present` (may be NULL) tells whether the user or a default gave one.
 * options_get_size() serves OPTION_SIZE and OPTION_NUMBER, up to 2^63 - 1.
 * The name is in the table.
 */
int options_get_size(const struct options *opts, const struct option_def *defs,
		     const char *name, uint64_t *out, bool *present,
		     struct error *err);
int options_get_bool(const struct options *opts, const struct option_def *defs,
		     const char *name, bool *out, struct error *err);
const char *options_get_text(const struct options *opts,
			     const struct option_def *defs, const char *name);

/*
 * Sizes as the commands take them (spec: cli-contract 1): bytes, or one suffix
 * letter b K M G T P E with optional decimals; hex without suffix. -EINVAL for
 * anything else, -ERANGE above 2^63 - 1. No text is set: the callers' differ.
 */
int size_parse(const char *text, uint64_t *out);

#endif
