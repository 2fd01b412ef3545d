# SPDX-License-Identifier: BSD-3-Clause
"""Hostile qcow2 images: how each is made, and what is to be answered.

Every case starts from one small valid image, made here without any tool, and
changes a few bytes of it. The answer says what each command does:

    REFUSE    nothing opens it; the message says `words`
    MENDABLE  nothing but check opens it, and check reports it
    TOUCHED   it opens; reading what is bad fails, and check reports it
    DAMAGED   it opens and reads as before, but check reports it
    ODD       it opens and reads without error, maybe not as before, and check
              reports it: what is bad can not be told from data when reading
    LEAKED    as DAMAGED, but check only finds leaks
    STREAM    it opens; reading what is bad fails, and check cannot know
    CUT       it opens; what is missing reads as zeros, or fails if packed
    LOST      nothing opens it, and check has nothing to look at
    OLD_ZERO  reading fails; check does not judge what version 2 may not have
    IGNORED   nothing is wrong with it
    NO_IO     info shows it; what it needs is not supported for reading
    BITMAPS   guest data reads as before; bad bitmaps are left out
    LISTING   guest data reads as before; info, which lists it, refuses
    NO_BASE   info shows it; its backing file may not be opened

A new hostile image is a new line of data here.
"""

import struct
import zlib

CLUSTER = 4096
DISK = 1 << 20
MAX32 = 0xFFFFFFFF
MAX64 = 0xFFFFFFFFFFFFFFFF
COPIED = 1 << 63
PACKED = 1 << 62

# Where things are: one cluster each.
REFTABLE, REFBLOCK, L1, L2, DATA0, DATA1, PACK, ZEROED, SNAPTABLE, SNAPL1 = (
    n * CLUSTER for n in range(1, 11))
FILE_SIZE = 11 * CLUSTER
# What one L2 table covers.
COVERAGE = CLUSTER // 8 * CLUSTER

ANSWERS = ("REFUSE", "MENDABLE", "TOUCHED", "DAMAGED", "ODD", "LEAKED", "STREAM",
           "CUT", "LOST", "OLD_ZERO", "IGNORED", "NO_IO", "BITMAPS", "LISTING",
           "NO_BASE")
(REFUSE, MENDABLE, TOUCHED, DAMAGED, ODD, LEAKED, STREAM, CUT, LOST, OLD_ZERO,
 IGNORED, NO_IO, BITMAPS, LISTING, NO_BASE) = ANSWERS

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

EXT_FORMAT, EXT_NAMES, EXT_BITMAPS, EXT_CRYPT, EXT_DATA, EXT_OTHER = (
    0xE2792ACA, 0x6803F857, 0x23852875, 0x0537BE77, 0x44415441, 0x11223344)


def pattern(seed):
    """A cluster that makes no sense as a table: every bit set somewhere."""
    return bytes((seed * 37 + i * 101 + (i >> 8) * 7) & 0xFF | 1
                 for i in range(CLUSTER))


