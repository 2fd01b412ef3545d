/* SPDX-License-Identifier: BSD-3-Clause */
/* What an address has to be, its name, and its form as options. */
#include "block/storage/nbd-address.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "block/error.h"
#include "block/options.h"
#include "block/tls-creds.h"

#define DEFAULT_PORT "10809"
#define DEFAULT_CID  "2" /* the host of a guest */

/* ---- the name ---- */

static bool is_letter_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c >= '0' && c <= '9');
}

static bool is_plain(char c)
{
	return is_letter_or_digit(c) || (c && strchr("-._~/:@+,", c));
}

static void put_encoded(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (is_plain(*text))
			fputc(*text, out);
		else
			fprintf(out, "%%%02X", (unsigned char)*text);
	}
}

static void put_host(FILE *out, const char *host)
{
	bool v6 = strchr(host, ':');

	fprintf(out, v6 ? "[%s]" : "%s", host);
}

/* One spelling for all forms, so that names can be compared. */
static char *make_name(const struct nbd_address *address)
{
	const char *tls = address->tls ? "s" : "";
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	bool bad;

	if (!out)
		return NULL;
	if (address->socket) {
		fprintf(out, "nbd%s+unix:///", tls);
		put_encoded(out, address->export_name);
		fputs("?socket=", out);
		put_encoded(out, address->socket);
	} else {
		fprintf(out, "nbd%s%s://", tls, address->vsock ? "+vsock" : "");
		put_host(out, address->host);
		fprintf(out, ":%s/", address->port);
		put_encoded(out, address->export_name);
	}
	bad = ferror(out);
	if (fclose(out) || bad) {
		free(text);
		return NULL;
	}
	return text;
}

/* ---- checks ---- */

/* Both numbers of a vsock address have 32 bits. */
static bool is_u32(const char *text)
{
	char *end;
	unsigned long long number = strtoull(text, &end, 10);

	return *text >= '0' && *text <= '9' && !*end && number <= UINT32_MAX;
}

static int check_vsock(const struct nbd_address *address, struct error *err)
{
	if (!is_u32(address->host))
		return error_set(err, EINVAL,
				 "The CID of an NBD server is a number of 32 "
				 "bits, not '%s'",
				 address->host);
	if (!is_u32(address->port))
		return error_set(err, EINVAL,
				 "The vsock port of an NBD server is a number "
				 "of 32 bits, not '%s'",
				 address->port);
	return 0;
}

static int check_port(const char *port, struct error *err)
{
	char *end;
	unsigned long number = strtoul(port, &end, 10);

	if (*port >= '0' && *port <= '9' && !*end && number > 0 &&
	    number <= 65535)
		return 0;
	return error_set(err, EINVAL,
			 "'%s' is no port of an NBD server, these go from 1 to "
			 "65535",
			 port);
}

static int check_socket(const char *path, struct error *err)
{
	const size_t max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

	if (!*path)
		return error_set(err, EINVAL,
				 "The path of the NBD server's socket is "
				 "empty");
	if (strlen(path) > max)
		return error_set(err, EINVAL,
				 "The path of the NBD server's socket has %zu "
				 "bytes, at most %zu are possible",
				 strlen(path), max);
	return 0;
}

/* A name or a number; an IPv6 address may have a zone behind a '%'. */
static int check_host(const char *host, struct error *err)
{
	const char *others = strchr(host, ':') ? ".-_:%" : ".-_";

	if (!*host)
		return error_set(err, EINVAL,
				 "The host of the NBD server is missing");
	for (const char *at = host; *at; at++)
		if (!is_letter_or_digit(*at) && !strchr(others, *at))
			return error_set(err, EINVAL,
					 "'%s' is no name of a host", host);
	return 0;
}

static int check_server(struct nbd_address *address, struct error *err)
{
	int ret;

	if (address->socket && (address->host || address->port))
		return error_set(err, EINVAL,
				 "An NBD server has a socket path, or a host "
				 "and a port, not both");
	if (address->socket)
		return check_socket(address->socket, err);
	if (address->vsock && (!address->host || !*address->host)) {
		free(address->host);
		address->host = strdup(DEFAULT_CID);
		if (!address->host)
			return error_set_errno(err, ENOMEM,
					       "reading an NBD address");
	}
	ret = check_host(address->host ? address->host : "", err);
	if (ret)
		return ret;
	if (!address->port)
		address->port = strdup(DEFAULT_PORT);
	if (!address->port)
		return error_set_errno(err, ENOMEM, "reading an NBD address");
	return address->vsock ? check_vsock(address, err)
			      : check_port(address->port, err);
}

