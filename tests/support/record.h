/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The log of a recorded program: records, one behind the other, each followed
 * by its data. The preloaded recorder (tests/shim/record.c) appends what the
 * program does to one file; who drives the program appends the marks. Their
 * order in the log is the order in which they happened: the recorder lets one
 * call at a time through, and a mark is made while the program waits for its
 * next command.
 */
#ifndef PLATTER_TESTS_SUPPORT_RECORD_H
#define PLATTER_TESTS_SUPPORT_RECORD_H

#include <stdint.h>

#define RECORD_MAGIC 0x64726372u

/* The recorder's environment: which file it watches, where the log is. */
#define RECORD_FILE_VARIABLE "PLATTER_RECORD_FILE"
#define RECORD_LOG_VARIABLE  "PLATTER_RECORD_LOG"

enum record_kind {
	RECORD_WRITE = 1,   /* the data follow: what reached the file */
	RECORD_FALLOCATE,   /* `mode` as fallocate() has it */
	RECORD_TRUNCATE,    /* `len` is the new size */
	RECORD_SYNC,	    /* fsync or fdatasync */
	RECORD_HINT,	    /* sync_file_range: makes nothing durable */
	RECORD_UNSUPPORTED, /* the log is worthless; the data name the call */
	RECORD_BEGUN,	    /* a mark: command `off` is about to be given */
	RECORD_DONE,	    /* a mark: command `off` was acknowledged */
};

struct record {
	uint32_t magic, kind;
	uint64_t seq; /* counts the recorder's records from 1; a mark has 0 */
	uint64_t off, len;
	int64_t result; /* negative errno, or what the call returned */
	uint32_t mode;
	uint32_t data_len;
};

#endif
