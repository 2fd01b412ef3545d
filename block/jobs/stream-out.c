/* SPDX-License-Identifier: BSD-3-Clause */
/* Disks as streams of raw bytes: see stream-out.h. */
#include "block/jobs/stream-out.h"

#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/image.h"
#include "block/jobs/convert.h"
#include "block/jobs/stream.h"
#include "block/progress.h"
#include "block/storage/pipe.h"

#define PIECE_BYTES  (1024 * 1024u)
#define BUFFER_ALIGN 4096u

/* The next bytes of the source from `off` on; 0 at its end. */
static int64_t read_source(const struct convert_source *source, uint64_t off,
			   void *buf)
{
	size_t len;
	int ret;

	if (!source->img)
		return stream_read(source->stream, buf, PIECE_BYTES);
	len = min_u64(PIECE_BYTES, source->len - off);
	ret = image_read(source->img, buf, len, source->off + off);
	return ret < 0 ? ret : (int64_t)len;
}

static const char *reason(const struct convert_source *source, int64_t ret)
{
	const char *problem =
		source->img ? NULL : stream_problem(source->stream);

	return problem ? problem : strerror((int)-ret);
}

static int write_source(const struct convert_source *source, int fd, void *buf,
			struct progress *progress, struct error *err)
{
	uint64_t off = 0;

	for (;;) {
		int64_t got;
		int ret;

		if (progress_cancelled(progress))
			return error_set(err, ECANCELED, "cancelled");
		got = read_source(source, off, buf);
		if (got < 0)
			return error_set(err, (int)-got,
					 "error while reading at byte %llu: %s",
					 (unsigned long long)off,
					 reason(source, got));
		if (got == 0)
			return 0;
		ret = pipe_write(fd, buf, (size_t)got);
		if (ret < 0)
			return error_set_errno(
				err, -ret, "error while writing at byte %llu",
				(unsigned long long)off);
		off += (uint64_t)got;
		progress_advance(progress, (uint64_t)got);
	}
}

int stream_out(const struct convert_source *sources, size_t count, int fd,
	       struct progress *progress, struct error *err)
{
	void *buf = aligned_alloc(BUFFER_ALIGN, PIECE_BYTES);
	uint64_t total;
	int ret = 0;

	if (!buf)
		return error_set(err, ENOMEM, "out of memory");
	if (convert_size(sources, count, &total) == 0)
		progress_total(progress, total);
	for (size_t i = 0; i < count && !ret; i++)
		ret = write_source(&sources[i], fd, buf, progress, err);
	free(buf);
	return ret;
}
