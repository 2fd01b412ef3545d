/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Names from images, for messages: what reaches a terminal or a log is
 * printable whatever the image holds (spec: reliability 3, names).
 */
#ifndef PLATTER_BLOCK_QUOTE_H
#define PLATTER_BLOCK_QUOTE_H

/* Enough to tell names apart; long ones end in "...". */
#define QUOTED_NAME_MAX 256

struct quoted_name {
	char text[QUOTED_NAME_MAX];
};

/*
 * `name` with control characters, backslashes and what is not UTF-8 written as
 * \xHH, and \n for a line feed. Lives as long as `buf`. Any thread.
 */
const char *quote_name(struct quoted_name *buf, const char *name);

#endif
