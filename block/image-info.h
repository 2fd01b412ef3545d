/* SPDX-License-Identifier: BSD-3-Clause */
/* What an image says about itself, for people and programs. */
#ifndef PLATTER_BLOCK_IMAGE_INFO_H
#define PLATTER_BLOCK_IMAGE_INFO_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct image;

struct image_snapshot_info {
	char *id, *name;
	uint64_t vm_state_size;
	uint64_t date_sec, date_nsec;
	uint64_t vm_clock_nsec;
	uint64_t icount; /* UINT64_MAX: unknown */
};

struct image_info {
	char *filename;
	const char *format;
	uint64_t virtual_size;
	int64_t actual_size; /* negative: unknown */
	uint64_t file_length;
	const char *protocol;  /* "file", "host_device", ... */
	uint32_t cluster_size; /* 0: none to show */
	bool dirty, encrypted, corrupt;
	char *backing_filename;	     /* as recorded */
	char *full_backing_filename; /* NULL if it cannot be told */
	char *backing_format;
	struct image_snapshot_info *snapshots;
	size_t snapshot_count;
	/*
	 * The format's own facts, an object in the order to print, or NULL.
	 * Keys as in JSON ("lazy-refcounts"); owned.
	 */
	json_t *specific;
};

int image_info_get(struct image *img, struct image_info *out,
		   struct error *err);
void image_info_release(struct image_info *info);

#endif
