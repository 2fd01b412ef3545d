/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests of servers: what finishes on the spot, what is started and comes
 * back, from where, and with which status.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>

#include "block/create.h"
#include "block/options.h"
#include "block/queue.h"
#include "block/storage/file.h"
#include "block/storage/memory.h"
#include "formats/registry.h"
#include "tests/support/fault-storage.h"
#include "tests/support/file-fixture.h"
#include "tests/support/log-storage.h"
#include "tests/support/workload.h"

#define KIB	1024u
#define CLUSTER (4 * KIB)

/* ---- a ring that is full ---- */

struct io_uring;
int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);

/* How many submissions the kernel refuses, every other one from the next on. */
static unsigned refuse_submissions;

int __wrap_io_uring_submit(struct io_uring *ring)
{
	if (!refuse_submissions || refuse_submissions-- % 2)
		return __real_io_uring_submit(ring);
	return -EAGAIN;
}

static struct request reading(void *buf, uint64_t guest_off, size_t len)
{
	return (struct request){.op = REQUEST_READ,
				.guest_off = guest_off,
				.len = len,
				.buf = buf};
}

static struct request writing(void *buf, uint64_t guest_off, size_t len,
			      unsigned flags)
{
	struct request r = reading(buf, guest_off, len);

	r.op = REQUEST_WRITE;
	r.flags = flags;
	return r;
}

static struct image *open_on(struct storage *s, const char *format)
{
	struct image *img;

	assert_int_equal(image_open_storage(&img, s, format_find(format), NULL,
					    IMAGE_WRITE, NULL),
			 0);
	return img;
}

static struct image *raw_in_memory(uint64_t size_bytes)
{
	struct storage *s;

	assert_int_equal(storage_memory_new(&s, "disk", size_bytes), 0);
	return open_on(s, "raw");
}

static struct image *qcow2_on(struct storage *s)
{
	static const struct workload_geometry geometry = {
		.create = "cluster_size=4096",
		.open = "",
		.size_bytes = 64 * CLUSTER,
		.size_max = 64 * CLUSTER,
	};
	struct image *img;

	assert_int_equal(workload_create(s, &geometry), 0);
	assert_int_equal(workload_open(&img, s, &geometry, true), 0);
	return img;
}

static struct image *qcow2_in_memory(void)
{
	struct storage *s;

	assert_int_equal(storage_memory_new(&s, "disk", 0), 0);
	return qcow2_on(s);
}

/* A queue with one worker, which tests can hold up. */
struct rig {
	struct image *img;
	struct worker_pool *pool;
	struct queue *queue;
};

static void set_up(struct rig *rig, struct image *img)
{
	rig->img = img;
	assert_int_equal(worker_pool_new(&rig->pool, 1), 0);
	assert_int_equal(queue_new(&rig->queue, img, rig->pool), 0);
}

static void tear_down(struct rig *rig, int flush_status)
{
	queue_free(rig->queue);
	worker_pool_free(rig->pool);
	assert_int_equal(image_close(rig->img), flush_status);
}

/* Neither finished on the spot nor lost. */
static void expect_started(struct rig *rig, struct request *r)
{
	assert_false(queue_try(rig->queue, r, true));
	queue_start(rig->queue, r);
}

static void expect_finished(struct rig *rig, struct request *r, int status)
{
	assert_ptr_equal(queue_wait(rig->queue), r);
	assert_int_equal(r->status, status);
}

static void plain_bytes_are_served_on_the_spot(void **state)
{
	uint8_t in[CLUSTER], out[CLUSTER];
	struct request w = writing(in, 5, sizeof(in), 0);
	struct request r = reading(out, 5, sizeof(out));
	struct rig rig;

	(void)state;
	set_up(&rig, raw_in_memory(64 * KIB));
	memset(in, 7, sizeof(in));
	assert_true(queue_try(rig.queue, &w, true));
	assert_int_equal(w.status, 0);
	assert_true(queue_try(rig.queue, &r, true));
	assert_int_equal(r.status, 0);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(queue_pending(rig.queue), 0);
	assert_null(queue_reap(rig.queue));
	assert_null(queue_wait(rig.queue));
	tear_down(&rig, 0);
}

