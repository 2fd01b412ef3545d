/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests of one client (spec: nbd 9 to 12).
 *
 * All that has arrived is parsed and tried before anything is sent: what
 * finishes on the spot is answered in one call. A read's bytes lie in the
 * batch's arena until then, a write's are taken from where they were received.
 * Only what has to be started gets a buffer of its own.
 *
 * A payload is always read, also of a request that is refused, or the
 * connection ends: it must never be taken for requests.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/clock.h"
#include "block/image.h"
#include "block/storage.h"
#include "nbd-server/transmit.h"

#define INPUT_BYTES (128u * 1024)
/* A client that is silent for so long keeps no more buffers than these. */
#define IDLE_MS		1000
#define IDLE_KEEP_BYTES (256u * 1024)

struct transmission {
	struct nbd_connection *con;
	struct queue *queue;
	struct nbd_buffers buffers;
	struct nbd_request *idle; /* for reuse */
	unsigned request_count;	  /* not idle */
	bool stop;		  /* nothing more is parsed, */
	int end;		  /* and why: as from nbd_transmit() */
	size_t in_start, in_end;  /* what is in `input` */
	struct nbd_counts counts; /* since the last batch */
	struct nbd_batch batch;
	uint8_t input[INPUT_BYTES];
};

/* The first reason counts: others follow from it. */
static void stop(struct transmission *t, int why)
{
	if (!t->stop)
		t->end = why;
	t->stop = true;
}

/* ---- requests and replies ---- */

static struct nbd_request *take_request(struct transmission *t)
{
	struct nbd_request *r = t->idle;

	if (r)
		t->idle = r->next;
	else
		r = malloc(sizeof(*r));
	if (r)
		t->request_count++;
	return r;
}

static void give_back(struct transmission *t, struct nbd_request *r)
{
	if (r->lent)
		queue_return(t->queue, &r->base);
	if (r->buffer)
		nbd_buffers_put(&t->buffers, r->buffer);
	nbd_status_release(&r->status);
	r->next = t->idle;
	t->idle = r;
	t->request_count--;
}

/* The bytes of `r` that are still to be sent, from a buffer of its own. */
static int copy_lent(struct transmission *t, struct nbd_request *r,
		     struct iovec *iov, int iov_count)
{
	const uint8_t *lent = r->base.buf;
	int ret;

	r->buffer = nbd_buffers_get(&t->buffers, r->base.len);
	if (!r->buffer)
		return -ENOMEM;
	ret = storage_read(r->base.run.storage, r->buffer->bytes, r->base.len,
			   r->base.run.host_off);
	for (int i = 0; i < iov_count && !ret; i++) {
		const uint8_t *at = iov[i].iov_base;

		if (at >= lent && at < lent + r->base.len)
			iov[i].iov_base = r->buffer->bytes + (at - lent);
	}
	queue_return(t->queue, &r->base);
	r->lent = false;
	return ret;
}

/* A client that takes its time keeps nobody away from what it has asked for. */
static int send_all(struct transmission *t)
{
	struct channel *ch = &t->con->channel;
	struct nbd_batch *batch = &t->batch;
	struct iovec *iov = batch->iov;
	int iov_count = batch->iov_count;
	int ret;

	if (!batch->lent_bytes)
		return channel_writev(ch, iov, iov_count);
	ret = channel_send(ch, &iov, &iov_count);
	if (ret != -EAGAIN)
		return ret;
	ret = 0;
	for (struct nbd_request *r = batch->spent; r && !ret; r = r->next)
		if (r->lent)
			ret = copy_lent(t, r, iov, iov_count);
	return ret ? ret : channel_writev(ch, iov, iov_count);
}

