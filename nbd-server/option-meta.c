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

/* Takes `prefix` off the query, if it starts like that. */
static bool take_prefix(struct nbd_string *query, const char *prefix)
{
	size_t len = strlen(prefix);

	if (query->len < len || memcmp(query->text, prefix, len))
		return false;
	query->text += len;
	query->len -= (uint32_t)len;
	return true;
}

static bool is_context(struct nbd_string query, struct nbd_context_name name)
{
	return take_prefix(&query, name.start) && is_text(&query, name.rest);
}

/* These mean all that start like them, for listing only. */
static bool is_namespace_of(const struct nbd_string *query,
			    struct nbd_context_name name)
{
	static const char *const spaces[] = {
		"base:", "qemu:", NBD_BITMAP_PREFIX};

	for (size_t i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++)
		if (is_text(query, spaces[i]))
			return !strncmp(name.start, spaces[i],
					strlen(spaces[i]));
	return false;
}

static unsigned context_count(const struct nbd_export *export)
{
	return NBD_CONTEXT_BITMAPS + export->bitmap_count;
}

/* Queries that name nothing we know are passed over. `query` NULL: all. */
static void match(struct nbd_context_set *found,
		  const struct nbd_export *export,
		  const struct nbd_string *query, bool listing)
{
	for (unsigned n = 0; n < context_count(export); n++) {
		struct nbd_context_name name;

		if (!nbd_export_offers(export, n))
			continue;
		name = nbd_export_context_name(export, n);
		if (!query || is_context(*query, name) ||
		    (listing && is_namespace_of(query, name)))
			nbd_context_add(found, n);
	}
}

static void match_all(struct nbd_context_set *found,
		      const struct nbd_export *export,
		      struct nbd_meta_query *meta, bool listing)
{
	struct nbd_string query;

	if (listing && !meta->query_count)
		match(found, export, NULL, listing);
	while (nbd_next_query(meta, &query))
		match(found, export, &query, listing);
}

static int reply_context(struct nbd_connection *con, uint32_t option,
			 const struct nbd_export *export, unsigned context)
{
	struct nbd_context_name name = nbd_export_context_name(export, context);
	size_t start_len = strlen(name.start), rest_len = strlen(name.rest);
	uint8_t data[4 + NBD_STRING_MAX];
	/* Listed contexts have no number yet. */
	be32_t id = be32_make(option == NBD_OPT_SET_META_CONTEXT
				      ? nbd_context_id(context)
				      : 0);

	assert(start_len + rest_len <= NBD_STRING_MAX);
	memcpy(data, &id, sizeof(id));
	memcpy(data + 4, name.start, start_len);
	memcpy(data + 4 + start_len, name.rest, rest_len);
	return nbd_option_reply(con, option, NBD_REP_META_CONTEXT, data,
				(uint32_t)(4 + start_len + rest_len));
}

static int reply_contexts(struct nbd_connection *con, uint32_t option,
			  const struct nbd_export *export,
			  const struct nbd_context_set *found)
{
	unsigned n = nbd_context_next(found, 0);

	for (; n < NBD_CONTEXTS_MAX; n = nbd_context_next(found, n + 1)) {
		int ret = reply_context(con, option, export, n);

		if (ret < 0)
			return ret;
	}
	return nbd_option_reply(con, option, NBD_REP_ACK, NULL, 0);
}

static void select_nothing(struct nbd_connection *con)
{
	con->meta_export = NULL;
	con->meta = (struct nbd_context_set){0};
}

int nbd_option_meta(struct nbd_connection *con, const struct nbd_option *opt)
{
	bool listing = opt->code == NBD_OPT_LIST_META_CONTEXT;
	struct nbd_meta_query meta;
	struct nbd_context_set found = {0};
	struct nbd_export *export;

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
	match_all(&found, export, &meta, listing);
	if (!listing) {
		con->meta_export = export;
		con->meta = found;
	}
	return reply_contexts(con, opt->code, export, &found);
}
