/* SPDX-License-Identifier: BSD-3-Clause */
/* The commands of `platter io` that read, write and discard. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "block/bytes.h"
#include "block/clock.h"
#include "cli/io.h"

#define PATTERN_DEFAULT 0xcd

/* "off len": the last two words. `limit` names an exception, or is "". */
static bool parse_range(char **words, struct io_request *req, uint64_t max,
			const char *exception)
{
	if (!io_parse_number(words[0], &req->off) ||
	    !io_parse_number(words[1], &req->len))
		return false;
	if (req->len > max) {
		printf("length cannot exceed %llu%s, given %s\n",
		       (unsigned long long)max, exception, words[1]);
		return false;
	}
	return true;
}

/* ---- read, readv ---- */

struct read_words {
	struct io_request req;
	bool vm_state;
	bool has_start, has_len;
};

/* False after a message, or for an option that is unknown. */
static bool take_read_option(int opt, struct read_words *out)
{
	struct io_request *req = &out->req;

	switch (opt) {
	case 'a':
	case 'p':
		return true;
	case 'b':
		out->vm_state = true;
		return true;
	case 'C':
		req->compact = true;
		return true;
	case 'q':
		req->quiet = true;
		return true;
	case 'v':
		req->dump = true;
		return true;
	case 'P':
		req->verify = true;
		return io_parse_pattern(optarg, &req->pattern);
	case 's':
		out->has_start = true;
		return io_parse_number(optarg, &req->verify_off);
	case 'l':
		out->has_len = true;
		return io_parse_number(optarg, &req->verify_len);
	default:
		return io_usage("read");
	}
}

static bool settle_verify(struct read_words *words)
{
	struct io_request *req = &words->req;

	if ((words->has_start || words->has_len) && !req->verify)
		return io_usage("read");
	if (!words->has_len)
		req->verify_len = req->len - min_u64(req->len, req->verify_off);
	if (!range_inside(req->verify_off, req->verify_len, req->len)) {
		puts("pattern verification range exceeds end of read data");
		return false;
	}
	return true;
}

bool io_read(struct io_session *io, int argc, char **argv)
{
	struct read_words words = {0};
	int opt;

	optind = 0;
	while ((opt = getopt(argc, argv, "abCl:pP:qs:v")) != -1)
		if (!take_read_option(opt, &words))
			return false;
	if (optind != argc - 2)
		return io_usage("read");
	if (!parse_range(argv + optind, &words.req, IO_LEN_MAX, "") ||
	    !settle_verify(&words))
		return false;
	if (words.vm_state)
		return io_failed("read", -EOPNOTSUPP);
	return io_do_read(io->img, &words.req, "read");
}

bool io_readv(struct io_session *io, int argc, char **argv)
{
	struct read_words words = {0};
	struct io_request *req = &words.req;
	int opt;

	optind = 0;
	while ((opt = getopt(argc, argv, "CP:qv")) != -1) {
		if (opt == '?')
			return io_usage("readv");
		if (!take_read_option(opt, &words))
			return false;
	}
	if (optind > argc - 2)
		return io_usage("readv");
	if (!io_parse_number(argv[optind], &req->off) ||
	    !io_parse_vector(argv + optind + 1, argc - optind - 1, &req->len))
		return false;
	req->verify_len = req->len;
	return io_do_read(io->img, req, "readv");
}

/* ---- write, writev ---- */

struct write_words {
	struct io_request req;
	bool vm_state, no_fallback, has_pattern;
	const char *source_name;
};

static bool take_write_option(int opt, struct write_words *out)
{
	struct io_request *req = &out->req;

	switch (opt) {
	case 'b':
		out->vm_state = true;
		return true;
	case 'c':
		req->packed = true;
		return true;
	case 'C':
		req->compact = true;
		return true;
	case 'f':
		req->durable = true;
		return true;
	case 'n':
		out->no_fallback = true;
		return true;
	case 'p':
		return true;
	case 'P':
		out->has_pattern = true;
		return io_parse_pattern(optarg, &req->pattern);
	case 'q':
		req->quiet = true;
		return true;
	case 's':
		out->source_name = optarg;
		return true;
	case 'u':
		req->unmap = true;
		return true;
	case 'z':
		req->zero = true;
		return true;
	default:
		return io_usage("write");
	}
}

