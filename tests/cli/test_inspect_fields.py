# SPDX-License-Identifier: BSD-3-Clause
"""Each field of a foreign header has its bounds, and its words when they break.

Checksums are made to fit again after a change, so that what is found is the
field and not the damage.
"""

import json
import struct
import subprocess

import pytest

from conftest import TOP

VHD_FOOTER_SUM, VHD_DYNAMIC, VHD_DYNAMIC_SUM = 64, 512, 36
REGIONS, TABLE = 192 << 10, 64 << 10
MIB = 1 << 20


def le32(value):
    return struct.pack("<I", value)


def le64(value):
    return struct.pack("<Q", value)


def be32(value):
    return struct.pack(">I", value)


def be64(value):
    return struct.pack(">Q", value)


VDI = [
    (0x4c, le32(0), "malformed", "its type is 0"),
    (0x1b8, b"\1", "unsafe", "difference to another image"),
    (0x178, le32(MIB + 1), "malformed", "its block size is 1048577"),
    (0x178, le32(512), "malformed", "its block size is 512"),
    (0x178, le32(1 << 31), "malformed", "its block size is 2147483648"),
    (0x17c, le32(8), "malformed", "8 extra bytes"),
    (0x180, le32(2), "malformed", "2 blocks do not hold"),
    (0x180, le32(0xffffffff), "malformed", "4294967295 blocks do not hold"),
    (0x184, le32(99), "malformed", "99 of its 3 blocks"),
    (0x48, le32(0), "malformed", "its header size is 0x0"),
    (0x48, le32(0xffffffff), "malformed", "its header size is 0xffffffff"),
    (0x154, le32(0x100), "malformed", "its block map is at 0x100"),
    (0x154, le32(0x201), "malformed", "its block map is at 0x201"),
    (0x158, le32(0), "malformed", "its block map ends at"),
    (0x168, le32(4096), "malformed", "its sector size is 4096"),
]
VPC = [
    (12, be32(0x20000), "unsafe", "VHD of version 0x20000"),
    (48, be64(1 << 63), "malformed", "larger than any disk"),
    (60, be32(2), "malformed", "its type is 2, which has no header"),
    (16, be64(1 << 62), "malformed", "its second header is at"),
    (16, be64(100 * MIB), "malformed", "second header"),
    (512 + 32, be32(3 << 20), "malformed", "its block size is 3145728"),
    (512 + 32, be32(256), "malformed", "its block size is 256"),
    (512 + 32, be32(1 << 31), "malformed", "its block size is 2147483648"),
    (512 + 28, be32(1), "malformed", "1 blocks do not hold"),
    (512 + 16, be64(1 << 40), "malformed", "its table ends behind the file"),
]
# From the end: the footer is all that there is.
VPC_FIXED = [
    (60, be32(3), "malformed", "its type is 3, but it has no header"),
    (48, be64(1 << 40), "malformed", "more than the file"),
]
VMDK = [
    (4, le32(0), "unsafe", "VMDK of version 0"),
    (4, le32(9), "unsafe", "VMDK of version 9"),
    (77, b"\2\0", "malformed", "its compression is 2"),
    (20, le64(3), "malformed", "its grain size is 3 sectors"),
    (20, le64(1), "malformed", "its grain size is 1 sectors"),
    (20, le64(1 << 40), "malformed", "its grain size is"),
    (12, le64(1 << 62), "malformed", "its directory would be too large"),
    (12, le64(1 << 50), "malformed", "its directory would be too large"),
    (28, le64(2), "unsafe", "its descriptor has"),
    (36, le64(0), "unsafe", "its descriptor has 0 sectors"),
    (36, le64(4096), "unsafe", "its descriptor has 4096 sectors"),
    (36, le64(2048), "malformed", "its descriptor ends behind the file"),
]
# In the region table; the second entry is the metadata's, as QEMU writes it.
ENTRY = REGIONS + 16 + 32
VHDX_REGIONS = [
    (REGIONS + 8, le32(3000), "malformed", "its region table is damaged"),
    (ENTRY, bytes(16), "malformed", "it has 0 metadata regions"),
    (ENTRY + 16, le64(512), "malformed", "its metadata is at 0x200"),
    (ENTRY + 16, le64(MIB + 1), "malformed", "its metadata is at 0x100001"),
    (ENTRY + 16, le64(1 << 63), "malformed", "its metadata is at 0x8"),
    (ENTRY + 16, le64(1 << 40), "malformed", "its metadata is behind"),
    (ENTRY - 32, b"\x99" * 16 + le64(MIB) + le32(MIB) + le32(1), "unsafe",
     "a region that is not known"),
]
# In the metadata, whose place the region table tells.
VHDX_METADATA = [
    (0, b"x", "malformed", "its metadata has no valid header"),
    (10, b"\xff\xff", "malformed", "has no valid header"),
    (10, b"\0\0", "malformed", "its metadata has no virtual size"),
]


