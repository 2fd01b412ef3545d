/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The order of locks, outermost first. Whoever holds one may take only those
 * below it. Nothing is called back, and no guest data is moved, under 2 to 4.
 *
 *  1. range hold (range-lock.h), of the upper image before its backing's
 *  2. format change lock: whoever changes one image's mapping or flushes it
 *     (struct qcow2.change_lock); held over syncs
 *  3. format table lock: one image's tables in memory
 *     (struct qcow2.table_lock); held over reads and writes of metadata, never
 *     over a sync
 *  4. image codec list, storage edge lock, queues of jobs and servers, their
 *     logs and figures, the list of who waits for a peer: leaves
 */
#ifndef PLATTER_BLOCK_LOCKS_H
#define PLATTER_BLOCK_LOCKS_H
#endif
