/* SPDX-License-Identifier: BSD-3-Clause */
/* The qcow2 driver's descriptor. */
#include "formats/qcow2/driver.h"
#include "block/bytes.h"
#include "formats/qcow2/qcow2.h"

/* Version 1 is the older format "qcow"; higher ones are ours to refuse. */
static int qcow2_probe(const struct probe_input *in)
{
	const struct qcow2_header_disk *h =
		(const struct qcow2_header_disk *)in->head;

	if (be32_get(h->magic) != QCOW2_MAGIC || be32_get(h->version) < 2)
		return 0;
	return 100;
}

const struct format_driver qcow2_driver = {
	.name = "qcow2",
	.caps = FORMAT_BACKING | FORMAT_SIZE_IN_512,
	.create_options = qcow2_create_options,
	.open_options = qcow2_open_options,
	.probe = qcow2_probe,
	.inspect = qcow2_inspect,
	.open = qcow2_open,
	.create = qcow2_create,
	.measure = qcow2_measure,
	.map = qcow2_map,
	.reserve = qcow2_reserve,
	.commit = qcow2_commit,
	.abort = qcow2_abort,
	.zero = qcow2_zero,
	.discard = qcow2_discard,
	.unpack = qcow2_unpack,
	.unpack_params = qcow2_codec_params,
	.flush = qcow2_flush,
	.resize = qcow2_resize,
	.check = qcow2_check,
	.info = qcow2_info,
	.close = qcow2_close,
	.pack = &qcow2_pack_ops,
};
