/* SPDX-License-Identifier: BSD-3-Clause */
/* --object: secrets and credentials, described by words or JSON. */
#ifndef PLATTER_CLI_OBJECT_H
#define PLATTER_CLI_OBJECT_H

#include <stdbool.h>

/*
 * Checks one --object. No format here needs an object yet, so a well-formed one
 * has no effect. False after a message.
 */
bool object_accept(const char *text);

#endif
