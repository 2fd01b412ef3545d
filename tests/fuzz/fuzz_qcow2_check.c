/* SPDX-License-Identifier: BSD-3-Clause */
/* Check and repair of an image from a stranger: qcow2-judge.h is the oracle. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/qcow2-judge.h"

#define INPUT_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qcow2_bytes in = {.len = size};

	if (size > INPUT_MAX)
		return 0;
	in.data = malloc(size + 1);
	assert(in.data);
	memcpy(in.data, data, size);
	qcow2_judge_repairs(&in);
	free(in.data);
	return 0;
}
