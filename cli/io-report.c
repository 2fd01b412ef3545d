/* SPDX-License-Identifier: BSD-3-Clause */
/* Numbers in and out of `platter io`: arguments, sizes, speeds, dumps. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"
#include "block/clock.h"
#include "block/options.h"
#include "cli/io.h"

#define NS_PER_SECOND 1000000000u

/* ---- arguments ---- */

bool io_parse_number(const char *text, uint64_t *out)
{
	/* One sign is allowed in front. */
	bool sign = text[0] == '+' && isdigit((unsigned char)text[1]);
	int ret = size_parse(text + sign, out);

	if (ret == -ERANGE)
		printf("Parsing error: argument too large -- %s\n", text);
	else if (ret < 0)
		printf("Parsing error: non-numeric argument, or "
		       "extraneous/unrecognized suffix -- %s\n",
		       text);
	return ret == 0;
}

bool io_parse_pattern(const char *text, uint8_t *out)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 0);
	if (errno || end == text || *end || value < 0 || value > UINT8_MAX) {
		printf("%s is not a valid pattern byte\n", text);
		return false;
	}
	*out = (uint8_t)value;
	return true;
}

bool io_parse_vector(char **texts, int count, uint64_t *len)
{
	*len = 0;
	for (int i = 0; i < count; i++) {
		uint64_t part;

		if (!io_parse_number(texts[i], &part))
			return false;
		if (part > IO_LEN_MAX) {
			printf("Argument '%s' exceeds maximum size %d\n",
			       texts[i], IO_LEN_MAX);
			return false;
		}
		if (*len + part > IO_LEN_MAX) {
			printf("The total number of bytes exceed the maximum "
			       "size %d\n",
			       IO_LEN_MAX);
			return false;
		}
		*len += part;
	}
	return true;
}

bool io_failed(const char *name, int negative_errno)
{
	printf("%s failed: %s\n", name, strerror(-negative_errno));
	return false;
}

/* ---- results ---- */

const char *io_size_text(char buf[IO_SIZE_TEXT_MAX], double bytes)
{
	static const char *const units[] = {"bytes", "KiB", "MiB", "GiB",
					    "TiB",   "PiB", "EiB"};
	size_t unit = 0;
	char number[48];
	char *point;

	while (bytes >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		bytes /= 1024;
		unit++;
	}
	snprintf(number, sizeof(number), unit ? "%.3f" : "%f", bytes);
	point = strchr(number, '.');
	if (point && strspn(point + 1, "0") == strlen(point + 1))
		*point = '\0';
	snprintf(buf, IO_SIZE_TEXT_MAX, "%s %s", number, units[unit]);
	return buf;
}

/* Minutes and hours only where they are needed, or asked for. */
static void time_text(char *buf, size_t cap, uint64_t ns, bool with_hours)
{
	uint64_t seconds = ns / NS_PER_SECOND;
	unsigned cents = (unsigned)(ns % NS_PER_SECOND / 10000000);

	if (seconds >= 60 || with_hours)
		snprintf(buf, cap, "%llu:%02u:%02u.%02u",
			 (unsigned long long)(seconds / 3600),
			 (unsigned)(seconds / 60 % 60),
			 (unsigned)(seconds % 60), cents);
	else
		snprintf(buf, cap, "%02u.%02u sec", (unsigned)seconds, cents);
}

void io_report(const struct io_request *req, const char *did, uint64_t start_ns)
{
	uint64_t ns = max_u64(clock_now_ns() - start_ns, 1);
	double per_second = (double)NS_PER_SECOND / (double)ns;
	double speed = (double)req->len * per_second;
	char size[IO_SIZE_TEXT_MAX], rate[IO_SIZE_TEXT_MAX], took[64];

	if (req->quiet)
		return;
	time_text(took, sizeof(took), ns, req->compact);
	if (req->compact) {
		printf("%llu,1,%s,%.3f,%.3f\n", (unsigned long long)req->len,
		       took, speed, per_second);
		return;
	}
	/* Requests on other threads report too: two lines stay together. */
	flockfile(stdout);
	printf("%s %llu/%llu bytes at offset %llu\n", did,
	       (unsigned long long)req->len, (unsigned long long)req->len,
	       (unsigned long long)req->off);
	printf("%s, 1 ops; %s (%s/sec and %.4f ops/sec)\n",
	       io_size_text(size, (double)req->len), took,
	       io_size_text(rate, speed), per_second);
	funlockfile(stdout);
}

#define DUMP_COLUMNS 16u

static void dump_line(const uint8_t *bytes, size_t count, uint64_t guest_off)
{
	printf("%08llx:  ", (unsigned long long)guest_off);
	for (size_t i = 0; i < count; i++)
		printf("%02x ", bytes[i]);
	putchar(' ');
	for (size_t i = 0; i < count; i++)
		putchar(bytes[i] >= 0x20 && bytes[i] < 0x7f ? bytes[i] : '.');
	putchar('\n');
}

void io_dump(const uint8_t *buf, size_t len, uint64_t guest_off)
{
	flockfile(stdout);
	for (size_t done = 0; done < len; done += DUMP_COLUMNS)
		dump_line(buf + done, min_u64(len - done, DUMP_COLUMNS),
			  guest_off + done);
	funlockfile(stdout);
}
