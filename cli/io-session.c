/* SPDX-License-Identifier: BSD-3-Clause */
/* Which image `platter io` works on, and how it is opened. */
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/image-info.h"
#include "block/image-spec.h"
#include "cli/command.h"
#include "cli/guard.h"
#include "cli/info-print.h"
#include "cli/io.h"
#include "cli/json.h"
#include "cli/message.h"
#include "cli/open.h"

void io_open_args_release(struct io_open_args *args)
{
	free(args->name);
	free(args->format);
	free(args->options);
	*args = (struct io_open_args){0};
}

static bool copy_text(char **out, const char *text)
{
	*out = text ? strdup(text) : NULL;
	return *out || !text;
}

static bool copy_args(struct io_open_args *out, const struct io_open_args *args)
{
	*out = *args;
	out->name = out->format = out->options = NULL;
	if (copy_text(&out->name, args->name) &&
	    copy_text(&out->format, args->format) &&
	    copy_text(&out->options, args->options))
		return true;
	io_open_args_release(out);
	message_error("Out of memory");
	return false;
}

/* -o adds to what the name says; `driver` among it is the format. */
static int add_options(struct image_spec *spec, const char *text,
		       struct error *err)
{
	const char *driver;
	int ret = options_parse(&spec->options, text, err);

	if (ret < 0)
		return ret;
	driver = options_get(&spec->options, "driver");
	if (!driver)
		return 0;
	free(spec->format);
	spec->format = strdup(driver);
	options_remove(&spec->options, "driver");
	return spec->format ? 0 : error_set(err, ENOMEM, "Out of memory");
}

static int make_spec(struct image_spec *spec, const struct io_open_args *args,
		     struct error *err)
{
	int ret;

	if (!args->name)
		return image_spec_parse_opts(spec, args->options, err);
	if (args->image_opts)
		ret = image_spec_parse_opts(spec, args->name, err);
	else
		ret = image_spec_parse(spec, args->name, args->format, err);
	if (ret < 0 || !args->options)
		return ret;
	ret = add_options(spec, args->options, err);
	if (ret < 0)
		image_spec_release(spec);
	return ret;
}

static int open_spec_of(struct io_session *io, const struct io_open_args *args,
			struct error *err)
{
	struct opener opener = io->ctx->trust;
	struct image_spec spec = {0};
	struct image_open_args open_args = {
		.spec = &spec,
		.flags = io->ctx->open_flags |
			 (args->read_only ? 0 : IMAGE_WRITE),
		.cache = args->cache,
		.opener = &opener,
	};
	int ret;

	if (args->force_share && !args->read_only)
		return error_set(err, EINVAL,
				 "force-share=on can only be used with "
				 "read-only images");
	ret = make_spec(&spec, args, err);
	if (ret < 0)
		return ret;
	if (args->force_share)
		open_args.flags |= IMAGE_FORCE_SHARE;
	opener.force_share = args->force_share;
	ret = guard_image_open(io->ctx->guard, &io->img, &open_args, &spec,
			       err);
	if (ret < 0)
		io->img = NULL;
	image_spec_release(&spec);
	return ret;
}

bool io_session_open(struct io_session *io, const struct io_open_args *args)
{
	struct io_open_args copy;
	struct error err = {0};

	if (io->img) {
		message_error("file open already, try 'help close'");
		return false;
	}
	if (!copy_args(&copy, args))
		return false;
	if (open_spec_of(io, &copy, &err) < 0) {
		message_error("can't open%s%s: %s", copy.name ? " device " : "",
			      copy.name ? copy.name : "", err.message);
		io_open_args_release(&copy);
		return false;
	}
	if (!copy.read_only && io->img->format_guessed)
		open_warn_of_guess(copy.name);
	io_open_args_release(&io->open);
	io->open = copy;
	return true;
}

bool io_session_close(struct io_session *io)
{
	bool good = true;

	io_jobs_wait(io);
	if (io->img)
		good = open_close(io->img);
	io->img = NULL;
	return good;
}

bool io_close(struct io_session *io, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return io_session_close(io);
}

bool io_length(struct io_session *io, int argc, char **argv)
{
	char text[IO_SIZE_TEXT_MAX];

	(void)argc;
	(void)argv;
	puts(io_size_text(text, (double)io->img->size_bytes));
	return true;
}

bool io_info(struct io_session *io, int argc, char **argv)
{
	struct image_info info = {0};
	struct error err = {0};
	char text[IO_SIZE_TEXT_MAX];

	(void)argc;
	(void)argv;
	io_jobs_wait(io);
	if (image_info_get(io->img, &info, &err) < 0) {
		message_error("%s", err.message);
		return false;
	}
	if (!json_is_whole()) {
		image_info_release(&info);
		return false;
	}
	printf("format name: %s\n", info.format);
	printf("cluster size: %s\n", io_size_text(text, info.cluster_size));
	info_print_specific(&info);
	image_info_release(&info);
	return true;
}
