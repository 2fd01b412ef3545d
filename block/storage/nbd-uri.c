/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Names of NBD exports as one text: URIs, and the forms that QEMU had before.
 *
 * A URI is taken apart first and decoded afterwards, part by part, so that an
 * encoded separator is none. A byte 0 or a bad escape is an error, and so is a
 * query that is not known: it may be a misspelt one that asks for more safety.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/storage/nbd-address.h"

static const struct scheme {
	const char *word;
	bool is_unix, tls, vsock;
} schemes[] = {
	{"nbd+vsock", false, false, true}, {"nbds+vsock", false, true, true},
	{"nbd", false, false, false},	   {"nbd+tcp", false, false, false},
	{"nbds", false, true, false},	   {"nbd+unix", true, false, false},
	{"nbds+unix", true, true, false},
};

static const struct scheme *find_scheme(const char *text)
{
	size_t len = strcspn(text, ":/");

	if (text[len] != ':')
		return NULL;
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (strlen(schemes[i].word) == len &&
		    !memcmp(schemes[i].word, text, len))
			return &schemes[i];
	return NULL;
}

bool nbd_address_is(const char *text)
{
	return find_scheme(text) != NULL;
}

/* ---- parts ---- */

/* A part of the text; its bytes are not copied. */
struct span {
	const char *at;
	size_t len;
};

static bool span_is(struct span span, const char *word)
{
	return strlen(word) == span.len && !memcmp(word, span.at, span.len);
}

/* Cuts at the first of `stops`, which is left at the start of the rest. */
static struct span cut(const char **text, const char *stops)
{
	struct span span = {*text, strcspn(*text, stops)};

	*text += span.len;
	return span;
}

static int no_memory(struct error *err)
{
	return error_set_errno(err, ENOMEM, "reading an NBD address");
}

