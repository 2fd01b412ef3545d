/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests on their way: see queue.h. */
#include "block/queue.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "block/queue-private.h"
#include "block/storage.h"

/* A zero or discard of more than this may take its time. */
#define SHORT_RANGE (1024 * 1024)

/* ---- doing it ---- */

static int zero(struct image *img, const struct request *r)
{
	unsigned flags = 0;

	if (r->flags & REQUEST_MAY_UNMAP)
		flags |= FORMAT_ZERO_MAY_UNMAP;
	if (r->flags & REQUEST_NO_FALLBACK)
		flags |= FORMAT_ZERO_NO_FALLBACK;
	return image_zero(img, r->guest_off, r->len, flags);
}

static int carry_out_plain(struct image *img, struct request *r)
{
	switch (r->op) {
	case REQUEST_READ:
		return image_read(img, r->buf, r->len, r->guest_off);
	case REQUEST_WRITE:
		return image_write(img, r->buf, r->len, r->guest_off);
	case REQUEST_ZERO:
		return zero(img, r);
	case REQUEST_DISCARD:
		return image_discard(img, r->guest_off, r->len);
	case REQUEST_FLUSH:
		return image_flush(img);
	case REQUEST_CALL:
		return r->call(r);
	}
	assert(!"a kind of request");
	return -EINVAL;
}

/* All of it, however long it takes. Any thread. */
static int carry_out(struct image *img, struct request *r)
{
	int ret = carry_out_plain(img, r);

	if (!ret && (r->flags & REQUEST_FUA))
		ret = image_flush(img);
	return ret;
}

/* ---- on the spot ---- */

/*
 * Buffered writes into a store of this machine wait for nothing but memory and,
 * rarely, metadata. A store that cannot say what is in memory is somewhere
 * else.
 */
static bool writes_are_short(const struct image *img)
{
	return img->file->ops->read_nowait &&
	       (img->cache == CACHE_WRITEBACK || img->cache == CACHE_UNSAFE);
}

static bool is_short(const struct image *img, const struct request *r)
{
	if (r->flags & REQUEST_FUA)
		return false;
	switch (r->op) {
	case REQUEST_WRITE:
		return writes_are_short(img);
	case REQUEST_ZERO:
	case REQUEST_DISCARD:
		return writes_are_short(img) && r->len <= SHORT_RANGE;
	case REQUEST_FLUSH:
		return !img->writable;
	case REQUEST_READ:
	case REQUEST_CALL:
		break;
	}
	return false;
}

/* A thread that nobody waits for may as well wait itself. */
static bool may_take_long(const struct queue *q, const struct request *r,
			  bool more)
{
	return !q->pool || (!more && !q->pending_count &&
			    (r->op == REQUEST_READ || r->op == REQUEST_CALL));
}

bool queue_try(struct queue *q, struct request *r, bool more)
{
	r->status = -EAGAIN;
	if (r->op == REQUEST_READ)
		r->status =
			image_read_nowait(q->img, r->buf, r->len, r->guest_off);
	if (r->status != -EAGAIN)
		return true;
	if (!is_short(q->img, r) && !may_take_long(q, r, more))
		return false;
	r->status = carry_out(q->img, r);
	return true;
}

/* ---- lending ---- */

static bool has_holes(const struct image_run *run, uint64_t len)
{
	struct storage_extent extent;

	return storage_extent_at(run->storage, run->host_off, len, &extent) <
		       0 ||
	       extent.hole || extent.len < len;
}

bool queue_lend(struct queue *q, struct request *r, bool whole)
{
	const void *bytes = NULL;

	assert(r->op == REQUEST_READ);
	if (!image_run_take(q->img, &r->run, r->guest_off, r->len))
		return false;
	if (!whole || !has_holes(&r->run, r->len))
		bytes = storage_lend(r->run.storage, r->run.host_off, r->len);
	if (!bytes) {
		image_run_drop(&r->run);
		return false;
	}
	/* Nobody writes there: the map has no permission for it. */
	r->buf = (void *)(uintptr_t)bytes;
	r->status = 0;
	return true;
}

