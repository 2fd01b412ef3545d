/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The set of host clusters that hold L2 tables and refcount blocks: a hash
 * table with open addressing. It lets every write ask "is this one of my own
 * tables?" before it trusts an entry of a damaged or hostile image.
 *
 * Keys are stored plus one, so that zero means empty. Removal moves later keys
 * of the same chain back, so no markers are left behind.
 */
#include <errno.h>
#include <stdlib.h>

#include "formats/qcow2/qcow2.h"

struct qcow2_cluster_set {
	uint64_t *slots;
	size_t mask; /* slot count - 1 */
	size_t used;
};

#define SET_SLOTS_FIRST 256

static size_t slot_of(const struct qcow2_cluster_set *set, uint64_t cluster)
{
	/* Fibonacci hashing: tables often lie at regular distances. */
	return (size_t)((cluster * 0x9e3779b97f4a7c15ull) >> 20) & set->mask;
}

int qcow2_cluster_set_new(struct qcow2_cluster_set **out)
{
	struct qcow2_cluster_set *set = calloc(1, sizeof(*set));

	if (!set)
		return -ENOMEM;
	set->slots = calloc(SET_SLOTS_FIRST, sizeof(*set->slots));
	if (!set->slots) {
		free(set);
		return -ENOMEM;
	}
	set->mask = SET_SLOTS_FIRST - 1;
	*out = set;
	return 0;
}

void qcow2_cluster_set_free(struct qcow2_cluster_set *set)
{
	if (!set)
		return;
	free(set->slots);
	free(set);
}

/* The slot that holds the cluster, or the empty one where it would go. */
static size_t find_slot(const struct qcow2_cluster_set *set, uint64_t cluster)
{
	size_t i = slot_of(set, cluster);

	while (set->slots[i] && set->slots[i] != cluster + 1)
		i = (i + 1) & set->mask;
	return i;
}

static int grow(struct qcow2_cluster_set *set)
{
	size_t old_count = set->mask + 1;
	uint64_t *old = set->slots;
	uint64_t *bigger = calloc(old_count * 2, sizeof(*bigger));

	if (!bigger)
		return -ENOMEM;
	set->slots = bigger;
	set->mask = old_count * 2 - 1;
	for (size_t i = 0; i < old_count; i++) {
		if (old[i])
			set->slots[find_slot(set, old[i] - 1)] = old[i];
	}
	free(old);
	return 0;
}

int qcow2_cluster_set_add(struct qcow2_cluster_set *set, uint64_t cluster)
{
	size_t i;

	if ((set->used + 1) * 2 > set->mask && grow(set) < 0)
		return -ENOMEM;
	i = find_slot(set, cluster);
	if (!set->slots[i]) {
		set->slots[i] = cluster + 1;
		set->used++;
	}
	return 0;
}

void qcow2_cluster_set_remove(struct qcow2_cluster_set *set, uint64_t cluster)
{
	size_t hole = find_slot(set, cluster);

	if (!set->slots[hole])
		return;
	set->slots[hole] = 0;
	set->used--;
	for (size_t i = (hole + 1) & set->mask; set->slots[i];
	     i = (i + 1) & set->mask) {
		uint64_t key = set->slots[i];

		set->slots[i] = 0;
		set->slots[find_slot(set, key - 1)] = key;
	}
}

bool qcow2_cluster_set_has(const struct qcow2_cluster_set *set,
			   uint64_t cluster)
{
	return set->slots[find_slot(set, cluster)] != 0;
}
