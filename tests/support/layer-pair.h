/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A qcow2 layer and its qcow2 base, both written: operations go to the layer,
 * and now and then what it shows of a range is copied into the base, which is
 * flushed before the layer gives its own clusters up, as in committing.
 *
 * One thread; aborts when out of memory.
 */
#ifndef PLATTER_TESTS_SUPPORT_LAYER_PAIR_H
#define PLATTER_TESTS_SUPPORT_LAYER_PAIR_H

#include <stdbool.h>

#include "tests/support/log-storage.h"
#include "tests/support/workload.h"

#define PAIR_DISK_BYTES (96u * 1024)

enum pair_file { PAIR_BASE, PAIR_LAYER, PAIR_FILES };

struct pair_kind {
	const char *name;
	struct workload_geometry files[PAIR_FILES];
};

extern const struct pair_kind pair_kinds[];
extern const unsigned pair_kind_count;

enum pair_event_kind {
	PAIR_BEGUN,
	PAIR_FLUSHED,
	PAIR_COPIED,
	PAIR_BASE_FLUSHED
};

struct pair_event {
	size_t log_pos; /* it happened before this entry of the log */
	enum pair_event_kind kind;
	struct workload_op op;
	uint64_t *tags; /* PAIR_COPIED: of each sector of the range */
};

struct pair_history {
	struct pair_event *events;
	size_t count, capacity;
};

/* Both images, if they are open, and what is known of them. */
struct layer_pair {
	const struct pair_kind *kind;
	struct image *layer;	 /* owns the base */
	struct disk_oracle disk; /* what the layer shows */
	struct disk_oracle base; /* the base alone */
	bool careless;		 /* gives clusters up, the base not flushed */
	/* Both NULL, or what is done is added to the history of the log. */
	struct storage_log *log;
	struct pair_history *history;
};

/* A base full of data and an empty layer, from which the oracles start. */
void layer_pair_create(const struct pair_kind *kind,
		       struct flat_disk start[PAIR_FILES]);
void layer_pair_init(struct layer_pair *p, const struct pair_kind *kind);
/* The oracles; images are closed by who opened them. */
void layer_pair_release(struct layer_pair *p);

/* Takes the storages. Negative if one does not open. */
int layer_pair_open(struct layer_pair *p, struct storage *files[PAIR_FILES],
		    bool writable);
/* For writing; what is written goes to the log, which outlives the images. */
int layer_pair_open_logged(struct layer_pair *p, struct storage_log *log,
			   const struct flat_disk files[PAIR_FILES]);
/* Random operations, no resizing. Negative errno. */
int layer_pair_work(struct layer_pair *p, uint64_t *random, unsigned steps);
/* Closes both. */
int layer_pair_close(struct layer_pair *p);

/* Tells the oracles what happened. */
void layer_pair_replay(struct layer_pair *p, const struct pair_event *event);
/* 0, or -1 with what one of the two holds that it may not. */
int layer_pair_judge(const struct layer_pair *p, char *why, size_t why_len);
/* What both hold now becomes the truth. */
void layer_pair_adopt(struct layer_pair *p);
void pair_history_release(struct pair_history *history);

#endif
