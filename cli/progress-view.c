/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The thread that shows progress.
 *
 * It alone receives the signals: they are blocked in every thread while a view
 * is active, and taken with sigtimedwait(), so no handler runs anywhere. The
 * wait doubles as the clock, and a private signal ends it.
 */
#include "cli/progress-view.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "block/clock.h"
#include "block/interrupt.h"
#include "cli/message.h"

#define WAKE_SIGNAL	  SIGRTMIN
#define TICK_NS		  (100 * 1000 * 1000)
#define BAR_AFTER_SECONDS 1.0
#define BAR_WIDTH	  30
#define PATIENCE_NS	  1000000000u

static double elapsed_seconds(const struct progress_view *view)
{
	return (double)(clock_now_ns() - view->start_ns) / 1e9;
}

/* One reading of the counters; the total may still be unknown, and grow. */
struct reading {
	uint64_t done, total;
	double percent;
};

static struct reading read_counters(const struct progress_view *view)
{
	struct reading r = {
		.done = atomic_load(&view->progress.done),
		.total = atomic_load(&view->progress.total),
	};

	if (r.total && r.done > r.total)
		r.done = r.total;
	if (r.total)
		r.percent = 100.0 * (double)r.done / (double)r.total;
	return r;
}

static void show_percent(struct progress_view *view, double percent)
{
	printf("    (%3.2f/100%%)\r", percent);
	fflush(stdout);
	view->last_shown = percent;
}

static void show_json(struct progress_view *view, const struct reading *r)
{
	dprintf(view->wish.fd ? view->wish.fd : STDERR_FILENO,
		"{\"done\": %llu, \"total\": %llu, \"percent\": %.2f, "
		"\"elapsed\": %.3f}\n",
		(unsigned long long)r->done, (unsigned long long)r->total,
		r->percent, elapsed_seconds(view));
	view->last_shown = r->percent;
}

static void time_text(char *buf, size_t size, double seconds)
{
	unsigned long s = seconds < 359999 ? (unsigned long)seconds : 359999;

	snprintf(buf, size, "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
}

static void show_bar(struct progress_view *view, const struct reading *r)
{
	double seconds = elapsed_seconds(view);
	double rate = (double)r->done / seconds;
	int filled = (int)(r->percent * BAR_WIDTH / 100);
	char bar[BAR_WIDTH + 1], size[SIZE_TEXT_MAX], left[32] = "-:--:--";

	memset(bar, '#', (size_t)filled);
	memset(bar + filled, '.', (size_t)(BAR_WIDTH - filled));
	bar[BAR_WIDTH] = '\0';
	if (rate > 0)
		time_text(left, sizeof(left),
			  (double)(r->total - r->done) / rate);
	fprintf(stderr, "\r[%s] %5.1f%%  %s/s  %s left \033[K", bar, r->percent,
		size_text(size, (uint64_t)rate), left);
	fflush(stderr);
	view->bar_drawn = true;
}

static void show_line(const struct progress_view *view)
{
	fprintf(stderr, "%s    (%3.2f/100%%)\n", view->bar_drawn ? "\r" : "",
		read_counters(view).percent);
	fflush(stderr);
}

static void show_tick(struct progress_view *view)
{
	struct reading r = read_counters(view);
	bool moved = r.percent > view->last_shown + view->step;

	if (view->wish.percent && moved)
		show_percent(view, r.percent);
	else if (view->wish.json && moved)
		show_json(view, &r);
	else if (view->bar && r.total &&
		 elapsed_seconds(view) > BAR_AFTER_SECONDS)
		show_bar(view, &r);
}

static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP};
#define STOP_SIGNAL_COUNT (sizeof(stop_signals) / sizeof(*stop_signals))

/* As shells do for what runs in the background, and nohup. */
static bool is_ignored(int sig)
{
	struct sigaction action;

	return sigaction(sig, NULL, &action) == 0 &&
	       action.sa_handler == SIG_IGN;
}

/* A wait would take a blocked signal even if it is ignored: left out. */
static void add_stop_signals(sigset_t *set)
{
	for (size_t i = 0; i < STOP_SIGNAL_COUNT; i++)
		if (!is_ignored(stop_signals[i]))
			sigaddset(set, stop_signals[i]);
}

static bool is_stop_signal(int sig)
{
	for (size_t i = 0; i < STOP_SIGNAL_COUNT; i++)
		if (sig == stop_signals[i])
			return true;
	return false;
}

/* The first request to stop is the job's; the next one takes its course. */
static void handle_stop(struct progress_view *view)
{
	sigset_t fatal;

	atomic_store(&view->progress.cancelled, true);
	view->cancel_ns = clock_now_ns();
	sigemptyset(&fatal);
	add_stop_signals(&fatal);
	pthread_sigmask(SIG_UNBLOCK, &fatal, NULL);
}

/* A server may answer once more, so that the job can end in order. */
static void hurry(const struct progress_view *view)
{
	if (view->cancel_ns && clock_now_ns() - view->cancel_ns > PATIENCE_NS)
		interrupt_all();
}

static void signals_of_view(sigset_t *set)
{
	sigemptyset(set);
	add_stop_signals(set);
	sigaddset(set, SIGUSR1);
	sigaddset(set, WAKE_SIGNAL);
}

static void *view_main(void *opaque)
{
	static const struct timespec tick = {.tv_nsec = TICK_NS};
	struct progress_view *view = opaque;
	sigset_t set;

	signals_of_view(&set);
	while (!atomic_load(&view->stopping)) {
		int sig = sigtimedwait(&set, NULL, &tick);

		if (sig == SIGUSR1)
			show_line(view);
		else if (is_stop_signal(sig))
			handle_stop(view);
		else if (sig < 0)
			show_tick(view);
		hurry(view);
	}
	return NULL;
}

void progress_view_start(struct progress_view *view,
			 const struct progress_wish *wish, bool quiet,
			 double step)
{
	sigset_t set;

	memset(view, 0, sizeof(*view));
	view->wish = *wish;
	view->step = step;
	view->start_ns = clock_now_ns();
	if (quiet)
		view->wish.percent = false;
	view->bar = !quiet && !wish->percent && !wish->json &&
		    isatty(STDERR_FILENO);
	signals_of_view(&set);
	/* Nobody may be left to read the progress; the job goes on. */
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &set, &view->old_mask);
	/* Whoever has seen the first line may send signals. */
	if (view->wish.percent)
		show_percent(view, 0);
	if (pthread_create(&view->thread, NULL, view_main, view) == 0)
		view->running = true;
	else
		pthread_sigmask(SIG_SETMASK, &view->old_mask, NULL);
}

static void show_end(struct progress_view *view, bool success)
{
	struct reading r = read_counters(view);

	if (view->bar_drawn)
		fputs("\r\033[K", stderr);
	if (view->wish.json) {
		if (success)
			r.percent = 100;
		show_json(view, &r);
	}
	if (view->wish.percent) {
		if (success)
			show_percent(view, 100);
		putchar('\n');
	}
}

void progress_view_stop(struct progress_view *view, bool success)
{
	if (view->running) {
		atomic_store(&view->stopping, true);
		pthread_kill(view->thread, WAKE_SIGNAL);
		pthread_join(view->thread, NULL);
		pthread_sigmask(SIG_SETMASK, &view->old_mask, NULL);
		view->running = false;
	}
	show_end(view, success);
}

bool progress_view_cancelled(const struct progress_view *view)
{
	return progress_cancelled(&view->progress);
}
