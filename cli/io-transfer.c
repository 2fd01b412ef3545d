/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Carries out one read or write of `platter io`, piece by piece.
 *
 * Pieces end at multiples of their size, thus where clusters end: a long write
 * copies no more heads and tails than a whole one would.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/clock.h"
#include "cli/io.h"

/* Good for O_DIRECT as well. */
#define BUFFER_ALIGN 4096u

static uint8_t *piece_buffer(uint64_t len)
{
	size_t size = min_u64(max_u64(len, 1), IO_PIECE_BYTES);

	return aligned_alloc(BUFFER_ALIGN, align_up(size, BUFFER_ALIGN));
}

static size_t piece_len(const struct io_request *req, uint64_t done)
{
	uint64_t room = IO_PIECE_BYTES - (req->off + done) % IO_PIECE_BYTES;

	return min_u64(req->len - done, room);
}

/* qemu-io says the same of a place that is not there and of a broken disk. */
static int check_place(const struct image *img, const struct io_request *req)
{
	return range_inside(req->off, req->len, img->size_bytes) ? 0 : -EIO;
}

static bool is_pattern(const uint8_t *buf, size_t len, uint8_t pattern)
{
	return !len || (buf[0] == pattern && !memcmp(buf, buf + 1, len - 1));
}

/* The part of this piece that is to be verified. */
static bool piece_matches(const struct io_request *req, const uint8_t *buf,
			  size_t len, uint64_t done)
{
	uint64_t start = max_u64(req->verify_off, done);
	uint64_t end = min_u64(req->verify_off + req->verify_len, done + len);

	return !req->verify || start >= end ||
	       is_pattern(buf + (start - done), end - start, req->pattern);
}

static int read_pieces(struct image *img, const struct io_request *req,
		       uint8_t *buf, bool *matches)
{
	uint64_t done = 0;

	while (done < req->len) {
		size_t n = piece_len(req, done);
		int ret = image_read(img, buf, n, req->off + done);

		if (ret < 0)
			return ret;
		if (*matches && !piece_matches(req, buf, n, done)) {
			*matches = false;
			printf("Pattern verification failed at offset %llu, "
			       "%llu bytes\n",
			       (unsigned long long)(req->off + req->verify_off),
			       (unsigned long long)req->verify_len);
		}
		if (req->dump && !req->quiet)
			io_dump(buf, n, req->off + done);
		done += n;
	}
	return 0;
}

bool io_do_read(struct image *img, const struct io_request *req,
		const char *name)
{
	uint64_t start_ns = clock_now_ns();
	uint8_t *buf = piece_buffer(req->len);
	bool matches = true;
	int ret = buf ? check_place(img, req) : -ENOMEM;

	if (!ret)
		ret = read_pieces(img, req, buf, &matches);
	free(buf);
	if (ret < 0)
		return io_failed(name, ret);
	io_report(req, "read", start_ns);
	return matches;
}

/* The source begins anew at its end. -EIO if it cannot, or is empty. */
static int fill_from_source(FILE *source, uint8_t *buf, size_t len)
{
	size_t done = 0;
	bool rewound = false;

	while (done < len) {
		size_t n = fread(buf + done, 1, len - done, source);

		done += n;
		if (n) {
			rewound = false;
			continue;
		}
		if (rewound || ferror(source) || fseek(source, 0, SEEK_SET))
			return -EIO;
		rewound = true;
	}
	return 0;
}

/* Cluster by cluster; what is left over has to end where the disk does. */
static int write_packed(struct image *img, const uint8_t *buf, size_t len,
			uint64_t guest_off)
{
	while (len) {
		size_t n = min_u64(len, img->cluster_size);
		int ret = image_write_packed(img, buf, n, guest_off, 0);

		if (ret < 0)
			return ret;
		buf += n;
		guest_off += n;
		len -= n;
	}
	return 0;
}

/* Nothing is written of a request that could not be written whole. */
static int check_packed(const struct image *img, const struct io_request *req)
{
	if (!img->driver->pack)
		return -EOPNOTSUPP;
	if (!is_aligned(req->off, img->cluster_size) ||
	    (!is_aligned(req->len, img->cluster_size) &&
	     req->off + req->len != img->size_bytes))
		return -EINVAL;
	return 0;
}

static int write_pieces(struct image *img, const struct io_request *req,
			uint8_t *buf)
{
	uint64_t done = 0;
	int ret = req->packed ? check_packed(img, req) : 0;

	memset(buf, req->pattern, min_u64(req->len, IO_PIECE_BYTES));
	while (!ret && done < req->len) {
		size_t n = piece_len(req, done);

		if (req->source)
			ret = fill_from_source(req->source, buf, n);
		if (!ret && req->packed)
			ret = write_packed(img, buf, n, req->off + done);
		else if (!ret)
			ret = image_write(img, buf, n, req->off + done);
		done += n;
	}
	/* What a packed write may not replace is no bad argument. */
	return ret == -EEXIST ? -EIO : ret;
}

static int write_request(struct image *img, const struct io_request *req)
{
	uint8_t *buf;
	int ret = check_place(img, req);

	if (ret < 0)
		return ret;
	if (req->zero)
		return image_zero(img, req->off, req->len,
				  req->unmap ? FORMAT_ZERO_MAY_UNMAP : 0);
	buf = piece_buffer(req->len);
	if (!buf)
		return -ENOMEM;
	ret = write_pieces(img, req, buf);
	free(buf);
	return ret;
}

bool io_do_write(struct image *img, const struct io_request *req,
		 const char *name)
{
	uint64_t start_ns = clock_now_ns();
	int ret = write_request(img, req);

	if (!ret && req->durable)
		ret = image_flush(img);
	if (ret < 0)
		return io_failed(name, ret);
	io_report(req, "wrote", start_ns);
	return true;
}
