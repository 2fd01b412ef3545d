/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the rule of a format sees of a file, and how it says what it found.
 *
 * A rule is a pure function. It asks for bytes; what is not at hand yet is
 * noted, and the rule is called again, from its start, once it is. So a rule
 * returns as soon as it is told INSPECT_LATER.
 *
 * One inspection belongs to one thread.
 */
#ifndef PLATTER_BLOCK_INSPECT_RULE_H
#define PLATTER_BLOCK_INSPECT_RULE_H

#include <stddef.h>
#include <stdint.h>

#include "block/inspect.h"

/* At hand in every call, zeros past the file's end. */
#define INSPECT_HEAD_BYTES (64u * 1024)
/* The most that a rule may ask for at once. */
#define INSPECT_PIECE_MAX (2u * 1024 * 1024)
/* The most that a rule may ask of a file's end. */
#define INSPECT_TAIL_BYTES 1536u

struct inspection;

typedef void inspect_rule(struct inspection *in);

enum inspect_answer {
	INSPECT_HERE,
	INSPECT_LATER,	/* return; the call comes again */
	INSPECT_NOWHERE /* the file ends before, or too much was asked for */
};

const uint8_t *inspect_head(const struct inspection *in);

/* `*out` lives as long as this call of the rule. */
enum inspect_answer inspect_bytes(struct inspection *in, uint64_t off,
				  size_t len, const uint8_t **out);
/* The last `len` bytes. From a stream that means all of it. */
enum inspect_answer inspect_tail(struct inspection *in, size_t len,
				 const uint8_t **out);
/* UINT64_MAX while not known. */
uint64_t inspect_file_size(const struct inspection *in);
/* True if nothing else has claimed the file so far. */
bool inspect_unclaimed(const struct inspection *in);

/*
 * "The file is in format `name`" (static). What is said afterwards is about
 * this claim.
 */
void inspect_claim(struct inspection *in, const char *name);
/* What a disk may hold itself: no claim, but a rival of every container. */
void inspect_content(struct inspection *in, const char *name);

void inspect_unsafe(struct inspection *in, const char *code, const char *fmt,
		    ...) __attribute__((format(printf, 3, 4)));
void inspect_malformed(struct inspection *in, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

void inspect_virtual_size(struct inspection *in, uint64_t bytes);
void inspect_encrypted(struct inspection *in);
void inspect_snapshots(struct inspection *in, uint32_t count);

#endif