static int check_tls(const struct nbd_address *address, struct error *err)
{
	if (address->tls || (!address->tls_certificates &&
			     !address->tls_psk_file && !address->tls_username &&
			     !address->tls_hostname && !address->tls_trust_any))
		return 0;
	return error_set(err, EINVAL,
			 "Credentials are given for an NBD server, but no TLS "
			 "is asked for: that takes nbds:// or nbds+unix://");
}

bool nbd_address_seconds(const char *text, size_t len, unsigned *out)
{
	unsigned value = 0;

	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		value = value * 10 + (unsigned)(text[i] - '0');
		if (value > NBD_TIMEOUT_SECONDS_MAX)
			return false;
	}
	*out = value;
	return len > 0;
}

int nbd_address_finish(struct nbd_address *address, struct error *err)
{
	int ret = check_server(address, err);

	if (!ret)
		ret = check_tls(address, err);
	if (ret)
		return ret;
	if (!address->timeout_seconds)
		address->timeout_seconds = NBD_TIMEOUT_SECONDS;
	if (!address->export_name)
		address->export_name = strdup("");
	if (address->export_name && strlen(address->export_name) > NBD_NAME_MAX)
		return error_set(err, EINVAL,
				 "The name of the NBD export has %zu bytes, at "
				 "most %d are possible",
				 strlen(address->export_name), NBD_NAME_MAX);
	if (address->export_name)
		address->name = make_name(address);
	return address->name
		       ? 0
		       : error_set_errno(err, ENOMEM, "reading an NBD address");
}

/* ---- options ---- */

static int take(struct options *opts, const char *name, char **out,
		struct error *err)
{
	const char *text = options_get(opts, name);

	if (!text)
		return 0;
	free(*out);
	*out = strdup(text);
	if (!*out)
		return error_set_errno(err, ENOMEM, "reading an NBD address");
	options_remove(opts, name);
	return 0;
}

static int take_bool(struct options *opts, const char *name, bool *out,
		     struct error *err)
{
	const char *text = options_get(opts, name);

	if (!text)
		return 0;
	*out = !strcmp(text, "on");
	if (!*out && strcmp(text, "off"))
		return error_set(err, EINVAL,
				 "'%s' has to be on or off, not '%s'", name,
				 text);
	options_remove(opts, name);
	return 0;
}

/* QEMU's way: an object that was described before holds them. */
static int take_creds(struct nbd_address *out, struct options *opts,
		      struct error *err)
{
	const char *id = options_get(opts, "tls-creds");
	const struct tls_creds *creds = id ? tls_creds_find(id) : NULL;

	if (!id)
		return 0;
	if (!creds)
		return error_set(err, ENOENT, "No TLS credentials with id '%s'",
				 id);
	if (creds->kind == TLS_CREDS_OTHER)
		return error_set(err, EINVAL,
				 "Object with id '%s' is not TLS credentials",
				 id);
	if (creds->is_server)
		return error_set(err, EINVAL,
				 "Expected TLS credentials for a client "
				 "endpoint");
	if (out->tls_certificates || out->tls_psk_file || out->tls_username)
		return error_set(err, EINVAL,
				 "Credentials are given by 'tls-creds' and by "
				 "other options as well");
	out->tls = true;
	out->tls_trust_any |= !creds->verify_peer;
	if (creds->kind == TLS_CREDS_X509) {
		out->tls_certificates = strdup(creds->dir);
	} else {
		if (asprintf(&out->tls_psk_file, "%s/keys.psk", creds->dir) < 0)
			out->tls_psk_file = NULL;
		out->tls_username = strdup(creds->username);
	}
	if (!out->tls_certificates &&
	    (!out->tls_psk_file || !out->tls_username))
		return error_set_errno(err, ENOMEM, "reading an NBD address");
	options_remove(opts, "tls-creds");
	return 0;
}

static int take_seconds(struct options *opts, const char *name, unsigned min,
			unsigned *out, struct error *err)
{
	const char *text = options_get(opts, name);

	if (!text)
		return 0;
	if (!nbd_address_seconds(text, strlen(text), out) || *out < min)
		return error_set(err, EINVAL,
				 "Parameter '%s' expects a number of seconds "
				 "from %u to %u",
				 name, min, NBD_TIMEOUT_SECONDS_MAX);
	options_remove(opts, name);
	return 0;
}

/* QEMU's words. What it calls reconnecting would send writes again. */
static int take_times(struct nbd_address *out, struct options *opts,
		      struct error *err)
{
	unsigned reconnect = 0;
	int ret = take_seconds(opts, "timeout", 1, &out->timeout_seconds, err);

