# SPDX-License-Identifier: BSD-3-Clause
"""Entries of L1, L2 and refcount tables, packed descriptors, counts.

Three answers differ from a stricter reading of what hostile entries deserve:

Reserved bits of L1 and L2 entries are ignored on reading, as QEMU does, and
reported by check. An error instead would take data from people whose images
were written by a program that knows more, and protects nobody: the bits lead
nowhere.

Entries that lead to a table or behind the end of the file are read as any
other: whoever made the image may put these bytes, or zeros, there himself.
Writing is another thing: no table is ever overwritten through such an entry,
and where a table itself would lie behind the end nothing is written at all.

Counts that are too low for a guest's data are not noticed when the image is
written, and the data may be. To notice, every table would have to be read at
every opening; that is what check does, and the dirty bit asks for. Counts of
tables are noticed.
"""

import qcow2_image as q
from hostile_case import (BEYOND, DAMAGED, IGNORED, LEAKED, MISCOUNTED, ODD,
                          STREAM, TOUCHED, UNCOUNTED, Catalogue)
from hostile_values import LONG, generic, pointers
from qcow2_image import (CLUSTER, COPIED, DATA0, DATA1, FILE_SIZE, L1, L2,
                         MAX64, OFFSETS, PACK, PACKED, PLACES, REFBLOCK,
                         REFTABLE, STREAM2, STREAM3, ZEROED, packed)

L1_RESERVED = 0x7F000000000001FF
L2_RESERVED = 0x3F000000000001FE
PACKED_OFF = (1 << 58) - 1

catalogue = Catalogue(q.Image)
case, each, ruled = catalogue.case, catalogue.each, catalogue.ruled
PLAIN = bytes(q.Image().raw)


def both(values):
    """With COPIED and without."""
    return sorted({value ^ flag for value in values for flag in (0, COPIED)
                   if value <= MAX64})


# --- L1 ----------------------------------------------------------------------


def l1_entry(value):
    place = value & OFFSETS
    if place % CLUSTER:
        return TOUCHED
    if place == L2:
        return IGNORED if value == L2 | COPIED else DAMAGED
    if place >= FILE_SIZE:
        return BEYOND
    # As tables these have entries that make no sense.
    return TOUCHED if place in (DATA0, DATA1, PACK, ZEROED) else ODD


ruled("L1 entry", both(pointers(L2, PLACES, FILE_SIZE, CLUSTER)), l1_entry,
      lambda i, v: i.u64(L1, v))
each("L1 entry, reserved bit", DAMAGED, [*range(9), *range(56, 63)],
     lambda i, v: i.u64(L1, L2 | COPIED | 1 << v))
each("L1 entry leads inside a cluster", TOUCHED,
     [REFTABLE + 512, L2 + 512, L2 + 2048, FILE_SIZE + 512],
     lambda i, v: i.u64(L1, v | COPIED))

# --- packed descriptors ------------------------------------------------------


def packed_range(value):
    start = value & PACKED_OFF
    return start, start - start % 512 + ((value >> 58 & 15) + 1) * 512


def unpack(value):
    """What the descriptor leads to; None if that is no cluster."""
    start, end = packed_range(value)
    if start >= FILE_SIZE:
        return None
    return q.inflate(PLAIN[start:end].ljust(end - start, b"\0"))


def packed_entry(value, content, home):
    """`home` is the cluster whose one reference the entry has by right."""
    start, end = packed_range(value)
    at_home = home <= start and end <= home + CLUSTER
    sound = at_home and not value & COPIED
    found = unpack(value)
    if found is None:
        return STREAM if sound else TOUCHED
    if found != content:
        return ODD
    return IGNORED if sound else DAMAGED


FURTHER = [PACK | n << 58 for n in range(16)]
ruled("packed entry",
      sorted({v & ~COPIED | PACKED for v in
              [*pointers(PACK, PLACES, FILE_SIZE, CLUSTER), *FURTHER,
               *range(PACK, PACK + len(STREAM2 + STREAM3) + 2,
                      1 if LONG else 3)]}),
      lambda v: packed_entry(v, q.CLUSTER2, PACK), lambda i, v: i.entry(2, v))
each("packed entry with COPIED", DAMAGED, [0, 1, 7],
     lambda i, v: i.entry(2, packed(PACK, len(STREAM2)) | COPIED | v << 58))

