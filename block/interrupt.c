/* SPDX-License-Identifier: BSD-3-Clause */
/* Ends waits for peers: see interrupt.h. */
#include "block/interrupt.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* a leaf */
static struct interrupt *joined;
static bool raised;

void interrupt_join(struct interrupt *interrupt)
{
	pthread_mutex_lock(&mutex);
	interrupt->next = joined;
	joined = interrupt;
	if (raised)
		interrupt->raise(interrupt);
	pthread_mutex_unlock(&mutex);
}

void interrupt_leave(struct interrupt *interrupt)
{
	struct interrupt **at = &joined;

	pthread_mutex_lock(&mutex);
	while (*at && *at != interrupt)
		at = &(*at)->next;
	if (*at)
		*at = interrupt->next;
	pthread_mutex_unlock(&mutex);
}

void interrupt_all(void)
{
	pthread_mutex_lock(&mutex);
	for (struct interrupt *at = joined; at && !raised; at = at->next)
		at->raise(at);
	raised = true;
	pthread_mutex_unlock(&mutex);
}
