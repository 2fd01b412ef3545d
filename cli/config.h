/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Settings in JSON as a table: each row binds a key of an object to a field of
 * a struct. What is not in the table, or not of its kind, is an error that
 * names where it stands: "exports[2].read-only: 1 is not allowed, expecting
 * true or false".
 */
#ifndef PLATTER_CLI_CONFIG_H
#define PLATTER_CLI_CONFIG_H

#include <jansson.h>
#include <stddef.h>

struct error;

/* Where a value stands: a key of `up`, or one of its items. */
struct config_path {
	const struct config_path *up; /* NULL: the whole */
	const char *key;	      /* NULL: an item */
	size_t index;
};

enum config_kind {
	CONFIG_BOOL,  /* bool */
	CONFIG_COUNT, /* unsigned: min to max, and then times `scale` */
	CONFIG_TEXT,  /* const char *: lives as long as the JSON value */
	CONFIG_WORD,  /* whatever parse() writes */
	CONFIG_EACH,  /* the target itself: each() gets all items of a list */
};

struct config_key {
	const char *name;
	enum config_kind kind;
	size_t offset;		  /* of the field in the target */
	unsigned min, max, scale; /* of CONFIG_COUNT; no scale is 1 */
	const char *words; /* of CONFIG_WORD, for messages: "on or off" */
	/* 0, or a negative errno for a word that is not known. */
	int (*parse)(const char *word, void *field);
	int (*each)(void *target, json_t *item, const struct config_path *path,
		    struct error *err);
};

/* The rows of a table, which CONFIG_LAST ends. */
#define CONFIG_KEY(key, type, at, ...)                                     \
	{                                                                  \
		.name = (key), .kind = (type), .offset = (at), __VA_ARGS__ \
	}
#define CONFIG_LAST          \
	{                    \
		.name = NULL \
	}

/*
 * Fills `target` from `object`, at `path` (NULL: it is the whole). 0 or
 * -EINVAL; some fields may have been filled then.
 */
int config_apply(void *target, json_t *object, const struct config_key *keys,
		 const struct config_path *path, struct error *err);

/* -EINVAL and "PATH: VALUE is not allowed, expecting ALLOWED". */
int config_refuse(const struct config_path *path, const json_t *value,
		  const char *allowed, struct error *err);

/*
 * The same settings as words, "read-only,shared=4" (block/options.h): adds them
 * to `object`, each as the kind that its key has. What is there already cannot
 * be given again. -EINVAL, -ENOMEM.
 */
int config_add_words(json_t *object, const char *words,
		     const struct config_key *keys, struct error *err);

#endif
