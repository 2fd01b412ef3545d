/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Waits for a peer that may never answer, and a program that is to stop.
 *
 * Whoever waits for one joins with a way to be woken; one call then wakes them
 * all, for good: from there on no peer is waited for any more. It is of the
 * process, as the signals are that ask for it. Any thread.
 */
#ifndef PLATTER_BLOCK_INTERRUPT_H
#define PLATTER_BLOCK_INTERRUPT_H

struct interrupt {
	/* Called once at most, at any time until interrupt_leave(): short. */
	void (*raise)(struct interrupt *interrupt);
	struct interrupt *next;
};

/* The caller's, until it leaves. */
void interrupt_join(struct interrupt *interrupt);
void interrupt_leave(struct interrupt *interrupt);

/* Those who join later are woken at once. Not for handlers of signals. */
void interrupt_all(void);

#endif
