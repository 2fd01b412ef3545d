/* SPDX-License-Identifier: BSD-3-Clause */
/* struct image_info as text for people and as JSON. */
#ifndef PLATTER_CLI_INFO_PRINT_H
#define PLATTER_CLI_INFO_PRINT_H

#include <jansson.h>
#include <stdbool.h>

struct image_info;

/* `separate`: a blank line comes first. */
void info_print_human(const struct image_info *info, bool separate);

/* The format's own facts only; nothing if there are none. */
void info_print_specific(const struct image_info *info);

/* New reference; NULL without memory. */
json_t *info_to_json(const struct image_info *info);

#endif
