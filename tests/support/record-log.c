/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. */
#include "tests/support/record-log.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "tests/support/record.h"

struct reader {
	struct record_log *out;
	struct flat_disk now; /* what the log leads to so far */
	uint64_t last_seq;
	char *why;
	size_t why_len;
};

static int complain(const struct reader *r, const char *what, uint64_t number)
{
	snprintf(r->why, r->why_len, "%s %" PRIu64, what, number);
	return -1;
}

static void *grow(void *items, size_t count, size_t *capacity, size_t size)
{
	if (count < *capacity)
		return items;
	*capacity = *capacity ? *capacity * 2 : 256;
	items = reallocarray(items, *capacity, size);
	if (!items)
		abort();
	return items;
}

static void add_change(struct reader *r, struct log_entry e)
{
	struct storage_log *log = &r->out->changes;

	log->entries = grow(log->entries, log->count, &log->capacity,
			    sizeof(*log->entries));
	log->entries[log->count++] = e;
	flat_disk_apply(&r->now, &e);
}

static void add_write(struct reader *r, const struct record *rec,
		      const uint8_t *data)
{
	struct log_entry e = {
		.kind = LOG_WRITE, .off = rec->off, .len = rec->data_len};

	if (!e.len)
		return;
	e.data = malloc(e.len);
	if (!e.data)
		abort();
	memcpy(e.data, data, e.len);
	add_change(r, e);
}

static void add_size(struct reader *r, uint64_t size)
{
	add_change(r, (struct log_entry){.kind = LOG_RESIZE, .len = size});
}

/* Ends at the file's end if the call must not move that. */
static uint64_t kept_len(const struct reader *r, const struct record *rec)
{
	if (!(rec->mode & FALLOC_FL_KEEP_SIZE))
		return rec->len;
	return rec->off < r->now.size
		       ? min_u64(rec->len, r->now.size - rec->off)
		       : 0;
}

static int add_fallocate(struct reader *r, const struct record *rec)
{
	struct log_entry e = {.off = rec->off, .len = kept_len(r, rec)};

	switch (rec->mode & ~(unsigned)FALLOC_FL_KEEP_SIZE) {
	case 0:
		if (e.len && e.off + e.len > r->now.size)
			add_size(r, e.off + e.len);
		return 0;
	case FALLOC_FL_PUNCH_HOLE:
		e.kind = LOG_DISCARD;
		break;
	case FALLOC_FL_ZERO_RANGE:
		e.kind = LOG_ZERO;
		break;
	default:
		return complain(r, "fallocate with mode", rec->mode);
	}
	if (e.len)
		add_change(r, e);
	return 0;
}

static void add_mark(struct reader *r, const struct record *rec)
{
	struct record_log *log = r->out;

	log->marks = grow(log->marks, log->mark_count, &log->mark_capacity,
			  sizeof(*log->marks));
	log->marks[log->mark_count++] = (struct record_mark){
		.log_pos = log->changes.count,
		.done = rec->kind == RECORD_DONE,
		.command = rec->off,
	};
}

static int add_record(struct reader *r, const struct record *rec,
		      const uint8_t *data)
{
	/* A call that failed changed nothing, and made nothing durable. */
	bool good = rec->result >= 0;

	switch (rec->kind) {
	case RECORD_WRITE:
		add_write(r, rec, data);
		return 0;
	case RECORD_FALLOCATE:
		return good ? add_fallocate(r, rec) : 0;
	case RECORD_TRUNCATE:
		if (good)
			add_size(r, rec->len);
		return 0;
	case RECORD_SYNC:
		if (good)
			add_change(r, (struct log_entry){.kind = LOG_SYNC});
		return 0;
	case RECORD_HINT:
		return 0;
	case RECORD_BEGUN:
	case RECORD_DONE:
		add_mark(r, rec);
		return 0;
	case RECORD_UNSUPPORTED:
		snprintf(r->why, r->why_len, "the program used %.*s",
			 (int)rec->data_len, (const char *)data);
		return -1;
	default:
		return complain(r, "unknown kind of record", rec->kind);
	}
}

static int read_records(struct reader *r, const uint8_t *buf, size_t len)
{
	struct record rec;
	size_t at = 0;

	while (at < len) {
		if (len - at < sizeof(rec))
			return complain(r, "half a record at", at);
		memcpy(&rec, buf + at, sizeof(rec));
		at += sizeof(rec);
		if (rec.magic != RECORD_MAGIC || rec.data_len > len - at)
			return complain(r, "no record ends at", at);
		if (rec.seq && rec.seq != ++r->last_seq)
			return complain(r, "lost is record", r->last_seq);
		if (add_record(r, &rec, buf + at) < 0)
			return -1;
		at += rec.data_len;
	}
	return 0;
}

static int read_file(struct flat_disk *out, const char *path)
{
	FILE *file = fopen(path, "re");
	uint8_t buf[65536];
	struct log_entry e = {.kind = LOG_WRITE, .data = buf};
	int ret = file ? 0 : -1;

	while (file && (e.len = fread(buf, 1, sizeof(buf), file)) > 0) {
		flat_disk_apply(out, &e);
		e.off += e.len;
	}
	if (file && ferror(file))
		ret = -1;
	if (file)
		fclose(file);
	return ret;
}

/* If it differs the program has changed the file by ways that are not seen. */
static int compare_end(struct reader *r, const char *end_path)
{
	struct flat_disk end = {0};
	int ret = 0;

	if (read_file(&end, end_path) < 0)
		ret = complain(r, "the file is not readable, errno", errno);
	else if (end.size != r->now.size)
		ret = complain(r, "not in the log: the file's size", end.size);
	for (uint64_t i = 0; !ret && i < end.size; i++) {
		if (end.data[i] != r->now.data[i])
			ret = complain(r, "not in the log: the byte at", i);
	}
	flat_disk_release(&end);
	return ret;
}

int record_log_read(struct record_log *out, const char *path,
		    const struct flat_disk *start, const char *end_path,
		    char *why, size_t why_len)
{
	struct reader r = {.out = out, .why = why, .why_len = why_len};
	struct flat_disk log = {0};
	int ret;

	*out = (struct record_log){0};
	flat_disk_copy(&r.now, start);
	if (read_file(&log, path) < 0)
		ret = complain(&r, "the log is not readable, errno", errno);
	else
		ret = read_records(&r, log.data, log.size);
	if (!ret)
		ret = compare_end(&r, end_path);
	flat_disk_release(&log);
	flat_disk_release(&r.now);
	return ret;
}

void record_log_release(struct record_log *log)
{
	storage_log_release(&log->changes);
	free(log->marks);
	*log = (struct record_log){0};
}