/* What of the options does not go together, or NULL. */
static const char *write_conflict(const struct write_words *words)
{
	const struct io_request *req = &words->req;

	if (words->vm_state && req->zero)
		return "-b and -z cannot be specified at the same time";
	if (req->durable && (words->vm_state || req->packed))
		return "-f and -b or -c cannot be specified at the same time";
	if (words->no_fallback && !req->zero)
		return "-n requires -z to be specified";
	if (req->unmap && !req->zero)
		return "-u requires -z to be specified";
	if (req->zero + words->has_pattern + (words->source_name != NULL) > 1)
		return "Only one of -z, -P, and -s can be specified at the "
		       "same time";
	return NULL;
}

static bool open_source(struct write_words *words)
{
	FILE *file = fopen(words->source_name, "re");
	int first;

	if (!file) {
		fprintf(stderr, "%s: %s\n", words->source_name,
			strerror(errno));
		return false;
	}
	first = getc(file);
	if (first == EOF) {
		fprintf(stderr, "%s: %s\n", words->source_name,
			ferror(file) ? strerror(errno) : "file is empty");
		fclose(file);
		return false;
	}
	ungetc(first, file);
	words->req.source = file;
	return true;
}

static bool write_words_run(struct io_session *io, struct write_words *words)
{
	bool good;

	if (words->vm_state)
		return io_failed("write", -EOPNOTSUPP);
	if (words->source_name && !open_source(words))
		return false;
	good = io_do_write(io->img, &words->req, "write");
	if (words->req.source)
		fclose(words->req.source);
	return good;
}

bool io_write(struct io_session *io, int argc, char **argv)
{
	struct write_words words = {.req.pattern = PATTERN_DEFAULT};
	const char *conflict;
	bool no_limit;
	int opt;

	optind = 0;
	while ((opt = getopt(argc, argv, "bcCfnpP:qs:uz")) != -1)
		if (!take_write_option(opt, &words))
			return false;
	if (optind != argc - 2)
		return io_usage("write");
	conflict = write_conflict(&words);
	if (conflict) {
		puts(conflict);
		return false;
	}
	no_limit = words.no_fallback;
	if (!parse_range(argv + optind, &words.req,
			 no_limit ? INT64_MAX : IO_LEN_MAX,
			 no_limit ? "" : " without -n"))
		return false;
	return write_words_run(io, &words);
}

bool io_writev(struct io_session *io, int argc, char **argv)
{
	struct write_words words = {.req.pattern = PATTERN_DEFAULT};
	struct io_request *req = &words.req;
	int opt;

	optind = 0;
	while ((opt = getopt(argc, argv, "CfP:q")) != -1) {
		if (opt == '?')
			return io_usage("writev");
		if (!take_write_option(opt, &words))
			return false;
	}
	if (optind > argc - 2)
		return io_usage("writev");
	if (!io_parse_number(argv[optind], &req->off) ||
	    !io_parse_vector(argv + optind + 1, argc - optind - 1, &req->len))
		return false;
	return io_do_write(io->img, req, "writev");
}

/* ---- discard ---- */

bool io_discard(struct io_session *io, int argc, char **argv)
{
	struct io_request req = {0};
	uint64_t start_ns;
	int opt, ret;

	optind = 0;
	while ((opt = getopt(argc, argv, "Cq")) != -1) {
		if (opt == '?')
			return io_usage("discard");
		req.compact |= opt == 'C';
		req.quiet |= opt == 'q';
	}
	if (optind != argc - 2)
		return io_usage("discard");
	if (!parse_range(argv + optind, &req, IO_LEN_MAX, ""))
		return false;
	start_ns = clock_now_ns();
	ret = range_inside(req.off, req.len, io->img->size_bytes)
		      ? image_discard(io->img, req.off, req.len)
		      : -EIO;
	if (ret < 0)
		return io_failed("discard", ret);
	io_report(&req, "discard", start_ns);
	return true;
}