def deflate(data, flush=zlib.Z_FINISH, wbits=-12):
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return packer.compress(data) + packer.flush(flush)


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

    def u64(self, at, value):
        struct.pack_into(">Q", self.raw, at, value)

    def entry(self, index, value):
        self.u64(L2 + index * 8, value)

    def refcount(self, cluster, value):
        struct.pack_into(">H", self.raw, REFBLOCK + cluster * 2, value)

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
        at = self.extensions((EXT_FORMAT, fmt))
        self.put(at, name)
        self.set(backing_off=at,
                 backing_len=len(name) if length is None else length)

    def snapshot(self, l1_off=SNAPL1, l1_size=1, extra=16, name=b"snap",
                 ident=b"1", disk=DISK, id_len=None, name_len=None,
                 extra_len=None, count=1):
        """A snapshot of an empty disk, `count` times."""
        at = SNAPTABLE
        for _ in range(count):
            entry = struct.pack(
                ">QIHHIIQII", l1_off, l1_size,
                len(ident) if id_len is None else id_len,
                len(name) if name_len is None else name_len,
                0, 0, 0, 0, extra if extra_len is None else extra_len)
            data = struct.pack(">QQ", 0, disk) + b"\xff" * extra
            entry += data[:extra] + ident + name
            self.put(at, entry)
            at += (len(entry) + 7) // 8 * 8
        self.set(snapshot_count=count, snapshots_off=SNAPTABLE)
        self.refcount(SNAPTABLE // CLUSTER, 1)
        self.refcount(SNAPL1 // CLUSTER, count)

    def cut(self, size):
        del self.raw[size:]


def contents():
    """What the guest reads from the untouched image."""
    data = CLUSTER0 + CLUSTER1 + CLUSTER2 + CLUSTER3
    return data + bytes(DISK - len(data))


class Case:
    def __init__(self, name, answer, change, words=""):
        self.name = name
        self.answer = answer
        self.change = change
        self.words = words

    def build(self):
        image = Image()
        self.change(image)
        return bytes(image.raw)


CASES = []


def case(name, answer, change, words=""):
    CASES.append(Case(name, answer, change, words))


def field(name, answer, values, words=""):
    """One case for each value of a header field."""
    for value in values:
        case(f"{name}={value:#x}", answer,
             lambda image, value=value: image.set(**{name: value}), words)


def each(name, answer, values, change, words=""):
    """One case for each value; `change` takes the image and the value."""
    for value in values:
        text = f"{value:#x}" if isinstance(value, int) else value
        case(f"{name}={text}", answer,
             lambda image, value=value: change(image, value), words)


# --- header fields -----------------------------------------------------------

field("magic", REFUSE, [0, 0x514649FA, 0xFB494651, 0x514649, MAX32],
      "not in qcow2 format")
field("version", REFUSE, [0, 1, 4, 5, 9, 0x100, 1 << 31, MAX32 - 1, MAX32],
      "Unsupported qcow2 version")
field("cluster_bits", REFUSE,
      [0, 1, 8, 22, 23, 31, 32, 33, 63, 64, 255, 1 << 16, 1 << 31, MAX32],
      "Unsupported cluster size")
field("cluster_bits", REFUSE, range(9, 12), "L1 table is too small")
field("cluster_bits", REFUSE, range(13, 22), "offset invalid")

field("size", REFUSE,
      [(1 << 63) - 511, (1 << 63) - 1, 1 << 63, MAX64 - 511, MAX64],
      "Image is too big")
field("size", REFUSE, [1 << k for k in range(44, 63)], "Image is too big")
field("size", REFUSE, [COVERAGE + 1, COVERAGE + 512, COVERAGE * 2, 1 << 40],
      "L1 table is too small")
field("size", IGNORED,
      [DISK - 1, DISK - 512, DISK + 512, COVERAGE - 1, COVERAGE])
# What lies behind the end of the disk is not reachable, but counted.
field("size", IGNORED, [0, 1, 511, 512, 4095, 4096, 4097])

field("crypt", NO_IO, [1], "encrypted")
field("crypt", REFUSE, [2], "Missing encryption header")
field("crypt", REFUSE, [3, 4, 0x100, 1 << 31, MAX32],
      "Unsupported encryption method")

field("l1_size", REFUSE, [0], "L1 table is too small")
field("l1_size", REFUSE,
      [(1 << 22) + 1, 1 << 23, 1 << 28, (1 << 29) - 1, 1 << 29, 1 << 30,
       (1 << 31) - 1, 1 << 31, MAX32 - 1, MAX32], "Active L1 table too large")
field("l1_size", IGNORED, [2, 511, 512])
# Longer than its cluster: the L2 table behind it is taken for entries.
field("l1_size", DAMAGED, [513, 1024, 1 << 21, 1 << 22])

UNALIGNED = [1, 2, 8, 511, 512, L1 + 1, L1 + 8, L1 + 511, L1 + 512,
             L1 + 2048, L1 - 1, (1 << 55) + 512, (1 << 63) + 1, MAX64]
BEHIND = [FILE_SIZE, FILE_SIZE + CLUSTER, 1 << 32, 1 << 40, 1 << 55,
          (1 << 56) - CLUSTER, 1 << 56, 1 << 62]
WRAPS = [1 << 63, MAX64 - CLUSTER + 1]

field("l1_off", REFUSE, UNALIGNED, "Active L1 table offset invalid")
field("l1_off", REFUSE, WRAPS, "Active L1 table offset invalid")
field("l1_off", MENDABLE, BEHIND + [(1 << 63) - CLUSTER],
      "behind the end of the file")
field("l1_off", MENDABLE, [0, REFTABLE], "overlaps")
# Its first counts make an entry that leads far behind the end.
field("l1_off", ODD, [REFBLOCK])
field("l1_off", TOUCHED, [DATA0, DATA1, PACK, ZEROED])
# The first entry of the L2 table leads to a cluster of data.
field("l1_off", TOUCHED, [L2])

field("reftable_off", REFUSE, UNALIGNED,
      "Reference count table offset invalid")
field("reftable_off", REFUSE, WRAPS + [(1 << 63) - CLUSTER], "Reference count table offset invalid")
field("reftable_off", DAMAGED, BEHIND)
field("reftable_off", MENDABLE, [0, L1], "overlaps")
field("reftable_off", DAMAGED, [REFBLOCK, L2, DATA0, PACK, ZEROED])
field("reftable_clusters", MENDABLE, [0],
      "does not contain a reference count table")
field("reftable_clusters", REFUSE,
      [2049, 4096, 1 << 20, 1 << 29, 1 << 31, MAX32],
      "Reference count table too large")
field("reftable_clusters", MENDABLE, [3, 2048], "overlaps")
field("reftable_clusters", DAMAGED, [2])

field("snapshot_count", REFUSE, [65537, 1 << 20, 1 << 31, MAX32],
      "Snapshot table too large")
field("snapshot_count", MENDABLE, [1, 65536], "overlaps")
field("snapshots_off", REFUSE, UNALIGNED + WRAPS,
      "Snapshot table offset invalid")

field("refcount_order", REFUSE, [7, 8, 31, 32, 63, 64, 1 << 31, MAX32],
      "may not exceed 64 bits")
field("refcount_order", DAMAGED, [0, 1, 2, 3, 5, 6])

field("header_len", REFUSE, [0, 1, 71, 72, 96, 103], "header too short")
field("header_len", REFUSE, [105, 108, 111, 113, 4095], "multiple of 8")
field("header_len", REFUSE,
      [4097, 4104, 1 << 16, 1 << 31, MAX32 - 7, MAX32], "exceeds cluster size")
field("header_len", IGNORED, [104, 112, 120, 4088, 4096])

field("compression", REFUSE, [1], "feature bit must be set")
field("compression", REFUSE, [2, 3, 128, 255], "unknown compression type")
each("compression with its bit", REFUSE, [0],
     lambda i, v: i.set(incompatible=8, compression=v),
     "feature bit must not be set")
each("compression with its bit", REFUSE, [2, 255],
     lambda i, v: i.set(incompatible=8, compression=v),
     "unknown compression type")

# --- feature bits --------------------------------------------------------------

field("incompatible", IGNORED, [1])
field("incompatible", IGNORED, [2])
field("incompatible", NO_IO, [4], "external data file")
field("incompatible", REFUSE, [8], "feature bit must not be set")
field("incompatible", REFUSE, [16], "Extended L2 entries")
field("incompatible", REFUSE, [1 << k for k in range(5, 64)] + [MAX64],
      "Unsupported qcow2 feature")
field("compatible", IGNORED, [1 << k for k in range(64)] + [MAX64])
field("autoclear", REFUSE, [2, 3, MAX64], "data-file-raw requires")
field("autoclear", IGNORED, [1] + [1 << k for k in range(2, 64)])


def version_2(image, **fields):
    """All that version 3 knows is left out, and the entries that need it."""
    image.set(version=2, header_len=0, refcount_order=0)
    image.entry(4, 0)
    image.entry(5, 0)
    image.refcount(ZEROED // CLUSTER, 0)
    image.set(**fields)


case("version 2", IGNORED, version_2)
each("version 2, zero flag in entry", OLD_ZERO, [0, 1, 9],
     lambda i, v: (version_2(i), i.entry(v, 1)))
case("version 2, fields of version 3 are extensions", REFUSE,
     lambda i: version_2(i, incompatible=EXT_OTHER << 32 | MAX32),
     "Header extension too large")

# --- backing names -----------------------------------------------------------

each("backing_off", REFUSE, [1, 71, 72, 103, 104, 111, CLUSTER + 1, 1 << 16,
                             1 << 31, 1 << 32, 1 << 62, 1 << 63, MAX64],
     lambda i, v: i.set(backing_off=v, backing_len=8),
     "Invalid backing file offset")
each("backing_off", REFUSE, [CLUSTER - 7, CLUSTER - 1, CLUSTER],
     lambda i, v: i.set(backing_off=v, backing_len=8),
     "Backing file name too long")
each("backing_len", REFUSE, [1024, 1025, 4096, 1 << 16, 1 << 31, MAX32],
     lambda i, v: i.backing(b"base", v), "Backing file name too long")
case("backing_len=0", REFUSE, lambda i: i.backing(b"base", 0),
     "name is empty")
each("backing_len without offset", IGNORED, [1, 1024, MAX32],
     lambda i, v: i.set(backing_len=v))
case("backing name with zero byte", REFUSE,
     lambda i: i.backing(b"ba\0se"), "zero byte")
NAMES = [b"/etc/passwd", b"../../../../etc/passwd", b"/proc/self/fd/0",
         b"/dev/null", b"/dev/zero", b".", b"/", b"json:{}",
         b'json:{"driver":"raw","file.filename":"/etc/passwd"}',
         b"nbd://localhost/x", b"nbd+unix:///x?socket=/tmp/s", b"fd:3",
         b"http://localhost/", b"ssh://host/path", b"host:path", b"fat:/tmp",
         b"\xff\xfe\x80", b"\x1b[31mred", b"new\nline", b"%n%n%s", b"'; ls",
         b"x" * 1023, b"missing.raw"]
for text in NAMES:
    case(f"backing name {text[:30]!r}", NO_BASE,
         lambda i, text=text: i.backing(text))
each("backing format", NO_BASE, ["bogus", "qcow2", "vmdk"],
     lambda i, v: i.backing(b"missing.raw", fmt=v.encode()))

# --- extensions ----------------------------------------------------------------

ROOM = CLUSTER - 112 - 8
for ext in (EXT_OTHER, EXT_FORMAT, EXT_NAMES, EXT_BITMAPS, EXT_DATA):
    for wrong in (ROOM + 1, 1 << 16, (1 << 31) - 1, 1 << 31, MAX32 - 7, MAX32):
        case(f"extension {ext:#x} claims {wrong:#x}", REFUSE,
             lambda i, ext=ext, wrong=wrong:
             i.extensions((ext, b"data", wrong)), "Header extension too large")
case("extension fills the cluster", IGNORED,
     lambda i: i.extensions((EXT_OTHER, b"x" * ROOM), end=False))
case("extensions without end", IGNORED,
     lambda i: i.extensions(*[(EXT_OTHER, b"")] * ((CLUSTER - 112) // 8),
                            end=False))
each("extension of unknown type", IGNORED,
     [1, 0x80000000, MAX32, 0x514649FB],
     lambda i, v: i.extensions((v, b"something")))
each("format name of length", REFUSE, [0, 16, 255],
     lambda i, v: i.extensions((EXT_FORMAT, b"f" * v)), "Backing format name")
case("format name with zero byte", REFUSE,
     lambda i: i.extensions((EXT_FORMAT, b"ra\0w")), "zero byte")
case("format name without backing file", IGNORED,
     lambda i: i.extensions((EXT_FORMAT, b"anything")))
each("data file name of length", REFUSE, [0, 1024],
     lambda i, v: i.extensions((EXT_DATA, b"d" * v)), "Data file name")
case("data file name with zero byte", REFUSE,
     lambda i: i.extensions((EXT_DATA, b"a\0b")), "zero byte")
case("data file name without its bit", IGNORED,
     lambda i: i.extensions((EXT_DATA, b"/etc/passwd")))
case("data file that is the password file", NO_IO,
     lambda i: (i.extensions((EXT_DATA, b"/etc/passwd")),
                i.set(incompatible=4)), "external data file")
for ext, good in ((EXT_FORMAT, b"raw"), (EXT_DATA, b"data"),
                  (EXT_BITMAPS, bytes(24))):
    case(f"extension {ext:#x} twice", REFUSE,
         lambda i, ext=ext, good=good: i.extensions((ext, good), (ext, good)),
         "more than once")
case("encryption header without encryption", REFUSE,
     lambda i: i.extensions((EXT_CRYPT, struct.pack(">QQ", DATA0, 4096))),
     "only for crypt_method 2")
each("encryption header of length", REFUSE, [0, 8, 15, 17, 24],
     lambda i, v: (i.extensions((EXT_CRYPT, bytes(v))), i.set(crypt=2)),
     "Encryption header extension has")
each("encryption header at", REFUSE, [0, 1, 512, DATA0 + 512, MAX64],
     lambda i, v: (i.extensions((EXT_CRYPT, struct.pack(">QQ", v, 4096))),
                   i.set(crypt=2)), "Encryption header offset")
each("encryption header is long", REFUSE, [0, 1 << 56, 1 << 63, MAX64],
     lambda i, v: (i.extensions((EXT_CRYPT, struct.pack(">QQ", DATA0, v))),
                   i.set(crypt=2)), "Encryption header of")
each("feature names of length", IGNORED, [0, 1, 47, 48, 49, 95, 3000],
     lambda i, v: i.extensions((EXT_NAMES, b"\x00" + b"\xff" * v))
     if v else i.extensions((EXT_NAMES, b"")))
case("unknown feature with a name", REFUSE,
     lambda i: (i.extensions((EXT_NAMES, b"\0\x28" + b"odd\x1b[2J".ljust(46))),
                i.set(incompatible=1 << 40)), r"odd\x1b[2J")
each("bitmaps extension of length", REFUSE, [0, 8, 23, 25, 32],
     lambda i, v: i.extensions((EXT_BITMAPS, bytes(v))),
     "Bitmaps extension has")


def bitmaps(image, count=1, reserved=0, length=32, at=SNAPTABLE, entry=None):
    """A directory with one bitmap that has an empty table."""
    image.extensions((EXT_BITMAPS,
                      struct.pack(">IIQQ", count, reserved, length, at)))
    image.set(autoclear=1)
    if entry is None:
        entry = struct.pack(">QIIBBHI", SNAPL1, 1, 2, 1, 16, 2, 0) + b"b0"
    image.put(SNAPTABLE, entry.ljust(32, b"\0"))
    image.refcount(SNAPTABLE // CLUSTER, 1)
    image.refcount(SNAPL1 // CLUSTER, 1)


case("bitmap", IGNORED, bitmaps)
# Bitmaps only save work: bad ones are left out, the disk is served.
for name, bad in (
        ("count", [{"count": v} for v in (0, 2, 65535, 65536, MAX32)]),
        ("reserved", [{"reserved": 1}]),
        ("directory length", [{"length": v} for v in
                              (0, 1, 24, 40, 1 << 26, 1 << 32, MAX64)]),
        ("directory offset", [{"at": v} for v in
                              (0, 1, 512, FILE_SIZE, 1 << 55, 1 << 63)]),
        ("entry", [{"entry": struct.pack(">QIIBBHI", *e) + b"b0"} for e in (
            (SNAPL1, 1, 2, 0, 16, 2, 0), (SNAPL1, 1, 2, 2, 16, 2, 0),
            (SNAPL1, 1, 2, 1, 8, 2, 0), (SNAPL1, 1, 2, 1, 32, 2, 0),
            (SNAPL1, 1, 2, 1, 63, 2, 0), (SNAPL1, 1, 2, 1, 255, 2, 0),
            (SNAPL1, 1, 2, 1, 16, 0, 0), (SNAPL1, 1, 2, 1, 16, 1024, 0),
            (SNAPL1, 1, 2, 1, 16, 65535, 0), (SNAPL1, 1, 2, 1, 16, 2, MAX32),
            (SNAPL1 + 512, 1, 2, 1, 16, 2, 0), (0, 1, 2, 1, 16, 2, 0),
            (SNAPL1, MAX32, 2, 1, 16, 2, 0))])):
    for number, how in enumerate(bad):
        case(f"bitmaps with bad {name}, {number}", BITMAPS,
             lambda i, how=how: bitmaps(i, **how))

# --- L1 and L2 entries ---------------------------------------------------------

# QEMU reads through entries with reserved bits too.
each("L1 entry, reserved bit", DAMAGED, list(range(9)) + list(range(56, 63)),
     lambda i, v: i.u64(L1, L2 | COPIED | 1 << v))
each("L1 entry leads to", TOUCHED, [REFTABLE + 512, L2 + 512, L2 + 2048],
     lambda i, v: i.u64(L1, v | COPIED))
each("L1 entry leads behind the end", ODD,
     [FILE_SIZE, FILE_SIZE + CLUSTER, 1 << 40, 1 << 55, (1 << 56) - CLUSTER],
     lambda i, v: i.u64(L1, v | COPIED))
each("L1 entry leads to", TOUCHED, [DATA0, DATA1, PACK, ZEROED],
     lambda i, v: i.u64(L1, v | COPIED))
each("L1 entry leads to", ODD, [REFTABLE, REFBLOCK],
     lambda i, v: i.u64(L1, v | COPIED))
case("L1 entry without COPIED", DAMAGED, lambda i: i.u64(L1, L2))
case("L1 entry is COPIED alone", ODD, lambda i: i.u64(L1, COPIED))

each("L2 entry, reserved bit", DAMAGED,
     list(range(1, 9)) + list(range(56, 62)),
     lambda i, v: i.entry(0, DATA0 | COPIED | 1 << v))
each("L2 entry leads to", TOUCHED,
     [512, DATA0 + 512, DATA0 + 2048, DATA0 + 3584, (1 << 55) + 512],
     lambda i, v: i.entry(0, v | COPIED))
each("L2 entry leads behind the end", ODD,
     [FILE_SIZE, FILE_SIZE + CLUSTER, 1 << 40, 1 << 55, (1 << 56) - CLUSTER],
     lambda i, v: i.entry(0, v | COPIED))
each("L2 entry leads to a table", ODD, [REFTABLE, REFBLOCK, L1, L2],
     lambda i, v: i.entry(0, v | COPIED))
each("L2 entry leads to a cluster of another", ODD, [DATA1, PACK, ZEROED],
     lambda i, v: i.entry(0, v | COPIED))
case("L2 entry without COPIED", DAMAGED, lambda i: i.entry(0, DATA0))
case("L2 entry is COPIED alone", ODD, lambda i: i.entry(0, COPIED))
case("L2 entry is all ones", TOUCHED, lambda i: i.entry(0, MAX64))
case("zero entry leads behind the end", DAMAGED,
     lambda i: i.entry(5, 1 << 40 | COPIED | 1))
case("zero entry is not aligned", TOUCHED,
     lambda i: i.entry(5, ZEROED + 512 | COPIED | 1))

# --- packed clusters -----------------------------------------------------------

case("packed entry with COPIED", DAMAGED,
     lambda i: i.entry(2, packed(PACK, len(STREAM2)) | COPIED))
each("packed entry at", STREAM, [PACK + 1, PACK + len(STREAM2) - 1],
     lambda i, v: i.entry(2, PACKED | v))
each("packed entry at", TOUCHED,
     [0, 1, DATA0, FILE_SIZE - 1, FILE_SIZE, 1 << 40, (1 << 56) - 1, (1 << 58) - 1],
     lambda i, v: i.entry(2, PACKED | v))
each("packed entry, further sectors", DAMAGED, [8, 15],
     lambda i, v: i.entry(2, packed(PACK, len(STREAM2)) | v << 58))
each("packed entry, further sectors", IGNORED, [1, 2, 7],
     lambda i, v: i.entry(2, packed(PACK, len(STREAM2)) | v << 58))


def stream(image, data):
    """A stream of its own, in the cluster that a zero entry kept."""
    image.entry(5, 0)
    image.put(ZEROED, data[:CLUSTER].ljust(CLUSTER, b"\0"))
    image.entry(2, packed(ZEROED, min(len(data), CLUSTER)))
    image.refcount(PACK // CLUSTER, 1)


BROKEN = {
    "empty": b"\0", "only zeros": bytes(64), "garbage": pattern(9)[:512],
    "only ones": b"\xff" * 512, "truncated": deflate(pattern(9))[:100],
    "one byte short": deflate(CLUSTER2[:-1]),
    "half a cluster": deflate(CLUSTER2[:2048]), "nothing": deflate(b""),
    "zlib wrapper": deflate(CLUSTER2, wbits=15),
    "gzip wrapper": deflate(CLUSTER2, wbits=31),
    "no final block": deflate(CLUSTER2[:-1], zlib.Z_SYNC_FLUSH),
    "reserved block type": b"\x07" + bytes(64),
    "distance too far": b"\x63\x00\x02\x00\xff\xff\xff" + bytes(64),
}
for name, data in BROKEN.items():
    case(f"stream: {name}", STREAM, lambda i, data=data: stream(i, data))
for name, data in {
        "too long by one byte": deflate(CLUSTER2 + b"x"),
        "a bomb": deflate(CLUSTER2 + bytes(1 << 22)),
        "window of 32 KiB": deflate(CLUSTER2, wbits=-15),
        "stored blocks": b"\x00\x00\x08\xff\xf7" + CLUSTER2[:2048]
        + b"\x01\x00\x08\xff\xf7" + CLUSTER2[2048:],
        "foreign bytes behind": STREAM2 + pattern(8)[:512]}.items():
    if len(data) <= CLUSTER:
        case(f"stream: {name}", IGNORED,
             lambda i, data=data: stream(i, data))

# --- reference counts ----------------------------------------------------------

each("count is 0 of cluster", DAMAGED, range(9),
     lambda i, v: i.refcount(v, 0))
each("count is too high of cluster", LEAKED, [0, 1, 2, 3, 7],
     lambda i, v: i.refcount(v, 3))
# COPIED says 1.
each("count is too high of cluster", DAMAGED, [4, 5, 6, 8],
     lambda i, v: i.refcount(v, 3))
case("count of packed cluster is too low", DAMAGED,
     lambda i: i.refcount(PACK // CLUSTER, 1))
each("count of unused cluster", LEAKED, [9, 10],
     lambda i, v: i.refcount(v, 65535))
each("refcount table entry", DAMAGED,
     [0, 1, REFBLOCK | 1, REFBLOCK | 256, REFBLOCK + 512, FILE_SIZE, 1 << 40,
      1 << 56, MAX64, REFTABLE, L1, L2, DATA0],
     lambda i, v: i.u64(REFTABLE, v))
each("second refcount table entry", DAMAGED,
     [REFBLOCK, FILE_SIZE, 1 << 55, MAX64],
     lambda i, v: i.u64(REFTABLE + 8, v))

# --- snapshots -----------------------------------------------------------------

case("snapshot", IGNORED, lambda i: i.snapshot())
each("snapshot, extra data of length", IGNORED, [16, 17, 24, 100, 1024],
     lambda i, v: i.snapshot(extra=v))
each("snapshot, extra data of length", LISTING, [0, 8, 15, 1025, 2000],
     lambda i, v: i.snapshot(extra=v), "extra data")
each("snapshot, extra data claims", LISTING, [1 << 16, 1 << 31, MAX32],
     lambda i, v: i.snapshot(extra_len=v), "extra data")
each("snapshot, L1 table at", LISTING,
     [1, 512, SNAPL1 + 512, 1 << 56, 1 << 63, MAX64],
     lambda i, v: i.snapshot(l1_off=v), "L1 table offset invalid")
each("snapshot, L1 table of", LISTING, [(1 << 22) + 1, 1 << 29, 1 << 31,
                                        MAX32],
     lambda i, v: i.snapshot(l1_size=v), "L1 table too large")
each("snapshot, L1 table is", DAMAGED,
     [0, REFTABLE, REFBLOCK, L1, L2, DATA0, FILE_SIZE, 1 << 40, 1 << 55],
     lambda i, v: i.snapshot(l1_off=v))
each("snapshot, disk size", LISTING, [(1 << 63) - 1, 1 << 63, MAX64],
     lambda i, v: i.snapshot(disk=v), "disk size")
each("snapshot, id of", LISTING, [20000, 65535],
     lambda i, v: i.snapshot(id_len=v))
each("snapshot, name of", LISTING, [20000, 65535],
     lambda i, v: i.snapshot(name_len=v))
case("snapshot, name with zero byte", LISTING,
     lambda i: i.snapshot(name=b"a\0b"), "zero byte")
each("snapshot, name", IGNORED,
     ["", "1", "\x1b[2J", "%n", "\udcff", "x" * 300],
     lambda i, v: i.snapshot(name=v.encode(errors="surrogateescape")))
case("snapshot, empty id", IGNORED, lambda i: i.snapshot(ident=b""))
case("snapshots with one id", IGNORED, lambda i: i.snapshot(count=3))
each("snapshot table at", LISTING, [FILE_SIZE, 1 << 40, 1 << 55],
     lambda i, v: (i.snapshot(), i.set(snapshots_off=v)))
each("snapshot table is", MENDABLE, [0, REFTABLE, L1],
     lambda i, v: (i.snapshot(), i.set(snapshots_off=v)), "overlaps")
each("snapshots that are not there", LISTING, [2, 65536],
     lambda i, v: (i.snapshot(), i.set(snapshot_count=v)))

# --- files that end too early --------------------------------------------------

each("file of", REFUSE, [0, 1, 3], lambda i, v: i.cut(v),
     "not in qcow2 format")
each("file of", REFUSE, [4, 7], lambda i, v: i.cut(v),
     "Unsupported qcow2 version")
each("file of", REFUSE, [8, 20, 23], lambda i, v: i.cut(v),
     "Unsupported cluster size")
each("file of", REFUSE, [71, 72, 99, 103], lambda i, v: i.cut(v),
     "header too short")
each("file of", MENDABLE,
     [104, 112, 113, CLUSTER - 1, CLUSTER, CLUSTER + 1, REFTABLE + 8,
      REFBLOCK - 1, REFBLOCK, REFBLOCK + 1],
     lambda i, v: i.cut(v), "behind the end of the file")
each("file of", LOST, [L1 - 1, L1], lambda i, v: i.cut(v),
     "behind the end of the file")
each("file of", ODD, [L1 + 1, L1 + 7, L2 - 1, L2, L2 + 1, L2 + 8],
     lambda i, v: i.cut(v))
each("file of", CUT, [L2 + 24, L2 + 48, DATA0 - 1, DATA0, DATA0 + 1, DATA1,
                        DATA1 + 512, PACK, PACK + 1],
     lambda i, v: i.cut(v))
each("file of", DAMAGED, [PACK + len(STREAM2) + len(STREAM3), ZEROED],
     lambda i, v: i.cut(v))
each("file of", IGNORED, [ZEROED + 1,
                          SNAPTABLE, FILE_SIZE - 1],
     lambda i, v: i.cut(v))
