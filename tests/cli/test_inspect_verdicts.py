# SPDX-License-Identifier: BSD-3-Clause
"""inspect finds safe what is safe, and refuses each known attack."""

import json
import os
import struct
import subprocess

import pytest

from conftest import TOP

SEEDS = TOP / "tests" / "fuzz" / "corpus"
SAFE, NO_ANSWER, MALFORMED, UNSAFE = 0, 1, 2, 3
STATUS = {"safe": SAFE, "malformed": MALFORMED, "unsafe": UNSAFE}

PLAIN = ["qcow2", "qcow2 -o compat=0.10", "qcow2 -o extended_l2=on",
         "qcow2 -o cluster_size=2M", "qcow2 -o cluster_size=512",
         "qcow2 -o compression_type=zstd", "qcow2 -o lazy_refcounts=on",
         "raw", "vmdk", "vmdk -o subformat=streamOptimized", "vdi", "vhdx",
         "vpc", "vpc -o subformat=fixed"]


def inspect(platter, args, **more):
    """The answer, whose words and exit status agree."""
    result = platter(["inspect", "--output=json", *args], **more)
    assert result.out, result
    answer = json.loads(result.out)
    assert result.status == STATUS[answer["verdict"]], result
    assert bool(answer["reasons"]) == (result.status != SAFE)
    return answer


def codes(answer):
    return {reason["code"] for reason in answer["reasons"]}


def patch(path, at, content):
    with open(path, "r+b") as file:
        file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        file.write(content)


@pytest.mark.parametrize("made", PLAIN)
def test_what_other_programs_make_is_safe(platter, qemu_img, made):
    name, _, options = made.partition(" ")
    qemu_img.good(f"create -q -f {name} {options} x 3M")
    answer = inspect(platter, ["x"])
    assert answer["verdict"] == "safe", answer
    assert answer["format"] == name
    assert answer["virtual-size"] >= 3 << 20
    assert inspect(platter, ["-f", name, "x"])["verdict"] == "safe"


def test_refused_formats_are_named(platter, qemu_img):
    for name in ("qed", "parallels", "qcow"):
        qemu_img.good(f"create -q -f {name} x.{name} 1M")
        answer = inspect(platter, [f"x.{name}"])
        assert codes(answer) == {"format-not-allowed"}
        assert name in answer["format"]
    for number, head in enumerate([b"\x1f\x8b\x08", b"BZh91AY&SY",
                                   b"\xfd7zXZ\0", b"PK\3\4", b"sprs"]):
        (platter.cwd / str(number)).write_bytes(head + bytes(2000))
        assert codes(inspect(platter, [str(number)])) == {"format-not-allowed"}
    (platter.cwd / "dmg").write_bytes(bytes(4096) + b"koly\0\0\0\4"
                                      + bytes(504))
    assert inspect(platter, ["dmg"])["format"] == "dmg"


def test_qcow2_that_names_files(platter, qemu_img):
    qemu_img.good("create -q -u -f qcow2 -b /etc/passwd -F raw b 1M")
    answer = inspect(platter, ["b"])
    assert codes(answer) == {"backing-file"}
    assert "/etc/passwd" in answer["reasons"][0]["text"]
    qemu_img.good("create -q -f qcow2 -o data_file=e d 1M")
    assert codes(inspect(platter, ["d"])) == {"data-file"}
    # The bit alone, and its name alone, count as well.
    qemu_img.good("create -q -f qcow2 x 1M")
    patch(platter.cwd / "x", 72, struct.pack(">Q", 4))
    assert "data-file" in codes(inspect(platter, ["x"]))
    patch(platter.cwd / "d", 72, struct.pack(">Q", 0))
    assert inspect(platter, ["d"])["verdict"] != "safe"


@pytest.mark.parametrize("bit", range(5, 64))
def test_qcow2_with_features_nobody_knows(platter, qemu_img, bit):
    qemu_img.good("create -q -f qcow2 x 1M")
    patch(platter.cwd / "x", 72, struct.pack(">Q", 1 << bit))
    assert "unknown-features" in codes(inspect(platter, ["x"]))


