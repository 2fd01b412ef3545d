/* SPDX-License-Identifier: BSD-3-Clause */
/* Lines about the clients of a server: see serve-log.h. */
#include "cli/serve-log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "block/quote.h"
#include "cli/json.h"
#include "cli/message.h"
#include "nbd-server/export.h"
#include "nbd-server/peer.h"

#define WHO_MAX 256

int serve_log_word(const char *word, enum serve_log *out)
{
	bool json = !strcmp(word, "json");

	if (!json && *word && strcmp(word, "text"))
		return -EINVAL;
	*out = json ? SERVE_LOG_JSON : SERVE_LOG_TEXT;
	return 0;
}

/* ---- lines ---- */

/*
 * Only where that has not to wait: a pipe with any room takes PIPE_BUF bytes at
 * once. A line that is longer is not told.
 */
static bool print(const char *name, const char *between, const char *line)
{
	struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};
	char text[PIPE_BUF];
	int len = snprintf(text, sizeof(text), "%s%s%s\n", name, between, line);

	return len > 0 && (size_t)len < sizeof(text) && poll(&fd, 1, 0) > 0 &&
	       (fd.revents & POLLOUT) && dprintf(fd.fd, "%s", text) == len;
}

static bool print_text(const char *line)
{
	return print(program_invocation_short_name, ": ", line);
}

static bool print_json(const char *line)
{
	return print("", "", line);
}

static const char *end_name(enum nbd_end end)
{
	static const char *const names[] = {
		[NBD_END_DISCONNECT] = "disconnect",
		[NBD_END_EOF] = "eof",
		[NBD_END_PROTOCOL] = "protocol",
		[NBD_END_DEADLINE] = "deadline",
		[NBD_END_STOP] = "stop",
		[NBD_END_ERROR] = "error",
	};

	return names[end];
}

static const char *end_text(enum nbd_end end)
{
	static const char *const texts[] = {
		[NBD_END_DISCONNECT] = "it disconnected",
		[NBD_END_EOF] = "it closed the connection",
		[NBD_END_PROTOCOL] = "it broke the protocol",
		[NBD_END_DEADLINE] = "it took too long",
		[NBD_END_STOP] = "the server stops",
		[NBD_END_ERROR] = "it could not be served",
	};

	return texts[end];
}

/* ---- text ---- */

static void tell_left(struct nbd_log *log, const char *who,
		      const struct nbd_event *event)
{
	char read[SIZE_TEXT_MAX], written[SIZE_TEXT_MAX];

	nbd_log_client(log, who,
		       "left, %s%s%s%s; %llu.%03u s, %llu requests, %s read, "
		       "%s written",
		       end_text(event->end), event->cause ? " (" : "",
		       event->cause ? event->cause : "",
		       event->cause ? ")" : "",
		       (unsigned long long)event->duration_ms / 1000,
		       (unsigned)(event->duration_ms % 1000),
		       (unsigned long long)event->tally.requests,
		       size_text(read, event->tally.read_bytes),
		       size_text(written, event->tally.written_bytes));
}

static void tell_text(void *opaque, const struct nbd_event *event)
{
	struct serve_logger *logger = opaque;
	struct quoted_name quoted;
	char who[WHO_MAX];

	snprintf(who, sizeof(who), "%llu (%s)",
		 (unsigned long long)event->client, event->peer->text);
	switch (event->kind) {
	case NBD_CLIENT_CAME:
		nbd_log_client(&logger->log, who, "connected");
		break;
	case NBD_CLIENT_CHOSE:
		nbd_log_client(&logger->log, who, "chose export '%s'",
			       quote_name(&quoted, event->export->name));
		break;
	case NBD_CLIENT_LEFT:
		tell_left(&logger->log, who, event);
		break;
	}
}

/* Nobody asked for a log, but a key that is wrong has to be found. */
static void tell_refused(void *opaque, const struct nbd_event *event)
{
	struct serve_logger *logger = opaque;

	if (event->tls_failed)
		nbd_log_client(&logger->log, event->peer->text, "%s",
			       event->cause);
}

/* ---- JSON ---- */

static void set_count(json_t *object, const char *key, uint64_t count)
{
	json_object_set_new(object, key, json_integer((json_int_t)count));
}

static void set_peer(json_t *object, const struct nbd_peer *peer)
{
	json_object_set_new(object, "peer", json_text(peer->text));
	if (!peer->is_process)
		return;
	set_count(object, "pid", (uint64_t)peer->pid);
	set_count(object, "uid", peer->uid);
	set_count(object, "gid", peer->gid);
}

static void set_end(json_t *object, const struct nbd_event *event)
{
	json_object_set_new(object, "why", json_string(end_name(event->end)));
	if (event->cause)
		json_object_set_new(object, "cause", json_text(event->cause));
	json_object_set_new(object, "seconds",
			    json_real((double)event->duration_ms / 1000));
	set_count(object, "requests", event->tally.requests);
	set_count(object, "bytes-read", event->tally.read_bytes);
	set_count(object, "bytes-written", event->tally.written_bytes);
}

static json_t *event_json(const struct nbd_event *event)
{
	static const char *const names[] = {
		[NBD_CLIENT_CAME] = "connected",
		[NBD_CLIENT_CHOSE] = "export",
		[NBD_CLIENT_LEFT] = "left",
	};
	json_t *object = json_object();

	json_object_set_new(object, "event", json_string(names[event->kind]));
	set_count(object, "time", (uint64_t)time(NULL));
	set_count(object, "client", event->client);
	set_peer(object, event->peer);
	if (event->export)
		json_object_set_new(object, "export",
				    json_text(event->export->name));
	if (event->kind == NBD_CLIENT_LEFT)
		set_end(object, event);
	return object;
}

/* The caller's to free; NULL: no memory. */
static char *json_line(const json_t *object)
{
	return json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII);
}

/*
 * Keys that there is no memory for are left out. A name of an export may be too
 * long for a line; then it is shown as for people, cut.
 */
static void tell_json(void *opaque, const struct nbd_event *event)
{
	struct serve_logger *logger = opaque;
	json_t *object = event_json(event);
	char *line = json_line(object);
	struct quoted_name quoted;

	if (line && strlen(line) >= PIPE_BUF - 1 && event->export) {
		free(line);
		json_object_set_new(
			object, "export",
			json_text(quote_name(&quoted, event->export->name)));
		line = json_line(object);
	}
	nbd_log_line(&logger->log, line ? line : "{\"event\":\"no-memory\"}");
	free(line);
	json_decref(object);
}

/* ---- both ---- */

void serve_logger_init(struct serve_logger *logger, enum serve_log how)
{
	bool json = how == SERVE_LOG_JSON;

	nbd_log_init(&logger->log, json ? print_json : print_text);
	logger->observer = (struct nbd_observer){tell_refused, logger};
	if (how == SERVE_LOG_NONE)
		return;
	logger->observer.tell = json ? tell_json : tell_text;
	logger->log.burst = NBD_LOG_BURST;
	if (json) {
		logger->log.more[0] = "{\"event\":\"left-out\",\"lines\":";
		logger->log.more[1] = "}";
	}
}

void serve_logger_release(struct serve_logger *logger)
{
	nbd_log_release(&logger->log);
}
