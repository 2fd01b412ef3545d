/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Asking an NBD server what it has: see qemu-nbd-list.h. Programs read what is
 * printed here. What the server says is any bytes, and is quoted.
 */
#include "cli/qemu-nbd-list.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/clock.h"
#include "block/error.h"
#include "block/quote.h"
#include "block/storage/nbd-address.h"
#include "block/storage/nbd-library.h"
#include "block/storage/nbd-tls.h"
#include "cli/message.h"
#include "nbd-server/wire.h"

/* A server that names more than this means harm. */
#define ITEMS_MAX 65536u
/* The time that it has, and more for each export that it has told of. */
#define LIST_MS	  10000
#define EXPORT_MS 1000

struct item {
	char *name, *description;
};

/* Filled from callbacks, which have no other way to say what went wrong. */
struct item_list {
	struct item *items;
	size_t count;
};

struct lister {
	const struct nbd_library *lib;
	struct nbd_handle *handle;
	struct item_list exports;
	int64_t end_ms;
	bool timed_out;
	int answer; /* errno of the last option's, or 0 */
};

/* ---- lists ---- */

static int append(struct item_list *list, const char *name,
		  const char *description)
{
	struct item *longer;

	if (list->count == ITEMS_MAX)
		return -1;
	longer = reallocarray(list->items, list->count + 1, sizeof(*longer));
	if (!longer)
		return -1;
	list->items = longer;
	longer[list->count] = (struct item){strdup(name), strdup(description)};
	list->count++;
	return longer[list->count - 1].name &&
			       longer[list->count - 1].description
		       ? 0
		       : -1;
}

static int add_export(void *opaque, const char *name, const char *description)
{
	return append(opaque, name, description);
}

static int add_context(void *opaque, const char *name)
{
	return append(opaque, name, "");
}

static void release(struct item_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->items[i].name);
		free(list->items[i].description);
	}
	free(list->items);
}

/* ---- waiting ---- */

/* One step of what is under way. False: it has failed, or the time is up. */
static bool step(struct lister *at)
{
	const struct nbd_library *lib = at->lib;
	unsigned direction = lib->aio_get_direction(at->handle);
	bool reads = direction & LIBNBD_AIO_DIRECTION_READ;
	bool writes = direction & LIBNBD_AIO_DIRECTION_WRITE;
	int64_t left = at->end_ms - clock_now_ms();
	struct pollfd pollfd = {
		.fd = lib->aio_get_fd(at->handle),
		.events =
			(short)((reads ? POLLIN : 0) | (writes ? POLLOUT : 0)),
	};

	at->timed_out = left <= 0;
	if (at->timed_out || pollfd.fd < 0 || poll(&pollfd, 1, (int)left) < 0)
		return false;
	if (!pollfd.revents)
		return true;
	if (reads && pollfd.revents & ~POLLOUT)
		return lib->aio_notify_read(at->handle) == 0;
	return lib->aio_notify_write(at->handle) == 0;
}

/* Until the server has said all of it; the functions that wait do so for ever.
 */
static bool settle(struct lister *at, int started)
{
	if (started < 0)
		return false;
	/* Ready is one that knows no options, as libnbd will say then. */
	while (at->lib->aio_is_negotiating(at->handle) != 1 &&
	       at->lib->aio_is_ready(at->handle) != 1)
		if (!step(at))
			return false;
	return true;
}

static int note_answer(void *opaque, int *error)
{
	*(int *)opaque = *error;
	return 1;
}

static nbd_completion_callback answer(struct lister *at)
{
	at->answer = EIO;
	return (nbd_completion_callback){.callback = note_answer,
					 .user_data = &at->answer};
}

/* ---- printing ---- */

static void print_flags(const struct lister *at)
{
	const struct nbd_library *lib = at->lib;
	const struct {
		int (*has)(struct nbd_handle *h);
		unsigned bit;
		const char *name;
	} flags[] = {
		{lib->is_read_only, NBD_TFLAG_READ_ONLY, "readonly"},
		{lib->can_flush, NBD_TFLAG_SEND_FLUSH, "flush"},
		{lib->can_fua, NBD_TFLAG_SEND_FUA, "fua"},
		{lib->is_rotational, NBD_TFLAG_ROTATIONAL, "rotational"},
		{lib->can_trim, NBD_TFLAG_SEND_TRIM, "trim"},
		{lib->can_zero, NBD_TFLAG_SEND_WRITE_ZEROES, "zeroes"},
		{lib->can_df, NBD_TFLAG_SEND_DF, "df"},
		{lib->can_multi_conn, NBD_TFLAG_CAN_MULTI_CONN, "multi"},
		{lib->can_cache, NBD_TFLAG_SEND_CACHE, "cache"},
		{lib->can_fast_zero, NBD_TFLAG_SEND_FAST_ZERO, "fast-zero"},
	};
	const size_t count = sizeof(flags) / sizeof(flags[0]);
	unsigned set = 0, bits = NBD_TFLAG_HAS_FLAGS;

	for (size_t i = 0; i < count; i++) {
		if (flags[i].has(at->handle) > 0) {
			set |= 1u << i;
			bits |= flags[i].bit;
		}
	}
	printf("  flags: 0x%x (", bits);
	for (size_t i = 0; i < count; i++)
		if (set >> i & 1)
			printf(" %s", flags[i].name);
	puts(" )");
}