@pytest.mark.parametrize("version", [4, 9, 2**32 - 1])
def test_qcow2_of_versions_nobody_knows(platter, qemu_img, version):
    qemu_img.good("create -q -f qcow2 x 1M")
    patch(platter.cwd / "x", 4, struct.pack(">I", version))
    assert codes(inspect(platter, ["x"])) == {"unknown-version"}


@pytest.mark.parametrize("made,at,content", [
    ("qcow2", 20, b"\0\0\0\3"), ("qcow2", 36, b"\xff" * 4),
    ("qcow2", 40, b"\0\1\0\0\0\0\0\0"), ("vdi", 0x178, bytes(4)),
    ("vdi", 0x170, b"\xff" * 8), ("vdi", 0x154, b"\xff" * 4),
    ("vpc", 48, b"\1"), ("vpc", 512, b"AB"), ("vpc -o subformat=fixed", -400,
                                              b"\1"),
    ("vhdx", 192 << 10, b"X"), ("vhdx", (192 << 10) + 100, b"ABC"),
    ("vmdk", 20, b"\1" * 8), ("vmdk", 73, b"\n\n"), ("vmdk", 44, bytes(4)),
])
def test_damaged_headers_are_malformed(platter, qemu_img, made, at, content):
    qemu_img.good(f"create -q -f {made.partition(' ')[0]} "
                  f"{made.partition(' ')[2]} x 3M")
    patch(platter.cwd / "x", at, content)
    answer = inspect(platter, ["x"])
    assert answer["verdict"] == "malformed", answer


@pytest.mark.parametrize("made", PLAIN[:1] + ["vhdx", "vdi", "vpc", "vmdk"])
def test_cut_files_are_malformed(platter, qemu_img, made):
    qemu_img.good(f"create -q -f {made} x 3M")
    os.truncate(platter.cwd / "x", 520)
    assert inspect(platter, ["x"])["verdict"] in ("malformed", "unsafe")


def test_differences_to_other_images(platter, qemu_img):
    qemu_img.good("create -q -f vdi v 1M")
    patch(platter.cwd / "v", 0x4c, struct.pack("<I", 4))
    assert codes(inspect(platter, ["v"])) == {"backing-file"}
    qemu_img.good("create -q -f vdi w 1M")
    patch(platter.cwd / "w", 0x1a8, b"\1")
    assert codes(inspect(platter, ["w"])) == {"backing-file"}
    qemu_img.good("create -q -f vpc p 1M")
    patch(platter.cwd / "p", 60, struct.pack(">I", 4))
    assert codes(inspect(platter, ["p"])) == {"backing-file"}
    qemu_img.good("create -q -f vmdk m 1M")
    qemu_img.good("create -q -f vmdk -b m -F vmdk n")
    assert "backing-file" in codes(inspect(platter, ["n"]))


def vmdk_with(platter, qemu_img, old, new):
    """A VMDK whose descriptor says something else, of the same length."""
    qemu_img.good("create -q -f vmdk m 1M")
    path = platter.cwd / "m"
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new.ljust(len(old), b" "), 1)
                     if len(new) <= len(old) else
                     content.replace(old + bytes(len(new) - len(old)), new, 1))
    return inspect(platter, ["m"])


@pytest.mark.parametrize("old,new,code", [
    (b'"m"', b'"/"', "foreign-extents"),
    (b'"monolithicSparse"', b'"monolithicFlat"', "foreign-extents"),
    (b'createType=', b'createXype=', "descriptor"),
    (b'RW 2048', b'GO 2048', "descriptor"),
    (b'RW 2048', b'#W 2048', "foreign-extents"),
    (b'"m"', b'"\\"', "foreign-extents"),
    (b'parentCID=ffffffff', b'changeTrackPath=c', "foreign-extents"),
    (b'# Extent', b'\xff Extent', "descriptor"),
    (b'encoding', b'e coding', "descriptor"),
    (b'parentCID=ffffffff', b'parentCID=12345678', "backing-file"),
])
def test_vmdk_descriptors(platter, qemu_img, old, new, code):
    if old == b"encoding":
        old, new = b"version=1", b"ver ion 1"
    assert code in codes(vmdk_with(platter, qemu_img, old, new))


