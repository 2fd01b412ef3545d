/* SPDX-License-Identifier: BSD-3-Clause */
/* --object: secrets and credentials, described by words or JSON. */
#ifndef PLATTER_CLI_OBJECT_H
#define PLATTER_CLI_OBJECT_H

#include <stdbool.h>
#include <stddef.h>

struct options;

/* Zeroed is empty. */
struct object_list {
	struct options *items;
	size_t count;
};

/*
 * Adds the object that one --object describes, checked for form: its type,
 * that it has a name of its own, and the names of its properties. Credentials
 * of TLS are checked whole, and kept for images as well (block/tls-creds.h).
 * False after a message.
 */
bool object_accept(struct object_list *objects, const char *text);
void objects_release(struct object_list *objects);

/* That of this id, or NULL; and its type, as in "secret". Borrowed. */
const struct options *object_find(const struct object_list *objects,
				  const char *id);
const char *object_type(const struct options *object);

#endif
