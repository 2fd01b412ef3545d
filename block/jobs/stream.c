/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading disks that come as streams: see stream.h. */
#include "block/jobs/stream.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/jobs/stream-private.h"
#include "block/progress.h"
#include "block/storage.h"
#include "block/storage/file.h"
#include "block/storage/pipe.h"
#include "block/zero.h"

/* Packed bytes that are read at a time. */
#ifdef PLATTER_SMALL_BUFFERS
#define INPUT_BYTES 1024u
#else
#define INPUT_BYTES (256 * 1024u)
#endif
#define SPOOL_BYTES (1024 * 1024u)
/* Shorter runs of zeros are written: a hole costs more than it saves. */
#define SPOOL_HOLE 4096u

struct stream {
	char *name;
	struct storage *file; /* owned; NULL: fd is read */
	uint64_t file_off;
	int fd;

	const struct stream_codec *codec; /* NULL: plain */
	void *state;			  /* the codec's */
	uint8_t *buf;			  /* INPUT_BYTES */
	struct stream_input input;	  /* in buf */
	bool inside;			  /* a frame */
	bool ended;			  /* no more input */

	bool has_size;
	uint64_t size;
	const char *problem;
};

/* ---- recognising ---- */

static const struct {
	const char *suffix;
	uint8_t magic[4];
	size_t magic_len;
	enum stream_kind kind;
} signatures[] = {
	{".gz", {0x1f, 0x8b, 0x08}, 3, STREAM_GZIP},
	{".zst", {0x28, 0xb5, 0x2f, 0xfd}, 4, STREAM_ZSTD},
	{".lz4", {0x04, 0x22, 0x4d, 0x18}, 4, STREAM_LZ4},
};

static bool ends_with(const char *text, const char *suffix)
{
	size_t len = strlen(text), suffix_len = strlen(suffix);

	return len > suffix_len && !strcmp(text + len - suffix_len, suffix);
}

static int starts_with_magic(const char *path, const uint8_t *magic, size_t len,
			     bool *out, struct error *err)
{
	struct storage *file;
	uint8_t head[4];
	int ret;

	assert(len <= sizeof(head));
	*out = false;
	ret = storage_file_open(&file, path, FILE_OPEN_NO_LOCK, err);
	if (ret < 0)
		return ret;
	if (storage_size(file) >= len) {
		ret = storage_read(file, head, len, 0);
		if (ret < 0)
			error_set_errno(err, -ret, "Could not read '%s'", path);
		else
			*out = !memcmp(head, magic, len);
	}
	storage_close(file);
	return ret;
}

int stream_kind_of_file(const char *path, enum stream_kind *kind,
			struct error *err)
{
	*kind = STREAM_PLAIN;
	for (size_t i = 0; i < sizeof(signatures) / sizeof(*signatures); i++) {
		bool is_one;
		int ret;

		if (!ends_with(path, signatures[i].suffix))
			continue;
		ret = starts_with_magic(path, signatures[i].magic,
					signatures[i].magic_len, &is_one, err);
		/* No file: the name stands for something else, or for none. */
		if (ret == -ENOENT)
			return 0;
		if (ret < 0)
			return ret;
		if (is_one)
			*kind = signatures[i].kind;
	}
	return 0;
}

/* ---- opening ---- */

void stream_close(struct stream *stream)
{
	if (!stream)
		return;
	if (stream->state)
		stream->codec->close(stream->state);
	storage_close(stream->file);
	free(stream->buf);
	free(stream->name);
	free(stream);
}

static struct stream *stream_new(const char *name, enum stream_kind kind)
{
	struct stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return NULL;
	stream->fd = -1;
	stream->codec = stream_codec_of(kind);
	stream->name = strdup(name);
	if (stream->codec) {
		stream->buf = malloc(INPUT_BYTES);
		stream->state = stream->codec->open();
	}
	if (!stream->name ||
	    (stream->codec && (!stream->buf || !stream->state))) {
		stream_close(stream);
		return NULL;
	}
	return stream;
}

int stream_from_fd(struct stream **out, int fd, const char *name,
		   enum stream_kind kind, struct error *err)
{
	struct stream *stream = stream_new(name, kind);

	if (!stream)
		return error_set(err, ENOMEM, "%s: out of memory", name);
	stream->fd = fd;
	*out = stream;
	return 0;
}

int stream_open(struct stream **out, const char *path, enum stream_kind kind,
		struct error *err)
{
	struct stream *stream = stream_new(path, kind);
	int ret;