	if (!ret)
		ret = take_seconds(opts, "open-timeout", 0,
				   &out->open_timeout_seconds, err);
	if (!ret)
		ret = take_seconds(opts, "reconnect-delay", 0, &reconnect, err);
	if (!ret && reconnect)
		return error_set(err, ENOTSUP,
				 "Only 'reconnect-delay=0' is supported: a "
				 "connection that breaks is not made again, as "
				 "nobody knows which writes were kept");
	return ret;
}

static int check_type(const char *type, const struct nbd_address *address,
		      struct error *err)
{
	if (address->vsock && (!type || strcmp(type, "vsock")))
		return error_set(err, EINVAL,
				 "'server.cid' belongs to the server type "
				 "'vsock'");
	if (!type || (!strcmp(type, "unix") && !address->host) ||
	    (!strcmp(type, "inet") && !address->socket) || address->vsock)
		return 0;
	if (!strcmp(type, "unix") || !strcmp(type, "inet") ||
	    !strcmp(type, "vsock"))
		return error_set(err, EINVAL,
				 "The options of the NBD server do not belong "
				 "to the server type '%s'",
				 type);
	return error_set(err, ENOTSUP,
			 "The server type '%s' is not supported, only 'unix', "
			 "'inet' and 'vsock' are",
			 type);
}

/* Several names: QEMU had the shorter ones first. */
static int take_all(struct nbd_address *out, struct options *opts,
		    struct error *err)
{
	const struct {
		const char *name;
		char **to;
	} texts[] = {
		{"path", &out->socket},
		{"server.path", &out->socket},
		{"host", &out->host},
		{"server.host", &out->host},
		{"port", &out->port},
		{"server.port", &out->port},
		{"export", &out->export_name},
		{"tls-certificates", &out->tls_certificates},
		{"tls-psk-file", &out->tls_psk_file},
		{"tls-username", &out->tls_username},
		{"tls-hostname", &out->tls_hostname},
	};
	bool verify = true;
	int ret;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		ret = take(opts, texts[i].name, texts[i].to, err);
		if (ret)
			return ret;
	}
	ret = take_bool(opts, "tls", &out->tls, err);
	if (!ret)
		ret = take_bool(opts, "tls-verify-peer", &verify, err);
	out->tls_trust_any = !verify;
	if (!ret)
		ret = take_creds(out, opts, err);
	return ret ? ret : take_times(out, opts, err);
}

static int take_cid(struct nbd_address *out, struct options *opts,
		    struct error *err)
{
	out->vsock = options_get(opts, "server.cid") != NULL;
	if (out->vsock && options_get(opts, "server.host"))
		return error_set(err, EINVAL,
				 "An NBD server has a host or a CID, not both");
	return take(opts, "server.cid", &out->host, err);
}

int nbd_address_take(struct nbd_address *out, struct options *opts,
		     struct error *err)
{
	char *type = NULL;
	int ret;

	*out = (struct nbd_address){0};
	ret = take(opts, "server.type", &type, err);
	if (!ret)
		ret = take_cid(out, opts, err);
	if (!ret)
		ret = take_all(out, opts, err);
	if (!ret)
		ret = check_type(type, out, err);
	if (!ret)
		ret = nbd_address_finish(out, err);
	free(type);
	if (ret)
		nbd_address_release(out);
	return ret;
}

/* ---- life ---- */

static bool copy_text(char **out, const char *from)
{
	*out = from ? strdup(from) : NULL;
	return *out || !from;
}

int nbd_address_copy(struct nbd_address *out, const struct nbd_address *from)
{
	*out = (struct nbd_address){
		.timeout_seconds = from->timeout_seconds,
		.open_timeout_seconds = from->open_timeout_seconds,
		.vsock = from->vsock,
		.tls = from->tls,
		.tls_trust_any = from->tls_trust_any,
	};
	if (copy_text(&out->name, from->name) &&
	    copy_text(&out->socket, from->socket) &&
	    copy_text(&out->host, from->host) &&
	    copy_text(&out->port, from->port) &&
	    copy_text(&out->export_name, from->export_name) &&
	    copy_text(&out->tls_certificates, from->tls_certificates) &&
	    copy_text(&out->tls_psk_file, from->tls_psk_file) &&
	    copy_text(&out->tls_username, from->tls_username) &&
	    copy_text(&out->tls_hostname, from->tls_hostname))
		return 0;
	nbd_address_release(out);
	return -ENOMEM;
}

void nbd_address_release(struct nbd_address *address)
{
	free(address->name);
	free(address->socket);
	free(address->host);
	free(address->port);
	free(address->export_name);
	free(address->tls_certificates);
	free(address->tls_psk_file);
	free(address->tls_username);
	free(address->tls_hostname);
	*address = (struct nbd_address){0};
}
