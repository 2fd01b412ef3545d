# SPDX-License-Identifier: BSD-3-Clause
"""Header fields of versions 2 and 3, and pairs of size and offset.

A rule says of any value what has to be answered (spec: qcow2 1, 14, 22).
"""

import qcow2_image as q
from hostile_case import (DAMAGED, IGNORED, MENDABLE, NO_BASE, NO_IO, ODD,
                          OLD_ZERO, REFUSE, STREAM, TOUCHED, LEAKED,
                          LISTING, UNCOUNTED, Catalogue)
from hostile_values import flips, generic, pointers
from qcow2_image import (CLUSTER, COVERAGE, DATA0, DATA1, DISK, FILE_SIZE, L1,
                         L2, MAX32, MAX64, PACK, PLACES, REFBLOCK, REFTABLE,
                         SNAPTABLE, SPARE1, ZEROED)

L1_MAX, REFTABLE_MAX, SNAPSHOTS_MAX = 1 << 22, 2048, 65536
NAME_MAX = 1023
OFFSET_MAX = (1 << 63) - 1


def old():
    image = q.Image()
    image.make_old()
    return image


new_cases = Catalogue(q.Image)
old_cases = Catalogue(old)


def set_field(name):
    return lambda image, value: image.set(**{name: value})


def field(name, rule, valid, **more):
    """A field of both versions: all values, and fewer in the old one."""
    bits = 8 * {"I": 4, "Q": 8, "B": 1}[q.FIELDS[name][1][1]]
    new_cases.ruled(name, generic(bits, valid), rule,
                    more.get("change") or set_field(name))
    new_cases.ruled(f"{name}, a bit flipped", flips(bits, valid), rule,
                    more.get("change") or set_field(name))
    old_cases.ruled(f"version 2, {name}", generic(bits, valid, thin=True),
                    more.get("old_rule") or rule,
                    more.get("change") or set_field(name))


def offset_field(name, rule, own, change=None, old_rule=None):
    for cases, prefix, thin, judge in (
            (new_cases, "", False, rule),
            (old_cases, "version 2, ", True, old_rule or rule)):
        cases.ruled(prefix + name,
                    pointers(own, PLACES, FILE_SIZE, CLUSTER, thin),
                    judge, change or set_field(name))
        cases.ruled(f"{prefix}{name}, a bit flipped", flips(64, own), judge,
                    change or set_field(name))


def new_field(name, rule, valid):
    bits = 8 * {"I": 4, "Q": 8, "B": 1}[q.FIELDS[name][1][1]]
    new_cases.ruled(name, generic(bits, valid), rule, set_field(name))
    new_cases.ruled(f"{name}, a bit flipped", flips(bits, valid), rule,
                    set_field(name))


def invalid(offset, length):
    """No place for a table: not aligned, or its end is no offset."""
    return offset % CLUSTER or offset + length > OFFSET_MAX


def overlap(offset, length, *others):
    """Whether the table shares a cluster with one of the others."""
    end = (offset + length + CLUSTER - 1) // CLUSTER * CLUSTER
    return any(offset < other + CLUSTER and other < end for other in others)


# --- single fields -----------------------------------------------------------

field("magic", lambda v: IGNORED if v == 0x514649FB
      else (REFUSE, "not in qcow2 format"), 0x514649FB)


def version(value):
    if value in (2, 3):
        return OLD_ZERO if value == 2 else IGNORED
    return REFUSE, "Unsupported qcow2 version"


def old_version(value):
    if value == 2:
        return IGNORED
    if value == 3:
        return REFUSE, "header too short"
    return REFUSE, "Unsupported qcow2 version"


field("version", version, 3, old_rule=old_version)


def cluster_bits(value):
    if value == 12:
        return IGNORED
    if not 9 <= value <= 21:
        return REFUSE, "Unsupported cluster size"
    return REFUSE, ("L1 table is too small" if value < 12
                    else "offset invalid")


field("cluster_bits", cluster_bits, 12)
new_cases.ruled("every cluster_bits", [*range(9, 12), *range(13, 22), 33, 63],
                cluster_bits, set_field("cluster_bits"))