# --- L2 ----------------------------------------------------------------------


def l2_entry(value):
    place = value & OFFSETS
    if value & PACKED:
        return packed_entry(value, q.CLUSTER0, DATA0)
    if place % CLUSTER:
        return TOUCHED
    if place != DATA0 or value & 1:
        return ODD
    return IGNORED if value == DATA0 | COPIED else DAMAGED


ruled("L2 entry", both({*pointers(DATA0, PLACES, FILE_SIZE, CLUSTER),
                        *(1 << bit | DATA0 for bit in range(63)),
                        *(1 << bit | 1 for bit in range(63))}),
      l2_entry, lambda i, v: i.entry(0, v))
if LONG:
    ruled("L2 entry with two bits flipped",
          sorted({(DATA0 | COPIED) ^ 1 << one ^ 1 << other
                  for one in range(64) for other in range(one)}),
          l2_entry, lambda i, v: i.entry(0, v))
each("L2 entry leads inside a cluster", TOUCHED,
     [512, DATA0 + 512, DATA0 + 2048, DATA0 + 3584, (1 << 55) + 512],
     lambda i, v: i.entry(0, v | COPIED))


def zero_entry(value):
    place = value & OFFSETS
    if place % CLUSTER:
        return TOUCHED
    if value == ZEROED | COPIED | 1:
        return IGNORED
    # Without a place there is nothing that COPIED could speak of.
    return LEAKED if value & ~COPIED == 1 else DAMAGED


ruled("zero entry", sorted({v & ~PACKED | 1 for v in both(
    pointers(ZEROED, PLACES, FILE_SIZE, CLUSTER, thin=True))}), zero_entry,
      lambda i, v: i.entry(5, v))
each("two entries for one cluster", ODD, [DATA1, PACK, ZEROED],
     lambda i, v: (i.entry(0, v | COPIED), i.refcount(v // CLUSTER, 1)))
each("two entries for one cluster, counted", ODD, [DATA1, ZEROED],
     lambda i, v: (i.entry(0, v), i.refcount(v // CLUSTER, 2)))
case("entry that the end of the disk hides", DAMAGED,
     lambda i: i.entry(300, FILE_SIZE + CLUSTER | COPIED))

# --- counts ------------------------------------------------------------------

RIGHT = {cluster: 2 if cluster * CLUSTER == PACK else 1
         for cluster in range(9)}
FLAGGED = (L2, DATA0, DATA1, ZEROED)  # COPIED says that their count is 1
HOLD_DATA = (DATA0, DATA1, PACK, ZEROED)


def count(cluster):
    right = RIGHT.get(cluster, 0)

    def rule(value):
        if value == right:
            return IGNORED
        if value < right and cluster * CLUSTER in HOLD_DATA:
            return MISCOUNTED
        if value < right or cluster * CLUSTER in FLAGGED:
            return DAMAGED
        return LEAKED
    return rule


for number in range(11):
    ruled(f"count of cluster {number}",
          generic(16, RIGHT.get(number, 0), thin=number not in (0, 4, 7)),
          count(number), lambda i, v, n=number: i.refcount(n, v))


def reftable_entry(value):
    if value % CLUSTER or value >= FILE_SIZE:
        return UNCOUNTED
    if value in HOLD_DATA:
        return MISCOUNTED
    return IGNORED if value == REFBLOCK else DAMAGED


def further_entry(value):
    """One that describes clusters which the file does not have."""
    if value == 0:
        return IGNORED
    return DAMAGED if value in PLACES and value != REFBLOCK else UNCOUNTED


ruled("refcount table entry", pointers(REFBLOCK, PLACES, FILE_SIZE, CLUSTER),
      reftable_entry, lambda i, v: i.u64(REFTABLE, v))
each("refcount table entry, reserved bit", UNCOUNTED, range(9),
     lambda i, v: i.u64(REFTABLE, REFBLOCK | 1 << v))
ruled("second refcount table entry",
      pointers(0, PLACES, FILE_SIZE, CLUSTER, thin=True),
      further_entry, lambda i, v: i.u64(REFTABLE + 8, v))
ruled("last refcount table entry",
      pointers(0, PLACES, FILE_SIZE, CLUSTER, thin=True),
      further_entry, lambda i, v: i.u64(REFTABLE + CLUSTER - 8, v))

cases = catalogue.cases
