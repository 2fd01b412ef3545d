/* SPDX-License-Identifier: BSD-3-Clause */
/* --object: secrets and credentials, described by words or JSON. */
#ifndef PLATTER_CLI_OBJECT_H
#define PLATTER_CLI_OBJECT_H

#include <stdbool.h>

/*
 * Checks one --object. Credentials of TLS are kept, for the images that name
 * them (block/tls-creds.h); no format needs a secret yet. False after a
 * message.
 */
bool object_accept(const char *text);

#endif
