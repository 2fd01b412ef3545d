/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See the header. A state is described by a mask for each pending change, which
 * says what of its sectors arrives, and then made from the durable contents.
 */
#include "tests/support/crash-states.h"

#include <assert.h>
#include <stdlib.h>

#include "block/bytes.h"
#include "tests/support/state-set.h"
#include "tests/support/undo-disk.h"
#include "tests/support/workload.h"

#define SUBSETS_ALL_UP_TO 8 /* so many pending changes: every subset */
#define RANDOM_SUBSETS	  128
#define SMALL_WRITE	  4096 /* bytes; longer ones are data */
#define PAIRS_MAX	  96   /* random ones, where there are more */
#define TORN_MAX	  24   /* changes; random ones, where there are more */
#define TORN_MANY	  16
#define REVERSED_MAX	  32
#define SIZES		  4  /* of each kind */
#define PRODUCTS	  96 /* of several files */

#define LOST  0ull
#define WHOLE UINT64_MAX

struct epoch {
	const struct crash_states *crash;
	unsigned file_count;
	struct undo_disk *disks;	  /* by file */
	struct flat_disk *states;	  /* by file; as the judge sees them */
	const struct log_entry **pending; /* room for the whole log */
	uint64_t *masks;		  /* by pending change */
	size_t count;
	struct state_set judged;
};

static uint64_t dice(const struct epoch *e)
{
	return workload_random(e->crash->random);
}

/* ---- one state ---- */

static void judge_now(struct epoch *e)
{
	for (unsigned f = 0; f < e->file_count; f++)
		e->states[f] = e->disks[f].now;
	e->crash->judge(e->crash->opaque, e->states);
}

static void judge(struct epoch *e)
{
	uint64_t hash = 0;

	for (unsigned f = 0; f < e->file_count; f++)
		hash = hash * 0x9e3779b97f4a7c15ull +
		       undo_disk_hash(&e->disks[f]);
	if (!state_set_add(&e->judged, hash))
		return;
	if (e->crash->sparse <= 1 || dice(e) % e->crash->sparse == 0)
		judge_now(e);
}

static void apply(struct epoch *e, size_t i)
{
	const struct log_entry *entry = e->pending[i];

	undo_disk_apply(&e->disks[entry->file], entry, e->masks[i]);
}

static void reset(struct epoch *e)
{
	for (unsigned f = 0; f < e->file_count; f++)
		undo_disk_reset(&e->disks[f]);
}

static void make_state(struct epoch *e)
{
	reset(e);
	for (size_t i = 0; i < e->count; i++)
		apply(e, i);
}

static void masked_state(struct epoch *e)
{
	make_state(e);
	judge(e);
}

static void set_masks(struct epoch *e, uint64_t mask)
{
	for (size_t i = 0; i < e->count; i++)
		e->masks[i] = mask;
}

static void random_masks(struct epoch *e)
{
	for (size_t i = 0; i < e->count; i++)
		e->masks[i] = dice(e) & 1 ? WHOLE : LOST;
}

/* ---- subsets ---- */

static void all_subsets(struct epoch *e)
{
	for (uint64_t subset = 0; subset < 1ull << e->count; subset++) {
		for (size_t i = 0; i < e->count; i++)
			e->masks[i] = subset >> i & 1 ? WHOLE : LOST;
		masked_state(e);
	}
}

static void prefixes(struct epoch *e)
{
	set_masks(e, LOST);
	masked_state(e);
	for (size_t i = 0; i < e->count; i++) {
		e->masks[i] = WHOLE;
		masked_state(e);
	}
}

/* One alone, everywhere the others are as `rest` says. */
static void singles(struct epoch *e, uint64_t rest)
{
	set_masks(e, rest);
	for (size_t i = 0; i < e->count; i++) {
		e->masks[i] = ~rest;
		masked_state(e);
		e->masks[i] = rest;
	}
}

static void pair(struct epoch *e, size_t i, size_t j, uint64_t rest)
{
	set_masks(e, rest);
	e->masks[i] = e->masks[j] = ~rest;
	masked_state(e);
}

static bool small(const struct epoch *e, size_t i)
{
	return e->pending[i]->kind == LOG_WRITE &&
	       e->pending[i]->len <= SMALL_WRITE;
}

static size_t small_pairs(const struct epoch *e)
{
	size_t n = 0;

	for (size_t i = 0; i < e->count; i++)
		n += small(e, i);
	return n * (n - 1) / 2;
}

static void pairs(struct epoch *e)
{
	size_t rarity = small_pairs(e) / PAIRS_MAX + 1;

	for (size_t i = 0; i < e->count; i++) {
		for (size_t j = i + 1; small(e, i) && j < e->count; j++) {
			if (!small(e, j) || dice(e) % rarity)
				continue;
			pair(e, i, j, LOST);
			pair(e, i, j, WHOLE);
		}
	}
}

