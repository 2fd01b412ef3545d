/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Entries of tables: packed descriptors and refcount slots (spec: qcow2 4.3,
 * 7).
 *
 * A packed descriptor splits its low 62 bits at a place that moves with the
 * cluster size: host byte offset below, number of further sectors above. Slots
 * narrower than a byte are filled from the least significant bit upwards,
 * although everything else in the format is big endian.
 */
#include "formats/qcow2/layout.h"

#include <assert.h>

#define SECTOR_BYTES 512u

/* How many bits the host offset of a packed descriptor has. */
static unsigned packed_off_bits(unsigned cluster_bits)
{
	assert(cluster_bits >= QCOW2_CLUSTER_BITS_MIN &&
	       cluster_bits <= QCOW2_CLUSTER_BITS_MAX);
	return 62 - (cluster_bits - 8);
}

struct qcow2_packed qcow2_packed_decode(uint64_t entry, unsigned cluster_bits)
{
	unsigned bits = packed_off_bits(cluster_bits);
	uint64_t low = entry & (QCOW2_L2_COMPRESSED - 1);
	uint64_t host_off = low & ((1ull << bits) - 1);
	uint64_t sectors = (low >> bits) + 1;

	return (struct qcow2_packed){
		.host_off = host_off,
		.len = (uint32_t)(sectors * SECTOR_BYTES -
				  host_off % SECTOR_BYTES),
	};
}

uint64_t qcow2_packed_encode(uint64_t host_off, uint32_t len,
			     unsigned cluster_bits)
{
	unsigned bits = packed_off_bits(cluster_bits);
	uint64_t further;

	assert(len > 0 && len <= 1u << cluster_bits);
	assert(host_off < qcow2_packed_off_limit(cluster_bits));
	further = (host_off + len - 1) / SECTOR_BYTES - host_off / SECTOR_BYTES;
	assert(further < 1ull << (62 - bits));
	return QCOW2_L2_COMPRESSED | further << bits | host_off;
}

uint64_t qcow2_packed_off_limit(unsigned cluster_bits)
{
	return min_u64(1ull << packed_off_bits(cluster_bits),
		       QCOW2_HOST_OFF_MAX);
}

void qcow2_packed_clusters(struct qcow2_packed p, unsigned cluster_bits,
			   uint64_t *first, uint64_t *count)
{
	*first = p.host_off >> cluster_bits;
	*count = ((p.host_off + p.len - 1) >> cluster_bits) - *first + 1;
}

static uint64_t narrow_get(const uint8_t *bytes, uint64_t slot, unsigned order)
{
	unsigned per_byte_bits = 3 - order;
	unsigned shift = (unsigned)(slot & ((1u << per_byte_bits) - 1))
			 << order;

	return (bytes[slot >> per_byte_bits] >> shift) &
	       ((1u << (1u << order)) - 1);
}

static void narrow_put(uint8_t *bytes, uint64_t slot, unsigned order,
		       uint64_t value)
{
	unsigned per_byte_bits = 3 - order;
	unsigned shift = (unsigned)(slot & ((1u << per_byte_bits) - 1))
			 << order;
	unsigned mask = ((1u << (1u << order)) - 1) << shift;
	uint8_t *byte = &bytes[slot >> per_byte_bits];

	*byte = (uint8_t)((*byte & ~mask) | (unsigned)value << shift);
}

uint64_t qcow2_refcount_get(const void *block, uint64_t slot, unsigned order)
{
	switch (order) {
	case 0:
	case 1:
	case 2:
		return narrow_get(block, slot, order);
	case 3:
		return ((const uint8_t *)block)[slot];
	case 4:
		return be16_get(((const be16_t *)block)[slot]);
	case 5:
		return be32_get(((const be32_t *)block)[slot]);
	default:
		assert(order == 6);
		return be64_get(((const be64_t *)block)[slot]);
	}
}

void qcow2_refcount_put(void *block, uint64_t slot, unsigned order,
			uint64_t value)
{
	assert(order == 6 || value < 1ull << (1u << order));
	switch (order) {
	case 0:
	case 1:
	case 2:
		narrow_put(block, slot, order, value);
		break;
	case 3:
		((uint8_t *)block)[slot] = (uint8_t)value;
		break;
	case 4:
		((be16_t *)block)[slot] = be16_make((uint16_t)value);
		break;
	case 5:
		((be32_t *)block)[slot] = be32_make((uint32_t)value);
		break;
	default:
		assert(order == 6);
		((be64_t *)block)[slot] = be64_make(value);
	}
}