def test_vmdk_descriptor_files(platter, qemu_img):
    qemu_img.good("create -q -f vmdk -o subformat=monolithicFlat m 1M")
    assert codes(inspect(platter, ["m"])) == {"foreign-extents"}
    attacks = {
        "plain": b"# x\nversion=1\nRW 1 FLAT \"/etc/passwd\" 0\n",
        "late": b"# x\n" * 20000 + b'CREATETYPE="x"\n',
        "long": b" " * 600 + b'\ncreateType="monolithicSparse"\n',
    }
    for name, text in attacks.items():
        (platter.cwd / name).write_bytes(text)
        answer = inspect(platter, [name])
        assert codes(answer) == {"foreign-extents"}, name
    (platter.cwd / "text").write_bytes(b"any text\n" * 20000)
    assert inspect(platter, ["text"])["format"] == "raw"


def footed_vmdk(platter, qemu_img):
    """streamOptimized with its directory behind a footer, as VMware has it."""
    qemu_img.good("create -q -f vmdk -o subformat=streamOptimized m 1M")
    path = platter.cwd / "m"
    head = bytearray(path.read_bytes())
    footer = bytes(head[:512])
    head[56:64] = b"\xff" * 8
    marker = struct.pack("<QII", 1, 0, 3).ljust(512, b"\0")
    return path, bytes(head), marker, footer


def test_vmdk_footers(platter, qemu_img):
    path, head, marker, footer = footed_vmdk(platter, qemu_img)
    end = bytes(512)
    path.write_bytes(head + marker + footer + end)
    assert inspect(platter, ["m"])["verdict"] == "safe"
    for name, parts in {
            "no marker": (end, footer, end),
            "no end": (marker, footer, marker),
            "loop": (marker, head[:512], end),
            "other descriptor": (marker, footer[:28] + b"\7" + footer[29:],
                                 end),
            "other capacity": (marker, footer[:12] + b"\7" + footer[13:], end),
    }.items():
        path.write_bytes(head + b"".join(parts))
        assert codes(inspect(platter, ["m"])) == {"footer"}, name


MAGICS = {
    "qcow2": (0, b"QFI\xfb\0\0\0\3"), "vmdk": (0, b"KDMV\1\0\0\0"),
    "vdi": (0x40, b"\x7f\x10\xda\xbe"), "vpc": (0, b"conectix"),
    "vhdx": (0, b"vhdxfile"), "luks": (0, b"LUKS\xba\xbe\0\1"),
    "luks2": (0, b"LUKS\xba\xbe\0\2"), "qed": (0, b"QED\0"),
    "parallels": (0, b"WithoutFreeSpace"), "tar": (257, b"ustar"),
    "bochs": (0, b"Bochs Virtual HD Image"),
    "fixed vpc": (-512, b"conectix"),
}


@pytest.mark.parametrize("name", MAGICS)
def test_a_raw_disk_with_a_header_in_it(platter, name):
    path = platter.cwd / "disk"
    path.write_bytes(bytes(1 << 20))
    patch(path, *MAGICS[name])
    assert "guest-header" in codes(inspect(platter, ["-f", "raw", "disk"]))
    assert inspect(platter, ["disk"])["verdict"] != "safe"


def test_the_declared_format_is_the_found_one(platter, qemu_img):
    qemu_img.good("create -q -f qcow2 x 1M")
    assert codes(inspect(platter, ["-f", "vmdk", "x"])) == {"format-mismatch"}
    assert codes(inspect(platter, ["-f", "raw", "x"])) == {"guest-header"}
    (platter.cwd / "r").write_bytes(bytes(4096))
    assert codes(inspect(platter, ["-f", "qcow2", "r"])) == {"format-mismatch"}


CONTENTS = {"iso9660": (32769, b"CD001"), "udf": (34817, b"NSR02"),
            "mbr": (510, b"\x55\xaa"), "gpt": (512, b"EFI PART")}
AT_HEAD = [name for name, (at, _) in MAGICS.items() if at == 0]
ELSEWHERE = {**{name: MAGICS[name] for name in ("vdi", "tar")}, **CONTENTS}


@pytest.mark.parametrize("head", AT_HEAD)
@pytest.mark.parametrize("other", ELSEWHERE)
def test_polyglots(platter, head, other):
    path = platter.cwd / "disk"
    path.write_bytes(bytes(1 << 20))
    patch(path, *MAGICS[head])
    patch(path, *ELSEWHERE[other])
    assert "multiple-formats" in codes(inspect(platter, ["disk"]))


