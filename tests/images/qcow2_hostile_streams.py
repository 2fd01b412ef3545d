# SPDX-License-Identifier: BSD-3-Clause
"""Packed clusters whose streams are broken, odd or malicious (spec: qcow2 5).

Python's zlib says what a damaged deflate stream holds. Zstandard frames are
put together here, of blocks that repeat one byte.
"""

import struct
import zlib

import qcow2_image as q
from hostile_case import IGNORED, ODD, STREAM, Catalogue
from hostile_values import LONG
from qcow2_image import CLUSTER, CLUSTER2, PACK, STREAM2, deflate, pattern

catalogue = Catalogue(q.Image)
case, ruled = catalogue.case, catalogue.ruled


def put_stream(data):
    return lambda image: image.stream(data)


# --- deflate -----------------------------------------------------------------

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
    "stored block of a wrong length": b"\x01\x00\x10\x00\x10" + CLUSTER2[:64],
    "empty stored blocks without end": b"\x00\x00\x00\xff\xff" * 800,
    "zstd frame": b"\x28\xb5\x2f\xfd\x60\x00\x0f\x4d\x00\x00\x10za\x01\x00",
}
SOUND = {
    "too long by one byte": deflate(CLUSTER2 + b"x"),
    "a bomb": deflate(CLUSTER2 + bytes(1 << 22)),
    "foreign bytes behind": STREAM2 + pattern(8)[:512],
    "stored blocks": b"\x00\x00\x08\xff\xf7" + CLUSTER2[:2048]
    + b"\x01\x00\x08\xff\xf7" + CLUSTER2[2048:],
    "empty stored blocks before": b"\x00\x00\x00\xff\xff" * 200 + STREAM2,
    **{f"window of 2^{bits}": deflate(CLUSTER2, wbits=-bits)
       for bits in range(9, 16)},
}
for name, data in BROKEN.items():
    case(f"stream: {name}", STREAM, put_stream(data))
for name, data in SOUND.items():
    if len(data) <= CLUSTER:
        case(f"stream: {name}", IGNORED, put_stream(data))


def inflated(data):
    """What a reader of a whole cluster of packed bytes makes of it."""
    out = q.inflate(data.ljust(CLUSTER, b"\0"))
    if out is None:
        return STREAM
    return IGNORED if out == CLUSTER2 else ODD


def flipped(*bits):
    data = bytearray(STREAM2)
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


ruled("stream with a flipped bit",
      range(0, len(STREAM2) * 8, 1 if LONG else 3),
      lambda bit: inflated(flipped(bit)),
      lambda i, bit: i.stream(flipped(bit)))
BITS = len(STREAM2) * 8
ruled("stream with two flipped bits",
      [(one, other) for one in range(BITS) for other in range(one)
       if LONG and (one + other) % 5 == 0],
      lambda pair: inflated(flipped(*pair)),
      lambda i, pair: i.stream(flipped(*pair)))
ruled("stream cut to", range(1, len(STREAM2)),
      lambda n: inflated(STREAM2[:n]), lambda i, n: i.stream(STREAM2[:n]))

# --- zstd --------------------------------------------------------------------

MAGIC = b"\x28\xb5\x2f\xfd"
LAST, RAW, REPEAT, RESERVED = 1, 0, 2, 6
WINDOW_MAX = 8 << 20
# A checksummed frame as the zstd program makes it, of 4096 times "z".
CHECKED = bytes.fromhex("28b52ffd64000f4d0000107a7a0100fbf7011677c11b7f")


def block(kind, size, data):
    return struct.pack("<I", size << 3 | kind)[:3] + data


def repeats(total, piece=1024, last=True):
    count = total // piece
    return b"".join(block(REPEAT | (last and n == count - 1), piece, b"z")
                    for n in range(count))


def frame(blocks, descriptor=b"\x00\x10", size=b""):
    """Descriptor and window first; 0x10 is a window of 4 KiB."""
    return MAGIC + descriptor + size + blocks


def skippable(length, data=b"", number=0):
    return struct.pack("<II", 0x184D2A50 + number, length) + data


def single(total, claimed=None):
    """A single segment whose content size is `claimed`."""
    claimed = total if claimed is None else claimed
    return MAGIC + b"\xa0" + struct.pack("<I", claimed) + repeats(total)


def zstd_image():
    image = q.Image()
    image.set(incompatible=8, compression=1)
    image.entry(3, 0)
    put_frame(image, single(CLUSTER))
    return image


