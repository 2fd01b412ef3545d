/* SPDX-License-Identifier: BSD-3-Clause */
/* An NBD export as a storage: its connections and its life. */
#include "block/storage/nbd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "block/bytes.h"
#include "block/clock.h"
#include "block/error.h"
#include "block/notice.h"
#include "block/quote.h"
#include "block/storage/file.h"
#include "block/storage/nbd-private.h"

#define SECTOR 512

/* ---- connections ---- */

static bool same_facts(const struct nbd_facts *a, const struct nbd_facts *b)
{
	return a->size_bytes == b->size_bytes && a->min_block == b->min_block &&
	       a->max_bytes == b->max_bytes && a->read_only == b->read_only &&
	       a->can_flush == b->can_flush && a->can_trim == b->can_trim &&
	       a->can_zero == b->can_zero &&
	       a->can_fast_zero == b->can_fast_zero &&
	       a->can_multi_conn == b->can_multi_conn &&
	       a->has_extents == b->has_extents;
}

static struct nbd_connection *least_loaded(struct nbd *nbd, unsigned *load)
{
	unsigned count = atomic_load(&nbd->count);
	struct nbd_connection *best = NULL;

	*load = 0;
	for (unsigned i = 0; i < count; i++) {
		struct nbd_connection *conn = nbd->connections[i];
		unsigned this_load = atomic_load(&conn->load);

		if (best && this_load >= *load)
			continue;
		best = conn;
		*load = this_load;
	}
	return best;
}

/*
 * One more connection, unless another thread makes one. If it fails, or if what
 * answers says something else than before, those that there are have to do.
 */
static struct nbd_connection *grow(struct nbd *nbd)
{
	struct nbd_connection *conn = NULL;
	struct nbd_facts facts;
	unsigned count;

	if (pthread_mutex_trylock(&nbd->grow_mutex))
		return NULL;
	count = atomic_load(&nbd->count);
	if (count < nbd->count_max) {
		if (nbd_connection_open(&conn, &nbd->address, NBD_MORE_MS,
					&facts, NULL) < 0) {
			conn = NULL;
		} else if (!same_facts(&facts, &nbd->facts)) {
			nbd_connection_close(conn);
			conn = NULL;
		}
		if (conn) {
			nbd->connections[count] = conn;
			atomic_store(&nbd->count, count + 1);
		} else {
			nbd->count_max = count;
		}
	}
	pthread_mutex_unlock(&nbd->grow_mutex);
	return conn;
}

/* Another one is worth its handshake once all are in use. */
static struct nbd_connection *pick(struct nbd *nbd)
{
	unsigned load;
	struct nbd_connection *best = least_loaded(nbd, &load), *more = NULL;

	if (load > 0 && atomic_load(&nbd->count) < NBD_CONNECTIONS_MAX &&
	    nbd->facts.can_multi_conn)
		more = grow(nbd);
	return more ? more : best;
}

static void begin_on(struct nbd_connection *conn, struct nbd_call *call)
{
	atomic_fetch_add(&conn->load, 1);
	nbd_call_begin(call, conn);
}

int nbd_begin(struct nbd *nbd, struct nbd_call *call)
{
	if (atomic_load(&nbd->broken))
		return -EIO;
	begin_on(pick(nbd), call);
	return 0;
}

int nbd_begin_flush(struct nbd *nbd, struct nbd_call *call)
{
	if (atomic_load(&nbd->broken))
		return -EIO;
	begin_on(nbd->connections[0], call);
	return 0;
}

/* Once, however many threads see it. */
static void note_end(struct nbd *nbd, struct nbd_silence silence)
{
	struct quoted_name quoted;

	if (atomic_exchange(&nbd->broken, true) ||
	    silence.command == NBD_COMMANDS)
		return;
	notice("The NBD server of '%s' was silent for %d seconds and is given "
	       "up; %s has no answer",
	       quote_name(&quoted, nbd->base.name), silence.ms / 1000,
	       nbd_command_text(silence.command));
}

int nbd_end(struct nbd *nbd, struct nbd_call *call)
{
	struct nbd_connection *conn = call->conn;
	struct nbd_silence silence;
	int ret = nbd_call_end(call);

	atomic_fetch_sub(&conn->load, 1);
	if (ret && nbd_connection_is_broken(conn, &silence))
		note_end(nbd, silence);
	return ret;
}

/* ---- life ---- */