def test_a_valid_qcow2_that_is_an_iso_too(platter, qemu_img):
    qemu_img.good("create -q -f qcow2 x 1M")
    patch(platter.cwd / "x", *CONTENTS["iso9660"])
    assert codes(inspect(platter, ["x"])) == {"multiple-formats"}


def entry(kind, boot=0, chs=b"\0\2\0", lba=1):
    return struct.pack("<B3sB3sII", boot, chs, kind, b"\xff" * 3, lba, 2047)


@pytest.mark.parametrize("entries,gpt,good", [
    ([entry(0x83, 0x80)], False, True),
    ([entry(0x83), entry(0x82)], False, True),
    ([entry(0xee)], True, True),
    ([entry(0xee), entry(0x83)], True, False),
    ([entry(0x83), entry(0xee)], True, False),
    ([entry(0xee, lba=2)], True, False),
    ([entry(0xee, chs=b"\0\3\0")], True, False),
    ([entry(0x83)], True, False),
    ([entry(0x83, boot=1)], False, False),
    ([], False, False),
])
def test_partition_tables(platter, entries, gpt, good):
    sector = bytes(446) + b"".join(entries)
    sector = sector.ljust(510, b"\0") + b"\x55\xaa"
    (platter.cwd / "x").write_bytes(
        sector + (b"EFI PART" if gpt else b"").ljust(1 << 20, b"\0"))
    answer = inspect(platter, ["-f", "raw", "x"])
    assert codes(answer) == (set() if good else {"partition-table"})
    assert answer["content"] == ("gpt" if gpt else "mbr")


def test_luks(platter):
    head = (SEEDS / "inspect" / "luks").read_bytes()
    payload = 512 * struct.unpack_from(">I", head, 104)[0]
    (platter.cwd / "x").write_bytes(head.ljust(payload + (1 << 20), b"\0"))
    answer = inspect(platter, ["x"])
    assert answer["verdict"] == "safe" and answer["encrypted"]
    assert answer["virtual-size"] == 1 << 20
    for at, content, code in [(7, b"\2", "unknown-version"),
                              (7, b"\0", "unknown-version"),
                              (164, b"\x7f", "iterations"),
                              (108, b"\1", "malformed"),
                              (104, b"\xff", "malformed"),
                              (208 + 47, b"\1", "malformed"),
                              (8, b"a" * 32, "malformed")]:
        copy = bytearray((platter.cwd / "x").read_bytes())
        copy[at:at + len(content)] = content
        (platter.cwd / "y").write_bytes(copy)
        assert code in codes(inspect(platter, ["y"])), (at, content)


def test_limits_on_sizes(platter, qemu_img):
    qemu_img.good("create -q -f qcow2 x 1T")
    size = (platter.cwd / "x").stat().st_size
    for limit, good in [("1T", True), ("1023G", False)]:
        answer = inspect(platter, ["--max-virtual-size", limit, "x"])
        assert codes(answer) == (set() if good else {"virtual-size"})
    ratio = (1 << 40) // size
    for limit, good in [(ratio + 1, True), (ratio - 1, False)]:
        answer = inspect(platter, ["--max-ratio", str(limit), "x"])
        assert codes(answer) == (set() if good else {"ratio"})


def test_snapshots_and_encryption_are_told(platter, qemu_img):
    qemu_img.good("create -q -f qcow2 x 1M")
    qemu_img.good("snapshot -c one x")
    assert inspect(platter, ["x"])["snapshots"] == 1
    head = (SEEDS / "qcow2_header" / "luks").read_bytes()
    (platter.cwd / "l").write_bytes(head.ljust(4 << 20, b"\0"))
    answer = inspect(platter, ["l"])
    assert answer["verdict"] == "safe" and answer["encrypted"]
    patch(platter.cwd / "x", 32, struct.pack(">I", 1))
    assert codes(inspect(platter, ["x"])) == {"encryption"}


