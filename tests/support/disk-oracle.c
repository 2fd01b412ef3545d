/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. A sector's bytes are its tag repeated, mixed with its number.
 */
#include "tests/support/disk-oracle.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The eight bytes of which a sector with this tag is made; never 0. */
static uint64_t sector_word(uint64_t tag, uint64_t sector)
{
	return tag << 24 | (sector & 0xffffff);
}

void disk_oracle_init(struct disk_oracle *o, uint64_t size_bytes)
{
	o->sector_count = size_bytes / ORACLE_SECTOR;
	o->sectors = calloc(o->sector_count, sizeof(*o->sectors));
	if (!o->sectors)
		abort();
	for (uint64_t i = 0; i < o->sector_count; i++)
		o->sectors[i].count = 1;
	o->next_tag = 1;
}

void disk_oracle_copy(struct disk_oracle *dst, const struct disk_oracle *src)
{
	disk_oracle_init(dst, src->sector_count * ORACLE_SECTOR);
	memcpy(dst->sectors, src->sectors,
	       src->sector_count * sizeof(*src->sectors));
	dst->next_tag = src->next_tag;
}

void disk_oracle_release(struct disk_oracle *o)
{
	free(o->sectors);
	o->sectors = NULL;
}

uint64_t disk_oracle_new_tag(struct disk_oracle *o)
{
	return o->next_tag++;
}

void disk_oracle_fill(uint8_t *buf, size_t len, uint64_t guest_off,
		      uint64_t tag)
{
	for (size_t at = 0; at < len; at += sizeof(uint64_t)) {
		uint64_t word =
			sector_word(tag, (guest_off + at) / ORACLE_SECTOR);

		memcpy(buf + at, &word, sizeof(word));
	}
}

static void push(struct oracle_sector *s, uint64_t value, bool definite)
{
	assert(s->count < ORACLE_VALUES_MAX);
	s->values[s->count] = value;
	if (definite)
		s->definite = s->count;
	s->count++;
}

static void push_range(struct disk_oracle *o, uint64_t guest_off, uint64_t len,
		       uint64_t tag, bool definite)
{
	uint64_t first = guest_off / ORACLE_SECTOR;

	assert(guest_off % ORACLE_SECTOR == 0 && len % ORACLE_SECTOR == 0);
	assert(first + len / ORACLE_SECTOR <= o->sector_count);
	for (uint64_t i = 0; i < len / ORACLE_SECTOR; i++)
		push(&o->sectors[first + i],
		     tag ? sector_word(tag, first + i) : 0, definite);
}

void disk_oracle_write(struct disk_oracle *o, uint64_t guest_off, uint64_t len,
		       uint64_t tag)
{
	push_range(o, guest_off, len, tag, true);
}

void disk_oracle_zero(struct disk_oracle *o, uint64_t guest_off, uint64_t len)
{
	push_range(o, guest_off, len, 0, true);
}

void disk_oracle_discard(struct disk_oracle *o, uint64_t guest_off,
			 uint64_t len)
{
	push_range(o, guest_off, len, 0, false);
}

void disk_oracle_flushed(struct disk_oracle *o)
{
	for (uint64_t i = 0; i < o->sector_count; i++) {
		struct oracle_sector *s = &o->sectors[i];
		uint8_t kept = s->count - s->definite;

		if (!s->definite)
			continue;
		memmove(s->values, s->values + s->definite,
			kept * sizeof(s->values[0]));
		s->count = kept;
		s->definite = 0;
	}
}

void disk_oracle_uncertain(struct disk_oracle *o)
{
	for (uint64_t i = 0; i < o->sector_count; i++)
		o->sectors[i].definite = 0;
}

unsigned disk_oracle_spread(const struct disk_oracle *o)
{
	unsigned most = 0;

	for (uint64_t i = 0; i < o->sector_count; i++) {
		if (o->sectors[i].count > most)
			most = o->sectors[i].count;
	}
	return most;
}

/* True if all of the sector is `*word` repeated. */
static bool sector_uniform(const uint8_t *sector, uint64_t *word)
{
	memcpy(word, sector, sizeof(*word));
	return !memcmp(sector, sector + sizeof(*word),
		       ORACLE_SECTOR - sizeof(*word));
}

static bool allowed(const struct oracle_sector *s, uint64_t word)
{
	for (unsigned i = 0; i < s->count; i++) {
		if (s->values[i] == word)
			return true;
	}
	return false;
}

int64_t disk_oracle_judge(const struct disk_oracle *o, const uint8_t *buf,
			  uint64_t guest_off, size_t len, char *why,
			  size_t why_len)
{
	for (size_t at = 0; at < len; at += ORACLE_SECTOR) {
		uint64_t sector = (guest_off + at) / ORACLE_SECTOR;
		uint64_t word;
		bool uniform = sector_uniform(buf + at, &word);

		if (uniform && allowed(&o->sectors[sector], word))
			continue;
		snprintf(why, why_len,
			 "sector %" PRIu64 " holds %s tag %" PRIu64
			 " of sector %" PRIu64 "; %u values are allowed, the "
			 "last is tag %" PRIu64,
			 sector, uniform ? "only" : "a mix from", word >> 24,
			 word & 0xffffff, o->sectors[sector].count,
			 o->sectors[sector].values[o->sectors[sector].count -
						   1] >>
				 24);
		return (int64_t)sector;
	}
	return -1;
}

enum oracle_origin disk_oracle_origin(const uint8_t *sector_bytes,
				      uint64_t guest_off)
{
	uint64_t sector = guest_off / ORACLE_SECTOR;
	uint64_t word;

	if (!sector_uniform(sector_bytes, &word))
		return ORACLE_OTHER;
	if (!word)
		return ORACLE_ZEROS;
	return word == sector_word(word >> 24, sector) ? ORACLE_OWN
						       : ORACLE_OTHER;
}

uint64_t disk_oracle_tag(const uint8_t *sector_bytes)
{
	uint64_t word;

	memcpy(&word, sector_bytes, sizeof(word));
	return word >> 24;
}

void disk_oracle_adopt(struct disk_oracle *o, const uint8_t *buf, size_t len)
{
	for (size_t at = 0; at < len; at += ORACLE_SECTOR) {
		struct oracle_sector *s = &o->sectors[at / ORACLE_SECTOR];

		sector_uniform(buf + at, &s->values[0]);
		s->count = 1;
		s->definite = 0;
	}
}