def size(value):
    needed = -(-value // COVERAGE)
    if value > OFFSET_MAX - 511 or needed > L1_MAX:
        return REFUSE, "Image is too big"
    if needed > 1:
        return REFUSE, "L1 table is too small"
    return IGNORED  # what lies behind the end is counted all the same


field("size", size, DISK)
new_cases.ruled("size near its limits",
                [511, 512, 4095, 4096, 4097, DISK - 512, DISK + 512,
                 COVERAGE - 1, COVERAGE, COVERAGE + 1, COVERAGE + 512,
                 L1_MAX * COVERAGE, L1_MAX * COVERAGE + 1,
                 OFFSET_MAX - 511, OFFSET_MAX - 510, MAX64 - 511],
                size, set_field("size"))


def crypt(value):
    return {0: IGNORED, 1: (NO_IO, "encrypted"),
            2: (REFUSE, "Missing encryption header")}.get(
        value, (REFUSE, "Unsupported encryption method"))


field("crypt", crypt, 0)


def l1_size(value):
    if value == 0:
        return REFUSE, "L1 table is too small"
    if value > L1_MAX:
        return REFUSE, "Active L1 table too large"
    # Longer than its cluster: the L2 table behind it is taken for entries.
    return IGNORED if value <= CLUSTER // 8 else DAMAGED


field("l1_size", l1_size, 1)
new_cases.ruled("l1_size near its limits",
                [512, 513, 1024, L1_MAX - 1, L1_MAX, L1_MAX + 1,
                 (1 << 28) + 1, (1 << 29) + 1], l1_size, set_field("l1_size"))


def l1_off(value):
    if invalid(value, 8):
        return REFUSE, "Active L1 table offset invalid"
    if value >= FILE_SIZE:
        return MENDABLE, "behind the end of the file"
    return {0: (MENDABLE, "overlaps"), REFTABLE: (MENDABLE, "overlaps"),
            # Its first counts make an entry that leads far behind the end.
            REFBLOCK: ODD, L1: IGNORED,
            # Its first entry leads to a cluster of data.
            L2: TOUCHED, DATA0: TOUCHED, DATA1: TOUCHED, PACK: TOUCHED,
            ZEROED: TOUCHED}.get(value, ODD)


offset_field("l1_off", l1_off, L1)


def reftable_off(value):
    if invalid(value, CLUSTER):
        return REFUSE, "Reference count table offset invalid"
    if value in (0, L1):
        return MENDABLE, "overlaps"
    if value >= FILE_SIZE:
        return UNCOUNTED
    return IGNORED if value == REFTABLE else DAMAGED


offset_field("reftable_off", reftable_off, REFTABLE)


def reftable_clusters(value):
    if value > REFTABLE_MAX:
        return REFUSE, "Reference count table too large"
    if value == 0:
        return MENDABLE, "does not contain a reference count table"
    if overlap(REFTABLE, value * CLUSTER, L1):
        return MENDABLE, "overlaps"
    return IGNORED if value == 1 else DAMAGED


field("reftable_clusters", reftable_clusters, 1)
new_cases.ruled("reftable_clusters near its limits",
                [REFTABLE_MAX - 1, REFTABLE_MAX, REFTABLE_MAX + 1, 1 << 20],
                reftable_clusters, set_field("reftable_clusters"))


def snapshot_count(value):
    if value > SNAPSHOTS_MAX:
        return REFUSE, "Snapshot table too large"
    return (MENDABLE, "overlaps") if value else IGNORED


field("snapshot_count", snapshot_count, 0)


def more_snapshots(value):
    if value > SNAPSHOTS_MAX:
        return REFUSE, "Snapshot table too large"
    return IGNORED if value <= 1 else LISTING


new_cases.ruled("snapshots, where there is one", [1, *generic(32, 2)[2:]],
                more_snapshots,
                lambda i, v: (i.snapshot(), i.set(snapshot_count=v)))


def snapshots_off(value):
    if invalid(value, 40):
        return REFUSE, "Snapshot table offset invalid"
    if value in (0, REFTABLE, L1):
        return MENDABLE, "overlaps"
    return IGNORED if value == SNAPTABLE else LISTING


def old_snapshots_off(value):
    """Zeros make an entry in version 2, whose extra data may be absent."""
    return LEAKED if value == SPARE1 else snapshots_off(value)


offset_field("snapshots_off", snapshots_off, SNAPTABLE,
             lambda i, v: (i.snapshot(extra=24), i.set(snapshots_off=v)),
             old_snapshots_off)
new_cases.ruled("snapshots_off without snapshots",
                pointers(0, PLACES, FILE_SIZE, CLUSTER, thin=True),
                lambda v: (REFUSE, "Snapshot table offset invalid")
                if invalid(v, 0) else IGNORED, set_field("snapshots_off"))


def incompatible(value):
    if value >> 5:
        return REFUSE, "Unsupported qcow2 feature"
    if value & 8:
        return REFUSE, "feature bit must not be set"
    if value & 16:
        return REFUSE, "Extended L2 entries"
    return (NO_IO, "external data file") if value & 4 else IGNORED


new_field("incompatible", incompatible, 0)
new_field("compatible", lambda v: IGNORED, 0)
new_field("autoclear", lambda v: (REFUSE, "data-file-raw requires")
          if v & 2 else IGNORED, 0)


def refcount_order(value):
    if value > 6:
        return REFUSE, "may not exceed 64 bits"
    return IGNORED if value == 4 else DAMAGED


new_field("refcount_order", refcount_order, 4)
new_cases.ruled("every refcount_order", [3, 5, 6, 7], refcount_order,
                set_field("refcount_order"))


def header_len(value):
    if value < 104:
        return REFUSE, "header too short"
    if value > CLUSTER:
        return REFUSE, "exceeds cluster size"
    return (REFUSE, "multiple of 8") if value % 8 else IGNORED


new_field("header_len", header_len, 112)
new_cases.ruled("header_len near its limits",
                [71, 72, 96, 103, 104, 105, 108, 120, 4088, 4095, 4096, 4097,
                 4104, MAX32 - 7], header_len, set_field("header_len"))
new_field("compression", lambda v: IGNORED if not v else
          (REFUSE, "feature bit must be set") if v == 1 else
          (REFUSE, "unknown compression type"), 0)
new_cases.ruled("compression with its bit", generic(8, 1),
                lambda v: STREAM if v == 1 else
                (REFUSE, "feature bit must not be set") if v == 0 else
                (REFUSE, "unknown compression type"),
                lambda i, v: i.set(incompatible=8, compression=v))

old_cases.case("version 2", IGNORED, lambda i: None)
old_cases.each("version 2, zero flag in entry", OLD_ZERO, [0, 1, 9],
               lambda i, v: i.entry(v, 1))
old_cases.case("version 2, fields of version 3 are extensions", REFUSE,
               lambda i: i.set(incompatible=q.EXT_OTHER << 32 | MAX32),
               "Header extension too large")

# --- sizes with offsets ------------------------------------------------------

FAR = [0, SPARE1, FILE_SIZE - 1, FILE_SIZE,
       FILE_SIZE + CLUSTER, 1 << 55, (1 << 56) - CLUSTER,
       (1 << 63) - CLUSTER, 1 << 63, MAX64 - CLUSTER + 1]


def pairs(name, sizes, places, rule, change):
    new_cases.ruled(name, [(size, place) for size in sizes
                           for place in places],
                    lambda pair: rule(*pair),
                    lambda image, pair: change(image, *pair))


def l1_pair(entries, offset):
    if entries == 0 or entries > L1_MAX:
        return l1_size(entries)
    if invalid(offset, entries * 8):
        return REFUSE, "Active L1 table offset invalid"
    if overlap(offset, entries * 8, 0, REFTABLE):
        return MENDABLE, "overlaps"
    if offset >= FILE_SIZE:
        return MENDABLE, "behind the end of the file"
    return l1_size(entries) if offset == L1 else ODD


pairs("l1_size and l1_off",
      [0, 1, 2, 512, 513, L1_MAX, L1_MAX + 1, (1 << 29) - 1, 1 << 29,
       (1 << 31) - 1, 1 << 31, MAX32], [L1, L1 + 512, *FAR], l1_pair,
      lambda i, n, at: i.set(l1_size=n, l1_off=at))


def reftable_pair(clusters, offset):
    if clusters == 0 or clusters > REFTABLE_MAX:
        return reftable_clusters(clusters)
    if invalid(offset, clusters * CLUSTER):
        return REFUSE, "Reference count table offset invalid"
    if overlap(offset, clusters * CLUSTER, 0, L1):
        return MENDABLE, "overlaps"
    if offset >= FILE_SIZE:
        return UNCOUNTED
    return IGNORED if (clusters, offset) == (1, REFTABLE) else DAMAGED


pairs("reftable_clusters and reftable_off",
      [0, 1, 2, 3, REFTABLE_MAX, REFTABLE_MAX + 1, 1 << 19, 1 << 20, 1 << 31,
       MAX32], [REFTABLE, REFTABLE + 512, *FAR], reftable_pair,
      lambda i, n, at: i.set(reftable_clusters=n, reftable_off=at))


def snapshot_pair(count, offset):
    if count > SNAPSHOTS_MAX:
        return REFUSE, "Snapshot table too large"
    if invalid(offset, count * 40):
        return REFUSE, "Snapshot table offset invalid"
    if overlap(offset, count * 40, 0, REFTABLE, L1):
        return MENDABLE, "overlaps"
    return IGNORED if (count, offset) == (1, SNAPTABLE) else LISTING


def set_snapshots(image, count, offset):
    image.snapshot()
    image.set(snapshot_count=count, snapshots_off=offset)


pairs("snapshot_count and snapshots_off",
      [1, 2, SNAPSHOTS_MAX, SNAPSHOTS_MAX + 1, 1 << 31, MAX32],
      [SNAPTABLE, SNAPTABLE + 512, L1, *FAR], snapshot_pair, set_snapshots)


def backing_pair(length, offset, start=112):
    if offset == 0:
        return IGNORED
    if length > NAME_MAX:
        return REFUSE, "Backing file name too long"
    if length == 0:
        return REFUSE, "name is empty"
    if offset < start or offset > CLUSTER:
        return REFUSE, "Invalid backing file offset"
    if offset + length > CLUSTER:
        return REFUSE, "Backing file name too long"
    return REFUSE, "zero byte"


pairs("backing_len and backing_off",
      [0, 1, 8, NAME_MAX, NAME_MAX + 1, 1 << 31, MAX32],
      [0, 72, 111, 112, 136, CLUSTER - 8, CLUSTER - 1, CLUSTER, CLUSTER + 1,
       1 << 31, 1 << 32, 1 << 63, MAX64], backing_pair,
      lambda i, n, at: i.set(backing_len=n, backing_off=at))
new_cases.ruled("backing_off", pointers(136, PLACES, FILE_SIZE, CLUSTER),
                lambda v: backing_pair(8, v),
                lambda i, v: i.set(backing_off=v, backing_len=8))
old_cases.ruled("version 2, backing_off",
                pointers(96, PLACES, FILE_SIZE, CLUSTER, thin=True),
                lambda v: backing_pair(8, v, start=72),
                lambda i, v: i.set(backing_off=v, backing_len=8))


def backing_len(value):
    if value > NAME_MAX:
        return REFUSE, "Backing file name too long"
    return NO_BASE if value else (REFUSE, "name is empty")


field("backing_len", backing_len, NAME_MAX,
      change=lambda i, v: i.backing(b"x" * NAME_MAX, v))
new_cases.ruled("backing_len without offset", generic(32, NAME_MAX, thin=True),
                lambda v: IGNORED, set_field("backing_len"))

cases = new_cases.cases + old_cases.cases
