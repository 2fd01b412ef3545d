/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of `platter io`: single reads, writes and other operations on an
 * image, told by small commands. Texts and exit status are those of qemu-io, so
 * that scripts written for it run unchanged.
 *
 * io.c has the options and the loop, io-command.c the table of commands;
 * io-transfer.c and io-report.c serve several of them. The other files hold the
 * commands, group by group.
 *
 * Memory is bounded whatever the length of a request: data passes through one
 * piece of IO_PIECE_BYTES.
 */
#ifndef PLATTER_CLI_IO_H
#define PLATTER_CLI_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "block/image.h"

struct command_context;
struct io_jobs;

/* As in qemu-io: a whole number of sectors that fits an int. */
#define IO_LEN_MAX (INT32_MAX & ~511)
/* A multiple of every cluster size, so that pieces end where clusters do. */
#define IO_PIECE_BYTES (4u * 1024 * 1024)

/* ---- the session ---- */

/* How an image is opened; texts are owned by the session that holds it. */
struct io_open_args {
	char *name;
	char *format;  /* NULL: probe */
	char *options; /* a=b,c=d on top of the name; NULL: none */
	bool image_opts;
	bool read_only;
	bool force_share;
	enum cache_mode cache;
};

struct io_session {
	const struct command_context *ctx;
	struct image *img;	  /* NULL: none is open */
	struct io_open_args open; /* how img was opened */
	struct io_jobs *jobs;	  /* aio_* requests under way; may be NULL */
	bool quit;
};

/* ---- commands ---- */

#define IO_NO_IMAGE 0x01u /* works without an open image */
#define IO_WRITES   0x02u /* wants a writable image */
#define IO_ANY_ARGS 0x04u /* `args_max` does not count */

struct io_command {
	const char *name, *alias;
	/* argv[0] is the name as typed. False: it failed and said so. */
	bool (*run)(struct io_session *io, int argc, char **argv);
	int args_min, args_max;
	unsigned flags;
	const char *synopsis; /* arguments, NULL: none */
	const char *summary;
	const char *help; /* more lines; NULL: none */
};

/* One line; false if its command failed. Changes `line`. */
bool io_run_line(struct io_session *io, char *line);

/* The usage line of a command, after wrong options. Returns false. */
bool io_usage(const char *name);

bool io_close(struct io_session *io, int argc, char **argv);
bool io_discard(struct io_session *io, int argc, char **argv);
bool io_flush(struct io_session *io, int argc, char **argv);
bool io_help(struct io_session *io, int argc, char **argv);
bool io_info(struct io_session *io, int argc, char **argv);
bool io_length(struct io_session *io, int argc, char **argv);
bool io_alloc(struct io_session *io, int argc, char **argv);
bool io_map(struct io_session *io, int argc, char **argv);
bool io_open(struct io_session *io, int argc, char **argv);
bool io_quit(struct io_session *io, int argc, char **argv);
bool io_read(struct io_session *io, int argc, char **argv);
bool io_readv(struct io_session *io, int argc, char **argv);
bool io_reopen(struct io_session *io, int argc, char **argv);
bool io_sigraise(struct io_session *io, int argc, char **argv);
bool io_sleep(struct io_session *io, int argc, char **argv);
bool io_truncate(struct io_session *io, int argc, char **argv);
bool io_write(struct io_session *io, int argc, char **argv);
bool io_writev(struct io_session *io, int argc, char **argv);
bool io_aio_read(struct io_session *io, int argc, char **argv);
bool io_aio_write(struct io_session *io, int argc, char **argv);
bool io_aio_flush(struct io_session *io, int argc, char **argv);

/* ---- opening ---- */

/* Opens what `args` says; the session owns its texts then. */
bool io_session_open(struct io_session *io, const struct io_open_args *args);
/* Waits for what is under way and closes; false after a message. */
bool io_session_close(struct io_session *io);
void io_open_args_release(struct io_open_args *args);
/* Words of -d and -i: without effect, but a wrong one is an error. */
bool io_check_discard_word(const char *word);
bool io_check_aio_word(const char *word);
/* -s: says what to do instead. Returns false. */
bool io_refuse_snapshot(void);
bool io_parse_cache(const char *word, enum cache_mode *out);

/* ---- requests ---- */

struct io_request {
	uint64_t off, len;
	bool quiet, compact; /* -q, -C */

	/* reading */
	bool dump;   /* -v */
	bool verify; /* -P: [verify_off, +verify_len) of it is `pattern` */
	uint64_t verify_off, verify_len;

	/* writing */
	uint8_t pattern;
	FILE *source; /* -s: its content again and again, not the pattern */
	bool zero, unmap, packed;
	bool durable; /* -f: flushed before it counts as done */
};

/* Reports like qemu-io: what went wrong, or how fast it was. */
bool io_do_read(struct image *img, const struct io_request *req,
		const char *name);
bool io_do_write(struct image *img, const struct io_request *req,
		 const char *name);

/* aio_flush, also before the image changes hands. */
void io_jobs_wait(struct io_session *io);

/* ---- numbers and texts; all false after a message on stdout ---- */

bool io_parse_number(const char *text, uint64_t *out);
bool io_parse_pattern(const char *text, uint8_t *out);
/* The lengths of a vector, summed. */
bool io_parse_vector(char **texts, int count, uint64_t *len);
bool io_failed(const char *name, int negative_errno);

/* "wrote 5/5 bytes at offset 0", and the line with the speed. */
void io_report(const struct io_request *req, const char *did,
	       uint64_t start_ns);
void io_dump(const uint8_t *buf, size_t len, uint64_t guest_off);

#define IO_SIZE_TEXT_MAX 64
/* "1.500 KiB", "20 bytes". Returns `buf`. */
const char *io_size_text(char buf[IO_SIZE_TEXT_MAX], double bytes);

#endif
