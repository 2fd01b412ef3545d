/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * convert: opens the sources, makes or opens the target, and copies.
 *
 * Sources are images, or streams of raw bytes: standard input ("-"), and files
 * that are packed as a whole. What a stream holds has to be known in advance by
 * all formats but raw, so unless it says so it is kept in a file without a name
 * first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/bytes.h"
#include "block/error.h"
#include "block/format.h"
#include "block/image-spec.h"
#include "block/jobs/stream-out.h"
#include "block/jobs/stream.h"
#include "block/progress.h"
#include "block/storage.h"
#include "block/storage/unnamed.h"
#include "cli/command.h"
#include "cli/convert-request.h"
#include "cli/guard.h"
#include "cli/message.h"
#include "cli/progress-view.h"
#include "cli/target.h"
#include "formats/registry.h"

struct run {
	const struct command_context *ctx;
	const struct convert_request *request;
	struct convert_source *sources;
	size_t count;
	struct stream *stream; /* the only source is one; NULL: images */
	bool stream_size_known;
	uint64_t size;
	struct target target;	/* a new one */
	struct image *existing; /* -n */
	struct content_hash *hash;
	struct progress_view view;
};

static bool is_dash(const char *name)
{
	return !strcmp(name, "-");
}

/* ---- sources ---- */

/* "raw.zst" and its kin, as -f takes them. */
static bool stream_format(const char *format, enum stream_kind *kind)
{
	static const struct {
		const char *name;
		enum stream_kind kind;
	} formats[] = {
		{"raw.gz", STREAM_GZIP},
		{"raw.zst", STREAM_ZSTD},
		{"raw.lz4", STREAM_LZ4},
	};

	for (size_t i = 0; format && i < sizeof(formats) / sizeof(*formats);
	     i++) {
		if (!strcmp(format, formats[i].name)) {
			*kind = formats[i].kind;
			return true;
		}
	}
	return false;
}

/*
 * Is the source a stream? -f raw takes the bytes of any file as they are; only
 * without -f does a name like disk.raw.gz count.
 */
static int find_stream(const struct open_request *source, const char *name,
		       bool *is_stream, enum stream_kind *kind,
		       struct error *err)
{
	int ret = 0;

	*kind = STREAM_PLAIN;
	*is_stream = false;
	if (source->image_opts)
		return 0;
	if (stream_format(source->format, kind) || is_dash(name)) {
		*is_stream = true;
		return 0;
	}
	if (!source->format)
		ret = stream_kind_of_file(name, kind, err);
	*is_stream = *kind != STREAM_PLAIN;
	return ret;
}

static int open_stream(struct run *run, const char *name, enum stream_kind kind,
		       struct error *err)
{
	const struct convert_request *request = run->request;
	const char *format = request->source.format;
	enum stream_kind asked;
	int rc;

	if (request->source_count > 1)
		return error_set(err, EINVAL,
				 "'%s' is a stream, which has to be the only "
				 "source",
				 name);
	if (format && strcmp(format, "raw") && !stream_format(format, &asked))
		return error_set(err, EINVAL,
				 "A stream holds a raw disk; '%s' has to be in "
				 "a file",
				 format);
	rc = is_dash(name) ? stream_from_fd(&run->stream, STDIN_FILENO,
					    "standard input", kind, err)
			   : stream_open(&run->stream, name, kind, err);
	if (rc < 0)
		return rc;
	run->sources[0] = (struct convert_source){.stream = run->stream};
	run->stream_size_known =
		stream_promised_size(run->stream, &run->sources[0].len);
	if (request->source_size.given) {
		run->stream_size_known = true;
		run->sources[0].len = request->source_size.bytes;
	}
	return 0;
}

static bool open_source(struct run *run, size_t i)
{
	struct open_request source = run->request->source;
	struct error err = {0};
	enum stream_kind kind;
	struct image *img;
	bool is_stream = false;
	int ret = 0;

	source.name = run->request->source_names[i];
	/* In the sandbox it cannot be asked any more: there are none. */
	if (!run->ctx->guard->active)
		ret = find_stream(&source, source.name, &is_stream, &kind,
				  &err);
	if (!ret && is_stream)
		ret = open_stream(run, source.name, kind, &err);
	if (ret < 0) {
		message_error("%s", err.message);
		return false;
	}
	if (is_stream)
		return true;
	img = open_image(run->ctx, &source);
	if (!img)
		return false;
	run->sources[i] = (struct convert_source){
		.img = img,
		.len = img->size_bytes,
	};
	return true;
}

