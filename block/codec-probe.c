/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Is it worth packing? Two questions to samples, the cheap one first
 * (spec: performance 2).
 *
 *  1. The entropy of the byte values in 16 samples of 256 bytes. Random bytes
 *     give about 7.95 bits in a sample of 4 KiB; below 7.6 there is something
 *     to gain, and the answer is "pack". Compressible clusters stop here, at
 *     about one percent of what packing them costs.
 *  2. lz4 on 4 samples of 4 KiB, for repeats that a histogram does not see.
 *     Unless it gains 1/16 the cluster is stored plain.
 *
 * The entropy is counted in integers, so that the verdict is the same on every
 * machine.
 */
#include "block/codec-impl.h"

#include <errno.h>
#include <lz4.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Samples would overlap or cost as much as packing below this. */
#define PROBE_LEN_MIN (16u << 10)

#define ENTROPY_SAMPLES	   16
#define ENTROPY_SAMPLE_LEN 256
#define ENTROPY_BYTES	   (ENTROPY_SAMPLES * ENTROPY_SAMPLE_LEN)

#define LZ4_SAMPLES    4
#define LZ4_SAMPLE_LEN 4096
#define LZ4_BYTES      (LZ4_SAMPLES * LZ4_SAMPLE_LEN)

/* log2 in units of 2^-16 bits */
#define LOG2_ONE	   (1u << 16)
#define ENTROPY_LIMIT_BITS (76 * (LOG2_ONE / 10))

struct codec_probe {
	char lz4_out[LZ4_COMPRESSBOUND(LZ4_SAMPLE_LEN)];
	/* LZ4_sizeofState() bytes, aligned as lz4 wants */
	uint64_t lz4_state[];
};

/* n * log2(n) for every count that a histogram of the samples can hold */
static uint32_t n_log2_n[ENTROPY_BYTES + 1];
static pthread_once_t n_log2_n_once = PTHREAD_ONCE_INIT;

/* v > 0. Squaring the mantissa yields the bits of the fraction one by one. */
static uint32_t log2_fixed(uint32_t v)
{
	uint32_t whole = 31 - (uint32_t)__builtin_clz(v);
	uint64_t mantissa = ((uint64_t)v << 31) >> whole; /* [1, 2) in 2^-31 */
	uint32_t log2 = whole * LOG2_ONE;

	for (uint32_t bit = LOG2_ONE / 2; bit; bit /= 2) {
		mantissa = mantissa * mantissa >> 31;
		if (mantissa >> 32) {
			mantissa >>= 1;
			log2 += bit;
		}
	}
	return log2;
}

static void n_log2_n_fill(void)
{
	for (uint32_t n = 1; n <= ENTROPY_BYTES; n++)
		n_log2_n[n] = n * log2_fixed(n);
}

int codec_probe_new(struct codec_probe **out)
{
	struct codec_probe *probe;

	probe = malloc(sizeof(*probe) + (size_t)LZ4_sizeofState());
	if (!probe)
		return -ENOMEM;
	pthread_once(&n_log2_n_once, n_log2_n_fill);
	*out = probe;
	return 0;
}

void codec_probe_free(struct codec_probe *probe)
{
	free(probe);
}

/* The start of sample i of n: the middle of the i-th part of the bytes. */
static const uint8_t *sample_at(const uint8_t *src, size_t len, size_t i,
				size_t n, size_t sample_len)
{
	size_t part = len / n;

	return src + i * part + (part - sample_len) / 2;
}

/* Four histograms: like bytes in a row would wait for one counter's store. */
static void count_bytes(const uint8_t *src, size_t len, uint32_t counts[4][256])
{
	memset(counts, 0, 4 * sizeof(counts[0]));
	for (size_t i = 0; i < ENTROPY_SAMPLES; i++) {
		const uint8_t *p = sample_at(src, len, i, ENTROPY_SAMPLES,
					     ENTROPY_SAMPLE_LEN);

		for (size_t k = 0; k < ENTROPY_SAMPLE_LEN; k += 4) {
			counts[0][p[k]]++;
			counts[1][p[k + 1]]++;
			counts[2][p[k + 2]]++;
			counts[3][p[k + 3]]++;
		}
	}
}

static bool bytes_look_random(const uint8_t *src, size_t len)
{
	uint32_t counts[4][256];
	uint64_t sum = 0;

	/* entropy = log2(N) - sum(n * log2(n)) / N */
	count_bytes(src, len, counts);
	for (size_t v = 0; v < 256; v++)
		sum += n_log2_n[counts[0][v] + counts[1][v] + counts[2][v] +
				counts[3][v]];
	return n_log2_n[ENTROPY_BYTES] - sum >
	       (uint64_t)ENTROPY_LIMIT_BITS * ENTROPY_BYTES;
}

static bool lz4_gains_little(struct codec_probe *probe, const uint8_t *src,
			     size_t len)
{
	int packed = 0;

	for (size_t i = 0; i < LZ4_SAMPLES; i++) {
		const uint8_t *p =
			sample_at(src, len, i, LZ4_SAMPLES, LZ4_SAMPLE_LEN);

		packed += LZ4_compress_fast_extState(
			probe->lz4_state, (const char *)p, probe->lz4_out,
			LZ4_SAMPLE_LEN, sizeof(probe->lz4_out), 1);
	}
	return packed >= LZ4_BYTES - LZ4_BYTES / 16;
}

bool codec_probe_is_hopeless(struct codec_probe *probe, const void *src,
			     size_t len)
{
	return len >= PROBE_LEN_MIN && bytes_look_random(src, len) &&
	       lz4_gains_little(probe, src, len);
}
