/* SPDX-License-Identifier: BSD-3-Clause */
/* All that the registry needs to know of qcow2. */
#ifndef PLATTER_FORMATS_QCOW2_DRIVER_H
#define PLATTER_FORMATS_QCOW2_DRIVER_H

#include "block/format.h"

struct inspection;

extern const struct format_driver qcow2_driver;

/* inspect.c: what makes an image unsafe before it is opened. */
void qcow2_inspect(struct inspection *in);

#endif
