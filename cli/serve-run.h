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
#include "cli/listen.h"
#include "cli/open.h"
#include "cli/serve-log.h"
#include "cli/serve-stats.h"
#include "cli/serve-tls.h"
#include "cli/serve-trust.h"
#include "nbd-server/connection.h"
#include "nbd-server/export.h"
#include "nbd-server/tls.h"

struct command_context;
struct error;

/* Of one process; each has files and tables of its own. */
#define SERVE_EXPORTS_MAX 4096

#define SERVE_DEFAULT_PORT 10809

/* What limits may be. */
#define SERVE_CLIENTS_MAX  1024
#define SERVE_THREADS_MAX  256
#define SERVE_DEADLINE_MAX 86400 /* seconds */

/* An internal snapshot; all NULL: none. */
struct serve_snapshot {
	const char *id, *name;
	const char *either;   /* the id of one, else the name of one */
	struct options words; /* what the others may point into; owned */
};

/* One export; all that it points to is borrowed. */
struct serve_export {
	struct open_request image;
	const char *name;
	const char *description; /* or NULL */
	bool read_only;
	enum serve_backing backing;
	bool snapshot; /* what is written is forgotten at the end */
	bool discard;  /* trims give space back */
	bool resize;   /* its client may make it larger */
	enum nbd_zeroes zeroes;
	bool offers_depth; /* qemu:allocation-depth */
	/* Names of bitmaps, each offered as qemu:dirty-bitmap:NAME. */
	const char *const *bitmaps;
	size_t bitmap_count;
	const struct serve_snapshot *shown; /* for reading only; NULL: none */
	unsigned max_clients;		    /* 0: no limit */
};

struct serve_plan {
	struct serve_export *exports; /* owned */
	size_t export_count;
	bool needs_format; /* formats are never guessed */

	/* None: TCP, the default port. */
	struct listen_address addresses[LISTENERS_MAX];
	size_t address_count;
	const char *default_host; /* NULL: all addresses of this machine */

	struct tls_args tls;		  /* without keys: all in the clear */
	struct serve_tls_words tls_words; /* what `tls` is made of; owned */
	bool tls_required;
	struct nbd_limits limits;
	unsigned max_clients;
	unsigned threads; /* for requests that wait; 0: none does */
	bool persistent;
	enum serve_log log;	/* of clients; keeps stderr behind --fork */
	enum serve_stats stats; /* printed at the end, and on SIGUSR1 */
	bool fork;
	const char *pid_file;

	struct json_t *texts; /* what names may point into; owned, or NULL */
};

/* What holds where nothing else was said; no exports. */
void serve_plan_init(struct serve_plan *plan);
/* The same of an export of `serve`. */
extern const struct serve_export serve_export_default;

/* Frees what the plan owns. */
void serve_plan_release(struct serve_plan *plan);
int serve_plan_add_export(struct serve_plan *plan,
			  const struct serve_export *export, struct error *err);
int serve_plan_add_address(struct serve_plan *plan,
			   const struct listen_address *address,
			   struct error *err);
/* Owns `value` from here on, also on failure, as long as there is the plan. */
int serve_plan_keep(struct serve_plan *plan, struct json_t *value,
		    struct error *err);

/* What cannot be meant, whatever words it came by. -EINVAL. */
int serve_plan_check(const struct serve_plan *plan, struct error *err);

/* -EINVAL if that word for trims or writes of zeros is not known. */
int serve_discard_parse(const char *word, bool *out);
int serve_zeroes_parse(const char *word, enum nbd_zeroes *out);

/* Returns the exit status, after a message if it is not 0. */
int serve_run(struct command_context *ctx, const struct serve_plan *plan);

#endif
