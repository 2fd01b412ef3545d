/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The handshake (spec: nbd 2 to 5). Nothing is read ahead: what follows an
 * option stays in the socket until the option is answered, so that no byte
 * that came in the clear is ever taken for an enciphered one.
 *
 * An option's data is read whole, or the connection ends, before the option is
 * looked at: so answers and options never get out of step.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/clock.h"
#include "block/error.h"
#include "nbd-server/connection.h"
#include "nbd-server/log.h"

int nbd_option_reply(struct nbd_connection *con, uint32_t option, uint32_t type,
		     const void *data, uint32_t len)
{
	struct nbd_option_reply head = {
		.magic = be64_make(NBD_OPTION_REPLY_MAGIC),
		.option = be32_make(option),
		.type = be32_make(type),
		.len = be32_make(len),
	};
	struct iovec iov[2] = {
		{&head, sizeof(head)},
		/* A vector has no const; nothing is written through it. */
		{(void *)(uintptr_t)data, len},
	};

	return channel_writev(&con->channel, iov, len ? 2 : 1);
}

int nbd_option_error(struct nbd_connection *con, uint32_t option, uint32_t type,
		     const char *text)
{
	return nbd_option_reply(con, option, type, text,
				(uint32_t)strnlen(text, NBD_STRING_MAX));
}

static int greet(struct nbd_connection *con)
{
	struct nbd_greeting greeting = {
		.magic = be64_make(NBD_MAGIC),
		.option_magic = be64_make(NBD_OPTION_MAGIC),
		.flags =
			be16_make(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES),
	};
	be32_t raw;
	uint32_t flags;
	int ret;

	ret = channel_write(&con->channel, &greeting, sizeof(greeting));
	if (!ret)
		ret = channel_read(&con->channel, &raw, sizeof(raw));
	if (ret < 0)
		return ret;
	flags = be32_get(raw);
	if (flags & ~(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES))
		return nbd_fault(con, -EPROTO, "client flags are 0x%x", flags);
	con->fixed_newstyle = flags & NBD_FLAG_FIXED_NEWSTYLE;
	con->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
	return 0;
}

static int read_option(struct nbd_connection *con, struct nbd_option *opt)
{
	struct nbd_option_header head;
	int ret = channel_read(&con->channel, &head, sizeof(head));

	if (ret < 0)
		return ret;
	if (be64_get(head.magic) != NBD_OPTION_MAGIC)
		return nbd_fault(con, -EPROTO, "magic of an option is 0x%llx",
				 (unsigned long long)be64_get(head.magic));
	opt->code = be32_get(head.option);
	opt->len = be32_get(head.len);
	if (opt->len > NBD_OPTION_MAX)
		return nbd_fault(con, -EPROTO,
				 "option %u has %u bytes, allowed are %u",
				 opt->code, opt->len, NBD_OPTION_MAX);
	return channel_read(&con->channel, opt->data, opt->len);
}

/* The options that only change how replies look. */
static int change_mode(struct nbd_connection *con, const struct nbd_option *opt,
		       enum nbd_reply_mode mode)
{
	if (opt->len)
		return nbd_option_error(con, opt->code, NBD_REP_ERR_INVALID,
					"this option has no data");
	if (mode == NBD_STRUCTURED && con->mode == NBD_EXTENDED)
		return nbd_option_error(con, opt->code,
					NBD_REP_ERR_EXT_HEADER_REQD,
					"extended headers are on already");
	con->mode = mode;
	return nbd_option_reply(con, opt->code, NBD_REP_ACK, NULL, 0);
}

static int shake_hands(struct nbd_connection *con)
{
	struct error err = {0};
	int ret = channel_start_tls(&con->channel, con->tls, &err);
	bool ended = ret == -ECONNRESET || ret == -EPIPE;

	/* Whoever is cut off because the server stops has done no wrong. */
	if (ret < 0 && !(ended && atomic_load(con->stopping))) {
		con->tls_failed = true;
		nbd_fault(con, ret, "%s", err.message);
	}
	return ret;
}

