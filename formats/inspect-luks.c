/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A LUKS container, judged by its header (spec: luks1 1, 2, 15). What is
 * inside cannot be seen without a key.
 */
#include <string.h>

#include "block/bytes.h"
#include "block/inspect-rule.h"
#include "formats/foreign.h"

#define SECTOR	      512
#define SLOTS	      8
#define SLOT_ACTIVE   0x00ac71f3u
#define SLOT_DISABLED 0x0000deadu
#define STRIPES	      4000
#define KEY_BYTES_MAX 64u
/* Unlocking takes seconds at a million; more is meant to burn a CPU. */
#define ITERATIONS_MAX 12000000u

struct luks_slot {
	be32_t state, iterations;
	uint8_t salt[32];
	be32_t material_off, stripes; /* sectors */
};

struct luks_header {
	uint8_t magic[6];
	be16_t version;
	char cipher[32], mode[32], hash[32];
	be32_t payload_off, key_bytes; /* sectors; bytes */
	uint8_t digest[20], digest_salt[32];
	be32_t digest_iterations;
	char uuid[40];
	struct luks_slot slots[SLOTS];
};

_Static_assert(sizeof(struct luks_header) == 592, "LUKS header size");

static void check_slot(struct inspection *in, const struct luks_slot *slot,
		       unsigned number)
{
	uint32_t state = be32_get(slot->state);
	uint32_t iterations = be32_get(slot->iterations);

	if (state != SLOT_ACTIVE && state != SLOT_DISABLED)
		inspect_malformed(in, "key slot %u is in the state 0x%x",
				  number, state);
	if (state != SLOT_ACTIVE)
		return;
	if (be32_get(slot->stripes) != STRIPES)
		inspect_malformed(in, "key slot %u has %u stripes, not %u",
				  number, be32_get(slot->stripes), STRIPES);
	if (!iterations)
		inspect_malformed(in, "key slot %u has no iterations", number);
	if (iterations > ITERATIONS_MAX)
		inspect_unsafe(in, "iterations",
			       "key slot %u has %u iterations, more than %u",
			       number, iterations, ITERATIONS_MAX);
}

static bool is_text(const char field[32])
{
	return memchr(field, '\0', 32) && field[0];
}

static void check_header(struct inspection *in, const struct luks_header *h)
{
	uint32_t key_bytes = be32_get(h->key_bytes);
	uint32_t iterations = be32_get(h->digest_iterations);

	if (!is_text(h->cipher) || !is_text(h->mode) || !is_text(h->hash))
		inspect_malformed(in, "its cipher, mode or hash is no text");
	if (key_bytes < 16 || key_bytes > KEY_BYTES_MAX)
		inspect_malformed(in, "its key has %u bytes, not 16 to %u",
				  key_bytes, KEY_BYTES_MAX);
	if (!iterations)
		inspect_malformed(in, "its digest has no iterations");
	if (iterations > ITERATIONS_MAX)
		inspect_unsafe(in, "iterations",
			       "its digest has %u iterations, more than %u",
			       iterations, ITERATIONS_MAX);
	for (unsigned i = 0; i < SLOTS; i++)
		check_slot(in, &h->slots[i], i);
}

/* The disk is what lies behind the header and its key material. */
static void check_payload(struct inspection *in, const struct luks_header *h)
{
	uint64_t payload = (uint64_t)be32_get(h->payload_off) * SECTOR;
	uint64_t size = inspect_file_size(in);

	if (payload < sizeof(*h))
		inspect_malformed(in, "its data starts at %llu, in the header",
				  (unsigned long long)payload);
	else if (payload > size)
		inspect_malformed(in,
				  "its data starts at %llu, behind the end of "
				  "the file",
				  (unsigned long long)payload);
	else if (size != UINT64_MAX)
		inspect_virtual_size(in, size - payload);
}

void luks_inspect(struct inspection *in)
{
	const struct luks_header *h =
		(const struct luks_header *)inspect_head(in);

	if (memcmp(h->magic, "LUKS\xba\xbe", sizeof(h->magic)))
		return;
	inspect_claim(in, "luks");
	inspect_encrypted(in);
	if (be16_get(h->version) != 1) {
		inspect_unsafe(in, "unknown-version",
			       "it is LUKS of version %u, not 1",
			       be16_get(h->version));
		return;
	}
	check_header(in, h);
	check_payload(in, h);
}