	if (!stream)
		return error_set(err, ENOMEM, "%s: out of memory", path);
	ret = storage_file_open(&stream->file, path, 0, err);
	if (ret < 0) {
		stream_close(stream);
		return ret;
	}
	stream->size = storage_size(stream->file);
	stream->has_size = kind == STREAM_PLAIN;
	if (kind == STREAM_ZSTD)
		stream->has_size =
			stream_zstd_size(stream->file, &stream->size);
	*out = stream;
	return 0;
}

bool stream_promised_size(const struct stream *stream, uint64_t *size)
{
	*size = stream->size;
	return stream->has_size;
}

const char *stream_problem(const struct stream *stream)
{
	return stream->problem;
}

/* ---- reading ---- */

/* As they are in the file or pipe. */
static int64_t read_packed(struct stream *stream, void *buf, size_t len)
{
	int ret;

	if (!stream->file)
		return pipe_read(stream->fd, buf, len);
	len = min_u64(len, storage_size(stream->file) - stream->file_off);
	ret = storage_read(stream->file, buf, len, stream->file_off);
	if (ret < 0)
		return ret;
	stream->file_off += len;
	return (int64_t)len;
}

static int refill(struct stream *stream)
{
	int64_t got = read_packed(stream, stream->buf, INPUT_BYTES);

	if (got < 0)
		return (int)got;
	stream->input.bytes = stream->buf;
	stream->input.left = (size_t)got;
	stream->ended = got == 0;
	return 0;
}

static int64_t read_unpacked(struct stream *stream, uint8_t *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		size_t got = 0, before;

		if (stream->input.left == 0 && !stream->ended) {
			int ret = refill(stream);

			if (ret < 0)
				return ret;
		}
		/* Without input a codec may still hold what it unpacked. */
		before = stream->input.left;
		stream->problem = stream->codec->step(
			stream->state, &stream->input, buf + done, len - done,
			&got, &stream->inside);
		if (stream->problem)
			return -EIO;
		done += got;
		if (!stream->ended || got > 0 || before > stream->input.left)
			continue;
		if (stream->inside) {
			stream->problem = "it ends too early";
			return -EIO;
		}
		break;
	}
	return (int64_t)done;
}

int64_t stream_read(struct stream *stream, void *buf, size_t len)
{
	if (!stream->codec)
		return read_packed(stream, buf, len);
	return read_unpacked(stream, buf, len);
}

/* ---- spooling ---- */

/* All but the longer runs of zeros. */
static int spool_piece(struct storage *to, const uint8_t *buf, size_t len,
		       uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		bool zero;
		size_t run =
			zero_run(buf + done, len - done, SPOOL_HOLE, &zero);
		int ret = 0;

		if (!zero)
			ret = storage_write(to, buf + done, run, off + done);
		if (ret < 0)
			return ret;
		done += run;
	}
	return 0;
}

static int spool_all(struct stream *stream, struct storage *to, uint8_t *buf,
		     uint64_t *size, struct progress *progress,
		     struct error *err)
{
	int64_t got;
	int ret;

	*size = 0;
	do {
		if (progress_cancelled(progress))
			return error_set(err, ECANCELED, "cancelled");
		got = stream_read(stream, buf, SPOOL_BYTES);
		if (got < 0)
			return error_set(err, (int)-got,
					 "%s: error while reading at byte "
					 "%llu: %s",
					 stream->name,
					 (unsigned long long)*size,
					 stream->problem ? stream->problem
							 : strerror((int)-got));
		ret = spool_piece(to, buf, (size_t)got, *size);
		if (ret < 0)
			return error_set_errno(err, -ret,
					       "%s: error while writing at "
					       "byte %llu",
					       to->name,
					       (unsigned long long)*size);
		*size += (uint64_t)got;
		progress_advance(progress, (uint64_t)got);
	} while (got == SPOOL_BYTES);
	/* A hole at the end has not made the file longer. */
	return storage_resize(to, *size, PREALLOC_OFF, err);
}

int stream_spool(struct stream *stream, struct storage *to, uint64_t *size,
		 struct progress *progress, struct error *err)
{
	uint8_t *buf = malloc(SPOOL_BYTES);
	int ret;

	if (!buf)
		return error_set(err, ENOMEM, "out of memory");
	ret = spool_all(stream, to, buf, size, progress, err);
	free(buf);
	return ret;
}
