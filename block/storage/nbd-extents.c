/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is a hole in an export: the server's block status.
 *
 * Callers ask for one run after the other, going up, and a server tells many at
 * once; so these are kept, and given out once. Whoever starts again, or asks
 * after a change of the contents, gets a fresh answer.
 *
 * All that is not clear is data, which costs reading it and is never wrong.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/storage/nbd-private.h"

#define RUNS_MAX 8192
/*
 * How much is asked for at once. A server may look at every extent of it, so it
 * gets less while extents are so small that they do not fit into the list.
 */
#define ASK_MAX	  (UINT32_MAX & ~65535u)
#define ASK_START (1u << 30)
#define ASK_MIN	  (16u << 20)

struct run {
	uint64_t end;
	bool hole;
};

struct nbd_runs {
	uint64_t changes;   /* of the contents, when the server was asked */
	uint64_t off, end;  /* what is known; [off, off) is nothing */
	size_t count, next; /* runs, and the first that was not passed */
	uint64_t ask;
	bool full, bad;
	struct run list[RUNS_MAX];
};

/* ---- the server's answer ---- */

static void add_run(struct nbd_runs *runs, uint64_t end, bool hole)
{
	if (runs->count && runs->list[runs->count - 1].hole == hole) {
		runs->list[runs->count - 1].end = end;
	} else if (runs->count == RUNS_MAX) {
		runs->full = true;
		return;
	} else {
		runs->list[runs->count++] = (struct run){end, hole};
	}
	runs->end = end;
}

/* Called by libnbd for each context; `entries` are pairs of length and flags.
 */
static int take_extents(void *opaque, const char *context, uint64_t off,
			uint32_t *entries, size_t count, int *error)
{
	const uint32_t hole = LIBNBD_STATE_HOLE | LIBNBD_STATE_ZERO;
	struct nbd *nbd = opaque;
	struct nbd_runs *runs = nbd->runs;
	uint64_t at = runs->off;

	(void)error;
	if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0)
		return 0;
	if (off != runs->off || runs->count) {
		runs->bad = true;
		return 0;
	}
	for (size_t i = 0; i + 1 < count && !runs->full; i += 2) {
		uint64_t left = nbd->facts.size_bytes - at;

		if (!entries[i]) {
			runs->bad = true;
			return 0;
		}
		if (!left)
			break;
		at += min_u64(entries[i], left);
		add_run(runs, at, (entries[i + 1] & hole) == hole);
	}
	return 0;
}

/* ---- asking ---- */

/* More at a time while the answers are short, less while they are cut. */
static void adapt(struct nbd_runs *runs)
{
	if (runs->full)
		runs->ask = max_u64(runs->ask / 2, ASK_MIN);
	else if (runs->count < RUNS_MAX / 4)
		runs->ask = min_u64(runs->ask * 2, ASK_MAX);
}

static int ask(struct nbd *nbd, uint64_t off)
{
	struct nbd_runs *runs = nbd->runs;
	struct nbd_call call;
	int ret;

	runs->off = runs->end = off;
	runs->count = runs->next = 0;
	runs->full = runs->bad = false;
	runs->changes = atomic_load(&nbd->changes);
	ret = nbd_begin(nbd, &call);
	if (ret)
		return ret;
	nbd_call_status(&call, min_u64(runs->ask, nbd->facts.size_bytes - off),
			off,
			(nbd_extent_callback){
				.callback = take_extents,
				.user_data = nbd,
			});
	ret = nbd_end(nbd, &call);
	if (!ret && (runs->bad || !runs->count))
		ret = -EPROTO;
	if (ret)
		runs->end = runs->off;
	else
		adapt(runs);
	return ret;
}

static bool is_known(const struct nbd *nbd, uint64_t off)
{
	const struct nbd_runs *runs = nbd->runs;

	return off >= runs->off && off < runs->end &&
	       runs->changes == atomic_load(&nbd->changes);
}

static int extent_locked(struct nbd *nbd, uint64_t off, uint64_t len,
			 struct storage_extent *out)
{
	struct nbd_runs *runs = nbd->runs;
	int ret;

	if (!runs) {
		runs = nbd->runs = calloc(1, sizeof(*runs));
		if (!runs)
			return -ENOMEM;
		runs->ask = ASK_START;
	}
	if (!is_known(nbd, off)) {
		ret = ask(nbd, off);
		if (ret)
			return ret;
	}
	while (runs->list[runs->next].end <= off)
		runs->next++;
	/* What lies before is asked for anew. */
	runs->off = off;
	out->hole = runs->list[runs->next].hole;
	out->len = min_u64(len, runs->list[runs->next].end - off);
	return 0;
}

int nbd_store_extent(struct storage *s, uint64_t off, uint64_t len,
		     struct storage_extent *out)
{
	struct nbd *nbd = to_nbd(s);
	int ret;

	if (nbd->distrust_holes || !nbd->facts.has_extents)
		return -EOPNOTSUPP;
	if (off >= nbd->facts.size_bytes) {
		*out = (struct storage_extent){.len = len, .hole = true};
		return 0;
	}
	pthread_mutex_lock(&nbd->runs_mutex);
	ret = extent_locked(nbd, off, len, out);
	pthread_mutex_unlock(&nbd->runs_mutex);
	return ret && atomic_load(&nbd->broken) ? -ESHUTDOWN : ret;
}
