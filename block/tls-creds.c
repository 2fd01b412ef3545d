/* SPDX-License-Identifier: BSD-3-Clause */
/* The list of credentials: see tls-creds.h. */
#include "block/tls-creds.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct entry {
	struct tls_creds creds;
	struct entry *next;
};

static struct entry *entries;

/* One piece of memory for all of an entry, which is never given back. */
static const char *keep(char **at, const char *text)
{
	char *kept = *at;

	if (!text)
		return NULL;
	*at = stpcpy(kept, text) + 1;
	return kept;
}

static size_t size_of(const char *text)
{
	return text ? strlen(text) + 1 : 0;
}

int tls_creds_add(const struct tls_creds *creds)
{
	struct entry *entry;
	char *at;

	if (tls_creds_find(creds->id))
		return -EEXIST;
	entry = malloc(sizeof(*entry) + size_of(creds->id) +
		       size_of(creds->dir) + size_of(creds->username));
	if (!entry)
		return -ENOMEM;
	at = (char *)(entry + 1);
	entry->creds = *creds;
	entry->creds.id = keep(&at, creds->id);
	entry->creds.dir = keep(&at, creds->dir);
	entry->creds.username = keep(&at, creds->username);
	entry->next = entries;
	entries = entry;
	return 0;
}

const struct tls_creds *tls_creds_find(const char *id)
{
	for (const struct entry *at = entries; at; at = at->next)
		if (!strcmp(at->creds.id, id))
			return &at->creds;
	return NULL;
}
