# SPDX-License-Identifier: BSD-3-Clause
"""Files that end too early: at every edge of a structure, and beside it."""

import qcow2_image as q
from hostile_case import (CUT, DAMAGED, IGNORED, LOST, MENDABLE, ODD, REFUSE,
                          Catalogue)
from hostile_values import LONG
from qcow2_image import (FIELDS, FILE_SIZE, L1, L2, PACK, PLACES, REFTABLE,
                         STREAM2, STREAM3, ZEROED)

PACKED_END = PACK + len(STREAM2) + len(STREAM3)
EDGES = {0, *(at for at, _ in FIELDS.values()), 72, 104, 112, *PLACES,
         REFTABLE + 8, L1 + 8, *(L2 + 8 * n for n in range(7)),
         PACK + len(STREAM2), PACKED_END, FILE_SIZE}

catalogue = Catalogue(q.Image)


def in_header(size):
    if size < 4:
        return REFUSE, "not in qcow2 format"
    if size < 8:
        return REFUSE, "Unsupported qcow2 version"
    if size < 24:
        return REFUSE, "Unsupported cluster size"
    return REFUSE, "header too short"


def rule(size):
    if size < 104:
        return in_header(size)
    if size <= L1:
        answer = MENDABLE if size <= REFTABLE + 8 else LOST
        return answer, "behind the end of the file"
    if size <= L2 + 16:
        return ODD
    if size < PACKED_END:
        return CUT
    return DAMAGED if size <= ZEROED else IGNORED


def sizes():
    steps = range(0, FILE_SIZE, 11) if LONG else ()
    near = {edge + by for edge in EDGES for by in (-1, 0, 1)}
    return sorted(size for size in {*near, *steps} if 0 <= size <= FILE_SIZE)


catalogue.ruled("file of", sizes(), rule, lambda i, v: i.cut(v))

cases = catalogue.cases
