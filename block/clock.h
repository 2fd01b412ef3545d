/* SPDX-License-Identifier: BSD-3-Clause */
/* Time that never jumps, for deadlines and durations. Any thread. */
#ifndef PLATTER_BLOCK_CLOCK_H
#define PLATTER_BLOCK_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Signed, so that what is left until a deadline can be less than nothing. */
static inline int64_t clock_now_ms(void)
{
	return (int64_t)(clock_now_ns() / 1000000);
}

#endif
