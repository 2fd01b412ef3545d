/* SPDX-License-Identifier: BSD-3-Clause */
/* See the header. */
#include "tests/support/op-trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"

#define DISK_SECTORS_MAX (1u << 20)

static void add(struct op_trace *t, struct workload_op op)
{
	/* At each power of two there is room for as many again. */
	if ((t->count & (t->count - 1)) == 0) {
		size_t room = t->count ? t->count * 2 : 1;

		t->ops = reallocarray(t->ops, room, sizeof(*t->ops));
		if (!t->ops)
			abort();
	}
	t->ops[t->count++] = op;
}

static int add_range(struct op_trace *t, enum workload_kind kind,
		     uint64_t sector, uint64_t sectors)
{
	uint64_t disk_sectors = t->disk_bytes / ORACLE_SECTOR;

	if (!sectors || !range_inside(sector, sectors, disk_sectors))
		return -1;
	add(t, (struct workload_op){.kind = kind,
				    .guest_off = sector * ORACLE_SECTOR,
				    .len = sectors * ORACLE_SECTOR});
	return 0;
}

static int read_line(struct op_trace *t, const char *line)
{
	uint64_t a, b;
	char kind;

	if (line[0] == '#')
		return 0;
	if (!strcmp(line, "f\n")) {
		add(t, (struct workload_op){.kind = WORK_FLUSH});
		return t->disk_bytes ? 0 : -1;
	}
	if (sscanf(line, "disk %" SCNu64, &a) == 1) {
		t->disk_bytes = a * ORACLE_SECTOR;
		return t->count || !a || a > DISK_SECTORS_MAX ? -1 : 0;
	}
	if (sscanf(line, "%c %" SCNu64 " %" SCNu64, &kind, &a, &b) != 3)
		return -1;
	if (kind == 'w')
		return add_range(t, WORK_WRITE, a, b);
	return kind == 'd' ? add_range(t, WORK_DISCARD, a, b) : -1;
}

int op_trace_read(struct op_trace *out, const char *path, char *why,
		  size_t why_len)
{
	FILE *file = fopen(path, "re");
	unsigned number = 0;
	char line[128];
	int ret = 0;

	*out = (struct op_trace){0};
	snprintf(out->path, sizeof(out->path), "%s", path);
	while (file && !ret && fgets(line, sizeof(line), file)) {
		number++;
		ret = read_line(out, line);
	}
	if (ret < 0) {
		snprintf(why, why_len, "%s: line %u is no request", path,
			 number);
	} else if (!file || ferror(file) || !out->count) {
		snprintf(why, why_len, "%s: no trace", path);
		ret = -1;
	}
	if (file)
		fclose(file);
	return ret;
}

void op_trace_release(struct op_trace *trace)
{
	free(trace->ops);
	*trace = (struct op_trace){0};
}
