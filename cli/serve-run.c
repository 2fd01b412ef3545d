/* SPDX-License-Identifier: BSD-3-Clause */
/* Carrying out a plan to serve: see serve-run.h. */
#include "cli/serve-run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "block/error.h"
#include "cli/command.h"
#include "cli/guard.h"
#include "cli/listen.h"
#include "cli/message.h"
#include "cli/notify.h"
#include "cli/serve-exports.h"
#include "cli/serve-log.h"
#include "nbd-server/server.h"

#define STOP_MS 3000

struct service {
	const struct serve_plan *plan;
	struct nbd_exports exports;
	struct listeners listeners;
	struct notify notify;
	struct tls_context *tls;
	struct serve_logger logger;
	int signal_fd;
	int ready_fd;	   /* tells the parent of --fork; -1: there is none */
	bool has_pid_file; /* ours to remove */
};

/* ---- where to listen ---- */

/* Before any fork: they are handed to a process number, that is to us. */
static bool take_sockets(struct service *service)
{
	const struct serve_plan *plan = service->plan;
	struct error err = {0};

	if (notify_open(&service->notify, &err) == 0 &&
	    listen_inherited(&service->listeners, &err) == 0 &&
	    service->listeners.count && plan->address_count)
		error_set(&err, EINVAL,
			  "Sockets were handed over by whoever started this, "
			  "so no other address can be given");
	if (err.code)
		message_error("%s", err.message);
	return !err.code;
}

static int start_listening(struct service *service, struct error *err)
{
	const struct serve_plan *plan = service->plan;
	const struct listen_address anywhere = {LISTEN_TCP, plan->default_host,
						NULL, SERVE_DEFAULT_PORT};
	int ret = 0;

	if (service->listeners.count)
		return 0;
	if (!plan->address_count)
		return listen_at(&service->listeners, &anywhere, err);
	for (size_t i = 0; i < plan->address_count && !ret; i++)
		ret = listen_at(&service->listeners, &plan->addresses[i], err);
	return ret;
}

static int load_tls(struct service *service, struct error *err)
{
	const struct tls_args *tls = &service->plan->tls;

	if (!tls->certificates && !tls->psk_file)
		return 0;
	service->tls = tls_context_open(tls, err);
	return service->tls ? 0 : -err->code;
}

/* ---- the process ---- */

static sigset_t caught_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	return set;
}

/*
 * A descriptor that is readable while one of them waits to be taken; negative
 * after a message, and then nothing could stop a server.
 */
static int catch_signals(void)
{
	sigset_t set = caught_signals();
	int fd;

	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		message_error("No descriptor for signals: %s", strerror(errno));
	return fd;
}

/*
 * A descriptor for each file and each client: more than the 1024 that programs
 * usually start with, as some of them use select(). We do not, so we take what
 * we may have. Where that fails, opening says what there was too little of.
 */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static bool write_pid_file(const char *path)
{
	FILE *file = fopen(path, "w");
	bool good = file != NULL;

	if (file) {
		good = fprintf(file, "%ld\n", (long)getpid()) > 0;
		good &= fclose(file) == 0;
	}
	if (!good)
		message_error("Could not write pid file '%s': %s", path,
			      strerror(errno));
	return good;
}

/* Waits for the child; false if it ended instead. */
static bool child_is_ready(int fd)
{
	FILE *file = fdopen(fd, "r");
	bool ready = file && fgetc(file) != EOF;

	if (file)
		fclose(file);
	return ready;
}

/* From here on nobody waits for what we say, or for us to end. */
static void leave_terminal(bool keep_stderr)
{
	int null = open("/dev/null", O_RDWR);
	int last = keep_stderr ? 1 : 2;

	for (int fd = 0; null >= 0 && fd <= last; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}

static void say_ready(int fd, bool keep_stderr)
{
	FILE *file = fdopen(fd, "w");

	leave_terminal(keep_stderr);
	if (!file)
		return;
	fputc('\n', file);
	fclose(file);
}

/*
 * The child goes on, with the descriptor to tell that it is ready. The parent
 * waits for that, and leaves with the child's status if it ended instead.
 */
static int go_to_background(void)
{
	int fds[2];
	pid_t pid;
	int status = 0;

	fflush(NULL);
	pid = pipe(fds) ? -1 : fork();
	if (pid < 0) {
		message_error("Could not go to the background: %s",
			      strerror(errno));
		_exit(1);
	}
	if (pid == 0) {
		close(fds[0]);
		setsid();
		return fds[1];
	}
	close(fds[1]);
	if (child_is_ready(fds[0]))
		_exit(0);
	waitpid(pid, &status, 0);
	_exit(WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status)
						       : 1);
}