static void zeros_and_new_clusters_too(void **state)
{
	uint8_t buf[CLUSTER];
	struct request w = writing(buf, CLUSTER, sizeof(buf), 0);
	struct request z = {.op = REQUEST_ZERO,
			    .flags = REQUEST_MAY_UNMAP,
			    .guest_off = CLUSTER,
			    .len = CLUSTER};
	struct request r = reading(buf, 0, sizeof(buf));
	struct rig rig;

	(void)state;
	set_up(&rig, qcow2_in_memory());
	memset(buf, 9, sizeof(buf));
	assert_true(queue_try(rig.queue, &w, true));
	assert_true(queue_try(rig.queue, &z, true));
	assert_int_equal(w.status | z.status, 0);
	for (r.guest_off = 0; r.guest_off < 3 * CLUSTER;
	     r.guest_off += CLUSTER) {
		memset(buf, 1, sizeof(buf));
		assert_true(queue_try(rig.queue, &r, true));
		assert_int_equal(r.status, 0);
		assert_int_equal(buf[0] | buf[CLUSTER - 1], 0);
	}
	tear_down(&rig, 0);
}

/* A packed cluster takes its time: alone on the spot, else by a worker. */
static void packed_bytes_are_read_by_a_worker(void **state)
{
	uint8_t in[CLUSTER] = {1, 2, 3}, out[CLUSTER];
	struct request r = reading(out, 0, sizeof(out));
	struct pollfd fd = {.events = POLLIN};
	struct rig rig;

	(void)state;
	set_up(&rig, qcow2_in_memory());
	assert_int_equal(image_write_packed(rig.img, in, sizeof(in), 0, 0), 0);
	assert_true(queue_try(rig.queue, &r, false));
	assert_int_equal(r.status, 0);
	assert_memory_equal(in, out, sizeof(in));

	memset(out, 0xff, sizeof(out));
	expect_started(&rig, &r);
	assert_int_equal(queue_pending(rig.queue), 1);
	fd.fd = queue_fd(rig.queue);
	assert_int_equal(poll(&fd, 1, -1), 1);
	assert_ptr_equal(queue_reap(rig.queue), &r);
	assert_int_equal(r.status, 0);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(queue_pending(rig.queue), 0);
	tear_down(&rig, 0);
}

/* Whatever is asked, a serial queue has done it when it comes back. */
static void a_serial_queue_finishes_everything(void **state)
{
	uint8_t in[CLUSTER] = {1, 2, 3}, out[CLUSTER];
	struct request requests[] = {
		reading(out, 0, sizeof(out)),
		writing(in, CLUSTER, sizeof(in), REQUEST_FUA),
		{.op = REQUEST_ZERO, .guest_off = 0, .len = 32 * CLUSTER},
		{.op = REQUEST_DISCARD, .guest_off = 0, .len = 32 * CLUSTER},
		{.op = REQUEST_FLUSH},
	};
	struct image *img = qcow2_in_memory();
	struct queue *queue;

	(void)state;
	assert_int_equal(image_write_packed(img, in, sizeof(in), 0, 0), 0);
	assert_int_equal(queue_new(&queue, img, NULL), 0);
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		assert_true(queue_try(queue, &requests[i], true));
		assert_int_equal(requests[i].status, 0);
	}
	assert_memory_equal(in, out, sizeof(in));
	queue_free(queue);
	assert_int_equal(image_close(img), 0);
}

/* ---- durability and failures ---- */

static size_t place_of_last(const struct storage_log *log, enum log_kind kind)
{
	size_t i = log->count;

	while (i && log->entries[i - 1].kind != kind)
		i--;
	return i;
}

