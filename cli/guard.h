/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What --untrusted does, for any command (spec: reliability 5): the files that
 * a command line names are opened, the process enters its sandbox, and only
 * then is the first byte of them looked at. What is not found safe is refused;
 * what is, is opened by its driver on the same descriptor, in the format that
 * was found.
 *
 *	guard_admit()	each file, and guard_admit_target() the new one
 *	guard_enter()	from here on nothing else can be opened
 *	guard_take()	the file, inspected
 *
 * A command with one image needs none of these calls: open_image() makes them.
 * One thread.
 */
#ifndef PLATTER_CLI_GUARD_H
#define PLATTER_CLI_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/output.h"

struct error;
struct image;
struct image_open_args;
struct image_spec;
struct storage;

/* Sources of one convert; the shell's limit on arguments comes far later. */
#define GUARD_FILES_MAX 256

struct guard {
	bool active; /* --untrusted was given; else nothing here has effect */
	bool best_effort;
	uint64_t max_memory, max_cpu; /* 0: the default */
	int kept_fd;		      /* of --progress-fd; 0: none */
	bool entered;

	struct guard_file {
		char *path;
		unsigned flags; /* of block/storage/file.h */
		struct storage *storage;
	} files[GUARD_FILES_MAX];
	size_t file_count;

	struct output output;
	bool has_output;
};

/* The word behind --untrusted= (NULL: none); false after a message. */
bool guard_activate(struct guard *guard, const char *word);
/* The values of --max-cpu and --max-memory; false after a message. */
bool guard_limit_cpu(struct guard *guard, const char *text);
bool guard_limit_memory(struct guard *guard, const char *text);

int guard_admit(struct guard *guard, const struct image_open_args *args,
		struct error *err);
/*
 * The new image at `path`. Fails if that is one of the files admitted, so these
 * come first.
 */
int guard_admit_target(struct guard *guard, const char *path, bool direct,
		       struct error *err);
int guard_enter(struct guard *guard, struct error *err);

/*
 * The storage of an image, which is safe; `spec` has the format that was found.
 * Admits it and enters if that was not done.
 */
int guard_take(struct guard *guard, const struct image_open_args *args,
	       struct image_spec *spec, struct storage **out,
	       struct error *err);
/* image_open(), through the guard if it is active. */
int guard_image_open(struct guard *guard, struct image **out,
		     const struct image_open_args *args,
		     struct image_spec *spec, struct error *err);
/* The new image's; the old file is emptied if it has to be. */
int guard_take_output(struct guard *guard, struct output *out,
		      struct error *err);

/* Gives back what was not taken. */
void guard_release(struct guard *guard);

#endif
