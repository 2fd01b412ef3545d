/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Findings, kept as text until they can be delivered, and lists of spans.
 */
#include "formats/qcow2/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 512

bool qcheck_report_open(const struct qcheck_report *r)
{
	return r->lines < r->lines_max;
}

static bool report_reserve(struct qcheck_report *r, size_t more)
{
	size_t capacity = r->capacity ? r->capacity * 2 : 4096;
	char *text;

	if (r->capacity - r->len >= more)
		return true;
	text = realloc(r->text, capacity);
	if (!text)
		return false;
	r->text = text;
	r->capacity = capacity;
	return true;
}

void qcheck_vsay(struct qcheck_report *r, const char *fmt, va_list ap)
{
	int len;

	if (!r->lines_max)
		return;
	if (!qcheck_report_open(r) || !report_reserve(r, LINE_MAX_BYTES)) {
		r->cut = true;
		return;
	}
	len = vsnprintf(r->text + r->len, LINE_MAX_BYTES, fmt, ap);
	if (len < 0)
		return;
	if (len >= LINE_MAX_BYTES)
		len = LINE_MAX_BYTES - 1;
	r->len += (size_t)len + 1;
	r->lines++;
}

void qcheck_say(struct qcheck_report *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	qcheck_vsay(r, fmt, ap);
	va_end(ap);
}

void qcheck_report_release(struct qcheck_report *r)
{
	free(r->text);
	memset(r, 0, sizeof(*r));
}

int qcheck_spans_add(struct qcheck_spans *list, struct qcheck_span span)
{
	size_t capacity = list->capacity ? list->capacity * 2 : 16;
	struct qcheck_span *items;

	if (list->count == list->capacity) {
		items = realloc(list->items, capacity * sizeof(*items));
		if (!items)
			return -ENOMEM;
		list->items = items;
		list->capacity = capacity;
	}
	list->items[list->count++] = span;
	return 0;
}

void qcheck_spans_release(struct qcheck_spans *list)
{
	free(list->items);
	memset(list, 0, sizeof(*list));
}

/* Where a span starts or ends. */
struct edge {
	uint64_t pos;
	int64_t weight, active;
};

static int edge_compare(const void *a, const void *b)
{
	const struct edge *x = a, *y = b;

	return (x->pos > y->pos) - (x->pos < y->pos);
}

static uint32_t clamp_u32(int64_t v)
{
	return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

/* Between two edges the weights are constant. */
static int sweep(struct qcheck_spans *out, const struct edge *edges,
		 size_t count)
{
	int64_t weight = 0, active = 0;
	int ret;

	for (size_t i = 0; i + 1 < count; i++) {
		weight += edges[i].weight;
		active += edges[i].active;
		if (!weight || edges[i].pos == edges[i + 1].pos)
			continue;
		ret = qcheck_spans_add(
			out, (struct qcheck_span){
				     .start = edges[i].pos,
				     .len = edges[i + 1].pos - edges[i].pos,
				     .weight = clamp_u32(weight),
				     .active = clamp_u32(active),
			     });
		if (ret < 0)
			return ret;
	}
	return 0;
}

int qcheck_spans_flatten(struct qcheck_spans *list)
{
	struct qcheck_spans out = {0};
	struct edge *edges;
	size_t n = 0;
	int ret;

	if (list->count < 2)
		return 0;
	edges = calloc(list->count * 2, sizeof(*edges));
	if (!edges)
		return -ENOMEM;
	for (size_t i = 0; i < list->count; i++) {
		const struct qcheck_span *s = &list->items[i];

		edges[n++] = (struct edge){s->start, s->weight, s->active};
		edges[n++] =
			(struct edge){s->start + s->len, -(int64_t)s->weight,
				      -(int64_t)s->active};
	}
	qsort(edges, n, sizeof(*edges), edge_compare);
	ret = sweep(&out, edges, n);
	free(edges);
	if (ret < 0) {
		qcheck_spans_release(&out);
		return ret;
	}
	qcheck_spans_release(list);
	*list = out;
	return 0;
}
