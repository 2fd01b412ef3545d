/* SPDX-License-Identifier: BSD-3-Clause */
/* struct image_info as text for people and as JSON. */
#include "cli/info-print.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "block/image-info.h"
#include "cli/json.h"
#include "cli/message.h"

#define NS_PER_SECOND 1000000000u

/* ---- for people ---- */

/*
 * Text out of an image: its author must not get to write to the terminal, so
 * control bytes are shown as \xNN. Returns how many columns that took.
 */
static int print_text(const char *text)
{
	int columns = 0;

	for (; *text; text++) {
		unsigned char byte = (unsigned char)*text;

		if (byte < 0x20 || byte == 0x7f) {
			columns += printf("\\x%02x", byte);
		} else {
			putchar(byte);
			columns++;
		}
	}
	return columns;
}

/* The same in a column of a table. */
static void print_column(const char *text, int width)
{
	int rest = width - print_text(text);

	printf("%*s ", rest > 0 ? rest : 0, "");
}

static void print_tree(json_t *node, int depth);

static bool is_tree(json_t *node)
{
	return json_is_object(node) || json_is_array(node);
}

static void print_leaf(json_t *node)
{
	switch (json_typeof(node)) {
	case JSON_STRING:
		print_text(json_string_value(node));
		break;
	case JSON_INTEGER:
		printf("%lld", (long long)json_integer_value(node));
		break;
	case JSON_REAL:
		printf("%g", json_real_value(node));
		break;
	case JSON_TRUE:
		fputs("true", stdout);
		break;
	case JSON_FALSE:
		fputs("false", stdout);
		break;
	case JSON_NULL:
	case JSON_OBJECT:
	case JSON_ARRAY:
		break;
	}
}

static void print_value(json_t *node, int depth)
{
	if (is_tree(node)) {
		putchar('\n');
		print_tree(node, depth + 1);
		return;
	}
	putchar(' ');
	print_leaf(node);
	putchar('\n');
}

/* Keys read better with blanks for dashes. */
static void print_key(const char *key, int depth)
{
	printf("%*s", depth * 4, "");
	for (; *key; key++)
		putchar(*key == '-' ? ' ' : *key);
	putchar(':');
}

/* Depth is bounded by what drivers build, not by what an image holds. */
static void print_tree(json_t *node, int depth)
{
	const char *key;
	json_t *value;

	if (json_is_array(node)) {
		for (size_t i = 0; i < json_array_size(node); i++) {
			printf("%*s[%zu]:", depth * 4, "", i);
			print_value(json_array_get(node, i), depth);
		}
		return;
	}
	json_object_foreach(node, key, value)
	{
		print_key(key, depth);
		print_value(value, depth);
	}
}

static void date_text(char *buf, size_t size, uint64_t seconds)
{
	time_t when = (time_t)seconds;
	struct tm local;

	if (!localtime_r(&when, &local) ||
	    !strftime(buf, size, "%Y-%m-%d %H:%M:%S", &local))
		snprintf(buf, size, "-");
}

static void print_snapshot(const struct image_snapshot_info *snapshot)
{
	uint64_t seconds = snapshot->vm_clock_nsec / NS_PER_SECOND;
	uint64_t ms = snapshot->vm_clock_nsec % NS_PER_SECOND / 1000000;
	char size[SIZE_TEXT_MAX], date[64], clock[64], icount[32] = "";

	date_text(date, sizeof(date), snapshot->date_sec);
	snprintf(clock, sizeof(clock), "%02llu:%02llu:%02llu.%03llu",
		 (unsigned long long)(seconds / 3600),
		 (unsigned long long)(seconds / 60 % 60),
		 (unsigned long long)(seconds % 60), (unsigned long long)ms);
	if (snapshot->icount != UINT64_MAX)
		snprintf(icount, sizeof(icount), "%llu",
			 (unsigned long long)snapshot->icount);
	print_column(snapshot->id, 9);
	print_column(snapshot->name, 16);
	printf("%8s%20s%13s%11s\n", size_text(size, snapshot->vm_state_size),
	       date, clock, icount);
}

