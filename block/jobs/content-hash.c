/* SPDX-License-Identifier: BSD-3-Clause */
/* Hashes of guest content: see content-hash.h. */
#include "block/jobs/content-hash.h"

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/bytes.h"

struct content_hash {
	enum content_hash_kind kind;
	/*
	 * A context of its own: the library's default one crashes whoever uses
	 * it after memory had run out while it was made.
	 */
	OSSL_LIB_CTX *library;
	EVP_MD *sha256;
	EVP_MD_CTX *ctx;
	uint64_t left; /* bytes of the disk still to come */
	bool failed;   /* a call of the library did */
	uint8_t zero_digest[CONTENT_HASH_DIGEST]; /* of a whole zero block */
};

/* Not const, so that it costs no room in the program file; never written. */
static uint8_t zero_block[CONTENT_HASH_BLOCK];

static bool digest_of(const struct content_hash *hash, const void *buf,
		      size_t len, uint8_t *digest)
{
	unsigned digest_len = 0;

	return EVP_Digest(buf, len, digest, &digest_len, hash->sha256, NULL) ==
		       1 &&
	       digest_len == CONTENT_HASH_DIGEST;
}

static void update(struct content_hash *hash, const void *buf, size_t len)
{
	if (EVP_DigestUpdate(hash->ctx, buf, len) != 1)
		hash->failed = true;
}

static bool start(struct content_hash *hash, uint64_t size_bytes)
{
	le64_t size = le64_make(size_bytes);

	hash->library = OSSL_LIB_CTX_new();
	if (hash->library)
		hash->sha256 = EVP_MD_fetch(hash->library, "SHA256", NULL);
	hash->ctx = EVP_MD_CTX_new();
	if (!hash->sha256 || !hash->ctx ||
	    EVP_DigestInit_ex(hash->ctx, hash->sha256, NULL) != 1)
		return false;
	if (hash->kind == CONTENT_HASH_WHOLE)
		return true;
	update(hash, &size, sizeof(size));
	return digest_of(hash, zero_block, sizeof(zero_block),
			 hash->zero_digest);
}

int content_hash_new(struct content_hash **out, enum content_hash_kind kind,
		     uint64_t size_bytes)
{
	struct content_hash *hash = calloc(1, sizeof(*hash));

	assert(kind != CONTENT_HASH_NONE);
	if (!hash)
		return -ENOMEM;
	hash->kind = kind;
	hash->left = size_bytes;
	if (!start(hash, size_bytes)) {
		content_hash_free(hash);
		return -ENOTSUP;
	}
	*out = hash;
	return 0;
}

void content_hash_free(struct content_hash *hash)
{
	if (!hash)
		return;
	EVP_MD_CTX_free(hash->ctx);
	EVP_MD_free(hash->sha256);
	OSSL_LIB_CTX_free(hash->library);
	free(hash);
}

enum content_hash_kind content_hash_kind(const struct content_hash *hash)
{
	return hash ? hash->kind : CONTENT_HASH_NONE;
}

int content_hash_blocks(const struct content_hash *hash, const void *buf,
			size_t len, uint8_t *digests)
{
	const uint8_t *from = buf;

	while (len > 0) {
		size_t step = min_u64(len, CONTENT_HASH_BLOCK);

		if (!digest_of(hash, from, step, digests))
			return -ENOMEM;
		from += step;
		len -= step;
		digests += CONTENT_HASH_DIGEST;
	}
	return 0;
}

void content_hash_add(struct content_hash *hash, const void *buf, size_t len,
		      const uint8_t *digests)
{
	assert(len <= hash->left);
	/* Only the last block of the disk may be short. */
	assert(len % CONTENT_HASH_BLOCK == 0 || len == hash->left ||
	       hash->kind == CONTENT_HASH_WHOLE);
	hash->left -= len;
	if (hash->kind == CONTENT_HASH_WHOLE)
		update(hash, buf, len);
	else
		update(hash, digests,
		       div_round_up(len, CONTENT_HASH_BLOCK) *
			       CONTENT_HASH_DIGEST);
}

void content_hash_add_zeros(struct content_hash *hash, uint64_t len)
{
	uint8_t digest[CONTENT_HASH_DIGEST];

	while (len > 0) {
		size_t step = min_u64(len, CONTENT_HASH_BLOCK);
		const uint8_t *leaf = hash->zero_digest;

		if (step < CONTENT_HASH_BLOCK &&
		    hash->kind == CONTENT_HASH_TREE) {
			if (!digest_of(hash, zero_block, step, digest))
				hash->failed = true;
			leaf = digest;
		}
		content_hash_add(hash, zero_block, step, leaf);
		len -= step;
	}
}

int content_hash_finish(struct content_hash *hash,
			char text[CONTENT_HASH_TEXT_MAX])
{
	uint8_t digest[CONTENT_HASH_DIGEST] = {0};
	unsigned digest_len = 0;
	int used;

	if (hash->left > 0 || hash->failed ||
	    EVP_DigestFinal_ex(hash->ctx, digest, &digest_len) != 1)
		return -EIO;
	used = snprintf(text, CONTENT_HASH_TEXT_MAX, "%s:",
			hash->kind == CONTENT_HASH_WHOLE ? "sha256"
							 : "sha256-tree64k");
	for (size_t i = 0; i < sizeof(digest); i++)
		used += snprintf(text + used,
				 CONTENT_HASH_TEXT_MAX - (size_t)used, "%02x",
				 digest[i]);
	return 0;
}
