# SPDX-License-Identifier: BSD-3-Clause
"""A small valid qcow2 image, made without any tool, and ways to change it.

Clusters have 4 KiB, the disk 1 MiB: two clusters of data, two packed ones that
share a host cluster, a zero cluster without a place and one with a place.
Behind them two free clusters, for a snapshot table or a bitmap directory.
"""

import struct
import zlib

CLUSTER = 4096
DISK = 1 << 20
MAX32 = 0xFFFFFFFF
MAX64 = 0xFFFFFFFFFFFFFFFF
COPIED = 1 << 63
PACKED = 1 << 62
OFFSETS = 0x00FFFFFFFFFFFE00

# Where things are: one cluster each.
REFTABLE, REFBLOCK, L1, L2, DATA0, DATA1, PACK, ZEROED, SPARE0, SPARE1 = (
    n * CLUSTER for n in range(1, 11))
SNAPTABLE, SNAPL1 = SPARE0, SPARE1
FILE_SIZE = 11 * CLUSTER
TABLES = (0, REFTABLE, REFBLOCK, L1, L2)
PLACES = TABLES + (DATA0, DATA1, PACK, ZEROED, SPARE0, SPARE1)
# What one L2 table covers.
COVERAGE = CLUSTER // 8 * CLUSTER

FIELDS = {  # name: offset, format
    "magic": (0, ">I"), "version": (4, ">I"), "backing_off": (8, ">Q"),
    "backing_len": (16, ">I"), "cluster_bits": (20, ">I"),
    "size": (24, ">Q"), "crypt": (32, ">I"), "l1_size": (36, ">I"),
    "l1_off": (40, ">Q"), "reftable_off": (48, ">Q"),
    "reftable_clusters": (56, ">I"), "snapshot_count": (60, ">I"),
    "snapshots_off": (64, ">Q"), "incompatible": (72, ">Q"),
    "compatible": (80, ">Q"), "autoclear": (88, ">Q"),
    "refcount_order": (96, ">I"), "header_len": (100, ">I"),
    "compression": (104, ">B"),
}

(EXT_FORMAT, EXT_NAMES, EXT_BITMAPS, EXT_CRYPT, EXT_DATA, EXT_OTHER) = (
    0xE2792ACA, 0x6803F857, 0x23852875, 0x0537BE77, 0x44415441, 0x11223344)


def pattern(seed):
    """A cluster that makes no sense as a table: every bit set somewhere."""
    return bytes((seed * 37 + i * 101 + (i >> 8) * 7) & 0xFF | 1
                 for i in range(CLUSTER))


def deflate(data, flush=zlib.Z_FINISH, wbits=-12):
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return packer.compress(data) + packer.flush(flush)


def inflate(data):
    """A cluster out of a stream, which ends when it is full; or None."""
    unpacker = zlib.decompressobj(-15)
    out = b""
    try:
        for byte in data:
            out += unpacker.decompress(bytes([byte]))
            if len(out) >= CLUSTER:
                return out[:CLUSTER]
    except zlib.error:
        pass
    return None


CLUSTER0, CLUSTER1 = pattern(1), pattern(2)
CLUSTER2, CLUSTER3 = b"two " * 1024, b"three   " * 512
STREAM2, STREAM3 = deflate(CLUSTER2), deflate(CLUSTER3)


def packed(host_off, length):
    """The descriptor of a stream, for clusters of 4 KiB: 58 bits of offset."""
    further = (host_off + length - 1) // 512 - host_off // 512
    return PACKED | further << 58 | host_off


