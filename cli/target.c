/* SPDX-License-Identifier: BSD-3-Clause */
/* New images that are filled from others: see target.h. */
#include "cli/target.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "block/create.h"
#include "block/error.h"
#include "block/format.h"
#include "block/image-spec.h"
#include "block/jobs/convert.h"
#include "block/opener.h"
#include "block/options.h"
#include "block/storage.h"
#include "cli/command.h"
#include "cli/guard.h"

/* ---- the same file ---- */

static bool lives_in(const struct image *img, const struct stat *st)
{
	struct stat other;

	for (; img; img = img->backing)
		if (img->file->fd >= 0 && !fstat(img->file->fd, &other) &&
		    other.st_dev == st->st_dev && other.st_ino == st->st_ino)
			return true;
	return false;
}

bool target_is_source(const char *path, const struct convert_source *sources,
		      size_t count)
{
	struct stat st;

	if (stat(path, &st))
		return false;
	for (size_t i = 0; i < count; i++)
		if (lives_in(sources[i].img, &st))
			return true;
	return false;
}

/* ---- creating ---- */

/* What the new image names; an empty disk may name one as well. */
static int open_backing(struct target *target,
			const struct target_request *request, const char *path,
			struct error *err)
{
	const char *name = options_get(request->options, "backing_file");
	struct opener opener = request->ctx->trust;
	struct image_spec spec = {0};
	struct image_open_args args = {
		.spec = &spec,
		.flags = request->ctx->open_flags,
		.opener = &opener,
	};
	struct image *base = NULL;
	char *resolved = NULL;
	int rc;

	if (!name)
		return 0;
	rc = opener_resolve(path, name, &resolved, err);
	if (rc == 0)
		rc = image_spec_from_path(
			&spec, resolved,
			options_get(request->options, "backing_fmt"), err);
	if (rc == 0)
		rc = image_open(&base, &args, err);
	if (rc == 0)
		image_set_backing(target->img, base);
	image_spec_release(&spec);
	free(resolved);
	return rc;
}

static bool is_direct(enum cache_mode cache)
{
	return cache == CACHE_NONE || cache == CACHE_DIRECTSYNC;
}

static int create(struct target *target, const struct target_request *request,
		  const char *path, struct error *err)
{
	struct storage *storage;
	int rc;

	if (request->ctx->guard->active)
		rc = guard_take_output(request->ctx->guard, &target->output,
				       err);
	else
		rc = output_open(&target->output, path,
				 is_direct(request->cache), err);
	if (rc < 0)
		return rc;
	target->ready = true;
	rc = create_format(&target->output, request->driver, request->options,
			   request->size_bytes, request->progress, err);
	if (rc < 0)
		return rc;
	storage = output_take(&target->output);
	storage->ignore_sync = true; /* until target_finish() */
	rc = image_open_storage(&target->img, storage, request->driver, NULL,
				IMAGE_WRITE, err);
	if (rc < 0)
		return rc;
	return open_backing(target, request, path, err);
}

int target_create(struct target *target, const struct target_request *request,
		  struct error *err)
{
	char *path = NULL;
	int rc;

	*target = (struct target){.sync = request->cache != CACHE_UNSAFE};
	rc = image_path_parse(request->name, &path, err);
	if (rc == 0)
		rc = create(target, request, path, err);
	free(path);
	if (rc < 0) {
		target_abandon(target);
		error_default(err, rc, "creating the image");
		error_prefix(err,
			     "%s: error while converting %s: ", request->name,
			     request->driver->name);
	}
	return rc;
}

/* ---- the end ---- */

void target_abandon(struct target *target)
{
	if (target->img)
		image_close(target->img);
	target->img = NULL;
	if (target->ready)
		output_discard(&target->output);
	target->ready = false;
}

/* All metadata goes to the file, then the file to the disk: one sync. */
static int make_durable(struct target *target)
{
	struct storage *file = target->img->file;
	int rc = image_flush(target->img);

	if (rc < 0 || !target->sync)
		return rc;
	file->ignore_sync = false;
	return storage_sync(file);
}

int target_finish(struct target *target, struct error *err)
{
	int rc = make_durable(target), close_rc;

	close_rc = image_close(target->img);
	target->img = NULL;
	if (rc == 0)
		rc = close_rc;
	if (rc < 0) {
		error_set_errno(err, -rc, "error while flushing '%s'",
				target->output.final_path);
		target_abandon(target);
		return rc;
	}
	target->ready = false;
	return output_commit(&target->output, target->sync, err);
}
