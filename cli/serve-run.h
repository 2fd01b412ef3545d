/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Serving images over NBD: what `platter serve` and the qemu-nbd name share.
 * The commands fill a plan, serve_run() carries it out.
 */
#ifndef PLATTER_CLI_SERVE_RUN_H
#define PLATTER_CLI_SERVE_RUN_H

#include <stdbool.h>
#include <stddef.h>

#include "block/options.h"
#include "cli/open.h"
#include "cli/serve-stats.h"
#include "cli/serve-trust.h"
#include "nbd-server/export.h"
#include "nbd-server/tls.h"

struct command_context;

/* Of one process; each has files and tables of its own. */
#define SERVE_EXPORTS_MAX 4096

#define SERVE_DEFAULT_PORT "10809"

struct serve_export {
	struct open_request image;
	const char *name;
	const char *description;
	bool read_only;
	char *words; /* what the names above may point into; owned, or NULL */
};

/* An internal snapshot; all NULL: none. */
struct serve_snapshot {
	const char *id, *name;
	const char *either;   /* the id of one, else the name of one */
	struct options words; /* what the others may point into; owned */
};

struct serve_plan {
	struct serve_export *exports;
	size_t export_count;
	bool needs_format; /* formats are never guessed */
	enum serve_backing backing;
	bool discard; /* trims give space back */
	enum nbd_zeroes zeroes;
	bool offers_depth; /* qemu:allocation-depth */
	/* Names of bitmaps, each offered as qemu:dirty-bitmap:NAME. */
	const char *const *bitmaps;
	size_t bitmap_count;
	struct serve_snapshot shown; /* if any: for reading only */
	bool snapshot; /* what is written is forgotten at the end */

	const char *unix_path;
	const char *address, *port;
	const char *default_address; /* NULL: all of this machine's */
	struct tls_args tls;	     /* without keys: all in the clear */
	bool tls_required;
	unsigned clients_per_export; /* 0: no limit */
	unsigned max_clients;
	bool persistent;
	enum serve_stats stats; /* printed at the end, and on SIGUSR1 */
	bool fork;
	bool keep_stderr; /* also behind --fork */
	const char *pid_file;
};

/* Returns the exit status, after a message if it is not 0. */
int serve_run(struct command_context *ctx, const struct serve_plan *plan);

#endif