/* Each leaves something to be written; space is given back after that. */
static void durable_changes_are_synced(void **state)
{
	const struct flat_disk empty = {0};
	struct storage_log log = {0};
	uint8_t buf[2 * CLUSTER] = {1};
	struct request requests[] = {
		writing(buf, 0, sizeof(buf), REQUEST_FUA),
		{.op = REQUEST_ZERO, .len = CLUSTER, .flags = REQUEST_FUA},
		{.op = REQUEST_DISCARD,
		 .guest_off = CLUSTER,
		 .len = CLUSTER,
		 .flags = REQUEST_FUA},
	};
	struct storage *s;
	struct rig rig;

	(void)state;
	assert_int_equal(storage_log_new(&s, &log, &empty), 0);
	set_up(&rig, qcow2_on(s));
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		size_t before = log.count;

		expect_started(&rig, &requests[i]);
		expect_finished(&rig, &requests[i], 0);
		assert_true(place_of_last(&log, LOG_WRITE) > before);
		assert_true(place_of_last(&log, LOG_SYNC) >
			    place_of_last(&log, LOG_WRITE));
	}
	tear_down(&rig, 0);
	storage_log_release(&log);
}

static void failures_come_back_as_status(void **state)
{
	struct fault_plan plan = {.nth = 1, .for_ever = true, .code = EIO};
	struct request flush = {.op = REQUEST_FLUSH};
	uint8_t buf[CLUSTER];
	struct request r = reading(buf, 0, sizeof(buf));
	struct storage *s;
	struct rig rig;

	(void)state;
	assert_int_equal(storage_memory_new(&s, "disk", 64 * KIB), 0);
	assert_int_equal(storage_fault_new(&s, s, &plan), 0);
	set_up(&rig, open_on(s, "raw"));
	expect_started(&rig, &flush);
	expect_finished(&rig, &flush, -EIO);
	assert_true(queue_try(rig.queue, &r, false));
	assert_int_equal(r.status, -EIO);
	expect_started(&rig, &r);
	expect_finished(&rig, &r, -EIO);
	tear_down(&rig, -EIO);
}

/* ---- cancelling ---- */

struct held_call {
	struct request base;
	sem_t begun, gate;
};

static int wait_at_gate(struct request *r)
{
	struct held_call *call = (struct held_call *)r;

	sem_post(&call->begun);
	sem_wait(&call->gate);
	return 0;
}

static void what_nobody_has_begun_can_be_cancelled(void **state)
{
	struct held_call held = {
		.base = {.op = REQUEST_CALL, .call = wait_at_gate}};
	struct request flushes[3] = {{.op = REQUEST_FLUSH},
				     {.op = REQUEST_FLUSH},
				     {.op = REQUEST_FLUSH}};
	struct rig rig;

	(void)state;
	sem_init(&held.begun, 0, 0);
	sem_init(&held.gate, 0, 0);
	set_up(&rig, raw_in_memory(64 * KIB));
	expect_started(&rig, &held.base);
	sem_wait(&held.begun);
	for (int i = 0; i < 3; i++)
		expect_started(&rig, &flushes[i]);
	queue_cancel(rig.queue);
	for (int i = 0; i < 3; i++)
		expect_finished(&rig, &flushes[i], -ECANCELED);
	assert_null(queue_reap(rig.queue));
	sem_post(&held.gate);
	expect_finished(&rig, &held.base, 0);
	tear_down(&rig, 0);
}

/* ---- what is not in memory ---- */

#define COLD_READS 100u

/* More than the ring takes at once; some are half in memory, some odd. */
static void read_cold_bytes(void)
{
	struct request requests[COLD_READS];
	uint8_t *bufs = malloc(COLD_READS * CLUSTER), *page = malloc(CLUSTER);
	struct storage *s = file_fixture_create("disk");
	unsigned finished = 0;
	struct rig rig;

	assert_non_null(bufs);
	assert_non_null(page);
	for (unsigned i = 0; i < 2 * COLD_READS; i++) {
		memset(page, (int)i, CLUSTER);
		assert_int_equal(storage_write(s, page, CLUSTER, i * CLUSTER),
				 0);
	}
	assert_int_equal(storage_sync(s), 0);
	posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED);
	posix_fadvise(s->fd, 0, 0, POSIX_FADV_RANDOM);
	set_up(&rig, open_on(s, "raw"));
	for (unsigned i = 0; i < COLD_READS; i++) {
		requests[i] = reading(bufs + i * CLUSTER, i * 2 * CLUSTER + i,
				      CLUSTER);
		if (queue_try(rig.queue, &requests[i], true))
			finished++;
		else
			queue_start(rig.queue, &requests[i]);
	}
	while (queue_wait(rig.queue))
		finished++;
	assert_int_equal(finished, COLD_READS);
	for (unsigned i = 0; i < COLD_READS; i++) {
		assert_int_equal(requests[i].status, 0);
		assert_int_equal(bufs[i * CLUSTER], 2 * i);
		assert_int_equal(bufs[(i + 1) * CLUSTER - 1], 2 * i + (i > 0));
	}
	tear_down(&rig, 0);
	free(bufs);
	free(page);
}

