/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The verdict: runs the rules until none lacks bytes, and weighs what they
 * found.
 *
 * Each round starts anew: rules are cheap and keep nothing between calls, so
 * none can be confused by what it saw of half a file.
 */
#include "block/inspect.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/format.h"
#include "block/inspect-private.h"
#include "block/quote.h"
#include "formats/registry.h"

/* The longest way to a verdict today: head, table, item, end. */
#define ROUNDS_MAX 6
#define CLAIMS_MAX 8

/* What one format says of the file. */
struct claim {
	const char *name;
	bool has_virtual_size;
	uint64_t virtual_size;
	bool encrypted;
	uint32_t snapshots;
};

struct inspection {
	struct window window;
	struct claim claims[CLAIMS_MAX];
	size_t claim_count;
	const char *contents[CLAIMS_MAX];
	size_t content_count;
	struct inspect_reason reasons[INSPECT_REASONS_MAX];
	size_t reason_count;
};

const char *inspect_verdict_name(enum inspect_verdict verdict)
{
	static const char *const names[] = {
		[INSPECT_SAFE] = "safe",
		[INSPECT_MALFORMED] = "malformed",
		[INSPECT_UNSAFE] = "unsafe",
	};

	return names[verdict];
}

/* ---- what rules call ---- */

const uint8_t *inspect_head(const struct inspection *in)
{
	return in->window.head;
}

enum inspect_answer inspect_bytes(struct inspection *in, uint64_t off,
				  size_t len, const uint8_t **out)
{
	return window_bytes(&in->window, off, len, out);
}

enum inspect_answer inspect_tail(struct inspection *in, size_t len,
				 const uint8_t **out)
{
	return window_tail(&in->window, len, out);
}

uint64_t inspect_file_size(const struct inspection *in)
{
	return in->window.size;
}

bool inspect_unclaimed(const struct inspection *in)
{
	return in->claim_count == 0;
}

void inspect_claim(struct inspection *in, const char *name)
{
	/* What is left out is one of several claims: unsafe in any case. */
	if (in->claim_count < CLAIMS_MAX)
		in->claims[in->claim_count++] = (struct claim){.name = name};
}

void inspect_content(struct inspection *in, const char *name)
{
	if (in->content_count < CLAIMS_MAX)
		in->contents[in->content_count++] = name;
}

static struct claim *current(struct inspection *in)
{
	assert(in->claim_count > 0);
	return &in->claims[in->claim_count - 1];
}

void inspect_virtual_size(struct inspection *in, uint64_t bytes)
{
	current(in)->has_virtual_size = true;
	current(in)->virtual_size = bytes;
}

void inspect_encrypted(struct inspection *in)
{
	current(in)->encrypted = true;
}

void inspect_snapshots(struct inspection *in, uint32_t count)
{
	current(in)->snapshots = count;
}

/* Names out of images end up in the text: it is quoted as a whole. */
__attribute__((format(printf, 4, 0))) static void add_reason(
	struct inspection *in, enum inspect_verdict weight, const char *code,
	const char *fmt, va_list args)
{
	struct inspect_reason *reason = &in->reasons[in->reason_count];
	char text[INSPECT_TEXT_MAX];
	struct quoted_name quoted;

	/* The first ones are kept, but what is unsafe is never lost. */
	if (in->reason_count == INSPECT_REASONS_MAX) {
		reason--;
		if (weight <= reason->weight)
			return;
	} else {
		in->reason_count++;
	}
	vsnprintf(text, sizeof(text), fmt, args);
	reason->weight = weight;
	reason->code = code;
	snprintf(reason->text, sizeof(reason->text), "%s",
		 quote_name(&quoted, text));
}

void inspect_unsafe(struct inspection *in, const char *code, const char *fmt,
		    ...)
{
	va_list args;

	va_start(args, fmt);
	add_reason(in, INSPECT_UNSAFE, code, fmt, args);
	va_end(args);
}

void inspect_malformed(struct inspection *in, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	add_reason(in, INSPECT_MALFORMED, "malformed", fmt, args);
	va_end(args);
}

/* ---- rounds ---- */

/* Raw, which takes what nobody has claimed, is the one without metadata. */
static void run_drivers(struct inspection *in, bool raw)
{
	for (size_t i = 0; format_registry[i]; i++)
		if (!(format_registry[i]->caps & FORMAT_NO_METADATA) != raw)
			format_registry[i]->inspect(in);
}