static void nbd_close_storage(struct storage *s)
{
	struct nbd *nbd = to_nbd(s);
	unsigned count = atomic_load(&nbd->count);

	for (unsigned i = 0; i < count; i++)
		nbd_connection_close(nbd->connections[i]);
	free(nbd->runs);
	pthread_mutex_destroy(&nbd->grow_mutex);
	pthread_mutex_destroy(&nbd->runs_mutex);
	nbd_address_release(&nbd->address);
	storage_release(s);
	free(nbd);
}

/* Names have one spelling, however an export was asked for. */
static bool is_same_export(const struct storage *a, const struct storage *b)
{
	return !strcmp(a->name, b->name);
}

static const struct storage_ops nbd_ops = {
	.name = "nbd",
	.readv = nbd_store_readv,
	.writev = nbd_store_writev,
	.zero = nbd_store_zero,
	.discard = nbd_store_discard,
	.same = is_same_export,
	.sync = nbd_store_sync,
	.extent = nbd_store_extent,
	.close = nbd_close_storage,
};

static int nbd_new(struct nbd **out, const struct nbd_address *address)
{
	struct nbd *nbd = calloc(1, sizeof(*nbd));
	int ret;

	if (!nbd)
		return -ENOMEM;
	ret = storage_init(&nbd->base, &nbd_ops, address->name);
	if (ret) {
		free(nbd);
		return ret;
	}
	pthread_mutex_init(&nbd->grow_mutex, NULL);
	pthread_mutex_init(&nbd->runs_mutex, NULL);
	ret = nbd_address_copy(&nbd->address, address);
	if (ret) {
		nbd_close_storage(&nbd->base);
		return ret;
	}
	*out = nbd;
	return 0;
}

/* What the rest of the program has to know of the server. */
static int publish_facts(struct nbd *nbd, unsigned flags, struct error *err)
{
	const struct nbd_facts *facts = &nbd->facts;
	struct storage *s = &nbd->base;

	if (facts->size_bytes > INT64_MAX - SECTOR)
		return error_set(err, EFBIG,
				 "The NBD export has %llu bytes, which is too "
				 "large",
				 (unsigned long long)facts->size_bytes);
	if (flags & FILE_OPEN_WRITE && facts->read_only)
		return error_set(err, EACCES,
				 "The NBD export can only be read");
	storage_raise_size(s, align_up(facts->size_bytes, SECTOR));
	s->align = facts->min_block;
	s->writable = flags & FILE_OPEN_WRITE;
	s->can_punch = facts->can_zero || facts->can_trim;
	s->zero_is_fast = facts->can_fast_zero;
	nbd->distrust_holes = flags & FILE_OPEN_DISTRUST_HOLES;
	nbd->count_max = facts->can_multi_conn ? NBD_CONNECTIONS_MAX : 1;
	return 0;
}

static bool nobody_listens(int ret)
{
	return ret == -ECONNREFUSED || ret == -ENOENT || ret == -ECONNRESET ||
	       ret == -EHOSTUNREACH || ret == -ENETUNREACH;
}

static int connect_first(struct nbd *nbd, struct error *err)
{
	const struct nbd_address *address = &nbd->address;
	static const struct timespec pause = {.tv_nsec = NBD_AGAIN_MS * 1000 *
							 1000};
	bool again = address->open_timeout_seconds > 0;
	int timeout_ms = again ? (int)address->open_timeout_seconds * 1000
			       : NBD_HANDSHAKE_MS;
	int64_t end = clock_now_ms() + timeout_ms;
	int ret;

	for (;;) {
		struct error why = {0};

		ret = nbd_connection_open(&nbd->connections[0], address,
					  timeout_ms, &nbd->facts, &why);
		timeout_ms = (int)(end - clock_now_ms()) - NBD_AGAIN_MS;
		if (ret && again && nobody_listens(ret) && timeout_ms > 0) {
			nanosleep(&pause, NULL);
			continue;
		}
		if (ret && err)
			*err = why;
		return ret;
	}
}

int storage_nbd_open(struct storage **out, const struct nbd_address *address,
		     unsigned flags, struct error *err)
{
	struct nbd *nbd;
	int ret = nbd_new(&nbd, address);

	if (ret)
		return error_set_errno(err, -ret, "connecting");
	ret = connect_first(nbd, err);
	if (!ret) {
		atomic_store(&nbd->count, 1);
		ret = publish_facts(nbd, flags, err);
	}
	if (ret) {
		nbd_close_storage(&nbd->base);
		return ret;
	}
	*out = &nbd->base;
	return 0;
}
