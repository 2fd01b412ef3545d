/* SPDX-License-Identifier: BSD-3-Clause */
/* Files, sandbox and inspection of --untrusted: see guard.h. */
#include "cli/guard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/image-spec.h"
#include "block/image.h"
#include "block/inspect.h"
#include "block/storage/file.h"
#include "cli/args.h"
#include "cli/message.h"
#include "cli/sandbox.h"

/* What OpenStack and libguestfs give to qemu-img info. */
#define MEMORY_DEFAULT (1ull << 30)
#define MEMORY_MIN     (64ull << 20)
/*
 * Work is bounded by the bytes that are there, whatever an image claims: a
 * minute, and a second for each 256 KiB, which the slowest compression takes
 * for a disk of some ten times their size.
 */
#define CPU_BASE_SECONDS     60u
#define CPU_BYTES_PER_SECOND (256u * 1024)
#define CPU_SECONDS_MAX	     (1u << 30)

/* ---- options ---- */

bool guard_activate(struct guard *guard, const char *word)
{
	if (word && strcmp(word, "best-effort") && strcmp(word, "strict")) {
		message_error("--untrusted knows the words strict and "
			      "best-effort, not '%s'",
			      word);
		return false;
	}
	guard->active = true;
	guard->best_effort = word && !strcmp(word, "best-effort");
	return true;
}

bool guard_limit_cpu(struct guard *guard, const char *text)
{
	return args_size(text, "CPU time in seconds", 1, CPU_SECONDS_MAX,
			 &guard->max_cpu);
}

bool guard_limit_memory(struct guard *guard, const char *text)
{
	return args_size(text, "memory limit", MEMORY_MIN, INT64_MAX,
			 &guard->max_memory);
}

/* ---- files ---- */

static int add_file(struct guard *guard, const char *path, unsigned flags,
		    struct storage *storage, struct error *err)
{
	struct guard_file *file = &guard->files[guard->file_count];
	char *copy = strdup(path);

	if (!copy || guard->file_count == GUARD_FILES_MAX) {
		free(copy);
		storage_close(storage);
		return error_set(err, copy ? E2BIG : ENOMEM,
				 "More than %d files cannot be opened with "
				 "--untrusted",
				 GUARD_FILES_MAX);
	}
	*file = (struct guard_file){copy, flags, storage};
	guard->file_count++;
	return 0;
}

int guard_admit(struct guard *guard, const struct image_open_args *args,
		struct error *err)
{
	unsigned flags = image_file_flags(args);
	struct storage *storage;
	int ret;

	if (args->spec->nbd)
		return error_set(err, EPERM,
				 "Could not open '%s': with --untrusted only "
				 "local files are opened, this is an export of "
				 "an NBD server",
				 args->spec->path);
	if (guard->entered)
		return error_set(err, EPERM,
				 "Could not open '%s': with --untrusted no "
				 "file can be opened once an image was",
				 args->spec->path);
	ret = storage_file_open(&storage, args->spec->path, flags, err);
	if (ret < 0)
		return ret;
	return add_file(guard, args->spec->path, flags, storage, err);
}

int guard_admit_target(struct guard *guard, const char *path, bool direct,
		       struct error *err)
{
	int ret;

	for (size_t i = 0; i < guard->file_count; i++)
		if (storage_file_is_at(guard->files[i].storage, path))
			return error_set(err, EINVAL,
					 "'%s' is a source of the copy, so it "
					 "cannot be its target",
					 path);
	ret = output_reserve(&guard->output, path, direct, err);
	guard->has_output = !ret;
	return ret;
}

/* ---- the sandbox ---- */

static uint64_t cpu_seconds(const struct guard *guard)
{
	uint64_t bytes = 0;

	if (guard->max_cpu)
		return guard->max_cpu;
	for (size_t i = 0; i < guard->file_count; i++)
		bytes += min_u64(storage_size(guard->files[i].storage),
				 UINT64_MAX / GUARD_FILES_MAX);
	return min_u64(CPU_BASE_SECONDS + bytes / CPU_BYTES_PER_SECOND,
		       CPU_SECONDS_MAX);
}

static void keep(struct sandbox *sandbox, const struct storage *storage)
{
	if (storage && storage->fd >= 0)
		sandbox->kept[sandbox->kept_count++] = storage->fd;
}

