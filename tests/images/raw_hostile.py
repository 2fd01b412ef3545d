# SPDX-License-Identifier: BSD-3-Clause
"""Raw files that look like something else (spec: raw-and-probing 7, 8).

What has to be answered follows from the table of magics alone: which of them
a file holds, and whether they name a container or what a disk may contain.
"""

import itertools
import struct

SECTOR = 512
FILE = 64 << 10
QFI = b"QFI\xfb"

# Containers: name, offset (negative: from the end), bytes, what info says.
HEADS = [
    ("qcow", 0, QFI + struct.pack(">I", 1), "qcow"),
    ("KDMV", 0, b"KDMV", "vmdk"),
    ("COWD", 0, b"COWD", "vmdk"),
    ("SESparse", 0, b"\xbe\xba\xfe\xca\0\0\0\0", "vmdk"),
    ("descriptor", 0, b"# Disk DescriptorFile\nversion=1\n", "vmdk"),
    ("descriptor alone", 0, b"version=3\n", "vmdk"),
    ("LUKS1", 0, b"LUKS\xba\xbe\0\1", "luks"),
    ("LUKS2", 0, b"LUKS\xba\xbe\0\2", "luks2"),
    ("VHD", 0, b"conectix", "vpc"),
    ("VHDX", 0, b"vhdxfile", "vhdx"),
    ("QED", 0, b"QED\0", "qed"),
    ("parallels", 0, b"WithoutFreeSpace", "parallels"),
    ("new parallels", 0, b"WithouFreSpacExt", "parallels"),
    ("bochs", 0, b"Bochs Virtual HD Image", "bochs"),
    ("cloop", 0, b"#!/bin/sh\n#V2.0 Format\n", "cloop"),
    ("sparseimage", 0, b"sprs", "sparseimage"),
    ("gzip", 0, b"\x1f\x8b\x08", "gzip"),
    ("xz", 0, b"\xfd7zXZ\0", "xz"),
    ("zstd", 0, b"\x28\xb5\x2f\xfd", "zstd"),
    ("zip", 0, b"PK\3\4", "zip"),
    ("bzip2", 0, b"BZh91AY&SY", "bzip2"),
    ("VDI", 0x40, b"\x7f\x10\xda\xbe", "vdi"),
    ("tar", 257, b"ustar", "tar"),
]
QCOW2 = [(f"qcow2 version {version}", 0, QFI + struct.pack(">I", version),
          "qcow2") for version in (2, 3, 4, 9, 1 << 31)]
TAILS = [("fixed VHD", -512, b"conectix", "vpc"),
         ("old fixed VHD", -511, b"conectix", "vpc"),
         ("koly", -512, b"koly\0\0\0\4", "dmg")]
# What a disk may hold: that is raw.
CONTENTS = [("MBR", 510, b"\x55\xaa", ""), ("GPT", 512, b"EFI PART", ""),
            ("GPT of large sectors", 4096, b"EFI PART", ""),
            ("ISO 9660", 0x8001, b"CD001", ""), ("UDF", 0x8001, b"NSR02", ""),
            ("ext4", 1080, b"\x53\xef", ""), ("xfs", 0, b"XFSB", ""),
            ("squashfs", 0, b"hsqs", ""), ("btrfs", 0x10040, b"_BHRfS_M", ""),
            ("text", 0, b"#!/bin/sh\n", ""), ("LVM", 512, b"LABELONE", "")]
# Not where they count: not at their places, or not whole.
NEARLY = [("QFI one off", 1, QFI + b"\0\0\0\3", ""),
          ("half of QFI", 0, QFI[:3], ""), ("KDMV one off", 1, b"KDMV", ""),
          ("VDI one off", 0x41, b"\x7f\x10\xda\xbe", ""),
          ("VDI swapped", 0x40, b"\xbe\xda\x10\x7f", ""),
          ("koly of version 3", -512, b"koly\0\0\0\3", ""),
          ("conectix before the end", -1024, b"conectix", ""),
          ("version=4", 0, b"version=4\n", ""),
          ("far version=1", 0, b"#" * 600 + b"\nversion=1\n", ""),
          ("BZh of no block", 0, b"BZh9rubbish", "")]


class RawCase:
    """`answer`: raw, foreign (`words` named), two, or qcow2 (its driver)."""

    def __init__(self, name, data, answer, words=""):
        self.name = name
        self.data = data
        self.answer = answer
        self.words = words


def with_magics(size, *magics):
    data = bytearray(size)
    for _, at, magic, _ in magics:
        at = at if at >= 0 else size + at
        if at + len(magic) <= size:
            data[at:at + len(magic)] = magic
    return bytes(data)


def verdict(magics):
    """A head outranks a tail; two formats at the head are refused."""
    heads = [magic for magic in magics if magic in HEADS]
    tails = [magic for magic in magics if magic in TAILS]
    if any(magic in QCOW2 for magic in magics):
        return ("two", heads[0][3]) if heads else ("qcow2", "")
    if heads:
        return "foreign", ""
    return ("foreign", tails[0][3]) if tails else ("raw", "")


def overlapping(one, other):
    ends = sorted(((at, at + len(magic)) for _, at, magic, _ in (one, other)))
    return ends[0][1] > ends[1][0]


CASES = []
for kind in (HEADS, QCOW2, TAILS, CONTENTS, NEARLY):
    for one in kind:
        answer, words = verdict([one])
        CASES.append(RawCase(one[0], with_magics(FILE * 2, one), answer,
                             one[3] if answer == "foreign" else words))
for one, other in itertools.combinations(
        HEADS + QCOW2 + TAILS + CONTENTS[:4], 2):
    if not overlapping(one, other):
        CASES.append(RawCase(f"{one[0]} and {other[0]}",
                             with_magics(FILE, one, other),
                             *verdict([one, other])))
for length in (0, 1, 2, 3, 511, 512, 513, 1023, 1024, 1025, 4095, 4097,
               65535, 65536, 65537):
    CASES.append(RawCase(f"length {length}", b"\xaa" * length, "raw"))
# Short files are looked at as if zeros followed: a magic is one however short.
for name, at, magic, words in HEADS:
    CASES.append(RawCase(f"{name} and nothing behind",
                         with_magics(at + len(magic), (name, at, magic, "")),
                         "foreign", words))
CASES.append(RawCase("QFI and nothing behind", QFI, "foreign", "qcow"))
CASES.append(RawCase("qcow2 and nothing behind", QFI + b"\0\0\0\3", "qcow2"))
