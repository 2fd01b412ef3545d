/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What makes a qcow2 image unsafe (spec: reliability 2E, 5): that it wants
 * other files, or a reader who knows more than this one.
 *
 * Only the first cluster is looked at. The flags QCOW2_VALIDATE_READ_ONLY and
 * an unknown file size waive what the driver will say when it opens the image.
 */
#include <stdlib.h>
#include <string.h>

#include "block/error.h"
#include "block/inspect-rule.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/layout.h"

static void check_references(struct inspection *in,
			     const struct qcow2_header *h,
			     const struct qcow2_header_tail *tail)
{
	if (h->backing_off)
		inspect_unsafe(in, "backing-file",
			       "it names a backing file%s%s%s",
			       tail->backing_name ? ", '" : "",
			       tail->backing_name ? tail->backing_name : "",
			       tail->backing_name ? "'" : "");
	if ((h->incompatible & QCOW2_INCOMPAT_DATA_FILE) ||
	    tail->data_file_name)
		inspect_unsafe(in, "data-file",
			       "it keeps its data in another file%s%s%s",
			       tail->data_file_name ? ", '" : "",
			       tail->data_file_name ? tail->data_file_name : "",
			       tail->data_file_name ? "'" : "");
}

/* False: no use in looking further. */
static bool check_version(struct inspection *in, const struct qcow2_header *h)
{
	uint64_t unknown = h->incompatible & ~QCOW2_INCOMPAT_KNOWN;

	if (h->version != 2 && h->version != 3) {
		inspect_unsafe(in, "unknown-version",
			       "it is qcow2 of version %u, not 2 or 3",
			       h->version);
		return false;
	}
	if (unknown)
		inspect_unsafe(in, "unknown-features",
			       "it needs features that are not known here: "
			       "incompatible bits 0x%llx",
			       (unsigned long long)unknown);
	return true;
}

static void check_crypt(struct inspection *in, const struct qcow2_header *h)
{
	if (h->crypt_method)
		inspect_encrypted(in);
	if (h->crypt_method == QCOW2_CRYPT_AES)
		inspect_unsafe(in, "encryption",
			       "it has the encryption of the first qcow, "
			       "which protects nothing");
}

/* The first cluster, or all of a shorter file; NULL and false: later. */
static bool first_cluster(struct inspection *in, const struct qcow2_header *h,
			  const uint8_t **out, size_t *len)
{
	uint64_t size = inspect_file_size(in);

	*len = (size_t)1 << h->cluster_bits;
	*out = NULL;
	if (size < *len)
		*len = (size_t)size;
	return inspect_bytes(in, 0, *len, out) != INSPECT_LATER;
}

static void check_tail(struct inspection *in, const struct qcow2_header *h)
{
	struct qcow2_header_tail tail = {0};
	struct error err = {0};
	const uint8_t *cluster;
	size_t len;

	if (!first_cluster(in, h, &cluster, &len))
		return;
	/* Unknown bits are a finding already, and may change the rest. */
	if (cluster && !(h->incompatible & ~QCOW2_INCOMPAT_KNOWN) &&
	    qcow2_header_tail_decode(&tail, h, cluster, len, &err) < 0)
		inspect_malformed(in, "%s", err.message);
	check_references(in, h, &tail);
	qcow2_header_tail_release(&tail);
}

void qcow2_inspect(struct inspection *in)
{
	const uint8_t *head = inspect_head(in);
	struct qcow2_header h;
	struct error err = {0};

	qcow2_header_decode(&h, head);
	/* Version 1 is another format, "qcow". */
	if (be32_get(((const struct qcow2_header_disk *)head)->magic) !=
		    QCOW2_MAGIC ||
	    h.version < 2)
		return;
	inspect_claim(in, "qcow2");
	if (!check_version(in, &h))
		return;
	inspect_virtual_size(in, h.size_bytes);
	inspect_snapshots(in, h.snapshot_count);
	check_crypt(in, &h);
	if (qcow2_header_validate(&h, inspect_file_size(in),
				  QCOW2_VALIDATE_READ_ONLY, &err) < 0) {
		struct qcow2_header_tail none = {0};

		inspect_malformed(in, "%s", err.message);
		check_references(in, &h, &none);
		return;
	}
	check_tail(in, &h);
}
