/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the opened layer holds itself, whatever lies below it. Zeros that it
 * states count as allocated, as qemu-io has it.
 */
#include "block/bytes.h"
#include "cli/io.h"

static bool is_allocated(const struct mapping *m)
{
	return m->depth == 0 && !(m->flags & MAPPING_ABSENT);
}

/* The run of like allocation at guest_off; *len is what was asked, and got. */
static int allocated_run(struct image *img, uint64_t guest_off, uint64_t *len,
			 bool *allocated)
{
	uint64_t done = 0;

	while (done < *len) {
		struct mapping m;
		int ret = image_map(img, guest_off + done, *len - done, &m);

		if (ret < 0)
			return ret;
		if (!done)
			*allocated = is_allocated(&m);
		else if (*allocated != is_allocated(&m))
			break;
		done += m.len;
	}
	*len = done;
	return 0;
}

bool io_alloc(struct io_session *io, int argc, char **argv)
{
	uint64_t size = io->img->size_bytes, sum = 0;
	uint64_t off, count = 512, done, len;
	char text[IO_SIZE_TEXT_MAX];

	if (!io_parse_number(argv[1], &off) ||
	    (argc == 3 && !io_parse_number(argv[2], &count)))
		return false;
	count = off < size ? min_u64(count, size - off) : 0;
	for (done = 0; done < count; done += len) {
		bool allocated = false;
		int ret;

		len = count - done;
		ret = allocated_run(io->img, off + done, &len, &allocated);
		if (ret < 0)
			return io_failed("is_allocated", ret);
		if (allocated)
			sum += len;
	}
	printf("%llu/%llu bytes allocated at offset %s\n",
	       (unsigned long long)sum, (unsigned long long)count,
	       io_size_text(text, (double)off));
	return true;
}

bool io_map(struct io_session *io, int argc, char **argv)
{
	uint64_t size = io->img->size_bytes, off, len;
	char len_text[IO_SIZE_TEXT_MAX], off_text[IO_SIZE_TEXT_MAX];

	(void)argc;
	(void)argv;
	for (off = 0; off < size; off += len) {
		bool allocated = false;
		int ret;

		len = size - off;
		ret = allocated_run(io->img, off, &len, &allocated);
		if (ret < 0)
			return io_failed("map", ret);
		printf("%s (0x%llx) bytes %s allocated at offset %s (0x%llx)\n",
		       io_size_text(len_text, (double)len),
		       (unsigned long long)len, allocated ? "   " : "not",
		       io_size_text(off_text, (double)off),
		       (unsigned long long)off);
	}
	return true;
}