int guard_enter(struct guard *guard, struct error *err)
{
	struct sandbox sandbox = {
		.best_effort = guard->best_effort,
		.folder_fd = -1,
		.memory_bytes =
			guard->max_memory ? guard->max_memory : MEMORY_DEFAULT,
		.cpu_seconds = cpu_seconds(guard),
	};

	for (size_t i = 0; i < guard->file_count; i++)
		keep(&sandbox, guard->files[i].storage);
	if (guard->has_output) {
		keep(&sandbox, guard->output.storage);
		keep(&sandbox, guard->output.old);
		sandbox.cleanup_path = guard->output.temp_path;
		if (guard->output.has_folder)
			sandbox.folder_fd = guard->output.folder_fd;
	}
	if (guard->kept_fd)
		sandbox.kept[sandbox.kept_count++] = guard->kept_fd;
	guard->entered = true;
	return sandbox_enter(&sandbox, err);
}

/* ---- inspection ---- */

static int refuse(const struct image_spec *spec,
		  const struct inspect_report *report, struct error *err)
{
	char reasons[ERROR_MESSAGE_MAX / 2] = "";
	size_t used = 0;

	for (size_t i = 0; i < report->reason_count; i++) {
		int len =
			snprintf(reasons + used, sizeof(reasons) - used, "%s%s",
				 i ? "; " : "", report->reasons[i].text);

		used += (size_t)len;
		if (used >= sizeof(reasons))
			break;
	}
	return error_set(err, EPERM,
			 "Could not open '%s': it is %s: %s. 'inspect' tells "
			 "more; without --untrusted it is opened at your own "
			 "risk",
			 spec->text, inspect_verdict_name(report->verdict),
			 reasons);
}

static int judge(const struct image_open_args *args, struct image_spec *spec,
		 struct storage *file, struct error *err)
{
	const struct inspect_limits limits = {.format = spec->format};
	struct inspect_report report;
	int ret = inspect_storage(file, &limits, &report, err);

	if (ret < 0) {
		error_prefix(err, "Could not open '%s': ", spec->text);
		return ret;
	}
	if (report.verdict != INSPECT_SAFE)
		return refuse(spec, &report, err);
	if (!spec->format && (args->flags & IMAGE_WRITE) &&
	    !strcmp(report.format, "raw"))
		return error_set(err, EPERM,
				 "Could not open '%s': to write to an "
				 "untrusted raw disk its format has to be "
				 "given",
				 spec->text);
	if (!spec->format)
		spec->format = strdup(report.format);
	return spec->format ? 0 : error_set_errno(err, ENOMEM, "--untrusted");
}

/* The file that was admitted for these arguments; NULL: none was. */
static struct storage *find_file(struct guard *guard,
				 const struct image_open_args *args)
{
	for (size_t i = 0; i < guard->file_count; i++) {
		struct guard_file *file = &guard->files[i];
		struct storage *storage = file->storage;

		if (!storage || strcmp(file->path, args->spec->path) ||
		    file->flags != image_file_flags(args))
			continue;
		file->storage = NULL;
		return storage;
	}
	return NULL;
}

int guard_take(struct guard *guard, const struct image_open_args *args,
	       struct image_spec *spec, struct storage **out, struct error *err)
{
	int ret = 0;

	*out = find_file(guard, args);
	if (!*out) {
		ret = guard_admit(guard, args, err);
		if (!ret)
			ret = guard_enter(guard, err);
		if (!ret)
			*out = find_file(guard, args);
	}
	if (!ret)
		ret = judge(args, spec, *out, err);
	if (ret < 0) {
		storage_close(*out);
		*out = NULL;
	}
	return ret;
}

int guard_image_open(struct guard *guard, struct image **out,
		     const struct image_open_args *args,
		     struct image_spec *spec, struct error *err)
{
	struct storage *file;
	int ret;

	if (!guard->active)
		return image_open(out, args, err);
	ret = guard_take(guard, args, spec, &file, err);
	return ret < 0 ? ret : image_open_file(out, file, args, err);
}

int guard_take_output(struct guard *guard, struct output *out,
		      struct error *err)
{
	*out = guard->output;
	guard->output = (struct output){0};
	guard->has_output = false;
	return output_start(out, err);
}

void guard_release(struct guard *guard)
{
	for (size_t i = 0; i < guard->file_count; i++) {
		storage_close(guard->files[i].storage);
		free(guard->files[i].path);
	}
	if (guard->has_output)
		output_discard(&guard->output);
	*guard = (struct guard){0};
}
