/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lines of `platter io`, as scripts hand them through. The input is a text, run
 * line by line on a small disk in memory.
 *
 * What must hold: no line makes the program end or the disk larger than it may
 * be, what `write` reports as done verifies with `read -P`, and the same lines
 * do the same again.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/image.h"
#include "block/storage/memory.h"
#include "cli/command.h"
#include "cli/io.h"
#include "formats/raw/raw.h"

#define INPUT_MAX 512u
#define LINES_MAX 8
#define DISK_SIZE (32u * 1024)

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What commands print is not looked at; the fuzzer keeps its own stderr. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	FILE *nowhere = fopen("/dev/null", "w");

	(void)argc;
	(void)argv;
	if (!nowhere)
		abort();
	stdout = nowhere;
	stderr = nowhere;
	return 0;
}

/* Other files, signals, time and threads are not the fuzzer's. */
static bool is_allowed(const char *line)
{
	static const char *const others[] = {"sleep",	 "sigraise", "open",
					     "o",	 "reopen",   "aio_read",
					     "aio_write"};
	size_t start = strspn(line, " "), len;

	len = strcspn(line + start, " ");
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (strlen(others[i]) == len &&
		    !memcmp(line + start, others[i], len))
			return false;
	return !strchr(line, '/') && !strstr(line, "-s");
}

struct outcome {
	uint8_t disk[DISK_SIZE];
	bool good[LINES_MAX];
	int lines;
};

static void open_disk(struct io_session *io)
{
	static const struct command_context ctx = {.name = "io"};
	struct storage *s;

	*io = (struct io_session){.ctx = &ctx};
	assert(!storage_memory_new(&s, "fuzz.raw", DISK_SIZE));
	s->can_grow = false;
	assert(!image_open_storage(&io->img, s, &raw_driver, NULL,
				   IMAGE_WRITE | IMAGE_KEEP_GUESS, NULL));
}

/* `write -P 7 OFF LEN` in decimal: what was written is there. */
static void check_written(struct io_session *io, const char *line)
{
	unsigned long long off, len;
	char text[96];
	int used = 0;

	if (sscanf(line, "write -P 7 %llu %llu%n", &off, &len, &used) != 2 ||
	    line[used] || off > DISK_SIZE || len > DISK_SIZE - off)
		return;
	snprintf(text, sizeof(text), "read -P 7 %llu %llu", off, len);
	assert(io_run_line(io, text));
}

static void run_lines(const char *text, struct outcome *out)
{
	struct io_session io;
	char copy[INPUT_MAX + 1], *rest = copy, *line;

	out->lines = 0;
	memcpy(copy, text, strlen(text) + 1);
	open_disk(&io);
	while ((line = strsep(&rest, "\n")) && out->lines < LINES_MAX) {
		char *before = strdup(line);
		bool good;

		assert(before);
		if (io.img && is_allowed(line)) {
			good = io_run_line(&io, line);
			out->good[out->lines++] = good;
			if (good && io.img)
				check_written(&io, before);
		}
		free(before);
	}
	memset(out->disk, 0, sizeof(out->disk));
	if (io.img) {
		assert(io.img->size_bytes <= DISK_SIZE);
		assert(!image_read(io.img, out->disk, io.img->size_bytes, 0));
	}
	io_session_close(&io);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct outcome first, again;
	char text[INPUT_MAX + 1];

	if (size > INPUT_MAX)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	run_lines(text, &first);
	run_lines(text, &again);
	assert(first.lines == again.lines);
	assert(!memcmp(first.good, again.good, (size_t)first.lines));
	assert(!memcmp(first.disk, again.disk, sizeof(first.disk)));
	return 0;
}