def put_frame(image, data):
    image.put(PACK, data[:CLUSTER].ljust(CLUSTER, b"\0"))
    image.entry(2, q.packed(PACK, CLUSTER))
    image.refcount(PACK // CLUSTER, 1)


zstd = Catalogue(zstd_image)


def zstd_case(name, answer, data):
    zstd.case(f"zstd: {name}", answer, lambda i: put_frame(i, data))


def window_bytes(byte):
    base = 1 << 10 + (byte >> 3)
    return base + base // 8 * (byte & 7)


half = repeats(CLUSTER // 2)
for name, data in {
        "one segment": single(CLUSTER), "unknown size": frame(
            repeats(CLUSTER)),
        "with its checksum": CHECKED,
        "two frames": frame(half) * 2,
        "four frames": frame(repeats(1024)) * 4,
        "skippable first": skippable(5, b"hello") + single(CLUSTER),
        "skippable between": frame(half) + skippable(0) + frame(half),
        "sixteen skippable": b"".join(skippable(1, b"x", n)
                                      for n in range(16)) + single(CLUSTER),
        "empty frame first": frame(block(LAST, 0, b"")) + single(CLUSTER),
        "empty blocks": frame(block(RAW, 0, b"") * 500 + repeats(CLUSTER)),
        "foreign bytes behind": single(CLUSTER) + pattern(5)[:512],
        # The library's word for a size that is not known.
        "size of 2^64-1": MAGIC + b"\xe0" + b"\xff" * 8 + repeats(CLUSTER),
        "dictionary of number 0": MAGIC + b"\x03\x10" + bytes(4)
        + repeats(CLUSTER)}.items():
    zstd_case(name, IGNORED, data)
for name, data in {
        "nothing": bytes(64), "garbage": pattern(6)[:600],
        "only ones": b"\xff" * 600, "magic alone": MAGIC,
        "deflate stream": STREAM2,
        "one byte short": single(CLUSTER - 1024) + bytes(64),
        "1 KiB long": single(CLUSTER + 1024),
        "one byte long": frame(repeats(CLUSTER, last=False)
                               + block(REPEAT | LAST, 1, b"z")),
        "two frames, too long": frame(half) + single(CLUSTER),
        "two frames, too short": frame(half) + frame(repeats(1024)),
        "only skippable": skippable(8, bytes(8)) * 10,
        "skippable behind the end": skippable(CLUSTER) + single(CLUSTER),
        "skippable of the largest size": skippable(0xFFFFFFFF),
        "skippable that wraps": skippable(0xFFFFFFF8) + single(CLUSTER),
        "wrong checksum": CHECKED[:-1] + b"\x7e",
        "no checksum where one is said": CHECKED[:-4],
        "size claimed too small": single(CLUSTER, 4095),
        "size claimed too large": single(CLUSTER, 4097),
        "size claimed at most": single(CLUSTER, 0xFFFFFFFF),
        "size of 2^63": MAGIC + b"\xe0" + struct.pack("<Q", 1 << 63)
        + repeats(CLUSTER),
        "size of 2^64-2": MAGIC + b"\xe0\xfe" + b"\xff" * 7
        + repeats(CLUSTER),
        "no last block": frame(repeats(CLUSTER, last=False)),
        "reserved block type": frame(block(RESERVED | LAST, CLUSTER, b"z")),
        "reserved bit of the descriptor": frame(repeats(CLUSTER),
                                                b"\x08\x10"),
        "raw block behind the end": frame(block(RAW | LAST, CLUSTER, b"z")),
        "block above its limit": frame(
            block(REPEAT | LAST, (1 << 21) - 1, b"z"), b"\x00\x68"),
        "a bomb": frame(block(REPEAT, 1 << 17, b"z") * 1000, b"\x00\x68"),
        "packed block of rubbish": frame(
            block(4 | LAST, 100, pattern(7)[:100])),
        "packed block of nothing": frame(block(4 | LAST, 0, b"")),
}.items():
    zstd_case(name, STREAM, data)
zstd.ruled("zstd: window", [byte for byte in range(0x10, 256)
                            if LONG or byte % 8 in (0, 7)],
           lambda byte: IGNORED if window_bytes(byte) <= WINDOW_MAX
           else STREAM,
           lambda i, byte: put_frame(i, frame(repeats(CLUSTER),
                                              bytes([0, byte]))))
zstd.each("zstd: dictionary of number", STREAM,
          [1, 2, 255, 256, 65535, 1 << 31, 0xFFFFFFFF],
          lambda i, v: put_frame(i, MAGIC + b"\x03\x10" + struct.pack("<I", v)
                                 + repeats(CLUSTER)))
zstd.each("zstd: magic of an old format", STREAM, range(0x1E, 0x28),
          lambda i, v: put_frame(i, struct.pack("<I", 0xFD2FB500 + v)
                                 + single(CLUSTER)[4:]))
WHOLE = frame(repeats(CLUSTER, piece=CLUSTER))
# Without its last bytes it is still whole, as zeros stand in for them.
zstd.ruled("zstd: cut to", range(1, len(WHOLE)),
           lambda n: STREAM if n < len(WHOLE) - 2 else ODD,
           lambda i, n: put_frame(i, WHOLE[:n]))

cases = catalogue.cases + zstd.cases
# What a guest reads of the images with zstd.
ZSTD_CONTENTS = (q.CLUSTER0 + q.CLUSTER1 + b"z" * CLUSTER).ljust(q.DISK,
                                                                 b"\0")
for one in zstd.cases:
    one.guest = ZSTD_CONTENTS