static void cold_bytes_are_read_from_the_file(void **state)
{
	(void)state;
	read_cold_bytes();
}

/* A worker does what the kernel does not take; nothing is left behind. */
static void a_ring_may_be_full(void **state)
{
	(void)state;
	refuse_submissions = COLD_READS;
	read_cold_bytes();
	assert_true(refuse_submissions < COLD_READS);
	refuse_submissions = 0;
}

/* Somebody has cut the file: the ring's short read becomes an error. */
static void read_cut_file(void)
{
	uint8_t buf[CLUSTER];
	struct request r = reading(buf, 32 * KIB, sizeof(buf));
	struct rig rig;

	file_fixture_make("disk", 64 * KIB, 5);
	set_up(&rig,
	       open_on(file_fixture_open("disk", FILE_OPEN_WRITE), "raw"));
	assert_int_equal(truncate("disk", 33 * KIB), 0);
	expect_started(&rig, &r);
	expect_finished(&rig, &r, -EIO);
	tear_down(&rig, 0);
}

static void a_file_that_was_cut_is_an_error(void **state)
{
	(void)state;
	read_cut_file();
}

/* With nothing else under way nobody would come back to what was refused. */
static void a_full_ring_forgets_nothing(void **state)
{
	(void)state;
	refuse_submissions = 2;
	read_cut_file();
	assert_int_equal(refuse_submissions, 1);
	refuse_submissions = 0;
}

/* ---- lending ---- */

/* Lent bytes, as a system call sees them; -errno if it cannot. */
static ssize_t copy_by_kernel(void *out, const void *lent, size_t len)
{
	int fds[2];
	ssize_t done;

	assert_int_equal(pipe(fds), 0);
	done = write(fds[1], lent, len);
	if (done < 0)
		done = -errno;
	else
		assert_int_equal(read(fds[0], out, (size_t)done), done);
	close(fds[0]);
	close(fds[1]);
	return done;
}

static void expect_lent(struct rig *rig, struct request *r, int byte)
{
	uint8_t expect[CLUSTER], found[CLUSTER];

	assert_true(queue_lend(rig->queue, r, true));
	assert_int_equal(r->status, 0);
	assert_int_equal(copy_by_kernel(found, r->buf, r->len), r->len);
	memset(expect, byte, r->len);
	assert_memory_equal(found, expect, r->len);
	queue_return(rig->queue, r);
}

static void bytes_in_memory_are_lent(void **state)
{
	uint8_t buf[CLUSTER];
	struct request w = writing(buf, 7 * CLUSTER, sizeof(buf), 0);
	struct request r = reading(NULL, 0, CLUSTER);
	struct rig rig;

	(void)state;
	file_fixture_make("disk", 16 * CLUSTER, 5);
	set_up(&rig,
	       open_on(file_fixture_open("disk", FILE_OPEN_WRITE), "raw"));
	expect_lent(&rig, &r, 5);
	/* What is written later is seen as well, odd offsets are fine. */
	memset(buf, 9, sizeof(buf));
	assert_true(queue_try(rig.queue, &w, false));
	r.guest_off = 7 * CLUSTER + 1;
	r.len = CLUSTER - 1;
	expect_lent(&rig, &r, 9);
	r.guest_off = 16 * CLUSTER - 1;
	r.len = 1;
	expect_lent(&rig, &r, 5);
	tear_down(&rig, 0);
}