static void run_rules(struct inspection *in)
{
	in->claim_count = 0;
	in->content_count = 0;
	in->reason_count = 0;
	run_drivers(in, false);
	for (size_t i = 0; format_foreign_rules[i]; i++)
		format_foreign_rules[i](in);
	run_drivers(in, true);
}

static int gather(struct inspection *in, struct error *err)
{
	struct window *w = &in->window;
	int ret = window_open(w, err);

	for (int round = 0; !ret; round++) {
		run_rules(in);
		if (!w->wish_count && !w->wants_tail)
			return 0;
		if (round == ROUNDS_MAX) {
			inspect_malformed(in, "its metadata is in more places "
					      "than any program puts it");
			return 0;
		}
		ret = window_fetch(w, err);
	}
	return ret;
}

/* ---- the verdict ---- */

static void judge_rivals(struct inspection *in)
{
	const struct claim *first = &in->claims[0];
	const char *rival = NULL;

	if (in->claim_count > 1)
		rival = in->claims[1].name;
	else if (in->content_count && strcmp(first->name, "raw"))
		rival = in->contents[0];
	if (rival)
		inspect_unsafe(
			in, "multiple-formats",
			"two formats claim the file, %s and %s: programs "
			"would see different disks in it",
			first->name, rival);
}

static void judge_declared(struct inspection *in, const char *declared)
{
	const char *found = in->claims[0].name;

	if (!declared || !strcmp(declared, found))
		return;
	if (!strcmp(declared, "raw"))
		inspect_unsafe(in, "guest-header",
			       "it was declared to be raw, but starts or ends "
			       "like %s: a guest may have written that",
			       found);
	else
		inspect_unsafe(in, "format-mismatch",
			       "it was declared to be %s, but is %s", declared,
			       found);
}

static void judge_sizes(struct inspection *in,
			const struct inspect_limits *limits)
{
	const struct claim *claim = &in->claims[0];
	uint64_t file_size = in->window.size, most;

	if (!claim->has_virtual_size)
		return;
	if (limits->max_virtual_size &&
	    claim->virtual_size > limits->max_virtual_size)
		inspect_unsafe(in, "virtual-size",
			       "its disk has %llu bytes, more than the %llu "
			       "that are allowed",
			       (unsigned long long)claim->virtual_size,
			       (unsigned long long)limits->max_virtual_size);
	if (!limits->max_ratio || file_size == UINT64_MAX)
		return;
	if (!mul_overflows(file_size, limits->max_ratio, &most) &&
	    claim->virtual_size > most)
		inspect_unsafe(in, "ratio",
			       "its disk has %llu bytes, more than %llu times "
			       "the %llu of the file",
			       (unsigned long long)claim->virtual_size,
			       (unsigned long long)limits->max_ratio,
			       (unsigned long long)file_size);
}

static void fill_report(const struct inspection *in, struct inspect_report *out)
{
	const struct claim *claim = &in->claims[0];

	*out = (struct inspect_report){
		.verdict = INSPECT_SAFE,
		.format = claim->name,
		.content = in->content_count ? in->contents[0] : NULL,
		.has_virtual_size = claim->has_virtual_size,
		.virtual_size = claim->virtual_size,
		.has_file_size = in->window.size != UINT64_MAX,
		.file_size = in->window.size,
		.bytes_read = in->window.bytes_read,
		.encrypted = claim->encrypted,
		.snapshots = claim->snapshots,
		.reason_count = in->reason_count,
	};
	memcpy(out->reasons, in->reasons, sizeof(out->reasons));
	for (size_t i = 0; i < in->reason_count; i++)
		if (in->reasons[i].weight > out->verdict)
			out->verdict = in->reasons[i].weight;
}

static int inspect(struct inspection *in, const struct inspect_limits *limits,
		   struct inspect_report *out, struct error *err)
{
	int ret = gather(in, err);

	if (!ret && limits->max_ratio)
		ret = window_find_size(&in->window, err);
	if (!ret) {
		assert(in->claim_count > 0);
		judge_rivals(in);
		judge_declared(in, limits->format);
		judge_sizes(in, limits);
		fill_report(in, out);
	}
	window_close(&in->window);
	return ret;
}

int inspect_storage(struct storage *file, const struct inspect_limits *limits,
		    struct inspect_report *out, struct error *err)
{
	struct inspection in = {.window.file = file};

	return inspect(&in, limits, out, err);
}

int inspect_stream(inspect_read *read, void *opaque,
		   const struct inspect_limits *limits,
		   struct inspect_report *out, struct error *err)
{
	struct inspection in = {
		.window = {.read = read, .opaque = opaque},
	};

	return inspect(&in, limits, out, err);
}
