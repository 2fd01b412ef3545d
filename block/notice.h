/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a user has to be told of a request that failed, where an errno cannot
 * say it: once for a thing that went wrong, not once for each request. Any
 * thread.
 */
#ifndef PLATTER_BLOCK_NOTICE_H
#define PLATTER_BLOCK_NOTICE_H

typedef void notice_function(const char *text);

/* Before there are threads; NULL, as at first: nobody is told. */
void notice_set(notice_function *function);

/* One printable line without its end. */
void notice(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