static void random_subsets(struct epoch *e)
{
	for (unsigned n = 0; n < RANDOM_SUBSETS; n++) {
		random_masks(e);
		masked_state(e);
	}
}

/* ---- torn writes ---- */

static uint64_t sectors_of(const struct log_entry *entry)
{
	return div_round_up(entry->off % 512 + entry->len, 512);
}

/* Bits that repeat every 64 sectors: long writes are torn into stripes. */
static void torn_ways(struct epoch *e, size_t i)
{
	uint64_t sectors = min_u64(sectors_of(e->pending[i]), 64);
	uint64_t half = (1ull << sectors / 2) - 1;
	uint64_t ways[] = {
		half, ~half, dice(e), dice(e), ~(1ull << dice(e) % sectors),
	};

	for (unsigned n = 0; n < sizeof(ways) / sizeof(ways[0]); n++) {
		e->masks[i] = ways[n];
		masked_state(e);
	}
}

static bool can_tear(const struct log_entry *entry)
{
	return (entry->kind == LOG_WRITE || entry->kind == LOG_ZERO) &&
	       sectors_of(entry) > 1;
}

/* One torn: at the head of what arrived, and among everything else. */
static void torn_one(struct epoch *e)
{
	size_t rarity = e->count / TORN_MAX + 1;

	for (size_t i = 0; i < e->count; i++) {
		if (!can_tear(e->pending[i]) || dice(e) % rarity)
			continue;
		for (size_t k = 0; k < e->count; k++)
			e->masks[k] = k < i ? WHOLE : LOST;
		torn_ways(e, i);
		set_masks(e, WHOLE);
		torn_ways(e, i);
		random_masks(e);
		torn_ways(e, i);
	}
}

/* Random ones reach the disk, each of them torn in some way. */
static void torn_many(struct epoch *e)
{
	for (unsigned n = 0; n < TORN_MANY; n++) {
		for (size_t i = 0; i < e->count; i++) {
			uint64_t d = dice(e) % 3;

			e->masks[i] = d == 0 ? LOST : d == 1 ? WHOLE : dice(e);
		}
		masked_state(e);
	}
}

/* ---- order ---- */

static bool overlap(const struct log_entry *a, const struct log_entry *b)
{
	return a->file == b->file && a->kind != LOG_RESIZE &&
	       b->kind != LOG_RESIZE && a->off < b->off + b->len &&
	       b->off < a->off + a->len;
}

/* The earlier one arrives last; the others as the masks say. */
static void reversed_state(struct epoch *e, size_t earlier, size_t later)
{
	reset(e);
	for (size_t i = 0; i < e->count; i++) {
		if (i != earlier)
			apply(e, i);
		if (i == later)
			apply(e, earlier);
	}
	judge(e);
}

static void reversed(struct epoch *e)
{
	unsigned found = 0;

	for (size_t j = 1; j < e->count; j++) {
		for (size_t i = 0; i < j && found < REVERSED_MAX; i++) {
			if (!overlap(e->pending[i], e->pending[j]))
				continue;
			found++;
			set_masks(e, WHOLE);
			reversed_state(e, i, j);
			random_masks(e);
			e->masks[i] = e->masks[j] = WHOLE;
			reversed_state(e, i, j);
		}
	}
}

/* ---- a file's length ---- */

/* Where its pending changes reach to; 0 if a resize says otherwise. */
static uint64_t pending_end(const struct epoch *e, unsigned file)
{
	uint64_t end = 0;

	for (size_t i = 0; i < e->count; i++) {
		const struct log_entry *entry = e->pending[i];

		if (entry->file != file)
			continue;
		if (entry->kind == LOG_RESIZE &&
		    entry->len < e->disks[file].durable.size)
			return 0;
		if (entry->kind != LOG_DISCARD)
			end = max_u64(end, entry->off + entry->len);
	}
	return end;
}

static void set_size(struct undo_disk *disk, uint64_t size)
{
	const struct log_entry resize = {.kind = LOG_RESIZE, .len = size};

	undo_disk_apply(disk, &resize, WHOLE);
}

static void lagging(struct epoch *e, unsigned file, uint64_t size)
{
	make_state(e);
	if (e->disks[file].now.size > size)
		set_size(&e->disks[file], size);
	judge(e);
}

static void leading(struct epoch *e, unsigned file, uint64_t size)
{
	make_state(e);
	if (e->disks[file].now.size < size)
		set_size(&e->disks[file], size);
	judge(e);
}

