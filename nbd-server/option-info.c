/* SPDX-License-Identifier: BSD-3-Clause */
/* Options that look at exports or choose one (spec: nbd 5 and 6). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/image.h"
#include "block/quote.h"
#include "nbd-server/connection.h"

/* Any request is fine; these are whole pages. */
#define PREFERRED_BLOCK 4096u

/* Contexts that were selected for this export, and no other. */
static bool has_selected(const struct nbd_connection *con,
			 const struct nbd_export *export)
{
	return con->mode != NBD_SIMPLE && con->meta_export == export &&
	       con->meta.count;
}

static uint16_t flags_for(const struct nbd_connection *con,
			  const struct nbd_export *export)
{
	bool payload = con->mode == NBD_EXTENDED && has_selected(con, export);

	return nbd_export_flags(export, con->mode != NBD_SIMPLE, payload);
}

static int reply_info(struct nbd_connection *con, uint32_t option,
		      const void *data, size_t len)
{
	return nbd_option_reply(con, option, NBD_REP_INFO, data, (uint32_t)len);
}

static int reply_text(struct nbd_connection *con, uint32_t option,
		      enum nbd_info_type type, const char *text)
{
	uint8_t data[2 + NBD_STRING_MAX];
	size_t len = strnlen(text, NBD_STRING_MAX);
	be16_t raw = be16_make((uint16_t)type);

	memcpy(data, &raw, sizeof(raw));
	memcpy(data + 2, text, len);
	return reply_info(con, option, data, 2 + len);
}

static int reply_export(struct nbd_connection *con, uint32_t option,
			const struct nbd_export *export)
{
	struct nbd_info_export info = {
		.type = be16_make(NBD_INFO_EXPORT),
		.size_bytes = be64_make(atomic_load(&export->size_bytes)),
		.flags = be16_make(flags_for(con, export)),
	};

	return reply_info(con, option, &info, sizeof(info));
}

static int reply_block_size(struct nbd_connection *con, uint32_t option)
{
	struct nbd_info_block_size info = {
		.type = be16_make(NBD_INFO_BLOCK_SIZE),
		.min = be32_make(1),
		.preferred = be32_make(PREFERRED_BLOCK),
		.max = be32_make(NBD_PAYLOAD_MAX),
	};

	return reply_info(con, option, &info, sizeof(info));
}

static bool wants(const struct nbd_go *go, enum nbd_info_type type)
{
	for (unsigned i = 0; i < go->type_count; i++) {
		be16_t raw;

		memcpy(&raw, go->types + i * sizeof(raw), sizeof(raw));
		if (be16_get(raw) == type)
			return true;
	}
	return false;
}

/* Each kind at most once, whatever was asked. */
static int reply_infos(struct nbd_connection *con, uint32_t option,
		       const struct nbd_export *export, const struct nbd_go *go)
{
	int ret = 0;

	if (wants(go, NBD_INFO_NAME))
		ret = reply_text(con, option, NBD_INFO_NAME, export->name);
	if (!ret && export->description && wants(go, NBD_INFO_DESCRIPTION))
		ret = reply_text(con, option, NBD_INFO_DESCRIPTION,
				 export->description);
	if (!ret)
		ret = reply_export(con, option, export);
	if (!ret)
		ret = reply_block_size(con, option);
	return ret;
}

/* The selection of another export is of no use any more. */
static void choose(struct nbd_connection *con, struct nbd_export *export)
{
	if (!has_selected(con, export))
		con->meta = (struct nbd_context_set){0};
	con->export = export;
}

int nbd_option_go(struct nbd_connection *con, const struct nbd_option *opt)
{
	struct nbd_export *export;
	struct nbd_go go;
	int ret;

	if (!nbd_decode_go(&go, opt->data, opt->len))
		return nbd_option_error(con, opt->code, NBD_REP_ERR_INVALID,
					"malformed request");
	export = nbd_export_find(con->exports, &go.name);
	if (!export)
		return nbd_option_error(con, opt->code, NBD_REP_ERR_UNKNOWN,
					"no such export");
	if (opt->code == NBD_OPT_GO && !nbd_export_enter(export))
		return nbd_option_error(con, opt->code, NBD_REP_ERR_POLICY,
					"too many clients of this export");
	ret = reply_infos(con, opt->code, export, &go);
	if (!ret)
		ret = nbd_option_reply(con, opt->code, NBD_REP_ACK, NULL, 0);
	if (opt->code != NBD_OPT_GO)
		return ret;
	if (ret < 0) {
		nbd_export_leave(export);
		return ret;
	}
	choose(con, export);
	return 1;
}

static int refuse_name(struct nbd_connection *con,
		       const struct nbd_string *name)
{
	char text[QUOTED_NAME_MAX];
	struct quoted_name quoted;

	snprintf(text, sizeof(text), "%.*s", (int)name->len, name->text);
	return nbd_fault(con, -ENOENT, "no export is called '%s'",
			 quote_name(&quoted, text));
}

/* It has no answer that says no: the connection ends instead. */
int nbd_option_export_name(struct nbd_connection *con,
			   const struct nbd_option *opt)
{
	struct nbd_string name = {(const char *)opt->data, opt->len};
	struct nbd_export_reply reply;
	uint8_t zeros[124] = {0};
	struct iovec iov[2] = {
		{&reply, sizeof(reply)},
		{zeros, sizeof(zeros)},
	};
	struct nbd_export *export;
	int ret;

	if (con->mode == NBD_EXTENDED || opt->len > NBD_STRING_MAX)
		return nbd_fault(con, -EPROTO,
				 "EXPORT_NAME with extended headers, or of %u "
				 "bytes",
				 opt->len);
	export = nbd_export_find(con->exports, &name);
	if (!export)
		return refuse_name(con, &name);
	if (!nbd_export_enter(export))
		return nbd_fault(con, -EUSERS, "too many clients of an export");
	reply.size_bytes = be64_make(atomic_load(&export->size_bytes));
	reply.flags = be16_make(flags_for(con, export));
	ret = channel_writev(&con->channel, iov, con->no_zeroes ? 1 : 2);
	if (ret < 0) {
		nbd_export_leave(export);
		return ret;
	}
	choose(con, export);
	return 1;
}

static int reply_server(struct nbd_connection *con,
			const struct nbd_export *export)
{
	uint8_t data[4 + 2 * NBD_STRING_MAX];
	const char *text = export->description ? export->description : "";
	size_t name_len = strnlen(export->name, NBD_STRING_MAX);
	size_t text_len = strnlen(text, NBD_STRING_MAX);
	be32_t raw = be32_make((uint32_t)name_len);

	memcpy(data, &raw, sizeof(raw));
	memcpy(data + 4, export->name, name_len);
	memcpy(data + 4 + name_len, text, text_len);
	return nbd_option_reply(con, NBD_OPT_LIST, NBD_REP_SERVER, data,
				(uint32_t)(4 + name_len + text_len));
}

int nbd_option_list(struct nbd_connection *con, const struct nbd_option *opt)
{
	int ret = 0;

	if (opt->len)
		return nbd_option_error(con, opt->code, NBD_REP_ERR_INVALID,
					"this option has no data");
	for (size_t i = 0; i < con->exports->count && !ret; i++)
		ret = reply_server(con, &con->exports->items[i]);
	if (ret < 0)
		return ret;
	return nbd_option_reply(con, opt->code, NBD_REP_ACK, NULL, 0);
}