/* Takes the place of what was there. */
static int copy_span(char **out, struct span span, struct error *err)
{
	free(*out);
	*out = strndup(span.at, span.len);
	return *out ? 0 : no_memory(err);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte of the escape at `at`, which ends before `end`; 0: it is bad. */
static int escaped_byte(const char *at, const char *end)
{
	int high, low;

	if (end - at < 3)
		return 0;
	high = hex_digit(at[1]);
	low = hex_digit(at[2]);
	return high < 0 || low < 0 ? 0 : high * 16 + low;
}

static int decode(char **out, struct span span, struct error *err)
{
	const char *at = span.at, *end = span.at + span.len;
	char *to;

	free(*out);
	*out = to = malloc(span.len + 1);
	if (!to)
		return no_memory(err);
	while (at < end) {
		int byte = (unsigned char)*at;

		if (*at == '%')
			byte = escaped_byte(at, end);
		if (!byte)
			return error_set(err, EINVAL,
					 "The URI has an escape that stands "
					 "for no byte: '%.*s'",
					 (int)(end - at < 3 ? end - at : 3),
					 at);
		at += *at == '%' ? 3 : 1;
		*to++ = (char)byte;
	}
	*to = '\0';
	return 0;
}

/* ---- the authority: [user@]host[:port] ---- */

static int parse_port(struct nbd_address *out, struct span rest,
		      struct error *err)
{
	if (rest.len == 0)
		return 0;
	if (*rest.at != ':')
		return error_set(err, EINVAL,
				 "The URI has '%.*s' where the port begins",
				 (int)rest.len, rest.at);
	/* "host:" is the host with the port that is usual. */
	if (rest.len == 1)
		return 0;
	return copy_span(&out->port, (struct span){rest.at + 1, rest.len - 1},
			 err);
}

static int parse_host(struct nbd_address *out, struct span part,
		      struct error *err)
{
	const char *end = part.at + part.len, *stop;
	int ret;

	if (part.len && *part.at == '[') {
		stop = memchr(part.at, ']', part.len);
		if (!stop)
			return error_set(err, EINVAL,
					 "The URI has '[' without ']'");
		ret = copy_span(&out->host,
				(struct span){part.at + 1,
					      (size_t)(stop - part.at) - 1},
				err);
		stop++;
	} else {
		stop = memchr(part.at, ':', part.len);
		stop = stop ? stop : end;
		ret = decode(&out->host,
			     (struct span){part.at, (size_t)(stop - part.at)},
			     err);
	}
	return ret ? ret
		   : parse_port(out, (struct span){stop, (size_t)(end - stop)},
				err);
}

static int parse_authority(struct nbd_address *out, const struct scheme *scheme,
			   struct span part, struct error *err)
{
	const char *at = memchr(part.at, '@', part.len);

	if (at) {
		int ret = decode(&out->tls_username,
				 (struct span){part.at, (size_t)(at - part.at)},
				 err);

		if (ret)
			return ret;
		part.len -= (size_t)(at - part.at) + 1;
		part.at = at + 1;
	}
	if (!scheme->is_unix)
		return parse_host(out, part, err);
	if (part.len)
		return error_set(err, EINVAL,
				 "A URI of a Unix socket has no host: three "
				 "slashes follow '%s:'",
				 scheme->word);
	return 0;
}

/* ---- the query: key=value&... ---- */

static int set_verify(struct nbd_address *out, struct span value,
		      struct error *err)
{
	out->tls_trust_any = span_is(value, "0") || span_is(value, "false");
	if (out->tls_trust_any || span_is(value, "1") || span_is(value, "true"))
		return 0;
	return error_set(err, EINVAL,
			 "tls-verify-peer has to be 0 or 1, not '%.*s'",
			 (int)value.len, value.at);
}

static int set_seconds(struct span key, struct span value, unsigned min,
		       unsigned *out, struct error *err)
{
	if (nbd_address_seconds(value.at, value.len, out) && *out >= min)
		return 0;
	return error_set(err, EINVAL,
			 "%.*s has to be a number of seconds from %u to %u, "
			 "not '%.*s'",
			 (int)key.len, key.at, min, NBD_TIMEOUT_SECONDS_MAX,
			 (int)value.len, value.at);
}

static int set_query(struct nbd_address *out, const struct scheme *scheme,
		     struct span key, struct span value, struct error *err)
{
	if (span_is(key, "socket") && scheme->is_unix)
		return decode(&out->socket, value, err);
	if (span_is(key, "tls-certificates"))
		return decode(&out->tls_certificates, value, err);
	if (span_is(key, "tls-psk-file"))
		return decode(&out->tls_psk_file, value, err);
	if (span_is(key, "tls-username"))
		return decode(&out->tls_username, value, err);
	if (span_is(key, "tls-hostname"))
		return decode(&out->tls_hostname, value, err);
	if (span_is(key, "tls-verify-peer"))
		return set_verify(out, value, err);
	if (span_is(key, "timeout"))
		return set_seconds(key, value, 1, &out->timeout_seconds, err);
	if (span_is(key, "open-timeout"))
		return set_seconds(key, value, 0, &out->open_timeout_seconds,
				   err);
	return error_set(err, EINVAL,
			 "The query '%.*s' is not known in a URI that begins "
			 "with '%s:'",
			 (int)key.len, key.at, scheme->word);
}

static int parse_query(struct nbd_address *out, const struct scheme *scheme,
		       const char *text, struct error *err)
{
	int ret = 0;

	while (*text && !ret) {
		struct span key, value = {"", 0};

		text++;
		key = cut(&text, "=&;");
		if (*text == '=') {
			text++;
			value = cut(&text, "&;");
		}
		if (key.len || value.len)
			ret = set_query(out, scheme, key, value, err);
	}
	return ret;
}

/* ---- the forms ---- */

static int parse_uri(struct nbd_address *out, const struct scheme *scheme,
		     const char *text, struct error *err)
{
	struct span authority, path;
	int ret;

	text += strlen(scheme->word) + strlen("://");
	authority = cut(&text, "/?#");
	path = cut(&text, "?#");
	if (strchr(text, '#'))
		return error_set(err, EINVAL,
				 "A URI of an NBD export has no fragment, a "
				 "'#' in a name is written as %%23");
	/* One slash divides the parts, a second one belongs to the name. */
	if (path.len)
		path = (struct span){path.at + 1, path.len - 1};
	out->tls = scheme->tls;
	out->vsock = scheme->vsock;
	ret = parse_authority(out, scheme, authority, err);
	if (!ret)
		ret = decode(&out->export_name, path, err);
	if (!ret)
		ret = parse_query(out, scheme, text, err);
	if (!ret && scheme->is_unix && !out->socket)
		ret = error_set(err, EINVAL,
				"The URI names no socket: ?socket=PATH");
	return ret;
}

/* nbd:unix:PATH and nbd:HOST:PORT; nothing is encoded in them. */
static int parse_old_form(struct nbd_address *out, const char *text,
			  struct error *err)
{
	static const char unix_word[] = "unix:", export_word[] = ":exportname=";
	const char *name;
	struct span server;
	int ret = 0;

	text += strlen("nbd:");
	name = strstr(text, export_word);
	server = (struct span){text,
			       name ? (size_t)(name - text) : strlen(text)};
	if (name) {
		name += strlen(export_word);
		ret = copy_span(&out->export_name,
				(struct span){name, strlen(name)}, err);
	}
	if (ret)
		return ret;
	if (!strncmp(server.at, unix_word, strlen(unix_word)))
		return copy_span(&out->socket,
				 (struct span){server.at + strlen(unix_word),
					       server.len - strlen(unix_word)},
				 err);
	ret = parse_host(out, server, err);
	if (!ret && !out->port)
		ret = error_set(err, EINVAL,
				"The port of the NBD server is missing: "
				"nbd:HOST:PORT");
	return ret;
}

int nbd_address_parse(struct nbd_address *out, const char *text,
		      struct error *err)
{
	const struct scheme *scheme = find_scheme(text);
	int ret;

	*out = (struct nbd_address){0};
	if (!scheme)
		return error_set(err, EINVAL,
				 "This is no name of an NBD "
				 "export");
	if (!strncmp(text + strlen(scheme->word), "://", 3))
		ret = parse_uri(out, scheme, text, err);
	else if (!strcmp(scheme->word, "nbd"))
		ret = parse_old_form(out, text, err);
	else
		ret = error_set(err, EINVAL,
				"'%s:' wants two slashes behind it",
				scheme->word);
	if (!ret)
		ret = nbd_address_finish(out, err);
	if (ret)
		nbd_address_release(out);
	return ret;
}