void queue_return(struct queue *q, struct request *r)
{
	(void)q;
	image_run_drop(&r->run);
	r->buf = NULL;
}

/* ---- by others ---- */

static void wake_owner(struct queue *q)
{
	/* Fails only where the count is full, and then it is readable. */
	eventfd_write(q->event_fd, 1);
}

/* The queue may be gone as soon as the lock is free: the owner has it all. */
static void finish(struct queue *q, struct request *r)
{
	pthread_mutex_lock(&q->lock);
	r->next = NULL;
	*q->done_last = r;
	q->done_last = &r->next;
	if (q->done == r)
		wake_owner(q);
	pthread_mutex_unlock(&q->lock);
}

static struct request *from_work(struct work *work)
{
	return (struct request *)((char *)work -
				  offsetof(struct request, work));
}

static void run_work(struct work *work)
{
	struct request *r = from_work(work);

	r->status = carry_out(r->queue->img, r);
	finish(r->queue, r);
}

void queue_hand_over(struct queue *q, struct request *r)
{
	r->work = (struct work){.run = run_work, .owner = q};
	if (!worker_pool_add(q->pool, &r->work))
		run_work(&r->work);
}

void queue_start(struct queue *q, struct request *r)
{
	assert(q->pool);
	r->queue = q;
	q->pending_count++;
	if (!queue_ring_start(q, r))
		queue_hand_over(q, r);
}

unsigned queue_pending(const struct queue *q)
{
	return q->pending_count;
}

int queue_fd(const struct queue *q)
{
	return q->event_fd;
}

static struct request *take_done(struct queue *q)
{
	struct request *r;

	pthread_mutex_lock(&q->lock);
	r = q->done;
	if (r) {
		q->done = r->next;
		if (!q->done)
			q->done_last = &q->done;
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}

static void clear_event(struct queue *q)
{
	eventfd_t count;

	eventfd_read(q->event_fd, &count); /* nothing there: fine as well */
}

static struct request *look_for_done(struct queue *q)
{
	struct request *r = take_done(q);

	return r ? r : queue_ring_reap(q);
}

struct request *queue_reap(struct queue *q)
{
	struct request *r;

	if (!q->pending_count)
		return NULL;
	r = look_for_done(q);
	if (!r) {
		/* What finishes after this look makes the event again. */
		clear_event(q);
		r = look_for_done(q);
	}
	if (r)
		q->pending_count--;
	return r;
}

struct request *queue_wait(struct queue *q)
{
	struct pollfd fd = {.fd = q->event_fd, .events = POLLIN};
	struct request *r;

	while (q->pending_count) {
		r = queue_reap(q);
		if (r)
			return r;
		poll(&fd, 1, -1);
	}
	return NULL;
}

void queue_cancel(struct queue *q)
{
	struct work *work = q->pool ? worker_pool_revoke(q->pool, q) : NULL;

	while (work) {
		struct request *r = from_work(work);

		work = work->next;
		r->status = -ECANCELED;
		finish(q, r);
	}
}

/* ---- beginning and end ---- */

int queue_new(struct queue **out, struct image *img, struct worker_pool *pool)
{
	int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct queue *q;

	if (event_fd < 0)
		return -errno;
	q = calloc(1, sizeof(*q));
	if (!q) {
		close(event_fd);
		return -ENOMEM;
	}
	q->event_fd = event_fd;
	q->img = img;
	q->pool = pool;
	q->done_last = &q->done;
	pthread_mutex_init(&q->lock, NULL);
	*out = q;
	return 0;
}

void queue_free(struct queue *q)
{
	if (!q)
		return;
	assert(!q->pending_count);
	/* A worker may still be about to let go of the lock. */
	pthread_mutex_lock(&q->lock);
	pthread_mutex_unlock(&q->lock);
	queue_ring_free(q->ring);
	pthread_mutex_destroy(&q->lock);
	close(q->event_fd);
	free(q);
}
