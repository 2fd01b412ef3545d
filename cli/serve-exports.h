/* SPDX-License-Identifier: BSD-3-Clause */
/* The images of a plan to serve, opened as its exports. */
#ifndef PLATTER_CLI_SERVE_EXPORTS_H
#define PLATTER_CLI_SERVE_EXPORTS_H

#include <stdbool.h>

struct command_context;
struct nbd_exports;
struct serve_plan;
struct serve_snapshot;

/*
 * The value of -l: snapshot.id=ID,snapshot.name=NAME, one or both of them, or a
 * single word for either. False after a message. What is taken is for reading
 * only; `out->words` is the caller's to release. NULL: nothing to take.
 */
bool serve_take_snapshot(struct serve_snapshot *out, const char *text);

/*
 * False after a message, and then those that are open are to be closed as well.
 * The plan has to outlive them.
 */
bool serve_open_exports(const struct command_context *ctx,
			const struct serve_plan *plan, struct nbd_exports *out);

/*
 * Closes the images; what was counted of them stays. False after a message if
 * what was written may not be durable.
 */
bool serve_close_exports(struct nbd_exports *exports);
/* The rest, once they are closed. */
void serve_release_exports(struct nbd_exports *exports);

#endif