static void print_snapshots(const struct image_info *info)
{
	if (!info->snapshot_count)
		return;
	printf("Snapshot list:\n%-9s %-16s %8s%20s%13s%11s\n", "ID", "TAG",
	       "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
	for (size_t i = 0; i < info->snapshot_count; i++)
		print_snapshot(&info->snapshots[i]);
}

static void print_backing(const struct image_info *info)
{
	const char *name = info->backing_filename;
	const char *full = info->full_backing_filename;

	if (!name)
		return;
	fputs("backing file: ", stdout);
	print_text(name);
	if (!full) {
		fputs(" (cannot determine actual path)", stdout);
	} else if (strcmp(name, full) != 0) {
		fputs(" (actual path: ", stdout);
		print_text(full);
		putchar(')');
	}
	putchar('\n');
	if (info->backing_format) {
		fputs("backing file format: ", stdout);
		print_text(info->backing_format);
		putchar('\n');
	}
}

void info_print_specific(const struct image_info *info)
{
	if (!info->specific || !json_object_size(info->specific))
		return;
	puts("Format specific information:");
	print_tree(info->specific, 1);
}

void info_print_human(const struct image_info *info, bool separate)
{
	char size[SIZE_TEXT_MAX];

	if (separate)
		putchar('\n');
	printf("image: %s\nfile format: %s\n", info->filename, info->format);
	printf("virtual size: %s (%llu bytes)\n",
	       size_text(size, info->virtual_size),
	       (unsigned long long)info->virtual_size);
	printf("disk size: %s\n",
	       info->actual_size < 0
		       ? "unavailable"
		       : size_text(size, (uint64_t)info->actual_size));
	if (info->encrypted)
		puts("encrypted: yes");
	if (info->cluster_size)
		printf("cluster_size: %u\n", info->cluster_size);
	if (info->dirty)
		puts("cleanly shut down: no");
	print_backing(info);
	print_snapshots(info);
	info_print_specific(info);
}

/* ---- JSON ---- */

static void set_number(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new(object, key, json_integer((json_int_t)value));
}

static void set_text(json_t *object, const char *key, const char *text)
{
	if (text)
		json_object_set_new(object, key, json_text(text));
}

static json_t *snapshot_json(const struct image_snapshot_info *snapshot)
{
	json_t *out = json_object();

	if (snapshot->icount != UINT64_MAX)
		set_number(out, "icount", snapshot->icount);
	set_number(out, "vm-clock-nsec",
		   snapshot->vm_clock_nsec % NS_PER_SECOND);
	set_text(out, "name", snapshot->name);
	set_number(out, "date-sec", snapshot->date_sec);
	set_number(out, "date-nsec", snapshot->date_nsec);
	set_number(out, "vm-clock-sec",
		   snapshot->vm_clock_nsec / NS_PER_SECOND);
	set_text(out, "id", snapshot->id);
	set_number(out, "vm-state-size", snapshot->vm_state_size);
	return out;
}

static void set_snapshots(json_t *object, const struct image_info *info)
{
	json_t *list;

	if (!info->snapshot_count)
		return;
	list = json_array();
	for (size_t i = 0; i < info->snapshot_count; i++)
		json_array_append_new(list, snapshot_json(&info->snapshots[i]));
	json_object_set_new(object, "snapshots", list);
}

static void set_specific(json_t *object, const struct image_info *info)
{
	json_t *wrapped;

	if (!info->specific)
		return;
	wrapped = json_object();
	json_object_set_new(wrapped, "type", json_string(info->format));
	json_object_set(wrapped, "data", info->specific);
	json_object_set_new(object, "format-specific", wrapped);
}

json_t *info_to_json(const struct image_info *info)
{
	json_t *out = json_object();

	set_snapshots(out, info);
	set_text(out, "backing-filename-format", info->backing_format);
	set_number(out, "virtual-size", info->virtual_size);
	set_text(out, "filename", info->filename);
	if (info->cluster_size)
		set_number(out, "cluster-size", info->cluster_size);
	set_text(out, "format", info->format);
	if (info->actual_size >= 0)
		set_number(out, "actual-size", (uint64_t)info->actual_size);
	set_specific(out, info);
	set_text(out, "full-backing-filename", info->full_backing_filename);
	set_text(out, "backing-filename", info->backing_filename);
	if (info->encrypted)
		json_object_set_new(out, "encrypted", json_true());
	json_object_set_new(out, "dirty-flag", json_boolean(info->dirty));
	return out;
}
