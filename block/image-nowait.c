/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What can be done on the spot: the shared path of all servers tries these
 * first, since handing a request to another thread costs more than most
 * requests do (spec: performance 0).
 */
#include <errno.h>
#include <string.h>

#include "block/bytes.h"
#include "block/image.h"
#include "block/storage.h"

static bool is_plain(const struct mapping *m)
{
	return m->kind == MAPPING_DATA && !(m->flags & MAPPING_CIPHERED);
}

static int read_held(struct image *img, uint8_t *buf, size_t len,
		     uint64_t guest_off)
{
	while (len) {
		struct mapping m;
		int ret = image_map(img, guest_off, len, &m);

		if (ret < 0)
			return ret;
		if (m.kind == MAPPING_ZERO)
			memset(buf, 0, m.len);
		else if (is_plain(&m))
			ret = storage_read_nowait(m.storage, buf, m.len,
						  m.host_off);
		else
			ret = -EAGAIN;
		if (ret < 0)
			return ret;
		buf += m.len;
		guest_off += m.len;
		len -= m.len;
	}
	return 0;
}

int image_read_nowait(struct image *img, void *buf, size_t len,
		      uint64_t guest_off)
{
	struct range_hold hold;
	int ret;

	if (!len || !range_inside(guest_off, len, img->size_bytes) ||
	    !range_hold_try(&img->holds, &hold, guest_off, len, RANGE_SHARED))
		return -EAGAIN;
	ret = read_held(img, buf, len, guest_off);
	range_hold_drop(&img->holds, &hold);
	return ret;
}

static bool map_run(struct image *img, uint64_t guest_off, uint64_t len,
		    struct mapping *m)
{
	return image_map(img, guest_off, len, m) == 0 && m->len == len &&
	       is_plain(m) &&
	       range_inside(m->host_off, len, storage_size(m->storage));
}

bool image_run_take(struct image *img, struct image_run *run,
		    uint64_t guest_off, uint64_t len)
{
	struct mapping m;

	if (!len || !range_inside(guest_off, len, img->size_bytes) ||
	    !range_hold_try(&img->holds, &run->hold, guest_off, len,
			    RANGE_SHARED))
		return false;
	if (!map_run(img, guest_off, len, &m)) {
		range_hold_drop(&img->holds, &run->hold);
		return false;
	}
	run->img = img;
	run->storage = m.storage;
	run->host_off = m.host_off;
	return true;
}

void image_run_drop(struct image_run *run)
{
	range_hold_drop(&run->img->holds, &run->hold);
}
