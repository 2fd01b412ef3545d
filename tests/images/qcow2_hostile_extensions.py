# SPDX-License-Identifier: BSD-3-Clause
"""Header extensions, the bitmap directory, and names (spec: qcow2 3, 10)."""

import struct

import qcow2_image as q
from hostile_case import (BITMAPS, IGNORED, NO_BASE, NO_IO, REFUSE, SEALED,
                          Catalogue)
from hostile_values import generic, pointers
from qcow2_image import (CLUSTER, DATA0, EXT_BITMAPS, EXT_CRYPT, EXT_DATA,
                         EXT_FORMAT, EXT_NAMES, EXT_OTHER, FILE_SIZE, MAX32,
                         MAX64, PLACES, SPARE0, SPARE1)

catalogue = Catalogue(q.Image)
case, each, ruled = catalogue.case, catalogue.each, catalogue.ruled

ROOM = CLUSTER - 112 - 8
FORMAT_MAX, DATA_MAX = 15, 1023

# --- lengths and types -------------------------------------------------------


def known_length(kind, length):
    """What an extension of this length says; its data are letters."""
    if kind == EXT_FORMAT and not 1 <= length <= FORMAT_MAX:
        return REFUSE, "Backing format name"
    if kind == EXT_DATA and not 1 <= length <= DATA_MAX:
        return REFUSE, "Data file name"
    if kind == EXT_BITMAPS and length != 24:
        return REFUSE, "Bitmaps extension has"
    if kind == EXT_CRYPT:
        return REFUSE, ("only for crypt_method 2" if length == 16
                        else "Encryption header extension has")
    return IGNORED


def ext_length(kind, length):
    if length > ROOM:
        return REFUSE, "Header extension too large"
    return known_length(kind, length)


def claim(image, kind, length):
    image.extensions((kind, b"f" * min(length, ROOM), length),
                     end=length < ROOM - 8)


for ext, good in ((EXT_OTHER, ROOM), (EXT_FORMAT, FORMAT_MAX),
                  (EXT_NAMES, 48), (EXT_BITMAPS, 24), (EXT_CRYPT, 16),
                  (EXT_DATA, DATA_MAX)):
    ruled(f"extension {ext:#x} of length",
          sorted({*generic(32, good, thin=ext != EXT_OTHER), ROOM - 8, ROOM,
                  ROOM + 1, 1 << 16, MAX32 - 7}),
          lambda v, ext=ext: ext_length(ext, v),
          lambda i, v, ext=ext: claim(i, ext, v))
ruled("extension of type", generic(32, EXT_OTHER),
      lambda v: known_length(v, 9),
      lambda i, v: i.extensions((v, b"something")))
