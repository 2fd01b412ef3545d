/* SPDX-License-Identifier: BSD-3-Clause */
/* Objects of TLS credentials, checked as QEMU does when it makes them. */
#ifndef PLATTER_CLI_OBJECT_TLS_H
#define PLATTER_CLI_OBJECT_TLS_H

#include <stdbool.h>

struct options;
struct tls_creds;

/* Of the type "tls-creds-*"? */
bool object_is_tls(const char *type);

/* Fills all but the id, with borrowed texts. False after a message. */
bool object_read_tls(const char *type, const struct options *opts,
		     struct tls_creds *out);

#endif
