/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Asks every driver what it thinks of a file, and the list of foreign formats
 * what the drivers do not know.
 *
 * The head outranks the tail: the last sector of a growing image may hold guest
 * data, so a trailer counts only where the head says nothing.
 */
#include "block/probe.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/format.h"
#include "block/storage.h"
#include "formats/registry.h"

#define SECTOR 512

/* A score of this much means: whatever comes. raw gives it to everything. */
#define SCORE_ANYTHING 1
#define SCORE_CERTAIN  100

struct probe_buffer {
	uint8_t head[PROBE_HEAD_BYTES];
	uint8_t tail[SECTOR];
};

/* The best answer of the drivers, and whether two of them are certain. */
struct verdict {
	const struct format_driver *best, *rival;
	int score;
};

static void ask_drivers(const struct probe_input *in, struct verdict *out)
{
	*out = (struct verdict){0};
	for (size_t i = 0; format_registry[i]; i++) {
		const struct format_driver *driver = format_registry[i];
		int score = driver->probe(in);

		assert(score >= 0 && score <= SCORE_CERTAIN);
		if (score == SCORE_CERTAIN && out->score == SCORE_CERTAIN) {
			out->rival = driver;
		} else if (score > out->score) {
			out->best = driver;
			out->score = score;
		}
	}
}

static int judge(const struct probe_input *in,
		 const struct format_driver **driver, bool *guessed,
		 struct error *err)
{
	struct probe_input head_only = *in;
	struct verdict verdict;
	const char *foreign;

	ask_drivers(in, &verdict);
	*driver = verdict.best;
	*guessed = verdict.score <= SCORE_ANYTHING;
	if (!*guessed)
		head_only.tail = NULL;
	foreign = format_recognise_foreign(&head_only);
	if (*guessed && foreign)
		return error_set(err, EINVAL,
				 "the file is in a format that is not "
				 "supported: %s; give the format raw "
				 "explicitly to treat it as bytes",
				 foreign);
	if (verdict.rival)
		foreign = verdict.rival->name;
	if (foreign)
		return error_set(err, EINVAL,
				 "the file looks like two formats at once, %s "
				 "and %s; give its format explicitly",
				 verdict.best->name, foreign);
	if (!*driver)
		return error_set(err, EINVAL,
				 "the format of the file is not recognised; "
				 "give it explicitly");
	return 0;
}

static int read_ends(struct storage *file, struct probe_buffer *buf,
		     struct probe_input *in)
{
	uint64_t size = storage_size(file);
	int ret;

	*in = (struct probe_input){
		.head = buf->head,
		.file_size = size,
		.filename = file->name,
	};
	ret = storage_read_padded(file, buf->head, sizeof(buf->head), 0);
	if (ret || size < SECTOR)
		return ret;
	in->tail = buf->tail;
	return storage_read(file, buf->tail, SECTOR, size - SECTOR);
}

int probe_format(struct storage *file, const struct format_driver **driver,
		 bool *guessed, struct error *err)
{
	struct probe_buffer *buf = malloc(sizeof(*buf));
	struct probe_input in;
	int ret;

	if (!buf)
		return error_set_errno(err, ENOMEM, "probing the format");
	ret = read_ends(file, buf, &in);
	if (ret)
		error_set_errno(err, -ret,
				"reading the file to find its format");
	else
		ret = judge(&in, driver, guessed, err);
	free(buf);
	return ret;
}

/*
 * The head behind the sector is not known here and not needed: no signature at
 * the head reaches past the first sector. Without memory the answer is yes, the
 * one that does no harm.
 */
bool probe_would_recognise(const void *sector, size_t len)
{
	struct probe_buffer *buf = calloc(1, sizeof(*buf));
	const struct format_driver *driver;
	bool guessed, recognised = true;

	if (buf) {
		struct probe_input in = {
			.head = buf->head,
			.file_size = PROBE_HEAD_BYTES,
			.filename = "",
		};

		memcpy(buf->head, sector, len < SECTOR ? len : SECTOR);
		recognised = judge(&in, &driver, &guessed, NULL) || !guessed;
		free(buf);
	}
	return recognised;
}