def sum_of(data):
    return be32(~sum(data) & 0xffffffff)


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def put(image, at, content):
    image[at:at + len(content)] = content


def fix_vhd(image, at, length, sum_at):
    put(image, at + sum_at, bytes(4))
    put(image, at + sum_at, sum_of(image[at:at + length]))


def fix_vhdx(image):
    put(image, REGIONS + 4, bytes(4))
    put(image, REGIONS + 4, le32(crc32c(image[REGIONS:REGIONS + TABLE])))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An image of each format, made once."""
    folder = tmp_path_factory.mktemp("made")
    images = {}
    for name, args in (("vdi", "-f vdi"), ("vpc", "-f vpc"),
                       ("fixed", "-f vpc -o subformat=fixed"),
                       ("vmdk", "-f vmdk"), ("vhdx", "-f vhdx")):
        subprocess.run(["qemu-img", "create", "-q", *args.split(),
                        folder / name, "3M"], check=True)
        images[name] = (folder / name).read_bytes()
    return images


def metadata_of(vhdx):
    at = struct.unpack_from("<Q", vhdx, ENTRY + 16)[0]
    assert vhdx[at:at + 8] == b"metadata"
    return at


def expect(platter, image, verdict, words):
    (platter.cwd / "x").write_bytes(image)
    answer = json.loads(platter("inspect --output=json x").out)
    texts = [reason["text"] for reason in answer["reasons"]]
    assert answer["verdict"] == verdict, answer
    assert any(words in text for text in texts), (words, texts)


@pytest.mark.parametrize("at,content,verdict,words", VDI)
def test_vdi(platter, made, at, content, verdict, words):
    image = bytearray(made["vdi"])
    put(image, at, content)
    expect(platter, image, verdict, words)


@pytest.mark.parametrize("at,content,verdict,words", VPC)
def test_vpc(platter, made, at, content, verdict, words):
    image = bytearray(made["vpc"])
    put(image, at, content)
    fix_vhd(image, 0, 512, VHD_FOOTER_SUM)
    fix_vhd(image, VHD_DYNAMIC, 1024, VHD_DYNAMIC_SUM)
    expect(platter, image, verdict, words)


def test_vpc_without_a_sound_second_header(platter, made):
    image = bytearray(made["vpc"])
    put(image, VHD_DYNAMIC + 100, b"x")
    expect(platter, image, "malformed", "its second header is damaged")


@pytest.mark.parametrize("at,content,verdict,words", VPC_FIXED)
def test_fixed_vpc(platter, made, at, content, verdict, words):
    image = bytearray(made["fixed"])
    footer = len(image) - 512
    put(image, footer + at, content)
    fix_vhd(image, footer, 512, VHD_FOOTER_SUM)
    expect(platter, image, verdict, words)


def test_fixed_vpc_with_an_old_footer(platter, made):
    """511 bytes, in the place of 512."""
    image = bytearray(made["fixed"])[:-1]
    fix_vhd(image, len(image) - 511, 511, VHD_FOOTER_SUM)
    (platter.cwd / "x").write_bytes(image)
    answer = json.loads(platter("inspect --output=json x").out)
    assert (answer["format"], answer["verdict"]) == ("vpc", "safe"), answer


@pytest.mark.parametrize("at,content,verdict,words", VMDK)
def test_vmdk(platter, made, at, content, verdict, words):
    image = bytearray(made["vmdk"])
    put(image, at, content)
    expect(platter, image[:MIB // 2], verdict, words)


@pytest.mark.parametrize("at,content,verdict,words", VHDX_REGIONS)
def test_vhdx_regions(platter, made, at, content, verdict, words):
    image = bytearray(made["vhdx"])
    put(image, at, content)
    fix_vhdx(image)
    expect(platter, image, verdict, words)


@pytest.mark.parametrize("at,content,verdict,words", VHDX_METADATA)
def test_vhdx_metadata(platter, made, at, content, verdict, words):
    image = bytearray(made["vhdx"])
    put(image, metadata_of(image) + at, content)
    expect(platter, image, verdict, words)


GUID_SIZE = bytes.fromhex("2442a52f1bcd7648b2115dbed83bf4b8")
GUID_PARAMETERS = bytes.fromhex("3767a1ca36fa434db3b633f0aa44e76b")
GUID_DISK_ID = bytes.fromhex("ab12cabee6b2234593efc309e000c746")
GUID_PARENT = bytes.fromhex("2d5fd3a80bb34d45abf7d3d84834ab0c")


def test_vhdx_items(platter, made):
    """Found by their GUIDs, wherever they stand in the table."""
    sound = made["vhdx"]
    metadata = metadata_of(sound)

    def item(guid):
        return sound.index(guid, metadata + 32, metadata + 32 * 16)

    def value_of(guid):
        return metadata + struct.unpack_from("<I", sound, item(guid) + 16)[0]

    for at, content, verdict, words in (
            (item(GUID_DISK_ID), GUID_PARENT, "unsafe", "locates a parent"),
            (item(GUID_DISK_ID), GUID_SIZE, "malformed", "two virtual sizes"),
            (item(GUID_DISK_ID), b"\x99" * 16 + le32(65552) + le32(16)
             + le32(4), "unsafe", "is not known"),
            (value_of(GUID_PARAMETERS) + 4, le32(2), "unsafe",
             "difference to another image"),
            (value_of(GUID_SIZE), le64(1 << 50), "malformed",
             "larger than 64 TiB"),
            (item(GUID_SIZE) + 16, le32(0xfffffff0), "malformed",
             "behind the end of the file")):
        image = bytearray(sound)
        put(image, at, content)
        expect(platter, image, verdict, words)


def test_luks_fields(platter):
    sound = bytearray((TOP / "tests/fuzz/corpus/inspect/luks").read_bytes())
    sound += bytes(4 * MIB - len(sound))
    for at, content, verdict, words in (
            (8, bytes(32), "malformed", "is no text"),
            (40, bytes(32), "malformed", "is no text"),
            (72, b"x" * 32, "malformed", "is no text"),
            (208 + 4, be32(0), "malformed", "key slot 0 has no iterations"),
            (208 + 4, be32(0xffffffff), "unsafe", "key slot 0 has"),
            (208 + 44, be32(1), "malformed", "has 1 stripes")):
        image = bytearray(sound)
        put(image, 208, be32(0x00ac71f3))
        put(image, 208 + 4, be32(1000))
        put(image, 208 + 44, be32(4000))
        put(image, at, content)
        expect(platter, image, verdict, words)


def test_raw_disks(platter):
    """What a raw disk holds is told; tables that contradict are unsafe."""
    def disk(*patches):
        image = bytearray(MIB)
        for at, content in patches:
            put(image, at, content)
        return image

    def content_of(image):
        (platter.cwd / "x").write_bytes(image)
        return json.loads(platter("inspect --output=json x").out)

    signature = (510, b"\x55\xaa")
    entry = (446, b"\x80\0\2\0\x83\0\0\0" + le32(1) + le32(100))
    fat = ((0x10, b"\2"), (0x15, b"\xf8"))
    gpt = (512, b"EFI PART")
    wide_gpt = (4096, b"EFI PART")
    iso, udf = (32769, b"CD001"), (32769, b"NSR03")

    assert content_of(disk(signature, *fat))["verdict"] == "safe"
    assert content_of(disk(signature, fat[0]))["verdict"] == "unsafe"
    assert content_of(disk(signature, entry))["verdict"] == "safe"
    assert content_of(disk(udf))["verdict"] == "safe"
    # An optical disk is a hybrid by design.
    assert content_of(disk(iso, signature, gpt))["verdict"] == "safe"
    assert content_of(disk(iso, gpt))["verdict"] == "safe"
    expect(platter, disk(wide_gpt), "unsafe", "a GPT without an MBR")
    expect(platter, disk(signature, entry, gpt), "unsafe",
           "an MBR that does not protect it")
