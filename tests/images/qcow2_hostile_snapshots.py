# SPDX-License-Identifier: BSD-3-Clause
"""Snapshot tables (spec: qcow2 8.1).

Guest data does not need them: the disk is read as before. What lists them
refuses, and check reports.
"""

import qcow2_image as q
from hostile_case import (DAMAGED, IGNORED, LEAKED, LISTING, MENDABLE,
                          Catalogue)
from hostile_values import LONG, generic, pointers
from qcow2_image import (CLUSTER, DISK, FILE_SIZE, L1, PLACES, REFTABLE,
                         SNAPL1)

L1_MAX = 1 << 22
EXTRA_MIN, EXTRA_MAX = 16, 1024

catalogue = Catalogue(q.Image)
case, each, ruled = catalogue.case, catalogue.each, catalogue.ruled

case("snapshot", IGNORED, lambda i: i.snapshot())


def l1_off(value):
    if value % CLUSTER or value + 8 > 1 << 56:
        return LISTING, "L1 table offset invalid"
    return IGNORED if value == SNAPL1 else DAMAGED


ruled("snapshot, L1 table at", pointers(SNAPL1, PLACES, FILE_SIZE, CLUSTER),
      l1_off, lambda i, v: i.snapshot(l1_off=v))


def l1_size(value):
    if value > L1_MAX:
        return LISTING, "L1 table too large"
    if value == 0:
        return LEAKED
    # One that ends a whole cluster or more behind the file is not there.
    return IGNORED if value <= CLUSTER // 8 else DAMAGED


ruled("snapshot, L1 table of",
      sorted({*generic(32, 1), 512, 513, L1_MAX, L1_MAX + 1, 1 << 29}),
      l1_size, lambda i, v: i.snapshot(l1_size=v))


def extra(value):
    if value < EXTRA_MIN or value > EXTRA_MAX:
        return LISTING, "extra data"
    return IGNORED


ruled("snapshot, extra data of",
      [0, 8, 15, 16, 17, 23, 24, 25, 100, 1023, 1024, 1025, 1026, 2000], extra,
      lambda i, v: i.snapshot(extra=v))
ruled("snapshot, extra data claims", generic(32, EXTRA_MAX),
      lambda v: IGNORED if v == EXTRA_MIN else
      (LISTING, "extra data") if v > EXTRA_MAX else LISTING,
      lambda i, v: i.snapshot(extra_len=v))


def text_len(fitting):
    return lambda value: IGNORED if value in fitting else LISTING


# What follows the five bytes of both texts is zero, and no text has zeros.
ruled("snapshot, id of", generic(16, 1), text_len((0, 1)),
      lambda i, v: i.snapshot(id_len=v))
ruled("snapshot, name of", generic(16, 4), text_len(range(5)),
      lambda i, v: i.snapshot(name_len=v))
case("snapshot, name with zero byte", LISTING,
     lambda i: i.snapshot(name=b"a\0b"), "zero byte")
each("snapshot, name", IGNORED,
     ["", "1", "\x1b[2J", "%n", "\udcff", "x" * 300, "a\nb", "\u202e"],
     lambda i, v: i.snapshot(name=v.encode(errors="surrogateescape")))
each("snapshot, id", IGNORED, ["", "0", "-1", "1" * 40, "\x1b[2J", "%s"],
     lambda i, v: i.snapshot(ident=v.encode()))
case("snapshots with one id", IGNORED, lambda i: i.snapshot(count=3))


def disk_size(value):
    if value > (1 << 63) - 512:
        return LISTING, "disk size"
    return IGNORED


ruled("snapshot, disk of", generic(64, DISK), disk_size,
      lambda i, v: i.snapshot(disk=v))
each("snapshot, VM state of", IGNORED, generic(64, 0, thin=not LONG),
     lambda i, v: i.snapshot(vm_state=v))
each("snapshot table at", LISTING, [FILE_SIZE, 1 << 40, 1 << 55],
     lambda i, v: (i.snapshot(), i.set(snapshots_off=v)))
each("snapshot table is", MENDABLE, [0, REFTABLE, L1],
     lambda i, v: (i.snapshot(), i.set(snapshots_off=v)), "overlaps")
each("snapshots that are not there", LISTING, [2, 65536],
     lambda i, v: (i.snapshot(), i.set(snapshot_count=v)))

cases = catalogue.cases