/* Sends what has been gathered; a channel that fails ends it all. */
static void send_batch(struct transmission *t)
{
	struct nbd_batch *batch = &t->batch;

	/* First, so that whoever has an answer finds it counted. */
	if (t->con->export->stats)
		nbd_stats_add(t->con->export->stats, &t->counts);
	if (batch->iov_count && !batch->error)
		batch->error = send_all(t);
	if (batch->error)
		stop(t, batch->error);
	while (batch->spent) {
		struct nbd_request *r = batch->spent;

		batch->spent = r->next;
		give_back(t, r);
	}
	batch->iov_count = 0;
	batch->heads_len = 0;
	batch->arena_len = 0;
	batch->lent_bytes = 0;
}

static void count(struct transmission *t, const struct nbd_request *r)
{
	if (!t->con->export->stats || r->in.type >= NBD_STATS_OPS)
		return;
	nbd_counts_add(&t->counts, r->in.type, r->base.len, r->base.status < 0,
		       r->start_ns);
	t->counts.depth_max =
		max_u64(t->counts.depth_max, queue_pending(t->queue) + 1);
}

static void tally(struct nbd_tally *tally, const struct nbd_request *r)
{
	tally->requests++;
	if (r->base.status < 0)
		return;
	if (r->in.type == NBD_CMD_READ)
		tally->read_bytes += r->base.len;
	if (r->in.type == NBD_CMD_WRITE)
		tally->written_bytes += r->base.len;
}

static void answer(struct transmission *t, struct nbd_request *r)
{
	count(t, r);
	tally(&t->con->tally, r);
	if (!nbd_batch_has_room(&t->batch))
		send_batch(t);
	nbd_batch_reply(&t->batch, r);
}

static void answer_finished(struct transmission *t)
{
	struct request *r;

	while ((r = queue_reap(t->queue)))
		answer(t, (struct nbd_request *)r);
}

static bool is_full(const struct transmission *t)
{
	return t->request_count >= NBD_IN_FLIGHT_MAX ||
	       t->buffers.used_bytes >= NBD_BUFFER_BYTES_MAX;
}

/*
 * Until there is room for one more. Replies go out first: what is lent in them
 * may be what others, our own requests included, wait for.
 */
static void wait_for_room(struct transmission *t)
{
	while (is_full(t)) {
		struct request *r;

		send_batch(t);
		r = is_full(t) ? queue_wait(t->queue) : NULL;
		if (r)
			answer(t, (struct nbd_request *)r);
	}
}

/* ---- carrying it out ---- */

/* A buffer of its own, filled with what a write has so far. */
static bool give_buffer(struct transmission *t, struct nbd_request *r)
{
	if (r->buffer)
		return true;
	r->buffer = nbd_buffers_get(&t->buffers, r->base.len);
	if (!r->buffer)
		return false;
	if (r->base.op == REQUEST_WRITE)
		memcpy(r->buffer->bytes, r->base.buf, r->base.len);
	r->base.buf = r->buffer->bytes;
	return true;
}

/* Where a read's bytes go for now. */
static bool find_read_buffer(struct transmission *t, struct nbd_request *r)
{
	struct nbd_batch *batch = &t->batch;

	if (r->base.len > NBD_ARENA_BYTES)
		return give_buffer(t, r);
	if (batch->arena_len + r->base.len > NBD_ARENA_BYTES)
		send_batch(t);
	r->base.buf = batch->arena + batch->arena_len;
	return true;
}

static bool more_has_arrived(const struct transmission *t)
{
	return t->in_end - t->in_start >= sizeof(struct nbd_compact_request);
}

/*
 * Straight out of memory. A large range is looked at for holes first, if the
 * client can be told of them.
 */
static bool lend(struct transmission *t, struct nbd_request *r)
{
	bool whole = t->con->mode != NBD_SIMPLE &&
		     !(r->in.flags & NBD_CMD_FLAG_DF) &&
		     r->base.len >= NBD_HOLES_WORTH;

	if (!channel_may_fault(&t->con->channel))
		return false;
	r->lent = queue_lend(t->queue, &r->base, whole);
	if (!r->lent)
		return false;
	t->batch.lent_bytes += r->base.len;
	return true;
}