/* While it is lent nobody changes what is where; writing in place goes on. */
static void lent_bytes_are_held(void **state)
{
	struct request r = reading(NULL, 0, CLUSTER);
	struct range_hold hold;
	struct rig rig;

	(void)state;
	file_fixture_make("disk", 16 * CLUSTER, 5);
	set_up(&rig,
	       open_on(file_fixture_open("disk", FILE_OPEN_WRITE), "raw"));
	assert_true(queue_lend(rig.queue, &r, false));
	assert_false(
		range_hold_try(&rig.img->holds, &hold, 0, 1, RANGE_EXCLUSIVE));
	queue_return(rig.queue, &r);
	assert_true(
		range_hold_try(&rig.img->holds, &hold, 0, 1, RANGE_EXCLUSIVE));
	assert_false(queue_lend(rig.queue, &r, false));
	range_hold_drop(&rig.img->holds, &hold);
	tear_down(&rig, 0);
}

static void holes_and_what_is_cold_are_not_lent(void **state)
{
	struct request r = reading(NULL, 0, CLUSTER);
	struct storage *s;
	struct rig rig;

	(void)state;
	file_fixture_make("disk", 16 * CLUSTER, 5);
	s = file_fixture_open("disk", FILE_OPEN_WRITE);
	assert_int_equal(
		storage_zero(s, 0, 4 * CLUSTER, STORAGE_ZERO_MAY_UNMAP), 0);
	assert_int_equal(storage_sync(s), 0);
	posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED);
	set_up(&rig, open_on(s, "raw"));
	assert_false(queue_lend(rig.queue, &r, true));
	r.guest_off = 4 * CLUSTER;
	assert_false(queue_lend(rig.queue, &r, true));
	tear_down(&rig, 0);
}

static void a_cut_file_fails_the_call_and_not_the_process(void **state)
{
	struct request r = reading(NULL, 8 * CLUSTER, CLUSTER);
	uint8_t found[CLUSTER];
	struct rig rig;

	(void)state;
	file_fixture_make("disk", 16 * CLUSTER, 5);
	set_up(&rig,
	       open_on(file_fixture_open("disk", FILE_OPEN_WRITE), "raw"));
	assert_true(queue_lend(rig.queue, &r, false));
	assert_int_equal(truncate("disk", CLUSTER), 0);
	assert_int_equal(copy_by_kernel(found, r.buf, r.len), -EFAULT);
	queue_return(rig.queue, &r);
	tear_down(&rig, 0);
}

static void other_storages_lend_nothing(void **state)
{
	struct request r = reading(NULL, 0, CLUSTER);
	struct rig rig;

	(void)state;
	set_up(&rig, raw_in_memory(64 * KIB));
	assert_false(queue_lend(rig.queue, &r, false));
	tear_down(&rig, 0);
}

/* ---- several queues ---- */

#define QUEUES	     4u
#define DEPTH	     8u
#define OPS	     400u
#define SECTOR	     512u
#define DISK_SECTORS (64 * CLUSTER / SECTOR)

/* A server's thread: it owns every QUEUES-th sector. */
struct owner {
	pthread_t thread;
	struct worker_pool *pool;
	struct image *img;
	unsigned id;
	struct request requests[DEPTH];
	bool busy[DEPTH];
	uint8_t bufs[DEPTH][SECTOR];
	uint8_t expect[DEPTH];
	uint8_t content[DISK_SECTORS]; /* of its sectors: each byte */
	unsigned wrong;
};

static void settle(struct owner *o, struct request *r)
{
	size_t i = (size_t)(r - o->requests);

	o->busy[i] = false;
	o->wrong += r->status != 0;
	if (r->op == REQUEST_READ)
		o->wrong += o->bufs[i][0] != o->expect[i] ||
			    o->bufs[i][SECTOR - 1] != o->expect[i];
}

static void make_request(struct owner *o, size_t i, uint64_t *random)
{
	/* Sectors of one slot never overlap those of another in flight. */
	uint64_t group =
		workload_random(random) % (DISK_SECTORS / (QUEUES * DEPTH));
	uint64_t sector = (group * DEPTH + i) * QUEUES + o->id;
	struct request *r = &o->requests[i];

	*r = reading(o->bufs[i], sector * SECTOR, SECTOR);
	o->expect[i] = o->content[sector];
	switch (workload_random(random) % 8) {
	case 0:
		*r = (struct request){.op = REQUEST_FLUSH};
		break;
	case 1:
		r->op = REQUEST_ZERO;
		o->content[sector] = 0;
		break;
	case 2:
	case 3:
		break;
	default:
		r->op = REQUEST_WRITE;
		r->flags = workload_random(random) % 4 ? 0 : REQUEST_FUA;
		o->content[sector] = (uint8_t)workload_random(random);
		memset(o->bufs[i], o->content[sector], SECTOR);
	}
}

