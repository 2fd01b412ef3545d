/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For tests of check and repair: runs them on an image that was built by hand,
 * and keeps what they find. Any failure to do so fails the running test.
 */
#ifndef PLATTER_TESTS_SUPPORT_CHECK_FIXTURE_H
#define PLATTER_TESTS_SUPPORT_CHECK_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/format.h"

struct qcow2_builder;

#define CHECK_FIXTURE_FINDINGS 64

struct check_findings {
	char text[CHECK_FIXTURE_FINDINGS][256];
	size_t count; /* may be more than are kept */
};

/* Checks, or repairs if told to; `f` may be NULL. b->file stays open. */
struct check_result check_fixture_run(struct qcow2_builder *b, bool leaks,
				      bool errors, struct check_findings *f);
/* Whether the whole line was among the findings. */
bool check_fixture_found(const struct check_findings *f, const char *text);
/* A check finds nothing. */
void check_fixture_clean(struct qcow2_builder *b);

/* The stored count of the cluster at an offset. */
void check_fixture_set_count(struct qcow2_builder *b, uint64_t host_off,
			     uint16_t value);
uint16_t check_fixture_get_count(struct qcow2_builder *b, uint64_t host_off);

#endif
