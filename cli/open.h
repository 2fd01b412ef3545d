/* SPDX-License-Identifier: BSD-3-Clause */
/* Opening images for commands, with the messages that go with it. */
#ifndef PLATTER_CLI_OPEN_H
#define PLATTER_CLI_OPEN_H

#include <stdbool.h>

#include "block/image.h"

struct command_context;
struct image_spec;

struct open_request {
	const char *name;   /* operand as typed */
	const char *format; /* -f, or NULL */
	bool image_opts;    /* the operand is in the words of --image-opts */
	const char *offset; /* where a raw disk begins in its file, or NULL */
	bool force_share;   /* -U */
	unsigned flags;	    /* IMAGE_* of block/image.h */
	enum cache_mode cache;
};

/*
 * NULL after a message. With IMAGE_WRITE a raw image that was only guessed
 * draws a warning.
 */
struct image *open_image(const struct command_context *ctx,
			 const struct open_request *request);

/*
 * For commands with several files, before the first open_image(): with
 * --untrusted all of them are opened, and then open_enter() closes the door.
 * Without it these do nothing. False after a message.
 */
bool open_admit(const struct command_context *ctx,
		const struct open_request *request);
/* A new image, after the files it is made from. `direct`: O_DIRECT. */
bool open_admit_target(const struct command_context *ctx, const char *name,
		       bool direct);
bool open_enter(const struct command_context *ctx);

/* The spec behind the operand; false after a message. */
bool open_spec(struct image_spec *out, const struct open_request *request);

/*
 * A cache word; NULL keeps what `*out` holds. False after the message
 * "Invalid WHAT: WORD", where `what` is "cache option" or similar.
 */
bool open_cache_mode(const char *word, const char *what, enum cache_mode *out);

/* A word of --preallocation; NULL is off. False after a message. */
bool open_prealloc_mode(const char *word, enum prealloc_mode *out);

/* The warning that open_image() gives of a format that was guessed raw. */
void open_warn_of_guess(const char *name);

/* Closes; false after a message if what was written may not be durable. */
bool open_close(struct image *img);

#endif
