/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Judging a file that strangers made, before a driver opens it (spec:
 * reliability 2E, 5).
 *
 * The judge is no driver. It reads a few pieces of the file into a bounded
 * buffer, runs one rule for each format over them, and opens nothing. A file is
 * safe if exactly one format claims it, the one that was declared if one was,
 * and the rule of that format has nothing to say against it.
 *
 * From a stream no more is read than the rules have to see: 64 KiB, further
 * metadata where a format keeps it, and all of it only where the end decides.
 *
 * Memory: at most INSPECT_HELD_MAX. All functions: any thread.
 */
#ifndef PLATTER_BLOCK_INSPECT_H
#define PLATTER_BLOCK_INSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct storage;

#define INSPECT_REASONS_MAX 16
#define INSPECT_TEXT_MAX    256
#define INSPECT_HELD_MAX    (6u * 1024 * 1024)

enum inspect_verdict {
	INSPECT_SAFE,
	INSPECT_MALFORMED, /* the file contradicts its own format */
	INSPECT_UNSAFE,	   /* outranks malformed: it may be an attack */
};

/* The word for it: "safe", "malformed" or "unsafe". */
const char *inspect_verdict_name(enum inspect_verdict verdict);

struct inspect_reason {
	enum inspect_verdict weight; /* not SAFE */
	const char *code;	     /* a fixed word, for programs */
	char text[INSPECT_TEXT_MAX]; /* printable whatever the file holds */
};

struct inspect_report {
	enum inspect_verdict verdict;
	/* The format that was found; of several the first. Static. */
	const char *format;
	/* What a raw disk holds, where that is known by sight; or NULL. */
	const char *content;
	bool has_virtual_size;
	uint64_t virtual_size;
	bool has_file_size; /* false: a stream was not read to its end */
	uint64_t file_size;
	uint64_t bytes_read;
	bool encrypted;
	uint32_t snapshots;
	size_t reason_count;
	struct inspect_reason reasons[INSPECT_REASONS_MAX];
};

/* What the user demands; zero and NULL mean "no demand". */
struct inspect_limits {
	const char *format;	   /* -f */
	uint64_t max_virtual_size; /* bytes */
	uint64_t max_ratio;	   /* virtual size by file size */
};

/* Fails only if the file cannot be read, or memory runs out. */
int inspect_storage(struct storage *file, const struct inspect_limits *limits,
		    struct inspect_report *out, struct error *err);

/*
 * The same from bytes in order. `read` returns how many of `len` it got, fewer
 * only at the end, or a negative errno. -ESPIPE: the metadata is in an order
 * that a stream cannot show.
 */
typedef int64_t inspect_read(void *opaque, void *buf, size_t len);
int inspect_stream(inspect_read *read, void *opaque,
		   const struct inspect_limits *limits,
		   struct inspect_report *out, struct error *err);

#endif
