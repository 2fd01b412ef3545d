/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The qcow2 header area. The input is the first cluster, or what there is of
 * it. What was accepted must fit the promises of layout.h, and must come back
 * from a rewrite.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "formats/qcow2/layout.h"

/* A length that most tables of the seeds are inside of. */
#define FILE_SIZE (1ull << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_promises(const struct qcow2_header *h)
{
	uint64_t cluster = 1ull << h->cluster_bits;

	assert(h->version == 2 || h->version == 3);
	assert(h->cluster_bits >= 9 && h->cluster_bits <= 21);
	assert(h->refcount_order <= 6);
	assert(h->size_bytes <= (uint64_t)INT64_MAX - 511);
	assert(h->l1_entries <= QCOW2_L1_ENTRIES_MAX);
	assert(h->l1_off % cluster == 0 && h->reftable_off % cluster == 0);
	assert(h->reftable_clusters * cluster <= QCOW2_REFTABLE_BYTES_MAX);
	assert(h->snapshot_count <= QCOW2_SNAPSHOTS_MAX);
	assert(h->header_len >= 72 && h->header_len <= cluster);
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

/*
 * Encoded, decoded and encoded again it is the same to the byte, if it fits at
 * all.
 */
static void check_rewrite(const struct qcow2_header *h,
			  const struct qcow2_header_tail *tail)
{
	size_t cluster = (size_t)1 << h->cluster_bits, used, used_again;
	struct qcow2_header written = *h, back;
	struct qcow2_header_tail again;
	uint8_t *area = malloc(cluster), *second = malloc(cluster);

	assert(area && second);
	if (!qcow2_header_encode(&written, tail, area, cluster, &used, NULL)) {
		assert(used <= cluster);
		qcow2_header_decode(&back, area);
		assert(!qcow2_header_tail_decode(&again, &back, area, cluster,
						 NULL));
		assert(same_text(again.backing_name, tail->backing_name));
		assert(same_text(again.backing_format, tail->backing_format));
		assert(same_text(again.data_file_name, tail->data_file_name));
		assert(again.unknown_len == tail->unknown_len);
		assert(again.has_encryption == tail->has_encryption);
		assert(again.bitmaps_valid == tail->bitmaps_valid);
		assert(!qcow2_header_encode(&back, &again, second, cluster,
					    &used_again, NULL));
		assert(used == used_again && !memcmp(area, second, used));
		qcow2_header_tail_release(&again);
	}
	free(area);
	free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t fixed[QCOW2_V3_HEADER_BYTES] = {0}, *area;
	struct qcow2_header_tail tail;
	struct qcow2_header h;
	struct error err = {0};
	size_t cluster;

	memcpy(fixed, data, min_u64(size, sizeof(fixed)));
	qcow2_header_decode(&h, fixed);
	if (qcow2_header_validate(&h, FILE_SIZE, QCOW2_VALIDATE_FOR_CHECK,
				  &err) < 0) {
		assert(err.code && err.message[0]);
		assert(qcow2_header_validate(&h, FILE_SIZE, 0, NULL) < 0);
		return 0;
	}
	check_promises(&h);
	cluster = (size_t)1 << h.cluster_bits;
	area = calloc(1, cluster);
	assert(area);
	memcpy(area, data, min_u64(size, cluster));
	if (!qcow2_header_tail_decode(&tail, &h, area, cluster, &err)) {
		check_rewrite(&h, &tail);
		qcow2_header_tail_release(&tail);
	} else {
		assert(err.code && err.message[0]);
	}
	free(area);
	return 0;
}
