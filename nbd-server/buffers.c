/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Buffers of one connection. A new large buffer is a map, a fault for each page
 * and an unmap, several times what the I/O costs (spec: performance 5), so some
 * are kept.
 */
#include <stdlib.h>

#include "nbd-server/transmit.h"

#define SMALLEST  (64u * 1024)
#define IDLE_MAX  (4u * 1024 * 1024)
#define PAGE_SIZE 4096u

static struct nbd_buffer *take_idle(struct nbd_buffers *pool, size_t capacity)
{
	for (struct nbd_buffer **at = &pool->idle; *at; at = &(*at)->next) {
		struct nbd_buffer *buffer = *at;

		if (buffer->capacity != capacity)
			continue;
		*at = buffer->next;
		pool->idle_bytes -= capacity;
		return buffer;
	}
	return NULL;
}

static struct nbd_buffer *new_buffer(size_t capacity)
{
	struct nbd_buffer *buffer = malloc(sizeof(*buffer));

	if (!buffer)
		return NULL;
	buffer->capacity = capacity;
	buffer->bytes = aligned_alloc(PAGE_SIZE, capacity);
	if (buffer->bytes)
		return buffer;
	free(buffer);
	return NULL;
}

static void free_buffer(struct nbd_buffer *buffer)
{
	free(buffer->bytes);
	free(buffer);
}

struct nbd_buffer *nbd_buffers_get(struct nbd_buffers *pool, size_t len)
{
	struct nbd_buffer *buffer;
	size_t capacity = SMALLEST;

	while (capacity < len)
		capacity *= 2;
	buffer = take_idle(pool, capacity);
	if (!buffer)
		buffer = new_buffer(capacity);
	if (buffer)
		pool->used_bytes += capacity;
	return buffer;
}

void nbd_buffers_put(struct nbd_buffers *pool, struct nbd_buffer *buffer)
{
	pool->used_bytes -= buffer->capacity;
	if (pool->idle_bytes + buffer->capacity > IDLE_MAX) {
		free_buffer(buffer);
		return;
	}
	pool->idle_bytes += buffer->capacity;
	buffer->next = pool->idle;
	pool->idle = buffer;
}

void nbd_buffers_release(struct nbd_buffers *pool)
{
	while (pool->idle) {
		struct nbd_buffer *buffer = pool->idle;

		pool->idle = buffer->next;
		free_buffer(buffer);
	}
	pool->idle_bytes = 0;
}
