/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a server is to do, as people write it: a configuration file and, in the
 * same bytes, one export in words. What is accepted keeps to the limits, and
 * all of its texts stay.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "cli/serve-config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_deadline(unsigned ms)
{
	assert(ms >= 1000 && ms <= SERVE_DEADLINE_MAX * 1000u &&
	       ms % 1000 == 0);
}

/* Each text is looked at whole, so that one that has gone is noticed. */
static void check_text(const char *text)
{
	assert(!text || strlen(text) < SIZE_MAX);
}

static void check_export(const struct serve_export *export)
{
	assert(export->name && export->image.name);
	check_text(export->name);
	check_text(export->image.name);
	check_text(export->image.format);
	check_text(export->description);
	assert(export->max_clients <= SERVE_CLIENTS_MAX);
	assert((unsigned)export->zeroes <= NBD_ZEROES_UNMAP);
	assert((unsigned)export->image.cache <= CACHE_UNSAFE);
}

static void check_address(const struct listen_address *address)
{
	check_text(address->name);
	assert(!address->port);
	assert((address->kind == LISTEN_UNIX) ? address->name != NULL : true);
	assert(address->kind != LISTEN_TCP || address->number <= UINT16_MAX);
}

static void check_plan(const struct serve_plan *plan)
{
	struct error err = {0};

	assert(plan->export_count <= SERVE_EXPORTS_MAX);
	assert(plan->address_count <= LISTENERS_MAX);
	assert(plan->max_clients && plan->max_clients <= SERVE_CLIENTS_MAX);
	assert(plan->threads <= SERVE_THREADS_MAX);
	check_deadline(plan->limits.handshake_ms);
	check_deadline(plan->limits.stall_ms);
	check_text(plan->pid_file);
	check_text(plan->tls_words.mode);
	check_text(plan->tls_words.certificates);
	check_text(plan->tls_words.psk_file);
	for (size_t i = 0; i < plan->tls_words.names.count; i++)
		check_text(plan->tls_words.names.items[i]);
	for (size_t i = 0; i < plan->export_count; i++)
		check_export(&plan->exports[i]);
	for (size_t i = 0; i < plan->address_count; i++)
		check_address(&plan->addresses[i]);
	assert(!serve_plan_check(plan, &err) || err.message[0]);
}

static void try_file(const char *text, size_t size)
{
	struct serve_plan plan;
	struct error err = {0};

	serve_plan_init(&plan);
	if (serve_config_parse(&plan, text, size, &err) == 0)
		assert(!err.code);
	else
		assert(err.code && err.message[0] &&
		       !strchr(err.message, '\n'));
	check_plan(&plan);
	serve_plan_release(&plan);
}

static void try_words(const char *text)
{
	struct serve_plan plan;
	struct error err = {0};

	serve_plan_init(&plan);
	if (serve_config_add_export(&plan, &serve_export_default, text, &err)) {
		assert(err.code && err.message[0]);
		assert(!plan.export_count);
	} else {
		assert(!err.code && plan.export_count == 1);
		assert(!strncmp(plan.exports[0].name, text,
				strlen(plan.exports[0].name)));
	}
	check_plan(&plan);
	serve_plan_release(&plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	try_file(text, size);
	try_words(text);
	free(text);
	return 0;
}