static bool open_sources(struct run *run)
{
	run->count = run->request->source_count;
	run->sources = calloc(run->count, sizeof(*run->sources));
	if (!run->sources) {
		message_error("Out of memory");
		return false;
	}
	for (size_t i = 0; i < run->count; i++)
		if (!open_source(run, i))
			return false;
	if (convert_size(run->sources, run->count, &run->size) < 0) {
		message_error("The sources are too large together");
		return false;
	}
	return true;
}

/* ---- streams of unknown size ---- */

/* Keeps the stream in a file without a name, which is the source then. */
static int spool_aside(struct run *run, struct error *err)
{
	struct convert_source *source = &run->sources[0];
	struct storage *file;
	int rc;

	rc = storage_unnamed_new(&file, run->request->target_name, err);
	if (rc < 0)
		return rc;
	rc = stream_spool(run->stream, file, &source->len, &run->view.progress,
			  err);
	if (rc < 0) {
		storage_close(file);
		return rc;
	}
	rc = image_open_storage(&source->img, file, format_find("raw"), NULL, 0,
				err);
	if (rc < 0)
		return rc;
	atomic_store(&run->view.progress.done, 0);
	source->stream = NULL;
	source->len = source->img->size_bytes;
	run->size = source->len;
	return 0;
}

/* What came has to be what was promised, to the byte. */
static int check_stream_end(struct run *run, struct error *err)
{
	char more;

	if (!run->stream || !run->sources[0].stream ||
	    stream_read(run->stream, &more, 1) == 0)
		return 0;
	return error_set(err, EFBIG,
			 "The source holds more than the %llu bytes of its "
			 "size",
			 (unsigned long long)run->size);
}

/* ---- targets ---- */

static int set_size_option(struct options *options, uint64_t size)
{
	char digits[32];

	snprintf(digits, sizeof(digits), "%llu", (unsigned long long)size);
	options_remove(options, "size");
	return options_set(options, "size", digits);
}

static int create_target(struct run *run, struct error *err)
{
	const struct convert_request *request = run->request;
	struct options options = {0};
	struct target_request wanted = {
		.name = request->target_name,
		.driver = request->driver,
		.options = &options,
		.size_bytes = run->size,
		.cache = request->target_cache,
		.ctx = run->ctx,
		.progress = NULL,
	};
	int rc = options_copy(&options, &request->options);

	if (rc == 0)
		rc = set_size_option(&options, run->size);
	if (rc == 0)
		rc = target_create(&run->target, &wanted, err);
	options_release(&options);
	return rc;
}

/* The target of -n. */
static struct open_request existing_target(
	const struct convert_request *request)
{
	return (struct open_request){
		.name = request->target_name,
		.format = request->target_image_opts ? NULL
						     : request->driver->name,
		.image_opts = request->target_image_opts,
		.flags = IMAGE_WRITE,
		.cache = request->target_cache,
	};
}

/* Files are kept apart by their locks; not every store has some. */
static bool is_among_sources(const struct run *run, const struct storage *file)
{
	for (size_t i = 0; i < run->count; i++) {
		const struct image *img = run->sources[i].img;

		for (; img; img = img->backing)
			if (storage_same(img->file, file)) {
				message_error("'%s' is a source and the "
					      "target",
					      run->request->target_name);
				return true;
			}
	}
	return false;
}

static bool open_existing(struct run *run)
{
	struct open_request target = existing_target(run->request);

	run->existing = open_image(run->ctx, &target);
	return run->existing && !is_among_sources(run, run->existing->file);
}

/*
 * How deep in the source's chain the target's backing file is: its layers from
 * there on need not be copied. 0: it is none of them.
 */
static unsigned shared_depth(const struct image *source,
			     const struct image *base)
{
	unsigned depth = 1;

	for (source = source->backing; source; source = source->backing) {
		if (source->driver == base->driver &&
		    storage_same(source->file, base->file))
			return depth;
		depth++;
	}
	return 0;
}