static void print_block_sizes(const struct lister *at)
{
	static const struct {
		int which;
		const char *label;
	} sizes[] = {
		{LIBNBD_SIZE_MINIMUM, "min"},
		{LIBNBD_SIZE_PREFERRED, "opt"},
		{LIBNBD_SIZE_MAXIMUM, "max"},
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int64_t size =
			at->lib->get_block_size(at->handle, sizes[i].which);

		if (size > 0)
			printf("  %s block: %lld\n", sizes[i].label,
			       (long long)size);
	}
}

static void print_contexts(struct lister *at)
{
	struct item_list contexts = {0};
	nbd_context_callback add = {.callback = add_context,
				    .user_data = &contexts};
	struct quoted_name text;

	/* A server without structured replies has none; it is no error. */
	if (settle(at, at->lib->aio_opt_list_meta_context(at->handle, add,
							  answer(at))) &&
	    !at->answer && contexts.count) {
		printf("  available meta contexts: %zu\n", contexts.count);
		for (size_t i = 0; i < contexts.count; i++)
			printf("   %s\n",
			       quote_name(&text, contexts.items[i].name));
	}
	release(&contexts);
}

static void print_export(struct lister *at, const struct item *export)
{
	struct quoted_name text;

	printf(" export: '%s'\n", quote_name(&text, export->name));
	if (*export->description)
		printf("  description: %s\n",
		       quote_name(&text, export->description));
	if (at->lib->set_export_name(at->handle, export->name) ||
	    !settle(at, at->lib->aio_opt_info(at->handle, answer(at))) ||
	    at->answer)
		return;
	printf("  size:  %lld\n", (long long)at->lib->get_size(at->handle));
	print_flags(at);
	print_block_sizes(at);
	print_contexts(at);
}

/* ---- the conversation ---- */

static bool say_why(const struct lister *at, const char *what)
{
	int code = at->lib->get_errno();
	const char *reason = at->lib->get_error();
	struct quoted_name text;

	if (at->timed_out)
		code = ETIMEDOUT;
	if (code > 0)
		reason = strerror(code);
	message_error("%s: %s", what,
		      quote_name(&text, reason ? reason : "no reason given"));
	return false;
}

static bool connect_to(struct lister *at, const struct nbd_address *address)
{
	const struct nbd_library *lib = at->lib;
	const char *path = address->socket;
	char *what;
	bool good;

	if (asprintf(&what, "Failed to connect to '%s%s%s'",
		     path ? path : address->host, path ? "" : ":",
		     path ? "" : address->port) < 0) {
		message_error("Out of memory");
		return false;
	}
	good = lib->set_opt_mode(at->handle, true) == 0;
	if (good && path)
		good = settle(at, lib->aio_connect_unix(at->handle, path));
	else if (good)
		good = settle(at,
			      lib->aio_connect_tcp(at->handle, address->host,
						   address->port));
	if (!good)
		say_why(at, what);
	free(what);
	return good;
}

static bool secure(const struct lister *at, const struct nbd_address *address)
{
	struct error err = {0};

	if (nbd_tls_set_up(at->lib, at->handle, address, &err) == 0)
		return true;
	message_error("%s", err.message);
	return false;
}

static bool print_all(struct lister *at)
{
	nbd_list_callback add = {.callback = add_export,
				 .user_data = &at->exports};

	if (!settle(at, at->lib->aio_opt_list(at->handle, add, answer(at))) ||
	    at->answer)
		return say_why(at, "Failed to list the exports");
	printf("exports available: %zu\n", at->exports.count);
	for (size_t i = 0; i < at->exports.count; i++) {
		print_export(at, &at->exports.items[i]);
		if (at->timed_out)
			return say_why(at, "Failed to list the exports");
		at->end_ms += EXPORT_MS;
	}
	at->lib->aio_opt_abort(at->handle);
	return true;
}

int qemu_nbd_list(const struct nbd_address *address)
{
	struct error err = {0};
	struct lister at = {.lib = nbd_library_get(&err),
			    .end_ms = clock_now_ms() + LIST_MS};
	bool good;

	if (!at.lib) {
		message_error("%s", err.message);
		return 1;
	}
	at.handle = at.lib->create();
	if (!at.handle) {
		say_why(&at, "Failed to list the exports");
		return 1;
	}
	good = secure(&at, address) && connect_to(&at, address) &&
	       print_all(&at);
	release(&at.exports);
	at.lib->close(at.handle);
	return good ? 0 : 1;
}