class Image:
    """The bytes of an image, and named ways to change them."""

    def __init__(self):
        self.raw = bytearray(FILE_SIZE)
        self.set(magic=0x514649FB, version=3, cluster_bits=12, size=DISK,
                 l1_size=1, l1_off=L1, reftable_off=REFTABLE,
                 reftable_clusters=1, refcount_order=4, header_len=112)
        self.u64(REFTABLE, REFBLOCK)
        for cluster in range(9):
            self.refcount(cluster, 1)
        self.refcount(PACK // CLUSTER, 2)
        self.u64(L1, L2 | COPIED)
        self.entry(0, DATA0 | COPIED)
        self.entry(1, DATA1 | COPIED)
        self.entry(2, packed(PACK, len(STREAM2)))
        self.entry(3, packed(PACK + len(STREAM2), len(STREAM3)))
        self.entry(4, 1)
        self.entry(5, ZEROED | COPIED | 1)
        self.put(DATA0, CLUSTER0)
        self.put(DATA1, CLUSTER1)
        self.put(PACK, STREAM2 + STREAM3)
        self.put(ZEROED, pattern(3))

    def put(self, at, data):
        self.raw[at:at + len(data)] = data

    def set(self, **fields):
        for name, value in fields.items():
            at, fmt = FIELDS[name]
            struct.pack_into(fmt, self.raw, at, value)

    def get(self, name):
        at, fmt = FIELDS[name]
        return struct.unpack_from(fmt, self.raw, at)[0]

    def u64(self, at, value):
        struct.pack_into(">Q", self.raw, at, value)

    def entry(self, index, value):
        self.u64(L2 + index * 8, value)

    def refcount(self, cluster, value):
        struct.pack_into(">H", self.raw, REFBLOCK + cluster * 2, value)

    def make_old(self):
        """All that version 3 knows is left out, and entries that need it."""
        self.set(version=2, incompatible=0, compatible=0, autoclear=0,
                 refcount_order=0, header_len=0)
        self.entry(4, 0)
        self.entry(5, 0)
        self.refcount(ZEROED // CLUSTER, 0)

    def extensions(self, *items, at=112, end=True):
        """Each is (type, data) or (type, data, claimed length)."""
        for kind, data, *claimed in items:
            length = claimed[0] if claimed else len(data)
            self.put(at, struct.pack(">II", kind, length) + data)
            at += 8 + (len(data) + 7) // 8 * 8
        if end:
            self.put(at, bytes(8))
            at += 8
        return at

    def backing(self, name, length=None, fmt=b"raw"):
        start = 112 if self.get("version") > 2 else 72
        at = self.extensions((EXT_FORMAT, fmt), at=start)
        self.put(at, name)
        self.set(backing_off=at,
                 backing_len=len(name) if length is None else length)

    def snapshot(self, l1_off=SNAPL1, l1_size=1, extra=16, name=b"snap",
                 ident=b"1", disk=DISK, id_len=None, name_len=None,
                 extra_len=None, count=1, vm_state=0):
        """A snapshot of an empty disk, `count` times."""
        at = SNAPTABLE
        for _ in range(count):
            entry = struct.pack(
                ">QIHHIIQII", l1_off, l1_size,
                len(ident) if id_len is None else id_len,
                len(name) if name_len is None else name_len,
                0, 0, 0, min(vm_state, MAX32),
                extra if extra_len is None else extra_len)
            data = struct.pack(">QQ", vm_state, disk) + b"\xff" * extra
            entry += data[:extra] + ident + name
            self.put(at, entry)
            at += (len(entry) + 7) // 8 * 8
        self.set(snapshot_count=count, snapshots_off=SNAPTABLE)
        self.refcount(SNAPTABLE // CLUSTER, 1)
        self.refcount(SNAPL1 // CLUSTER, count)

    def bitmap(self, count=1, reserved=0, length=32, at=SPARE0, entry=None,
               table=0):
        """A directory with one bitmap, whose table has the entry `table`."""
        self.extensions((EXT_BITMAPS,
                         struct.pack(">IIQQ", count, reserved, length, at)))
        self.set(autoclear=1)
        if entry is None:
            entry = struct.pack(">QIIBBHI", SPARE1, 1, 2, 1, 16, 2, 0) + b"b0"
        self.put(SPARE0, entry.ljust(32, b"\0"))
        self.u64(SPARE1, table)
        self.refcount(SPARE0 // CLUSTER, 1)
        self.refcount(SPARE1 // CLUSTER, 1)

    def stream(self, data):
        """A stream of its own, in the cluster that a zero entry kept."""
        self.entry(5, 0)
        self.put(ZEROED, data[:CLUSTER].ljust(CLUSTER, b"\0"))
        self.entry(2, packed(ZEROED, min(len(data), CLUSTER)))
        self.refcount(PACK // CLUSTER, 1)

    def cut(self, size):
        del self.raw[size:]


def contents():
    """What the guest reads from the untouched image."""
    data = CLUSTER0 + CLUSTER1 + CLUSTER2 + CLUSTER3
    return data + bytes(DISK - len(data))