/* What the target reads as before anything is copied. */
static void find_target_state(const struct run *run, struct convert_args *args)
{
	const struct image *base = args->target->backing;

	args->target_state = CONVERT_TARGET_ZERO;
	if (run->request->no_create && !run->request->target_is_zero)
		args->target_state = CONVERT_TARGET_UNKNOWN;
	if (run->request->no_create || !base)
		return;
	args->target_state = CONVERT_TARGET_DIFFERENCE;
	if (!run->sources[0].img || run->request->hash)
		return;
	args->shared_depth = shared_depth(run->sources[0].img, base);
	if (args->shared_depth > 0)
		args->target_state = CONVERT_TARGET_SHARED;
}

static int check_target(const struct run *run, const struct image *target,
			struct error *err)
{
	if (run->size > target->size_bytes)
		return error_set(err, EINVAL,
				 "output file is smaller than input file");
	if (run->request->args.pack && !target->driver->pack)
		return error_set(err, ENOTSUP,
				 "Compression not supported for this file "
				 "format");
	if (run->request->target_is_zero && target->backing)
		return error_set(err, EINVAL,
				 "Cannot use --target-is-zero when the "
				 "destination image has a backing file");
	return 0;
}

/* ---- copying ---- */

static void print_warning(void *opaque, const char *text)
{
	(void)opaque;
	message_warning("%s", text);
}

static int copy(struct run *run, struct image *target, struct error *err)
{
	struct convert_args args = run->request->args;
	int rc = check_target(run, target, err);

	if (rc < 0)
		return rc;
	if (run->request->hash) {
		rc = content_hash_new(&run->hash, run->request->hash,
				      run->size);
		if (rc < 0)
			return error_set_errno(err, -rc, "Could not hash");
	}
	args.sources = run->sources;
	args.source_count = run->count;
	args.target = target;
	args.write_behind = run->request->target_cache != CACHE_UNSAFE;
	args.warning = print_warning;
	args.hash = run->hash;
	args.progress = &run->view.progress;
	args.count_data = run->request->progress.percent;
	find_target_state(run, &args);
	rc = convert_images(&args, err);
	if (rc == -ENODATA && run->stream)
		error_set(err, ENODATA,
			  "The source holds less than the %llu bytes of its "
			  "size",
			  (unsigned long long)run->size);
	if (rc == -EIO && run->stream && stream_problem(run->stream))
		error_set(err, EIO, "%s: %s", run->request->source_names[0],
			  stream_problem(run->stream));
	return rc < 0 ? rc : check_stream_end(run, err);
}

static int copy_to_new(struct run *run, struct error *err)
{
	/* Nothing but its length has to be known of a raw image in advance. */
	bool straight = run->stream && !run->stream_size_known &&
			(run->request->driver->caps & FORMAT_NO_METADATA) &&
			!run->request->hash;
	int rc = 0;

	if (run->stream && !run->stream_size_known && !straight)
		rc = spool_aside(run, err);
	if (rc == 0)
		rc = create_target(run, err);
	if (rc < 0)
		return rc;
	if (straight)
		rc = stream_spool(run->stream, run->target.img->file,
				  &run->size, &run->view.progress, err);
	else
		rc = copy(run, run->target.img, err);
	if (rc < 0) {
		target_abandon(&run->target);
		return rc;
	}
	return target_finish(&run->target, err);
}

static int copy_to_existing(struct run *run, struct error *err)
{
	int rc = 0, close_rc;

	if (run->stream && !run->stream_size_known)
		rc = spool_aside(run, err);
	if (rc == 0)
		rc = copy(run, run->existing, err);
	if (rc == 0) {
		rc = image_flush(run->existing);
		if (rc < 0)
			error_set_errno(err, -rc, "error while flushing '%s'",
					run->existing->filename);
	}
	close_rc = image_close(run->existing);
	run->existing = NULL;
	if (rc == 0 && close_rc < 0)
		rc = error_set_errno(err, -close_rc, "error while closing '%s'",
				     run->request->target_name);
	return rc;
}

/* ---- standard output ---- */

static bool fits_stdout(const struct convert_request *request)
{
	const char *why = NULL;

	if (!(request->driver->caps & FORMAT_NO_METADATA))
		why = "Standard output takes a raw disk only";
	else if (request->no_create || request->options.count ||
		 request->args.salvage || request->args.rate || request->hash)
		why = "Options of the target, -n, -r, --salvage and --hash "
		      "have no effect on standard output";
	if (why)
		message_error("%s", why);
	return !why;
}

