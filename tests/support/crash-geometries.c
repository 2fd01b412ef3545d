/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. */
#include "tests/support/crash-geometries.h"

#include <assert.h>
#include <string.h>

#define TINY_CACHES "l2-cache-size=4096,refcount-cache-size=4096"

static const struct workload_geometry large[] = {
	/* An L1 table that needs a second cluster when the disk grows. */
	{.name = "512-long-l1",
	 .create = "cluster_size=512",
	 .open = TINY_CACHES,
	 .size_bytes = 2000 * 1024,
	 .size_max = 2200 * 1024},
	/* The largest clusters there are: few of them, and long writes. */
	{.name = "2m",
	 .create = "cluster_size=2M",
	 .open = "l2-cache-size=4194304",
	 .size_bytes = 6 * 1024 * 1024,
	 .size_max = 8 * 1024 * 1024},
};
static const unsigned prices[] = {2, 20};

#define LARGE (sizeof(large) / sizeof(large[0]))
_Static_assert(sizeof(prices) / sizeof(prices[0]) == LARGE, "a price for each");

unsigned crash_geometry_count(void)
{
	return workload_geometry_count + (unsigned)LARGE;
}

struct crash_geometry crash_geometry_get(unsigned index)
{
	assert(index < crash_geometry_count());
	if (index < workload_geometry_count)
		return (struct crash_geometry){&workload_geometries[index], 1};
	index -= workload_geometry_count;
	return (struct crash_geometry){&large[index], prices[index]};
}

const struct workload_geometry *crash_geometry_named(const char *name)
{
	for (unsigned i = 0; i < crash_geometry_count(); i++) {
		struct crash_geometry g = crash_geometry_get(i);

		if (!strcmp(g.image->name, name))
			return g.image;
	}
	return NULL;
}
