# SPDX-License-Identifier: BSD-3-Clause
"""Values that break things: for a field of n bits, and for an offset.

The long form (HOSTILE_LONG=1 in the environment) has all of them, the short
form leaves most powers of two out where another field tries them already.
"""

import os

LONG = os.environ.get("HOSTILE_LONG", "") not in ("", "0")


def swapped(value, bits):
    return int.from_bytes(value.to_bytes(bits // 8, "big"), "little")


def edges(bits, valid):
    """The ends of the range, its middle, and what is close to `valid`."""
    top = (1 << bits) - 1
    near = {valid - 1, valid, valid + 1}
    if bits % 8 == 0:
        near.add(swapped(valid, bits))
    return {value for value in near | {
        0, 1, 2, top // 4, top // 2 - 1, top // 2, top // 2 + 1, top - 1, top}
        if 0 <= value <= top}


def generic(bits, valid, thin=False):
    """`thin`: only the edges, in the short form."""
    values = edges(bits, valid)
    if LONG or not thin:
        for k in range(bits):
            values |= {1 << k, (1 << k) - 1}
    return sorted(values)


def flips(bits, valid):
    """Each bit of the valid value turned over, in the long form."""
    return [valid ^ 1 << k for k in range(bits)] if LONG else []


def offsets(own, places, file_size, cluster):
    """Where a pointer may lead that should lead to `own`."""
    values = {0, 8, 72, 512, own, own + 1, own + 8, own + 511, own + 512,
              file_size - cluster, file_size - 1, file_size,
              file_size + cluster, 1 << 55, (1 << 56) - cluster,
              (1 << 63) - cluster, 1 << 63, (1 << 64) - cluster}
    for place in places:
        values.add(place)
        if LONG:
            values |= {place + 1, place + 511, place + 512, place - 1}
    return sorted(value for value in values if value >= 0)


def pointers(own, places, file_size, cluster, thin=False):
    """All values of a field of 64 bits that is an offset."""
    return sorted({*generic(64, own, thin),
                   *offsets(own, places, file_size, cluster)})
