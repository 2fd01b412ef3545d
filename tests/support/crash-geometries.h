/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The images of crash_qcow2: all geometries of workload.h, and larger ones that
 * tests which copy whole images could not afford.
 */
#ifndef PLATTER_TESTS_SUPPORT_CRASH_GEOMETRIES_H
#define PLATTER_TESTS_SUPPORT_CRASH_GEOMETRIES_H

#include "tests/support/workload.h"

struct crash_geometry {
	const struct workload_geometry *image;
	unsigned price; /* of a state, roughly; the smaller ones: 1 */
};

unsigned crash_geometry_count(void);
/* `index` is below the count. */
struct crash_geometry crash_geometry_get(unsigned index);
/* NULL if no image has that name. */
const struct workload_geometry *crash_geometry_named(const char *name);

#endif
