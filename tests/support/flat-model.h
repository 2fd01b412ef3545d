/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A disk as a plain array of bytes, beside an image that should behave like
 * one. Bytes that an operation has left in doubt are not compared.
 *
 * One thread, one model at a time: its memory is kept between uses.
 */
#ifndef PLATTER_TESTS_SUPPORT_FLAT_MODEL_H
#define PLATTER_TESTS_SUPPORT_FLAT_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Larger disks are modelled up to here. */
#define FLAT_MODEL_MAX (512u * 1024)

struct image;

struct flat_model {
	uint8_t *bytes, *sure;
	uint64_t size_bytes; /* of the disk; may be beyond FLAT_MODEL_MAX */
	uint64_t failures;   /* operations that returned an error */
};

/* What the image holds now; what cannot be read is in doubt. */
void flat_model_load(struct flat_model *m, struct image *img);

/* These bytes of the disk are not what anybody wrote there. */
void flat_model_doubt(struct flat_model *m, uint64_t guest_off, uint64_t len);

/*
 * One operation, on the image and on the model. Four bytes describe it, all of
 * them do.
 */
void flat_model_step(struct flat_model *m, struct image *img,
		     const uint8_t script[4]);

/* Aborts where the image differs from what is sure. */
void flat_model_compare(const struct flat_model *m, struct image *img);

#endif