static void execute(struct transmission *t, struct nbd_request *r)
{
	bool moves = r->base.op == REQUEST_READ || r->base.op == REQUEST_WRITE;

	if (r->base.op == REQUEST_READ && lend(t, r)) {
		answer(t, r);
		if (t->batch.lent_bytes >= NBD_LENT_MAX)
			send_batch(t);
		return;
	}
	/*
	 * From here on this thread may wait for a range: for one that it has
	 * lent itself, or for somebody who waits for that.
	 */
	if (t->batch.lent_bytes)
		send_batch(t);
	if (r->base.op == REQUEST_READ && !find_read_buffer(t, r)) {
		r->base.status = -ENOMEM;
		answer(t, r);
		return;
	}
	if (queue_try(t->queue, &r->base, more_has_arrived(t))) {
		if (r->base.op == REQUEST_READ && !r->buffer)
			t->batch.arena_len += r->base.len;
		answer(t, r);
		return;
	}
	if (moves && !give_buffer(t, r)) {
		r->base.status = -ENOMEM;
		answer(t, r);
		return;
	}
	queue_start(t->queue, &r->base);
}

/* ---- taking it in ---- */

/*
 * The payload whole, in the input or in a buffer of the request's; or a
 * negative errno: the connection is of no more use.
 */
static int take_payload(struct transmission *t, struct nbd_request *r)
{
	uint64_t len = r->in.payload_len;
	size_t there = t->in_end - t->in_start;

	if (len <= there) {
		r->base.buf = t->input + t->in_start;
		t->in_start += len;
		return 0;
	}
	r->buffer = nbd_buffers_get(&t->buffers, len);
	if (!r->buffer)
		return -ENOMEM;
	r->base.buf = r->buffer->bytes;
	memcpy(r->buffer->bytes, t->input + t->in_start, there);
	t->in_start = t->in_end;
	/* What is ready goes out first: this may take the client a while. */
	send_batch(t);
	return channel_read(&t->con->channel, r->buffer->bytes + there,
			    len - there);
}

/* All that is under way is finished and answered. */
static void drain(struct transmission *t)
{
	struct request *r;

	while ((r = queue_wait(t->queue)))
		answer(t, (struct nbd_request *)r);
	send_batch(t);
}

/* Nothing else may go on: a request is checked against the size once. */
static void resize(struct transmission *t, struct nbd_request *r)
{
	send_batch(t);
	drain(t);
	r->base.status = nbd_export_grow(t->con->export, r->in.offset,
					 r->in.flags & NBD_CMD_FLAG_FUA);
	answer(t, r);
}

static void serve(struct transmission *t, struct nbd_request *r)
{
	r->base.status = nbd_request_check(r);
	if (!r->base.status && r->in.type == NBD_CMD_RESIZE)
		resize(t, r);
	else if (!r->base.status && nbd_request_translate(r))
		execute(t, r);
	else
		answer(t, r);
}

/* 0: go on with it; 1: the client leaves; or a negative errno. */
static int check_header(const struct transmission *t,
			const struct nbd_command_in *in)
{
	uint32_t magic = t->con->mode == NBD_EXTENDED ? NBD_EXT_REQUEST_MAGIC
						      : NBD_REQUEST_MAGIC;

	if (in->magic != magic)
		return nbd_fault(t->con, -EPROTO,
				 "magic of a request is 0x%x, not 0x%x",
				 in->magic, magic);
	if (in->payload_len > NBD_PAYLOAD_MAX)
		return nbd_fault(t->con, -EPROTO,
				 "payload of %llu bytes, allowed are %u",
				 (unsigned long long)in->payload_len,
				 NBD_PAYLOAD_MAX);
	return in->type == NBD_CMD_DISC;
}

static size_t header_len(const struct transmission *t)
{
	return t->con->mode == NBD_EXTENDED
		       ? sizeof(struct nbd_ext_request)
		       : sizeof(struct nbd_compact_request);
}