def test_names_cannot_reach_the_terminal(platter, qemu_img):
    qemu_img.good(["create", "-q", "-u", "-f", "qcow2", "-b", "./a\x1b[2J\nb",
                   "-F", "raw", "x", "1M"])
    out = platter(["inspect", "x"]).out
    assert "\x1b" not in out and "\\x1b[2J\\nb" in out


# ---- pipes ----

def through_pipe(platter, content):
    """The answer to what comes through a pipe."""
    reader, writer = os.pipe()
    with subprocess.Popen(
            [platter.program, "inspect", "--output=json", "-"],
            stdin=reader, stdout=subprocess.PIPE, cwd=platter.cwd) as process:
        os.close(reader)
        written = 0
        try:
            while written < len(content):
                written += os.write(writer, content[written:written + 65536])
        except BrokenPipeError:
            pass
        os.close(writer)
        out, _ = process.communicate(timeout=60)
    return json.loads(out)


@pytest.mark.parametrize("made", PLAIN)
def test_a_pipe_gives_the_answer_of_the_file(platter, qemu_img, made):
    name, _, options = made.partition(" ")
    qemu_img.good(f"create -q -f {name} {options} x 3M")
    content = (platter.cwd / "x").read_bytes()
    by_file, by_pipe = inspect(platter, ["x"]), through_pipe(platter, content)
    for key in ("verdict", "format", "reasons"):
        assert by_file[key] == by_pipe[key]
    if "virtual-size" in by_file:
        assert by_file["virtual-size"] == by_pipe["virtual-size"]


@pytest.mark.parametrize("made,most", [
    ("qcow2", 64 << 10), ("qcow2 -o cluster_size=512", 64 << 10),
    ("qcow2 -o cluster_size=2M", 2 << 20), ("vdi", 64 << 10),
    ("vmdk", 64 << 10), ("vpc", 64 << 10), ("vhdx", 8 << 20)])
def test_a_pipe_is_read_no_further_than_needed(platter, qemu_img, made, most):
    name, _, options = made.partition(" ")
    qemu_img.good(f"create -q -f {name} {options} x 3M")
    content = (platter.cwd / "x").read_bytes() + bytes(32 << 20)
    assert through_pipe(platter, content)["bytes-read"] <= most


def test_what_counts_at_the_end_is_read_from_a_pipe(platter):
    disk = bytes(3 << 20)
    assert through_pipe(platter, disk)["virtual-size"] == len(disk)
    answer = through_pipe(platter, disk + b"koly\0\0\0\4" + bytes(504))
    assert answer["format"] == "dmg"
    assert answer["bytes-read"] == len(disk) + 512


def test_an_item_that_lies_behind_the_end(platter, qemu_img):
    qemu_img.good("create -q -f vhdx x 3M")
    content = bytearray((platter.cwd / "x").read_bytes())
    item = content.index(bytes.fromhex("2442a52f1bcd7648b2115dbed83bf4b8"))
    content[item + 16:item + 20] = struct.pack("<I", 2**32 - 1)
    (platter.cwd / "y").write_bytes(content)
    assert inspect(platter, ["y"])["verdict"] == "malformed"
    assert through_pipe(platter, bytes(content))["verdict"] == "malformed"


def test_named_pipes(platter, qemu_img):
    qemu_img.good("create -q -f qcow2 x 1M")
    os.mkfifo(platter.cwd / "p")
    with subprocess.Popen(["sh", "-c", "cat x >p"],
                          cwd=platter.cwd) as writer:
        answer = inspect(platter, ["p"])
        writer.wait(timeout=60)
    assert answer["verdict"] == "safe" and answer["format"] == "qcow2"


# ---- no answer ----

@pytest.mark.parametrize("args", ["", "a b", "missing", ".", "/dev/null",
                                  "--output=xml x", "--max-ratio=x x"])
def test_no_answer_is_neither_safe_nor_unsafe(platter, args):
    (platter.cwd / "x").write_bytes(bytes(512))
    result = platter(f"inspect {args}")
    assert result.status == NO_ANSWER
    assert result.err and not result.out


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 65535, 65537])
def test_odd_sizes(platter, size):
    (platter.cwd / "x").write_bytes(bytes(size))
    answer = inspect(platter, ["x"])
    assert answer["verdict"] == "safe" and answer["virtual-size"] == size
    assert through_pipe(platter, bytes(size))["virtual-size"] == size
