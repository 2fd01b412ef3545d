/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inspect: is a file that strangers made safe to open?
 *
 * It is read in a sandbox and nothing else is opened. Scripts read the exit
 * status: only a file that was seen to be safe gives 0.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/error.h"
#include "block/inspect.h"
#include "block/storage.h"
#include "block/storage/file.h"
#include "block/storage/pipe.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/guard.h"
#include "cli/json.h"
#include "cli/message.h"
#include "cli/sandbox.h"

#define EXIT_SAFE      0
#define EXIT_NO_ANSWER 1
#define EXIT_MALFORMED 2
#define EXIT_UNSAFE    3

/* The rules take a fraction of both; whatever goes wrong ends here. */
#define MEMORY_MAX  (256ull << 20)
#define CPU_SECONDS 60u

struct inspect_request {
	const char *name;
	struct inspect_limits limits;
	struct arg_size max_virtual_size, max_ratio;
	bool json, quiet, force_share;
};

/* What is inspected: a file, or a descriptor that is read once. */
struct subject {
	struct storage *file;
	int fd; /* without a file */
};

/* ---- the file ---- */

static bool is_pipe(const char *name)
{
	struct stat st;

	return !stat(name, &st) && S_ISFIFO(st.st_mode);
}

static int open_subject(struct subject *out,
			const struct inspect_request *request,
			struct error *err)
{
	unsigned flags = request->force_share ? FILE_OPEN_NO_LOCK : 0;

	*out = (struct subject){.fd = STDIN_FILENO};
	if (!strcmp(request->name, "-"))
		return 0;
	if (!is_pipe(request->name))
		return storage_file_open(&out->file, request->name, flags, err);
	out->fd = open(request->name, O_RDONLY | O_CLOEXEC);
	if (out->fd < 0)
		return error_set_errno(err, errno, "Could not open '%s'",
				       request->name);
	return 0;
}

static void close_subject(struct subject *subject)
{
	storage_close(subject->file);
	if (!subject->file && subject->fd > STDIN_FILENO)
		close(subject->fd);
}

/* Where the kernel has no sandbox, the answer is still worth having. */
static int enter(const struct guard *guard, const struct subject *subject,
		 struct error *err)
{
	struct sandbox sandbox = {
		.best_effort = !guard->active || guard->best_effort,
		.folder_fd = -1,
		.memory_bytes =
			guard->max_memory ? guard->max_memory : MEMORY_MAX,
		.cpu_seconds = guard->max_cpu ? guard->max_cpu : CPU_SECONDS,
	};

	sandbox.kept[sandbox.kept_count++] =
		subject->file ? subject->file->fd : subject->fd;
	return sandbox_enter(&sandbox, err);
}

static int64_t read_pipe(void *opaque, void *buf, size_t len)
{
	const struct subject *subject = opaque;

	return pipe_read(subject->fd, buf, len);
}

/* ---- the answer ---- */

static void set_number(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new(object, key, json_integer((json_int_t)value));
}

static json_t *reasons_to_json(const struct inspect_report *report)
{
	json_t *list = json_array();

	for (size_t i = 0; i < report->reason_count; i++) {
		const struct inspect_reason *reason = &report->reasons[i];
		json_t *object = json_object();

		json_object_set_new(object, "code", json_string(reason->code));
		json_object_set_new(object, "text", json_text(reason->text));
		json_array_append_new(list, object);
	}
	return list;
}

static bool print_json(const struct inspect_request *request,
		       const struct inspect_report *report)
{
	json_t *out = json_object();
	const char *verdict = inspect_verdict_name(report->verdict);

	json_object_set_new(out, "filename", json_text(request->name));
	json_object_set_new(out, "verdict", json_string(verdict));
	json_object_set_new(out, "format", json_string(report->format));
	if (report->content)
		json_object_set_new(out, "content",
				    json_string(report->content));
	if (report->has_virtual_size && report->virtual_size <= INT64_MAX)
		set_number(out, "virtual-size", report->virtual_size);
	if (report->has_file_size)
		set_number(out, "file-size", report->file_size);
	set_number(out, "bytes-read", report->bytes_read);
	json_object_set_new(out, "encrypted", json_boolean(report->encrypted));
	set_number(out, "snapshots", report->snapshots);
	json_object_set_new(out, "reasons", reasons_to_json(report));
	return json_print(out);
}

static void print_human(const struct inspect_request *request,
			const struct inspect_report *report)
{
	char text[SIZE_TEXT_MAX];

	printf("image: %s\n", request->name);
	printf("verdict: %s\n", inspect_verdict_name(report->verdict));
	printf("file format: %s\n", report->format);
	if (report->content)
		printf("content: %s\n", report->content);
	if (report->has_virtual_size)
		printf("virtual size: %s (%llu bytes)\n",
		       size_text(text, report->virtual_size),
		       (unsigned long long)report->virtual_size);
	if (report->encrypted)
		puts("encrypted: yes");
	if (report->snapshots)
		printf("snapshots: %u\n", report->snapshots);
	for (size_t i = 0; i < report->reason_count; i++)
		printf("%s: %s (%s)\n",
		       inspect_verdict_name(report->reasons[i].weight),
		       report->reasons[i].text, report->reasons[i].code);
}

static int exit_status(enum inspect_verdict verdict)
{
	switch (verdict) {
	case INSPECT_SAFE:
		return EXIT_SAFE;
	case INSPECT_MALFORMED:
		return EXIT_MALFORMED;
	case INSPECT_UNSAFE:
		return EXIT_UNSAFE;
	}
	return EXIT_NO_ANSWER;
}

/* ---- the command ---- */

static int run(const struct command_context *ctx,
	       const struct inspect_request *request)
{
	struct inspect_report report;
	struct subject subject;
	struct error err = {0};
	int rc = open_subject(&subject, request, &err);

	if (rc == 0)
		rc = enter(ctx->guard, &subject, &err);
	if (rc == 0)
		rc = subject.file
			     ? inspect_storage(subject.file, &request->limits,
					       &report, &err)
			     : inspect_stream(read_pipe, &subject,
					      &request->limits, &report, &err);
	close_subject(&subject);
	if (rc < 0) {
		message_error("Could not inspect '%s': %s", request->name,
			      err.message);
		return EXIT_NO_ANSWER;
	}
	if (request->json) {
		if (!print_json(request, &report))
			return EXIT_NO_ANSWER;
	} else if (!request->quiet) {
		print_human(request, &report);
	}
	return exit_status(report.verdict);
}

int command_inspect(struct command_context *ctx, int argc, char **argv)
{
	struct inspect_request request = {0};
	const struct arg_def defs[] = {
		{'f', "format", ARG_TEXT, &request.limits.format, NULL},
		{0, "output", ARG_OUTPUT, &request.json, NULL},
		{0, "max-virtual-size", ARG_SIZE, &request.max_virtual_size,
		 "virtual size"},
		{0, "max-ratio", ARG_SIZE, &request.max_ratio, "ratio"},
		{'U', "force-share", ARG_FLAG, &request.force_share, NULL},
		{'q', "quiet", ARG_FLAG, &request.quiet, NULL},
		ARGS_END,
	};
	struct args args;

	if (!args_parse(&args, ctx, argc, argv, defs))
		return args.status;
	if (args.count != 1)
		return message_usage("Expecting one image file name");
	request.name = args.operands[0];
	request.limits.max_virtual_size = request.max_virtual_size.bytes;
	request.limits.max_ratio = request.max_ratio.bytes;
	return run(ctx, &request);
}