case("extensions without end", IGNORED,
     lambda i: i.extensions(*[(EXT_OTHER, b"")] * ((CLUSTER - 112) // 8),
                            end=False))
case("format name with zero byte", REFUSE,
     lambda i: i.extensions((EXT_FORMAT, b"ra\0w")), "zero byte")
case("data file name with zero byte", REFUSE,
     lambda i: i.extensions((EXT_DATA, b"a\0b")), "zero byte")
for ext, data in ((EXT_FORMAT, b"raw"), (EXT_DATA, b"data"),
                  (EXT_BITMAPS, bytes(24))):
    case(f"extension {ext:#x} twice", REFUSE,
         lambda i, ext=ext, data=data: i.extensions((ext, data), (ext, data)),
         "more than once")
case("encryption header twice", REFUSE,
     lambda i: (i.extensions(*[(EXT_CRYPT, struct.pack(">QQ", DATA0, 4096))]
                             * 2), i.set(crypt=2)), "more than once")


def crypt_header(image, offset, length):
    image.extensions((EXT_CRYPT, struct.pack(">QQ", offset, length)))
    image.set(crypt=2)


def crypt_place(offset, length):
    if not offset or offset % CLUSTER:
        return REFUSE, "Encryption header offset"
    if not length or offset + length > 1 << 56:
        return REFUSE, "Encryption header of"
    return NO_IO


ruled("encryption header at",
      pointers(DATA0, PLACES, FILE_SIZE, CLUSTER, thin=True),
      lambda v: crypt_place(v, 4096), lambda i, v: crypt_header(i, v, 4096))
ruled("encryption header is long", generic(64, 4096, thin=True),
      lambda v: crypt_place(DATA0, v), lambda i, v: crypt_header(i, DATA0, v))
each("feature names of length", IGNORED, [0, 1, 47, 48, 49, 95, 3000],
     lambda i, v: i.extensions((EXT_NAMES, b"\x00" + b"\xff" * v))
     if v else i.extensions((EXT_NAMES, b"")))
case("unknown feature with a name", REFUSE,
     lambda i: (i.extensions((EXT_NAMES, b"\0\x28" + b"odd\x1b[2J".ljust(46))),
                i.set(incompatible=1 << 40)), r"odd\x1b[2J")

# --- bitmaps: they only save work; bad ones are left out, the disk is served -


def only(valid):
    return lambda value: SEALED if value in valid else BITMAPS


ruled("bitmaps, count", generic(32, 65535), only([1]), lambda i, v: i.bitmap(count=v))
ruled("bitmaps, reserved field", generic(32, 0, thin=True), only([0]),
      lambda i, v: i.bitmap(reserved=v))
ruled("bitmaps, directory of", generic(64, 32, thin=True), only([32]),
      lambda i, v: i.bitmap(length=v))
ruled("bitmaps, directory at",
      pointers(SPARE0, PLACES, FILE_SIZE, CLUSTER), only([SPARE0]), lambda i, v: i.bitmap(at=v))
ruled("bitmap table entry",
      pointers(0, PLACES, FILE_SIZE, CLUSTER, thin=True), only([0, 1]), lambda i, v: i.bitmap(table=v))


def directory_entry(field, value):
    fields = {"table": SPARE1, "entries": 1, "flags": 2, "type": 1,
              "granularity": 16, "name": 2, "extra": 0, field: value}
    return struct.pack(">QIIBBHI", *fields.values()) + b"b0"


for name, bits, good in (
        ("table", 64, [SPARE1]), ("entries", 32, [1]), ("flags", 32, [0, 2]),
        ("type", 8, [1]), ("granularity", 8, range(9, 32)),
        ("name", 16, [2]), ("extra", 32, [0])):
    values = (pointers(SPARE1, PLACES, FILE_SIZE, CLUSTER, thin=True)
              if bits == 64 else
              generic(bits, good[-1], thin=name != "extra"))
    ruled(f"bitmap, {name}", values, only(good),
          lambda i, v, name=name: i.bitmap(entry=directory_entry(name, v)))

# --- names -------------------------------------------------------------------

NAMES = [b"/etc/passwd", b"../../../../etc/passwd", b"/proc/self/fd/0",
         b"/proc/self/mem", b"/dev/null", b"/dev/zero", b"/dev/stdin",
         b"/dev/tcp/localhost/80", b".", b"..", b"/", b"./", b"t.qcow2",
         b"json:{}", b'json:{"driver":"raw","file.filename":"/etc/passwd"}',
         b'json:{"driver":"nbd","host":"localhost"}', b"file:/etc/passwd",
         b"nbd://localhost/x", b"nbd:unix:/tmp/s", b"nbd:localhost:10809",
         b"nbd+unix:///x?socket=/tmp/s", b"fd:3", b"fd:0", b"/dev/fdset/1",
         b"http://localhost/", b"https://localhost/", b"ftp://localhost/",
         b"ssh://host/path", b"iscsi://host/target/0", b"rbd:pool/image",
         b"host:path", b"fat:/tmp", b"fat:rw:/tmp", b"vvfat:/tmp",
         b"blkdebug::/etc/passwd", b"blkverify:a:b", b"null-co://",
         b"\xff\xfe\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"\x1b[31mred",
         b"\x1b]0;title\x07", b"new\nline", b"re\rturn", b"tab\there",
         b"\x7f\x08\x08", b"%n%n%s", b"%99999d", b"'; ls", b"`id`", b"$(id)",
         b"-f", b"--help", b" ", b"a" * 255, b"x" * 1023, b"/" * 1023,
         b"../" * 341, b"missing.raw"]
each("backing name", NO_BASE, NAMES, lambda i, v: i.backing(v))
each("backing format", NO_BASE, ["bogus", "qcow2", "vmdk", "luks", "\x1b[2J"],
     lambda i, v: i.backing(b"missing.raw", fmt=v.encode()))
case("backing name with zero byte", REFUSE, lambda i: i.backing(b"ba\0se"),
     "zero byte")
each("data file name without its bit", IGNORED, NAMES,
     lambda i, v: i.extensions((EXT_DATA, v)))
ruled("data file name", NAMES, lambda v: (NO_IO, "external data file"),
      lambda i, v: (i.extensions((EXT_DATA, v)), i.set(incompatible=4)))
case("data file and backing file", NO_IO,
     lambda i: (i.backing(b"missing.raw"), i.set(incompatible=4)))
case("raw data file and backing file", REFUSE,
     lambda i: (i.backing(b"missing.raw"),
                i.set(incompatible=4, autoclear=2)), "excludes a backing file")
case("largest count of bitmaps in the largest directory", BITMAPS,
     lambda i: i.bitmap(count=65535, length=65535 * 1024))
case("directory that wraps", BITMAPS,
     lambda i: i.bitmap(length=MAX64, at=MAX64 - CLUSTER + 1))

cases = catalogue.cases