/* ---- all of it ---- */

static int print_hash(const struct run *run)
{
	char text[CONTENT_HASH_TEXT_MAX];

	if (!run->hash)
		return 0;
	if (content_hash_finish(run->hash, text) < 0) {
		message_error("The hash could not be computed");
		return 1;
	}
	puts(text);
	return 0;
}

static int run_copy(struct run *run)
{
	const struct convert_request *request = run->request;
	struct progress_wish wish = request->progress;
	struct error err = {0};
	int rc;

	if (is_dash(request->target_name))
		wish.percent = false; /* it would end up in the disk */
	progress_view_start(&run->view, &wish, request->quiet, 1.0);
	if (is_dash(request->target_name))
		rc = stream_out(run->sources, run->count, STDOUT_FILENO,
				&run->view.progress, &err);
	else if (request->no_create)
		rc = copy_to_existing(run, &err);
	else
		rc = copy_to_new(run, &err);
	progress_view_stop(&run->view, rc == 0);
	if (rc < 0) {
		error_default(&err, rc, "convert");
		message_error("%s", err.message);
		return 1;
	}
	return print_hash(run);
}

/* ---- --untrusted ---- */

/* What cannot be done once nothing can be opened. */
static int refuse_conflicts(const struct convert_request *request,
			    struct error *err)
{
	if (options_get(&request->options, "backing_file"))
		return error_set(err, EINVAL,
				 "With --untrusted the target cannot have a "
				 "backing file");
	for (size_t i = 0; i < request->source_count; i++) {
		enum stream_kind kind;
		bool is_stream;
		int ret =
			find_stream(&request->source, request->source_names[i],
				    &is_stream, &kind, err);

		if (ret < 0)
			return ret;
		if (is_stream)
			return error_set(err, EINVAL,
					 "With --untrusted a source has to be "
					 "an image in a file; unpack it, or "
					 "store the stream, first");
	}
	return 0;
}

static bool admit_target(const struct run *run)
{
	const struct convert_request *request = run->request;
	struct open_request existing = existing_target(request);

	if (is_dash(request->target_name))
		return true;
	if (request->no_create)
		return open_admit(run->ctx, &existing);
	return open_admit_target(run->ctx, request->target_name,
				 request->target_cache == CACHE_NONE ||
					 request->target_cache ==
						 CACHE_DIRECTSYNC);
}

/* Opens whatever the copy needs, and closes the door. */
static bool admit_all(const struct run *run)
{
	const struct convert_request *request = run->request;
	struct error err = {0};

	if (!run->ctx->guard->active)
		return true;
	if (refuse_conflicts(request, &err) < 0) {
		message_error("%s", err.message);
		return false;
	}
	for (size_t i = 0; i < request->source_count; i++) {
		struct open_request source = request->source;

		source.name = request->source_names[i];
		if (!open_admit(run->ctx, &source))
			return false;
	}
	run->ctx->guard->kept_fd = request->progress.fd;
	return admit_target(run) && open_enter(run->ctx);
}

static bool prepare(struct run *run)
{
	const struct convert_request *request = run->request;

	if (is_dash(request->target_name) && !fits_stdout(request))
		return false;
	if (!admit_all(run) || !open_sources(run))
		return false;
	if (!run->ctx->guard->active && !is_dash(request->target_name) &&
	    !request->target_image_opts &&
	    target_is_source(request->target_name, run->sources, run->count)) {
		message_error("'%s' is a source of the copy, so it cannot be "
			      "its target",
			      request->target_name);
		return false;
	}
	return !request->no_create || is_dash(request->target_name) ||
	       open_existing(run);
}

int convert_run(const struct command_context *ctx,
		const struct convert_request *request)
{
	struct run run = {.ctx = ctx, .request = request};
	int status = prepare(&run) ? run_copy(&run) : 1;

	content_hash_free(run.hash);
	image_close(run.existing);
	for (size_t i = 0; run.sources && i < run.count; i++)
		image_close(run.sources[i].img);
	stream_close(run.stream);
	free(run.sources);
	return status;
}
