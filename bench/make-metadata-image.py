#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Makes a qcow2 image that is all metadata, to measure check with.

    make-metadata-image.py [--size-gib N] [--shuffled] FILE

Every cluster of 64 KiB is allocated and counted once, but none is written:
the file is as long as the disk and holds only its tables (320 MiB for 2 TiB).
With --shuffled the guest's clusters lie in random order, always the same, which
is the worst case for a program that looks counts up one by one.
"""

import argparse
import array
import struct
import sys

CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
PER_TABLE = CLUSTER // 8
PER_BLOCK = CLUSTER // 2
COPIED = 1 << 63


def up(value, unit):
    return -(-value // unit)


class Layout:
    """Clusters in the order of the file: header, refcounts, L1, L2s, data."""

    def __init__(self, size):
        self.size = size
        self.data = up(size, CLUSTER)
        self.tables = up(self.data, PER_TABLE)
        self.l1 = up(self.tables * 8, CLUSTER)
        self.blocks = 0
        while up(self.clusters(), PER_BLOCK) > self.blocks:
            self.blocks = up(self.clusters(), PER_BLOCK)

    def reftable(self):
        return max(up(self.blocks * 8, CLUSTER), 1)

    def first_block(self):
        return 1 + self.reftable()

    def first_l1(self):
        return self.first_block() + self.blocks

    def first_table(self):
        return self.first_l1() + self.l1

    def first_data(self):
        return self.first_table() + self.tables

    def clusters(self):
        return self.first_data() + self.data


def scatter(index, bits):
    """A bijection on numbers of so many bits that leaves no order."""
    mask = (1 << bits) - 1
    for factor in (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35):
        index = (index * factor + 0x27D4EB2F) & mask
        index ^= index >> (bits // 2)
    return index


def guest_order(layout, shuffled):
    """The number of the data cluster of each guest cluster."""
    if not shuffled:
        yield from range(layout.data)
        return
    bits = (layout.data - 1).bit_length()
    for index in range(1 << bits):
        place = scatter(index, bits)
        if place < layout.data:
            yield place


def words(values, code="Q"):
    out = array.array(code, values)
    if sys.byteorder == "little":
        out.byteswap()
    return out


def header(layout):
    return struct.pack(
        ">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, CLUSTER_BITS,
        layout.size, 0, layout.tables, layout.first_l1() * CLUSTER,
        CLUSTER, layout.reftable(), 0, 0, 0, 0, 0, 4, 104)


def write_counts(file, layout):
    file.seek(layout.first_block() * CLUSTER)
    total = layout.clusters()
    for first in range(0, total, PER_BLOCK):
        words([1] * min(PER_BLOCK, total - first), "H").tofile(file)


def write_tables(file, layout, shuffled):
    order = guest_order(layout, shuffled)
    base = layout.first_data()
    file.seek(layout.first_table() * CLUSTER)
    for first in range(0, layout.data, PER_TABLE):
        count = min(PER_TABLE, layout.data - first)
        words((base + next(order)) * CLUSTER | COPIED
              for _ in range(count)).tofile(file)


def pointers(first, count, flags):
    return words((first + i) * CLUSTER | flags for i in range(count))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size-gib", type=int, default=2048)
    parser.add_argument("--shuffled", action="store_true")
    parser.add_argument("file")
    args = parser.parse_args()

    layout = Layout(args.size_gib << 30)
    with open(args.file, "wb") as file:
        file.truncate(layout.clusters() * CLUSTER)
        file.write(header(layout))
        file.seek(CLUSTER)
        pointers(layout.first_block(), layout.blocks, 0).tofile(file)
        write_counts(file, layout)
        file.seek(layout.first_l1() * CLUSTER)
        pointers(layout.first_table(), layout.tables, COPIED).tofile(file)
        write_tables(file, layout, args.shuffled)


if __name__ == "__main__":
    main()