static void sizes(struct epoch *e, unsigned file)
{
	uint64_t now = e->disks[file].durable.size, end = pending_end(e, file);

	if (end <= now)
		return;
	set_masks(e, LOST);
	leading(e, file, end);
	set_masks(e, WHOLE);
	lagging(e, file, now);
	for (unsigned n = 0; n < SIZES; n++) {
		set_masks(e, WHOLE);
		lagging(e, file, now + align_down(dice(e) % (end - now), 512));
		random_masks(e);
		lagging(e, file, now);
		leading(e, file, end);
	}
}

/* ---- several files ---- */

static size_t pending_in(const struct epoch *e, unsigned file)
{
	size_t n = 0;

	for (size_t i = 0; i < e->count; i++)
		n += e->pending[i]->file == file;
	return n;
}

/* A prefix of the file's changes: none and all as often as between. */
static size_t pick_prefix(const struct epoch *e, unsigned file)
{
	size_t all = pending_in(e, file);
	uint64_t way = dice(e) % 3;

	return way == 0 ? 0 : way == 1 ? all : dice(e) % (all + 1);
}

/* What arrived of this file, whatever did of the others. */
static void mask_file(struct epoch *e, unsigned file)
{
	size_t left = pick_prefix(e, file);
	bool any = dice(e) % 4 == 0;

	for (size_t i = 0; i < e->count; i++) {
		if (e->pending[i]->file != file)
			continue;
		e->masks[i] = (any ? dice(e) & 1 : left > 0) ? WHOLE : LOST;
		left -= left > 0;
	}
}

static void products(struct epoch *e)
{
	for (unsigned n = 0; n < PRODUCTS; n++) {
		for (unsigned f = 0; f < e->file_count; f++)
			mask_file(e, f);
		masked_state(e);
	}
}

/* ---- the log ---- */

static void epoch_states(struct epoch *e)
{
	state_set_clear(&e->judged);
	if (e->count <= SUBSETS_ALL_UP_TO) {
		all_subsets(e);
	} else {
		prefixes(e);
		singles(e, LOST);
		singles(e, WHOLE);
		pairs(e);
		random_subsets(e);
	}
	torn_one(e);
	torn_many(e);
	reversed(e);
	for (unsigned f = 0; f < e->file_count; f++)
		sizes(e, f);
	if (e->file_count > 1)
		products(e);
}

/* All that the file has pending; what others have stays so. */
static void make_durable(struct epoch *e, unsigned file)
{
	size_t left = 0;

	undo_disk_reset(&e->disks[file]);
	for (size_t i = 0; i < e->count; i++) {
		const struct log_entry *entry = e->pending[i];

		if (entry->file == file)
			undo_disk_apply(&e->disks[file], entry, WHOLE);
		else
			e->pending[left++] = entry;
	}
	undo_disk_keep(&e->disks[file]);
	e->count = left;
}

static void *new_array(size_t count, size_t size)
{
	void *items = calloc(count, size);

	if (!items)
		abort();
	return items;
}

static void epoch_init(struct epoch *e, const struct crash_states *crash)
{
	size_t room = crash->log->count + 1;

	*e = (struct epoch){
		.crash = crash,
		.file_count = crash->file_count ? crash->file_count : 1,
	};
	e->pending = new_array(room, sizeof(*e->pending));
	e->masks = new_array(room, sizeof(*e->masks));
	e->disks = new_array(e->file_count, sizeof(*e->disks));
	e->states = new_array(e->file_count, sizeof(*e->states));
	for (unsigned f = 0; f < e->file_count; f++)
		undo_disk_init(&e->disks[f], &crash->start[f]);
}

static void epoch_release(struct epoch *e)
{
	for (unsigned f = 0; f < e->file_count; f++)
		undo_disk_release(&e->disks[f]);
	free(e->disks);
	free(e->states);
	free(e->pending);
	free(e->masks);
	state_set_release(&e->judged);
}

/* What no sync follows any more; then all of it. */
static void last_states(struct epoch *e)
{
	if (e->count)
		epoch_states(e);
	if (e->crash->reach)
		e->crash->reach(e->crash->opaque, e->crash->log->count);
	set_masks(e, WHOLE);
	make_state(e);
	judge_now(e);
}

void crash_states_run(const struct crash_states *crash)
{
	const struct storage_log *log = crash->log;
	struct epoch e;

	epoch_init(&e, crash);
	for (size_t i = 0; i < log->count; i++) {
		const struct log_entry *entry = &log->entries[i];

		assert(entry->file < e.file_count);
		if (crash->reach)
			crash->reach(crash->opaque, i);
		if (entry->kind != LOG_SYNC) {
			e.pending[e.count++] = entry;
			continue;
		}
		epoch_states(&e);
		make_durable(&e, entry->file);
	}
	last_states(&e);
	epoch_release(&e);
}