/* One request, if a whole header is there. */
static bool take_one(struct transmission *t)
{
	struct nbd_command_in in;
	struct nbd_request *r;
	int ret;

	if (t->stop || t->in_end - t->in_start < header_len(t))
		return false;
	wait_for_room(t);
	nbd_decode_request(&in, t->input + t->in_start,
			   t->con->mode == NBD_EXTENDED);
	t->in_start += header_len(t);
	ret = check_header(t, &in);
	r = ret ? NULL : take_request(t);
	if (!r) {
		stop(t, ret ? ret : -ENOMEM);
		return false;
	}
	r->in = in;
	r->con = t->con;
	r->start_ns = t->con->export->stats ? clock_now_ns() : 0;
	r->buffer = NULL;
	r->lent = false;
	r->status = (struct nbd_status){0};
	nbd_schedule_note(&t->con->schedule,
			  in.type == NBD_CMD_READ && t->con->channel.tls
				  ? in.len
				  : in.payload_len);
	ret = take_payload(t, r);
	if (ret < 0) {
		nbd_fault(t->con, ret, "in the payload of a request");
		give_back(t, r);
		stop(t, ret);
		return false;
	}
	serve(t, r);
	return true;
}

/*
 * True: there is input, or nothing else to wait for. Large buffers, which are
 * kept for the next request, go when there is none: many clients are connected
 * and do nothing. Those who need no buffers are spared the call.
 */
static bool await_input(struct transmission *t)
{
	struct channel *ch = &t->con->channel;
	int other_fd = queue_fd(t->queue);
	bool there;

	if (queue_pending(t->queue))
		return channel_wait(ch, other_fd, -1);
	if (t->buffers.idle_bytes <= IDLE_KEEP_BYTES)
		return true;
	there = channel_wait(ch, other_fd, IDLE_MS);
	if (!there)
		nbd_buffers_release(&t->buffers);
	return there;
}

/* More input, or something that is finished. */
static void wait_for_more(struct transmission *t)
{
	size_t rest = t->in_end - t->in_start;
	int64_t done;

	if (!await_input(t))
		return;
	memmove(t->input, t->input + t->in_start, rest);
	t->in_start = 0;
	t->in_end = rest;
	done = channel_read_some(&t->con->channel, t->input + rest,
				 INPUT_BYTES - rest);
	if (!done && rest)
		nbd_fault(t->con, 0, "in a request");
	if (done <= 0)
		stop(t, done ? (int)done : -ECONNRESET);
	else
		t->in_end += (size_t)done;
}

/* What is under way is finished; a client that has gone gets no more begun. */
static void finish(struct transmission *t)
{
	if (t->batch.error)
		queue_cancel(t->queue);
	drain(t);
}

static void free_transmission(struct transmission *t)
{
	assert(!t->request_count);
	while (t->idle) {
		struct nbd_request *r = t->idle;

		t->idle = r->next;
		free(r);
	}
	nbd_buffers_release(&t->buffers);
	queue_free(t->queue);
	free(t->batch.arena);
	free(t);
}

static struct transmission *new_transmission(struct nbd_connection *con)
{
	struct transmission *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->con = con;
	t->batch.con = con;
	t->batch.arena = malloc(NBD_ARENA_BYTES);
	if (t->batch.arena &&
	    queue_new(&t->queue, con->export->img, con->pool) == 0)
		return t;
	free(t->batch.arena);
	free(t);
	return NULL;
}

int nbd_transmit(struct nbd_connection *con)
{
	struct transmission *t = new_transmission(con);
	int end;

	if (!t)
		return -ENOMEM;
	if (con->export->stats)
		nbd_stats_add_client(con->export->stats);
	while (!t->stop) {
		while (take_one(t))
			;
		answer_finished(t);
		send_batch(t);
		if (!t->stop)
			wait_for_more(t);
	}
	finish(t);
	end = t->end;
	free_transmission(t);
	return end;
}
