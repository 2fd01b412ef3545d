/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The judge of untrusted files. The input is a file. Whatever it holds there is
 * a verdict, the same as a file and as a stream that comes in odd pieces, and
 * reasons that a terminal can show.
 */
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "block/error.h"
#include "block/inspect.h"
#include "block/storage/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct stream {
	const uint8_t *data;
	size_t size, pos;
};

static int64_t read_stream(void *opaque, void *buf, size_t len)
{
	struct stream *s = opaque;
	size_t left = s->size - s->pos;

	if (len > left)
		len = left;
	memcpy(buf, s->data + s->pos, len);
	s->pos += len;
	return (int64_t)len;
}

static void check_report(const struct inspect_report *report, size_t size)
{
	enum inspect_verdict worst = INSPECT_SAFE;

	assert(report->format && report->reason_count <= INSPECT_REASONS_MAX);
	for (size_t i = 0; i < report->reason_count; i++) {
		const struct inspect_reason *reason = &report->reasons[i];

		assert(reason->weight != INSPECT_SAFE && reason->code);
		for (const char *p = reason->text; *p; p++)
			assert((unsigned char)*p >= 0x20 && *p != 0x7f);
		if (reason->weight > worst)
			worst = reason->weight;
	}
	assert(report->verdict == worst);
	assert(!report->has_file_size || report->file_size == size);
}

/*
 * A stream may have no answer, or see less of what is damaged: it does not know
 * where the file ends. It never finds safe what is unsafe.
 */
static void compare(const struct inspect_report *file,
		    const struct inspect_report *stream)
{
	assert(!strcmp(file->format, stream->format));
	if (file->verdict == INSPECT_UNSAFE)
		assert(stream->verdict == INSPECT_UNSAFE);
	if (file->verdict == INSPECT_SAFE)
		assert(stream->verdict == INSPECT_SAFE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct inspect_limits limits = {0};
	struct stream source = {.data = data, .size = size};
	struct inspect_report by_file, by_stream;
	struct error err = {0};
	struct storage *file;
	int ret;

	if (storage_memory_from(&file, "fuzzed", data, size))
		return 0;
	ret = inspect_storage(file, &limits, &by_file, &err);
	assert(ret == 0);
	check_report(&by_file, size);
	storage_close(file);
	ret = inspect_stream(read_stream, &source, &limits, &by_stream, &err);
	assert(ret == 0 || ret == -ESPIPE);
	if (ret == 0) {
		check_report(&by_stream, size);
		compare(&by_file, &by_stream);
	}
	return 0;
}
