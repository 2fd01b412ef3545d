/* SPDX-License-Identifier: BSD-3-Clause */
/* JSON as the commands print it. */
#ifndef PLATTER_CLI_JSON_H
#define PLATTER_CLI_JSON_H

#include <jansson.h>
#include <stdbool.h>

/* Before any other use of Jansson: it tells from then on if memory ran out. */
void json_init(void);

/* False after a message if values lack something for want of memory. */
bool json_is_whole(void);

/* A string of any bytes: what is no UTF-8 becomes U+FFFD. New reference. */
json_t *json_text(const char *bytes);

/*
 * Prints with four blanks a level and a newline at the end, ASCII only. Frees
 * `value`. False after a message if memory ran out on the way (NULL too).
 */
bool json_print(json_t *value);

#endif
