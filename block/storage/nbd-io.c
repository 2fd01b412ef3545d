/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests of a storage as commands of NBD: cut at the server's largest, many
 * on their way at once.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "block/bytes.h"
#include "block/storage/nbd-private.h"
#include "block/zero.h"

/* A length has 32 bits; a multiple of every block size. */
#define ZERO_PIECE (1u << 30)

/* ---- vectors ---- */

struct walk {
	const struct iovec *iov;
	int iov_count;
	size_t skip; /* bytes of iov[0] that are done */
	uint64_t off;
};

/* The next bytes of memory, parts of the vector joined where they touch. */
static bool walk_next(struct walk *w, uint64_t max, uint8_t **buf, size_t *len)
{
	*len = 0;
	while (w->iov_count > 0 && *len < max) {
		uint8_t *at = (uint8_t *)w->iov->iov_base + w->skip;
		size_t step = min_u64(w->iov->iov_len - w->skip, max - *len);

		if (step && *len && at != *buf + *len)
			break;
		if (step && !*len)
			*buf = at;
		*len += step;
		w->skip += step;
		if (w->skip == w->iov->iov_len) {
			w->iov++;
			w->iov_count--;
			w->skip = 0;
		}
	}
	w->off += *len;
	return *len > 0;
}

/* The part of [off, off + len) that the export has; the rest is its tail. */
static size_t part_inside(const struct nbd *nbd, uint64_t off, size_t len)
{
	uint64_t size = nbd->facts.size_bytes;

	return off < size ? min_u64(len, size - off) : 0;
}

/* ---- reading and writing ---- */

int nbd_store_readv(struct storage *s, const struct iovec *iov, int iov_count,
		    uint64_t off)
{
	struct nbd *nbd = to_nbd(s);
	struct walk w = {.iov = iov, .iov_count = iov_count, .off = off};
	struct nbd_call call;
	bool good = true;
	uint8_t *buf;
	size_t len;
	int ret = nbd_begin(nbd, &call);

	if (ret)
		return ret;
	while (good && walk_next(&w, nbd->facts.max_bytes, &buf, &len)) {
		size_t inside = part_inside(nbd, w.off - len, len);

		memset(buf + inside, 0, len - inside);
		if (inside)
			good = nbd_call_read(&call, buf, inside, w.off - len);
	}
	return nbd_end(nbd, &call);
}

static int write_pieces(struct nbd *nbd, struct nbd_call *call, struct walk w)
{
	uint8_t *buf;
	size_t len;

	while (walk_next(&w, nbd->facts.max_bytes, &buf, &len)) {
		size_t inside = part_inside(nbd, w.off - len, len);

		if (!is_zero(buf + inside, len - inside))
			return -ENOSPC;
		if (inside && !nbd_call_write(call, buf, inside, w.off - len))
			break;
	}
	return 0;
}

int nbd_store_writev(struct storage *s, const struct iovec *iov, int iov_count,
		     uint64_t off)
{
	struct nbd *nbd = to_nbd(s);
	struct walk w = {.iov = iov, .iov_count = iov_count, .off = off};
	struct nbd_call call;
	int ret = nbd_begin(nbd, &call), end_ret;

	if (ret)
		return ret;
	atomic_fetch_add(&nbd->changes, 1);
	ret = write_pieces(nbd, &call, w);
	end_ret = nbd_end(nbd, &call);
	atomic_fetch_add(&nbd->changes, 1);
	return ret ? ret : end_ret;
}

/* ---- ranges ---- */

/* Sends one command of a range. */
typedef bool range_fn(struct nbd_call *call, uint64_t len, uint64_t off,
		      uint32_t flags);

static bool trim(struct nbd_call *call, uint64_t len, uint64_t off,
		 uint32_t flags)
{
	assert(!flags);
	return nbd_call_trim(call, len, off);
}

static int change_range(struct nbd *nbd, range_fn *send, uint64_t off,
			uint64_t len, uint32_t flags)
{
	uint64_t size = nbd->facts.size_bytes;
	uint64_t end = min_u64(off + len, size);
	struct nbd_call call;
	bool good = true;
	int ret = nbd_begin(nbd, &call);

	if (ret)
		return ret;
	atomic_fetch_add(&nbd->changes, 1);
	while (good && off < end) {
		uint64_t piece = min_u64(end - off, ZERO_PIECE);

		good = send(&call, piece, off, flags);
		off += piece;
	}
	ret = nbd_end(nbd, &call);
	atomic_fetch_add(&nbd->changes, 1);
	return ret;
}

int nbd_store_zero(struct storage *s, uint64_t off, uint64_t len,
		   unsigned flags)
{
	struct nbd *nbd = to_nbd(s);
	uint32_t nbd_flags = 0;

	if (!nbd->facts.can_zero)
		return -EOPNOTSUPP;
	if (!(flags & STORAGE_ZERO_MAY_UNMAP))
		nbd_flags |= LIBNBD_CMD_FLAG_NO_HOLE;
	if (flags & STORAGE_ZERO_NO_FALLBACK) {
		if (!nbd->facts.can_fast_zero)
			return -EOPNOTSUPP;
		nbd_flags |= LIBNBD_CMD_FLAG_FAST_ZERO;
	}
	return change_range(nbd, nbd_call_zero, off, len, nbd_flags);
}

int nbd_store_discard(struct storage *s, uint64_t off, uint64_t len)
{
	struct nbd *nbd = to_nbd(s);

	if (!nbd->facts.can_trim)
		return -EOPNOTSUPP;
	return change_range(nbd, trim, off, len, 0);
}

/* On one connection; with several the server has said that it is for all. */
int nbd_store_sync(struct storage *s)
{
	struct nbd *nbd = to_nbd(s);
	struct nbd_call call;
	int ret;

	/* Without the command there is nothing that could be waited for. */
	if (!nbd->facts.can_flush)
		return atomic_load(&nbd->broken) ? -EIO : 0;
	ret = nbd_begin_flush(nbd, &call);
	if (ret)
		return ret;
	nbd_call_flush(&call);
	return nbd_end(nbd, &call);
}