/* SIGUSR1 shows figures; the others end the server. */
static bool on_signal(void *opaque)
{
	struct service *service = opaque;
	const struct timespec at_once = {0};
	sigset_t set = caught_signals();
	bool stop = false;
	int signal;

	while ((signal = sigtimedwait(&set, NULL, &at_once)) > 0)
		if (signal != SIGUSR1)
			stop = true;
		else if (service->plan->stats)
			serve_stats_print(&service->exports,
					  service->plan->stats);
	if (stop)
		notify_stopping(&service->notify);
	return stop;
}

/* Everything is there: clients may come. */
static bool announce(struct service *service)
{
	const struct serve_plan *plan = service->plan;
	char status[80];

	if (plan->pid_file && !write_pid_file(plan->pid_file))
		return false;
	service->has_pid_file = plan->pid_file != NULL;
	snprintf(status, sizeof(status), "Serving %zu exports on %zu sockets",
		 service->exports.count, service->listeners.count);
	notify_ready(&service->notify, status, plan->fork);
	if (service->ready_fd >= 0)
		say_ready(service->ready_fd, plan->log != SERVE_LOG_NONE);
	return true;
}

static bool serve(struct service *service, struct error *err)
{
	const struct serve_plan *plan = service->plan;
	struct nbd_server_args args = {
		.listen_fds = service->listeners.fds,
		.listen_count = service->listeners.count,
		.exports = &service->exports,
		.observer = &service->logger.observer,
		.tls = service->tls,
		.tls_required = plan->tls_required,
		.limits = plan->limits,
		.max_clients = plan->max_clients,
		.stop_ms = STOP_MS,
		.threads = plan->threads,
		.persistent = plan->persistent,
		.wake = on_signal,
		.opaque = service,
		.wake_fd = service->signal_fd,
	};
	bool good;

	serve_logger_init(&service->logger, plan->log);
	good = nbd_server_run(&args, err) == 0;
	serve_logger_release(&service->logger);
	return good;
}

/* What cannot be served, whatever there is to open; false after a message. */
static bool is_possible(const struct command_context *ctx,
			const struct serve_plan *plan)
{
	struct error err = {0};

	if (ctx->guard->active) {
		message_error("Images cannot be served with --untrusted: its "
			      "sandbox allows no sockets. Use 'inspect' "
			      "first, and --trust-dir");
		return false;
	}
	if (serve_plan_check(plan, &err) < 0) {
		message_error("%s", err.message);
		return false;
	}
	return true;
}

/* From opening the images until nobody is served any more. */
static bool live(struct command_context *ctx, struct service *service)
{
	struct error err = {0};
	bool good;

	raise_descriptor_limit();
	/* A peer of an image may be silent: a signal just ends us until then.
	 */
	good = serve_open_exports(ctx, service->plan, &service->exports);
	service->signal_fd = catch_signals();
	good = good && service->signal_fd >= 0 && !load_tls(service, &err) &&
	       !start_listening(service, &err) && announce(service) &&
	       serve(service, &err);
	if (err.code)
		message_error("%s", err.message);
	return good;
}

/* Images first: whoever reads our stderr may keep us waiting. */
static bool wind_up(struct service *service, bool good)
{
	const struct serve_plan *plan = service->plan;
	bool tells = plan->stats && good;

	notify_stopping(&service->notify);
	tls_context_close(service->tls);
	listeners_close(&service->listeners);
	good &= serve_close_exports(&service->exports);
	if (tells)
		serve_stats_print(&service->exports, plan->stats);
	serve_release_exports(&service->exports);
	if (service->has_pid_file)
		unlink(plan->pid_file);
	if (service->signal_fd >= 0)
		close(service->signal_fd);
	notify_close(&service->notify);
	return good;
}

int serve_run(struct command_context *ctx, const struct serve_plan *plan)
{
	struct service service = {
		.plan = plan, .signal_fd = -1, .ready_fd = -1};
	bool good;

	if (!is_possible(ctx, plan))
		return 1;
	good = take_sockets(&service);
	if (good && plan->fork)
		service.ready_fd = go_to_background();
	good = good && live(ctx, &service);
	return wind_up(&service, good) ? 0 : 1;
}