/* What was agreed in the clear may be somebody else's word: forget it. */
static int start_tls(struct nbd_connection *con, const struct nbd_option *opt)
{
	int ret;

	if (opt->len)
		return nbd_option_error(con, opt->code, NBD_REP_ERR_INVALID,
					"this option has no data");
	if (con->channel.tls)
		return nbd_option_error(con, opt->code, NBD_REP_ERR_INVALID,
					"TLS is on already");
	if (!con->tls)
		return nbd_option_error(con, opt->code, NBD_REP_ERR_POLICY,
					"TLS is not configured here");
	con->mode = NBD_SIMPLE;
	con->meta_export = NULL;
	con->meta = (struct nbd_context_set){0};
	ret = nbd_option_reply(con, opt->code, NBD_REP_ACK, NULL, 0);
	return ret < 0 ? ret : shake_hands(con);
}

static bool lacks_tls(const struct nbd_connection *con, uint32_t code)
{
	return con->tls_required && !con->channel.tls &&
	       code != NBD_OPT_STARTTLS && code != NBD_OPT_ABORT;
}

/* 0: the next one; 1: con->export is chosen; 2: the client leaves. */
static int serve_option(struct nbd_connection *con,
			const struct nbd_option *opt)
{
	if (atomic_load(con->stopping) && opt->code != NBD_OPT_ABORT)
		return nbd_option_error(con, opt->code, NBD_REP_ERR_SHUTDOWN,
					"the server is stopping");
	if (lacks_tls(con, opt->code)) {
		if (opt->code == NBD_OPT_EXPORT_NAME)
			/* It has no answer for this. */
			return nbd_fault(con, -EPROTO, "TLS is required");
		return nbd_option_error(con, opt->code, NBD_REP_ERR_TLS_REQD,
					"TLS is required here");
	}
	switch (opt->code) {
	case NBD_OPT_EXPORT_NAME:
		return nbd_option_export_name(con, opt);
	case NBD_OPT_ABORT:
		/* The client may be gone already, and that is fine. */
		nbd_option_reply(con, opt->code, NBD_REP_ACK, NULL, 0);
		return 2;
	case NBD_OPT_LIST:
		return nbd_option_list(con, opt);
	case NBD_OPT_STARTTLS:
		return start_tls(con, opt);
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		return nbd_option_go(con, opt);
	case NBD_OPT_STRUCTURED_REPLY:
		return change_mode(con, opt, NBD_STRUCTURED);
	case NBD_OPT_EXTENDED_HEADERS:
		return change_mode(con, opt, NBD_EXTENDED);
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		return nbd_option_meta(con, opt);
	default:
		return nbd_option_error(con, opt->code, NBD_REP_ERR_UNSUP,
					"unknown option");
	}
}

/* Clients that did not say so do not know answers to options. */
static bool is_allowed(const struct nbd_connection *con,
		       const struct nbd_option *opt)
{
	return con->fixed_newstyle || opt->code == NBD_OPT_EXPORT_NAME;
}

static int haggle(struct nbd_connection *con, struct nbd_option *opt)
{
	for (;;) {
		int ret = read_option(con, opt);

		if (ret < 0)
			return ret;
		if (!is_allowed(con, opt))
			return nbd_fault(con, -EPROTO,
					 "option %u of a client that is not "
					 "fixed newstyle",
					 opt->code);
		ret = serve_option(con, opt);
		if (ret)
			return ret < 0 ? ret : ret - 1;
	}
}

int nbd_negotiate(struct nbd_connection *con)
{
	struct nbd_option opt = {.data = malloc(NBD_OPTION_MAX)};
	int ret;

	if (!opt.data)
		return -ENOMEM;
	con->channel.deadline_ms = clock_now_ms() + con->limits->handshake_ms;
	ret = greet(con);
	if (!ret)
		ret = haggle(con, &opt);
	con->channel.deadline_ms = 0;
	free(opt.data);
	return ret;
}
