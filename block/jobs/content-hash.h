/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A hash of what a guest reads from a disk, whatever the format and however
 * sparse: two images are the same disk if and only if their hashes agree.
 *
 *	sha256:HEX         SHA-256 of the whole disk, which is what sha256sum
 *	                   says of the raw image
 *	sha256-tree64k:HEX SHA-256 of a list: the size of the disk as a 64-bit
 *	                   little-endian number, then the SHA-256 of each
 *	                   64 KiB block in order, the last one as short as it
 *	                   is. Blocks are hashed by many threads, and holes
 *	                   cost next to nothing.
 *
 * Bytes are added in the order of the disk, by one thread at a time. Only
 * content_hash_blocks() may be called by any thread.
 */
#ifndef PLATTER_BLOCK_JOBS_CONTENT_HASH_H
#define PLATTER_BLOCK_JOBS_CONTENT_HASH_H

#include <stddef.h>
#include <stdint.h>

struct content_hash;

#define CONTENT_HASH_BLOCK    (64 * 1024u)
#define CONTENT_HASH_DIGEST   32u /* bytes of one block's digest */
#define CONTENT_HASH_TEXT_MAX 96u

enum content_hash_kind {
	CONTENT_HASH_NONE,
	CONTENT_HASH_WHOLE,
	CONTENT_HASH_TREE
};

/* `size_bytes` is that of the disk. -ENOMEM, or -ENOTSUP without SHA-256. */
int content_hash_new(struct content_hash **out, enum content_hash_kind kind,
		     uint64_t size_bytes);
void content_hash_free(struct content_hash *hash);

enum content_hash_kind content_hash_kind(const struct content_hash *hash);

/*
 * The tree's digests of the blocks in `buf`, which starts at a block's start;
 * CONTENT_HASH_DIGEST bytes each. 0 or -ENOMEM.
 */
int content_hash_blocks(const struct content_hash *hash, const void *buf,
			size_t len, uint8_t *digests);

/*
 * The next bytes of the disk; for a tree `digests` is what
 * content_hash_blocks() made of them. Failures show at the end.
 */
void content_hash_add(struct content_hash *hash, const void *buf, size_t len,
		      const uint8_t *digests);
/* The same for zeros; starts at a block's start. */
void content_hash_add_zeros(struct content_hash *hash, uint64_t len);

/* "KIND:HEX"; once, after the last byte. -EIO if bytes are missing. */
int content_hash_finish(struct content_hash *hash,
			char text[CONTENT_HASH_TEXT_MAX]);

#endif
