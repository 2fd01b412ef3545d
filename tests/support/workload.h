/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random guest operations on an image, the same for the same seed: what crash
 * and fault tests run.
 */
#ifndef PLATTER_TESTS_SUPPORT_WORKLOAD_H
#define PLATTER_TESTS_SUPPORT_WORKLOAD_H

#include "tests/support/disk-oracle.h"

struct image;
struct storage;

/* xorshift64; the state is the seed, not 0. */
uint64_t workload_random(uint64_t *state);

/* How an image is made and opened. */
struct workload_geometry {
	const char *name;
	const char *create; /* options of qcow2's create */
	const char *open;   /* run-time options */
	uint64_t size_bytes;
	uint64_t size_max; /* grows up to here; multiples of 512 */
	/* What else the image is like at the start. */
	uint64_t base_bytes;	  /* of a backing file full of data; 0: none */
	uint64_t wasted_clusters; /* host clusters up to here are leaked */
	bool snapshot; /* half the disk is data that a snapshot shares */
};

extern const struct workload_geometry workload_geometries[];
extern const unsigned workload_geometry_count;

enum workload_kind {
	WORK_WRITE,
	WORK_PACKED,
	WORK_ZERO,
	WORK_UNMAP,
	WORK_DISCARD,
	WORK_FLUSH,
	WORK_RESIZE,
};

struct workload_op {
	enum workload_kind kind;
	uint64_t guest_off, len; /* WORK_RESIZE: len is the new size */
	uint64_t tag;
	uint64_t old_size; /* WORK_RESIZE */
};

/* The disk as workload_create() leaves it; instead of disk_oracle_init(). */
void workload_oracle_init(struct disk_oracle *oracle,
			  const struct workload_geometry *geometry);
/* Formats the empty storage; negative errno. */
int workload_create(struct storage *storage,
		    const struct workload_geometry *geometry);
/* The contents of the backing file, base_bytes; from malloc(). */
uint8_t *workload_base_data(const struct workload_geometry *geometry);
/* Takes over the storage. The backing file, if any, is one in memory. */
int workload_open(struct image **out, struct storage *storage,
		  const struct workload_geometry *geometry, bool writable);

/* The next operation; flushes when the oracle's values would run out. */
void workload_next(struct workload_op *op, uint64_t *random,
		   struct disk_oracle *oracle, const struct image *img,
		   const struct workload_geometry *geometry);
/*
 * The same, but when no more than WORKLOAD_LAST_STEPS are left, this one
 * included, one that chance picks seldom.
 */
#define WORKLOAD_LAST_STEPS 6u
void workload_next_of(struct workload_op *op, uint64_t *random,
		      struct disk_oracle *oracle, const struct image *img,
		      const struct workload_geometry *geometry, unsigned left);
/* Does it. Negative errno. */
int workload_do(struct image *img, const struct workload_op *op);
/* Tells the oracle that the operation was begun. */
void workload_begun(struct disk_oracle *oracle, const struct workload_op *op);

/*
 * Reads the disk and lets the oracle judge it: 0, or -1 with the reason. `disk`
 * (may be NULL) gets the contents: size_max bytes.
 */
int workload_judge(struct image *img, const struct disk_oracle *oracle,
		   uint8_t *disk, char *why, size_t why_len);
/*
 * The same for the snapshot, which must not have changed. Takes the storage,
 * and writes nothing to it.
 */
int workload_judge_snapshot(struct storage *storage,
			    const struct workload_geometry *geometry, char *why,
			    size_t why_len);
/*
 * 0 if a check of the storage (which is taken) finds no corruption; then *leaks
 * (may be NULL) is how many clusters are counted and not used.
 */
int workload_check(struct storage *storage, uint64_t *leaks, char *why,
		   size_t why_len);

#endif
