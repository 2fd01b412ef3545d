/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Disks that come as .gz, .zst or .lz4 streams from a stranger, or as what our
 * own side packs.
 *
 * The first byte chooses the packing, the second the length of reads and what
 * is done with the rest: taken as a stream, or packed first. What is read does
 * not depend on the lengths of reads; what was packed comes back; a size that a
 * zstd file promises is what comes out of it.
 */
#include <assert.h>
#include <lz4frame.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "block/bytes.h"
#include "block/jobs/stream-private.h"
#include "block/jobs/stream.h"
#include "block/storage/memory.h"

#define INPUT_MAX  (64u * 1024)
#define OUTPUT_MAX (256u * 1024)
#define PACKED_MAX (2 * INPUT_MAX)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What one reading of a stream gave. */
struct reading {
	uint8_t bytes[OUTPUT_MAX];
	size_t len;
	bool ended, failed;
};

static struct reading whole, pieces;

/* One file for all executions. */
static int file_with(const uint8_t *data, size_t len)
{
	static int fd = -1;

	if (fd < 0)
		fd = memfd_create("fuzz-stream", 0);
	assert(fd >= 0 && !ftruncate(fd, 0));
	assert(pwrite(fd, data, len, 0) == (ssize_t)len);
	assert(lseek(fd, 0, SEEK_SET) == 0);
	return fd;
}

static void read_stream(struct reading *r, int fd, enum stream_kind kind,
			size_t step)
{
	struct stream *stream;

	r->len = 0;
	r->ended = r->failed = false;
	assert(lseek(fd, 0, SEEK_SET) == 0);
	assert(!stream_from_fd(&stream, fd, "fuzzed", kind, NULL));
	while (r->len < OUTPUT_MAX && !r->ended && !r->failed) {
		size_t want = min_u64(step, OUTPUT_MAX - r->len);
		int64_t got = stream_read(stream, r->bytes + r->len, want);

		r->failed = got < 0;
		assert(!r->failed || stream_problem(stream));
		if (!r->failed) {
			assert((size_t)got <= want);
			r->len += (size_t)got;
			r->ended = (size_t)got < want;
		}
	}
	stream_close(stream);
}

/* Bytes before the place of a failure may be lost with the piece it is in. */
static void assert_same_reading(void)
{
	assert(!memcmp(whole.bytes, pieces.bytes,
		       min_u64(whole.len, pieces.len)));
	if (whole.ended)
		assert(!pieces.failed && pieces.len == whole.len);
	if (whole.failed)
		assert(!pieces.ended);
}

static void check_promise(const uint8_t *data, size_t len)
{
	struct storage *file;
	uint64_t size;

	assert(!storage_memory_from(&file, "fuzzed", data, len));
	if (stream_zstd_size(file, &size) && whole.ended)
		assert(size == whole.len);
	storage_close(file);
}

static void check_stream(const uint8_t *data, size_t len, enum stream_kind kind,
			 size_t step)
{
	int fd = file_with(data, len);

	read_stream(&whole, fd, kind, OUTPUT_MAX);
	read_stream(&pieces, fd, kind, step);
	assert_same_reading();
	if (kind == STREAM_ZSTD)
		check_promise(data, len);
}

/* ---- round trip ---- */

static size_t pack_gzip(uint8_t *out, const uint8_t *data, size_t len)
{
	z_stream z = {.next_in = (Bytef *)(uintptr_t)data,
		      .avail_in = (uInt)len,
		      .next_out = out,
		      .avail_out = PACKED_MAX};

	assert(deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8,
			    Z_DEFAULT_STRATEGY) == Z_OK);
	assert(deflate(&z, Z_FINISH) == Z_STREAM_END);
	deflateEnd(&z);
	return z.total_out;
}

static size_t pack(uint8_t *out, const uint8_t *data, size_t len,
		   enum stream_kind kind)
{
	size_t packed;

	if (kind == STREAM_GZIP)
		return pack_gzip(out, data, len);
	if (kind == STREAM_ZSTD)
		packed = ZSTD_compress(out, PACKED_MAX, data, len, 1);
	else
		packed = LZ4F_compressFrame(out, PACKED_MAX, data, len, NULL);
	assert(packed <= PACKED_MAX);
	return packed;
}

/* Two frames behind each other, as parallel packers write them. */
static void check_round_trip(const uint8_t *data, size_t len,
			     enum stream_kind kind, size_t step)
{
	static uint8_t packed[2 * PACKED_MAX];
	size_t half = len / 3, packed_len;

	packed_len = pack(packed, data, half, kind);
	packed_len += pack(packed + packed_len, data + half, len - half, kind);
	check_stream(packed, packed_len, kind, step);
	assert(whole.ended && whole.len == len);
	assert(!memcmp(whole.bytes, data, len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum stream_kind kinds[] = {STREAM_GZIP, STREAM_ZSTD,
						 STREAM_LZ4, STREAM_PLAIN};
	enum stream_kind kind;
	size_t step;

	if (size < 2 || size > INPUT_MAX)
		return 0;
	kind = kinds[data[0] % 4];
	step = 1 + (data[1] >> 1) * 67u;
	if ((data[1] & 1) && kind != STREAM_PLAIN)
		check_round_trip(data + 2, size - 2, kind, step);
	else
		check_stream(data + 2, size - 2, kind, step);
	return 0;
}