static void *own(void *opaque)
{
	struct owner *o = opaque;
	uint64_t random = 0x9e3779b9 + o->id;
	struct queue *queue;
	struct request *r;

	if (queue_new(&queue, o->img, o->pool) < 0) {
		o->wrong = 1;
		return NULL;
	}
	for (unsigned op = 0; op < OPS; op++) {
		size_t i = op % DEPTH;

		while (o->busy[i] && (r = queue_wait(queue)))
			settle(o, r);
		make_request(o, i, &random);
		o->busy[i] = true;
		if (queue_try(queue, &o->requests[i], op % 3))
			settle(o, &o->requests[i]);
		else
			queue_start(queue, &o->requests[i]);
	}
	while ((r = queue_wait(queue)))
		settle(o, r);
	queue_free(queue);
	return NULL;
}

static void queues_share_an_image(void **state)
{
	struct owner *owners = calloc(QUEUES, sizeof(*owners));
	struct worker_pool *pool;
	struct image *img = qcow2_in_memory();
	uint8_t buf[SECTOR];

	(void)state;
	assert_non_null(owners);
	assert_int_equal(worker_pool_new(&pool, 3), 0);
	for (unsigned i = 0; i < QUEUES; i++) {
		owners[i].id = i;
		owners[i].img = img;
		owners[i].pool = pool;
		assert_int_equal(pthread_create(&owners[i].thread, NULL, own,
						&owners[i]),
				 0);
	}
	for (unsigned i = 0; i < QUEUES; i++) {
		pthread_join(owners[i].thread, NULL);
		assert_int_equal(owners[i].wrong, 0);
	}
	for (uint64_t sector = 0; sector < DISK_SECTORS; sector++) {
		assert_int_equal(image_read(img, buf, SECTOR, sector * SECTOR),
				 0);
		assert_int_equal(buf[0],
				 owners[sector % QUEUES].content[sector]);
	}
	worker_pool_free(pool);
	assert_int_equal(image_close(img), 0);
	free(owners);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_bytes_are_served_on_the_spot),
		cmocka_unit_test(zeros_and_new_clusters_too),
		cmocka_unit_test(packed_bytes_are_read_by_a_worker),
		cmocka_unit_test(a_serial_queue_finishes_everything),
		cmocka_unit_test(durable_changes_are_synced),
		cmocka_unit_test(failures_come_back_as_status),
		cmocka_unit_test(what_nobody_has_begun_can_be_cancelled),
		cmocka_unit_test_setup_teardown(
			cold_bytes_are_read_from_the_file, file_fixture_set_up,
			file_fixture_tear_down),
		cmocka_unit_test_setup_teardown(a_ring_may_be_full,
						file_fixture_set_up,
						file_fixture_tear_down),
		cmocka_unit_test_setup_teardown(a_full_ring_forgets_nothing,
						file_fixture_set_up,
						file_fixture_tear_down),
		cmocka_unit_test_setup_teardown(a_file_that_was_cut_is_an_error,
						file_fixture_set_up,
						file_fixture_tear_down),
		cmocka_unit_test_setup_teardown(bytes_in_memory_are_lent,
						file_fixture_set_up,
						file_fixture_tear_down),
		cmocka_unit_test_setup_teardown(lent_bytes_are_held,
						file_fixture_set_up,
						file_fixture_tear_down),
		cmocka_unit_test_setup_teardown(
			holes_and_what_is_cold_are_not_lent,
			file_fixture_set_up, file_fixture_tear_down),
		cmocka_unit_test_setup_teardown(
			a_cut_file_fails_the_call_and_not_the_process,
			file_fixture_set_up, file_fixture_tear_down),
		cmocka_unit_test(other_storages_lend_nothing),
		cmocka_unit_test(queues_share_an_image),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
