/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. */
#include "tests/support/recorded-program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/record.h"

#define ANSWER_MAX    4096
#define HANGS_AFTER_S 120

static int complain(char *why, size_t why_len, const char *what,
		    const char *detail)
{
	snprintf(why, why_len, "%s: %.150s", what, detail);
	return -1;
}

static int mark(const struct recorded_program *p, enum record_kind kind,
		uint64_t number)
{
	struct record r = {.magic = RECORD_MAGIC, .kind = kind, .off = number};

	return write(p->log, &r, sizeof(r)) == sizeof(r) ? 0 : -1;
}

/* In the child. */
static void become(const struct recorded_program_args *args, int in, int out)
{
	union {
		const char *const *constant;
		char *const *argv; /* execvp() does not change it */
	} words = {.constant = args->argv};

	if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
	    dup2(out, STDERR_FILENO) < 0 ||
	    setenv("LD_PRELOAD", args->recorder, 1) < 0 ||
	    setenv(RECORD_FILE_VARIABLE, args->image, 1) < 0 ||
	    setenv(RECORD_LOG_VARIABLE, args->log, 1) < 0)
		_exit(127);
	execvp(args->argv[0], words.argv);
	_exit(127);
}

/* What it prints up to its next prompt or its end; without the prompt. */
static int read_answer(const struct recorded_program *p, char *answer,
		       bool *ended)
{
	struct pollfd wait = {.fd = p->from, .events = POLLIN};
	size_t len = 0;

	*ended = false;
	answer[0] = '\0';
	while (len < ANSWER_MAX - 1) {
		ssize_t n;

		if (poll(&wait, 1, HANGS_AFTER_S * 1000) <= 0)
			return -1;
		n = read(p->from, answer + len, ANSWER_MAX - 1 - len);
		if (n < 0)
			return -1;
		*ended = n == 0;
		len += n;
		answer[len] = '\0';
		if (*ended)
			return 0;
		if (len < 2 || strcmp(answer + len - 2, "> ") != 0)
			continue;
		/* The name before it is the program's. */
		while (len && answer[len - 1] != '\n')
			len--;
		answer[len] = '\0';
		return 0;
	}
	return -1;
}

static int expect_silence(const struct recorded_program *p, const char *line,
			  bool to_end, char *why, size_t why_len)
{
	char answer[ANSWER_MAX];
	bool ended;

	if (read_answer(p, answer, &ended) < 0)
		return complain(why, why_len, line, "no answer");
	if (*answer)
		return complain(why, why_len, line, answer);
	if (ended != to_end)
		return complain(why, why_len, line,
				ended ? "the program has ended"
				      : "the program goes on");
	return 0;
}

int recorded_program_start(struct recorded_program *p,
			   const struct recorded_program_args *args, char *why,
			   size_t why_len)
{
	int in[2], out[2];

	*p = (struct recorded_program){.pid = -1};
	signal(SIGPIPE, SIG_IGN);
	unlink(args->log);
	p->log = open(args->log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC,
		      0600);
	if (p->log < 0 || pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
		return complain(why, why_len, args->log, strerror(errno));
	p->pid = fork();
	if (p->pid == 0)
		become(args, in[0], out[1]);
	close(in[0]);
	close(out[1]);
	p->to = in[1];
	p->from = out[0];
	if (p->pid < 0)
		return complain(why, why_len, "fork", strerror(errno));
	return expect_silence(p, args->argv[0], false, why, why_len);
}

static int give(struct recorded_program *p, const char *line, uint64_t number)
{
	size_t len = strlen(line);

	if (mark(p, RECORD_BEGUN, number) < 0 ||
	    write(p->to, line, len) != (ssize_t)len ||
	    write(p->to, "\n", 1) != 1)
		return -1;
	return 0;
}

int recorded_program_do(struct recorded_program *p, const char *line,
			uint64_t number, char *why, size_t why_len)
{
	if (give(p, line, number) < 0)
		return complain(why, why_len, line, strerror(errno));
	if (expect_silence(p, line, false, why, why_len) < 0)
		return -1;
	if (mark(p, RECORD_DONE, number) < 0)
		return complain(why, why_len, "the log", strerror(errno));
	return 0;
}

static void release(struct recorded_program *p)
{
	close(p->to);
	close(p->from);
	close(p->log);
}

int recorded_program_quit(struct recorded_program *p, uint64_t number,
			  char *why, size_t why_len)
{
	int status = -1;
	int ret;

	ret = give(p, "quit", number) < 0
		      ? complain(why, why_len, "quit", strerror(errno))
		      : expect_silence(p, "quit", true, why, why_len);
	if (ret < 0)
		kill(p->pid, SIGKILL);
	if (waitpid(p->pid, &status, 0) < 0 || status != 0)
		ret = ret ? ret : complain(why, why_len, "quit", "failed");
	if (!ret && mark(p, RECORD_DONE, number) < 0)
		ret = complain(why, why_len, "the log", strerror(errno));
	release(p);
	return ret;
}

void recorded_program_kill(struct recorded_program *p)
{
	if (p->pid > 0) {
		kill(p->pid, SIGKILL);
		waitpid(p->pid, NULL, 0);
	}
	release(p);
}
