/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What each sector of a guest's disk may hold: the judge of crash and fault
 * tests.
 *
 * A guest write fills sectors with a tag of its own, so that a sector's first
 * eight bytes tell which write it came from, and for which address. After a
 * crash a sector may hold what the last flush made durable or what any later
 * operation put there; nothing else, and above all no other address's bytes.
 *
 * One thread.
 */
#ifndef PLATTER_TESTS_SUPPORT_DISK_ORACLE_H
#define PLATTER_TESTS_SUPPORT_DISK_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ORACLE_SECTOR 512
/* Values that a sector may have at once; flush before there are more. */
#define ORACLE_VALUES_MAX 24

struct oracle_sector {
	uint64_t values[ORACLE_VALUES_MAX]; /* 0: zeros; the last is current */
	uint8_t count;
	uint8_t definite; /* index of the last value that a flush leaves */
};

struct disk_oracle {
	struct oracle_sector *sectors;
	uint64_t sector_count;
	uint64_t next_tag;
};

/* Starts as a disk of zeros. Aborts when out of memory. */
void disk_oracle_init(struct disk_oracle *o, uint64_t size_bytes);
void disk_oracle_copy(struct disk_oracle *dst, const struct disk_oracle *src);
void disk_oracle_release(struct disk_oracle *o);

/* A tag that no write had before. */
uint64_t disk_oracle_new_tag(struct disk_oracle *o);
/* Fills a buffer for a write of the tag at the offset; whole sectors. */
void disk_oracle_fill(uint8_t *buf, size_t len, uint64_t guest_off,
		      uint64_t tag);

/* The operation was begun: from now on its result may be there. */
void disk_oracle_write(struct disk_oracle *o, uint64_t guest_off, uint64_t len,
		       uint64_t tag);
void disk_oracle_zero(struct disk_oracle *o, uint64_t guest_off, uint64_t len);
/* Old or zeros, even after a flush. */
void disk_oracle_discard(struct disk_oracle *o, uint64_t guest_off,
			 uint64_t len);
/* A flush was acknowledged. */
void disk_oracle_flushed(struct disk_oracle *o);
/* The operations so far failed or not, nobody knows: both stay allowed. */
void disk_oracle_uncertain(struct disk_oracle *o);
/* The most values that any sector has now. */
unsigned disk_oracle_spread(const struct disk_oracle *o);

/*
 * The first sector of the buffer that holds what it may not, or -1. `why`
 * describes it.
 */
int64_t disk_oracle_judge(const struct disk_oracle *o, const uint8_t *buf,
			  uint64_t guest_off, size_t len, char *why,
			  size_t why_len);
/* Whose bytes these are; for the address at which a judge objected to them. */
enum oracle_origin {
	ORACLE_ZEROS,
	ORACLE_OWN,   /* a write to this address */
	ORACLE_OTHER, /* a write to another address, or nobody's */
};
enum oracle_origin disk_oracle_origin(const uint8_t *sector_bytes,
				      uint64_t guest_off);
/* Which write a sector of the test's came from; 0: none, it is zeros. */
uint64_t disk_oracle_tag(const uint8_t *sector_bytes);
/* The disk is this now: after a crash, what was found becomes the truth. */
void disk_oracle_adopt(struct disk_oracle *o, const uint8_t *buf, size_t len);

#endif
