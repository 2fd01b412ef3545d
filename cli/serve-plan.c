/* SPDX-License-Identifier: BSD-3-Clause */
/* What all who make plans to serve have in common: see serve-run.h. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/quote.h"
#include "cli/serve-run.h"
#include "cli/word.h"

#define HANDSHAKE_MS	   10000
#define STALL_MS	   60000
#define CLIENTS_DEFAULT	   128
#define PER_EXPORT_DEFAULT 16
/* Workers wait for disks rather than compute. */
#define THREADS 16

const struct serve_export serve_export_default = {
	.name = "",
	.backing = SERVE_BACKING_BENEATH,
	.discard = true,
	.max_clients = PER_EXPORT_DEFAULT,
};

void serve_plan_init(struct serve_plan *plan)
{
	*plan = (struct serve_plan){
		.limits = {.handshake_ms = HANDSHAKE_MS, .stall_ms = STALL_MS},
		.max_clients = CLIENTS_DEFAULT,
		.threads = THREADS,
	};
}

void serve_plan_release(struct serve_plan *plan)
{
	free(plan->exports);
	serve_tls_release(&plan->tls_words);
	json_decref(plan->texts);
	plan->exports = NULL;
	plan->texts = NULL;
}

int serve_plan_add_export(struct serve_plan *plan,
			  const struct serve_export *export, struct error *err)
{
	struct serve_export *longer;

	if (plan->export_count == SERVE_EXPORTS_MAX)
		return error_set(err, E2BIG, "More than %d exports",
				 SERVE_EXPORTS_MAX);
	longer = reallocarray(plan->exports, plan->export_count + 1,
			      sizeof(*longer));
	if (!longer)
		return error_set_errno(err, ENOMEM, "No memory for an export");
	plan->exports = longer;
	plan->exports[plan->export_count++] = *export;
	return 0;
}

int serve_plan_add_address(struct serve_plan *plan,
			   const struct listen_address *address,
			   struct error *err)
{
	if (plan->address_count == LISTENERS_MAX)
		return error_set(err, E2BIG,
				 "More than %d addresses to listen on",
				 LISTENERS_MAX);
	plan->addresses[plan->address_count++] = *address;
	return 0;
}

int serve_plan_keep(struct serve_plan *plan, struct json_t *value,
		    struct error *err)
{
	if (!plan->texts)
		plan->texts = json_array();
	if (plan->texts && json_array_append_new(plan->texts, value) == 0)
		return 0;
	if (!plan->texts)
		json_decref(value);
	return error_set_errno(err, ENOMEM, "No memory for settings");
}

/* Names of 4096 exports at most: comparing all is done at once. */
static int check_twins(const struct serve_plan *plan, size_t last,
		       struct error *err)
{
	const char *name = plan->exports[last].name;
	struct quoted_name quoted;

	for (size_t i = 0; i < last; i++)
		if (!strcmp(plan->exports[i].name, name))
			return error_set(err, EINVAL,
					 "Two exports are called '%s'",
					 quote_name(&quoted, name));
	return 0;
}

/* More does not fit on the wire. */
static int check_text(const char *text, const char *what, struct error *err)
{
	if (!text || strlen(text) <= NBD_STRING_MAX)
		return 0;
	return error_set(err, EINVAL,
			 "%s '%.32s...' is too long: %zu bytes, allowed are %u",
			 what, text, strlen(text), NBD_STRING_MAX);
}

static int check_export(const struct serve_export *export, struct error *err)
{
	struct quoted_name quoted;
	int ret = check_text(export->name, "Export name", err);

	if (!ret)
		ret = check_text(export->description, "Export description",
				 err);
	if (ret < 0)
		return ret;
	if (export->zeroes == NBD_ZEROES_UNMAP && !export->discard)
		return error_set(err, EINVAL,
				 "Export '%s': detect-zeroes=unmap needs "
				 "discard=unmap",
				 quote_name(&quoted, export->name));
	if (export->resize && (export->read_only || export->max_clients != 1))
		return error_set(err, EINVAL,
				 "Export '%s': to be resized it has to be "
				 "writable and have one client only (shared=1)",
				 quote_name(&quoted, export->name));
	return 0;
}

int serve_plan_check(const struct serve_plan *plan, struct error *err)
{
	int ret = 0;

	for (size_t i = 0; i < plan->export_count && !ret; i++) {
		ret = check_export(&plan->exports[i], err);
		if (!ret)
			ret = check_twins(plan, i, err);
	}
	return ret;
}

int serve_discard_parse(const char *word, bool *out)
{
	bool unmap = !strcmp(word, "unmap") || !strcmp(word, "on");

	if (!unmap && strcmp(word, "ignore") && strcmp(word, "off"))
		return -EINVAL;
	*out = unmap;
	return 0;
}

int serve_zeroes_parse(const char *word, enum nbd_zeroes *out)
{
	static const char *const words[] = {
		[NBD_ZEROES_WRITE] = "off",
		[NBD_ZEROES_ZERO] = "on",
		[NBD_ZEROES_UNMAP] = "unmap",
	};
	int found = WORD_FIND(word, words);

	if (found < 0)
		return -EINVAL;
	*out = (enum nbd_zeroes)found;
	return 0;
}
