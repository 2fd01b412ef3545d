/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Metadata contexts (spec: nbd 7). A selection belongs to one export, replaces
 * the one before, and is gone when it fails.
 */
#include <string.h>

#include "nbd-server/connection.h"

static bool is_text(const struct nbd_string *query, const char *text)
{
	return strlen(text) == query->len &&
	       !memcmp(text, query->text, query->len);
}

/* "base:", "qemu:" and the like mean all of a namespace, for listing only. */
static bool is_namespace_of(const struct nbd_string *query, const char *name)
{
	return query->len && query->text[query->len - 1] == ':' &&
	       query->len <= strlen(name) &&
	       !memcmp(name, query->text, query->len);
}

/* Queries that name nothing we know are passed over. */
static unsigned match(const struct nbd_string *query, unsigned offered,
		      bool listing)
{
	unsigned found = 0;

	for (unsigned bit = 1; bit <= offered; bit <<= 1) {
		const char *name = nbd_meta_name(bit);

		if ((offered & bit) &&
		    (is_text(query, name) ||
		     (listing && is_namespace_of(query, name))))
			found |= bit;
	}
	return found;
}

static unsigned match_all(struct nbd_meta_query *meta, unsigned offered,
			  bool listing)
{
	struct nbd_string query;
	unsigned found = 0;

	if (listing && !meta->query_count)
		return offered;
	while (nbd_next_query(meta, &query))
		found |= match(&query, offered, listing);
	return found;
}

static int reply_context(struct nbd_connection *con, uint32_t option,
			 unsigned bit)
{
	const char *name = nbd_meta_name(bit);
	size_t len = strlen(name);
	uint8_t data[4 + 64];
	/* Listed contexts have no number yet. */
	be32_t id = be32_make(option == NBD_OPT_SET_META_CONTEXT ? bit : 0);

	assert(len <= 64);
	memcpy(data, &id, sizeof(id));
	memcpy(data + 4, name, len);
	return nbd_option_reply(con, option, NBD_REP_META_CONTEXT, data,
				(uint32_t)(4 + len));
}

static int reply_contexts(struct nbd_connection *con, uint32_t option,
			  unsigned found)
{
	int ret = 0;

	for (unsigned bit = 1; bit <= found && !ret; bit <<= 1)
		if (found & bit)
			ret = reply_context(con, option, bit);
	if (ret < 0)
		return ret;
	return nbd_option_reply(con, option, NBD_REP_ACK, NULL, 0);
}

static void select_nothing(struct nbd_connection *con)
{
	con->meta_export = NULL;
	con->meta = 0;
}

int nbd_option_meta(struct nbd_connection *con, const struct nbd_option *opt)
{
	bool listing = opt->code == NBD_OPT_LIST_META_CONTEXT;
	struct nbd_meta_query meta;
	struct nbd_export *export;
	unsigned found;

	if (!listing)
		select_nothing(con);
	if (!nbd_decode_meta(&meta, opt->data, opt->len))
		return nbd_option_error(con, opt->code, NBD_REP_ERR_INVALID,
					"malformed request");
	if (!listing && con->mode == NBD_SIMPLE)
		return nbd_option_error(con, opt->code, NBD_REP_ERR_INVALID,
					"structured replies come first");
	export = nbd_export_find(con->exports, &meta.name);
	if (!export)
		return nbd_option_error(con, opt->code, NBD_REP_ERR_UNKNOWN,
					"no such export");
	found = match_all(&meta, nbd_export_meta(export), listing);
	if (!listing) {
		con->meta_export = export;
		con->meta = found;
	}
	return reply_contexts(con, opt->code, found);
}
