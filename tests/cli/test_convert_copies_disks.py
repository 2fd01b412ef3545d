# SPDX-License-Identifier: BSD-3-Clause
"""convert gives the same disk in another image, whatever the way there."""

import hashlib
import os
import random

import pytest

MIB = 1 << 20
SIZE = 12 * MIB


def make_disk(path, seed=1, size=SIZE):
    """Text, noise and holes, at offsets that suit no cluster."""
    rng = random.Random(seed)
    disk = bytearray(size)
    for i in range(60):
        length = min(rng.choice((1, 511, 4096, 65536, 200000)), size // 2)
        at = rng.randrange(size - length)
        piece = (rng.randbytes(length) if i % 2
                 else (b"line %d\n" % i * (length // 7 + 1))[:length])
        disk[at:at + length] = piece
    with open(path, "wb") as file:
        for at in range(0, size, 4096):
            block = disk[at:at + 4096]
            if any(block):
                file.seek(at)
                file.write(block)
        file.truncate(size)
    return bytes(disk)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


OPTIONS = ("", "-o cluster_size=512", "-o cluster_size=2M", "-c",
           "-c -o cluster_size=4k", "-c -o cluster_size=2M",
           "-c -o compression_type=zstd", "-c --compression-level 1",
           "-c --compression-window 32k", "-S 0", "-S 64k",
           "-o compat=0.10", "-o preallocation=metadata")


@pytest.mark.parametrize("options", OPTIONS)
def test_same_disk_and_same_bytes_whatever_the_threads(
        platter, qemu_img, tmp_path, options):
    make_disk(tmp_path / "in.raw")
    digests = set()
    for threads in (1, 2, 7):
        platter.good(f"convert -f raw -O qcow2 {options} -m {threads} "
                     "in.raw out.qcow2")
        digests.add(digest(tmp_path / "out.qcow2"))
    assert len(digests) == 1
    qemu_img.good("check -q out.qcow2")
    qemu_img.good("compare -q -f raw -F qcow2 in.raw out.qcow2")
    platter.good("convert -f qcow2 -O raw out.qcow2 back.raw")
    assert digest(tmp_path / "back.raw") == digest(tmp_path / "in.raw")


def test_keeps_holes(platter, tmp_path):
    with open(tmp_path / "in.raw", "wb") as file:
        file.seek(5 * MIB)
        file.write(b"x" * 8192)
        file.truncate(64 * MIB)
    platter.good("convert -f raw -O raw in.raw out.raw")
    assert digest(tmp_path / "in.raw") == digest(tmp_path / "out.raw")
    assert os.stat(tmp_path / "out.raw").st_blocks * 512 < MIB


def test_finds_zeros_that_are_written(platter, tmp_path):
    with open(tmp_path / "in.raw", "wb") as file:
        file.write(bytes(16 * MIB) + b"end" + bytes(509))
    platter.good("convert -f raw -O raw in.raw out.raw")
    assert os.stat(tmp_path / "out.raw").st_blocks * 512 < MIB
    platter.good("convert -f raw -O raw -S 0 in.raw full.raw")
    assert os.stat(tmp_path / "full.raw").st_blocks * 512 >= 16 * MIB
    assert digest(tmp_path / "full.raw") == digest(tmp_path / "in.raw")


def test_concatenates_sources(platter, tmp_path):
    parts = [make_disk(tmp_path / f"{i}.raw", i, size)
             for i, size in enumerate((3 * MIB + 512, 512, 2 * MIB))]
    platter.good("convert -f raw -O qcow2 1.raw two.qcow2")
    platter.good("convert -f raw -O qcow2 0.raw 1.raw 2.raw all.qcow2")
    platter.good("convert -O raw all.qcow2 all.raw")
    assert (tmp_path / "all.raw").read_bytes() == b"".join(parts)


def test_copies_to_devices_of_odd_length(platter, qemu_img, tmp_path):
    make_disk(tmp_path / "in.raw", 3, 3 * MIB + 1536)
    for options in ("", "-c", "-o cluster_size=2M", "-c -S 0"):
        platter.good(f"convert -f raw -O qcow2 {options} in.raw out.qcow2")
        qemu_img.good("check -q out.qcow2")
        qemu_img.good("compare -s -q -f raw -F raw in.raw in.raw")
        qemu_img.good("compare -q -f raw -F qcow2 in.raw out.qcow2")


def test_overwrites_a_dirty_target(platter, qemu_img, qemu_io, tmp_path):
    disk = make_disk(tmp_path / "in.raw")
    for form in ("raw", "qcow2"):
        qemu_img.good(f"create -q -f {form} t.{form} {SIZE + MIB}")
        qemu_io.good(["-f", form, "-c", f"write -P 255 0 {SIZE + MIB}",
                      f"t.{form}"])
        platter.good(f"convert -n -f raw -O {form} in.raw t.{form}")
        qemu_img.good(f"convert -f {form} -O raw t.{form} back.raw")
        back = (tmp_path / "back.raw").read_bytes()
        assert back[:SIZE] == disk
        assert back[SIZE:] == b"\xff" * MIB


def test_refuses_a_target_that_is_too_small(platter, tmp_path):
    make_disk(tmp_path / "in.raw")
    (tmp_path / "small.raw").write_bytes(b"keep" * 128)
    result = platter("convert -n -f raw -O raw in.raw small.raw")
    assert result.status == 1
    assert "output file is smaller than input file" in result.err
    assert (tmp_path / "small.raw").read_bytes() == b"keep" * 128


@pytest.mark.parametrize("name", ("in.raw", "./in.raw", "link.raw",
                                  "hard.raw"))
@pytest.mark.parametrize("more", ("", "-n", "-U"))
def test_refuses_to_overwrite_its_source(platter, tmp_path, name, more):
    make_disk(tmp_path / "in.raw")
    before = digest(tmp_path / "in.raw")
    (tmp_path / "link.raw").symlink_to("in.raw")
    os.link(tmp_path / "in.raw", tmp_path / "hard.raw")
    result = platter(f"convert {more} -f raw -O raw in.raw {name}")
    assert result.status == 1
    assert digest(tmp_path / "in.raw") == before


def test_refuses_to_overwrite_a_layer_below_its_source(platter, tmp_path):
    make_disk(tmp_path / "base.raw")
    before = digest(tmp_path / "base.raw")
    platter.good("create -q -f qcow2 -b base.raw -F raw top.qcow2")
    result = platter("convert -f qcow2 -O raw top.qcow2 base.raw")
    assert result.status == 1
    assert "cannot be its target" in result.err
    assert digest(tmp_path / "base.raw") == before


def test_leaves_the_old_target_when_it_fails(platter, tmp_path):
    (tmp_path / "old.qcow2").write_bytes(b"precious")
    make_disk(tmp_path / "in.raw")
    result = platter("convert -f qcow2 -O qcow2 in.raw old.qcow2")
    assert result.status == 1
    assert (tmp_path / "old.qcow2").read_bytes() == b"precious"
    assert sorted(os.listdir(tmp_path)) == ["in.raw", "old.qcow2"]


def test_prints_the_hash_of_the_disk(platter, tmp_path):
    disk = make_disk(tmp_path / "in.raw", 5, 5 * MIB + 512)
    blocks = [hashlib.sha256(disk[at:at + 65536]).digest()
              for at in range(0, len(disk), 65536)]
    tree = hashlib.sha256(len(disk).to_bytes(8, "little") + b"".join(blocks))
    platter.good("convert -f raw -O qcow2 -c in.raw in.qcow2")
    for source in ("in.raw", "in.qcow2"):
        for threads in (1, 5):
            args = f"-m {threads} -O qcow2 {source} out.qcow2"
            assert platter.good(f"convert --hash {args}") == \
                f"sha256:{hashlib.sha256(disk).hexdigest()}\n"
            assert platter.good(f"convert --hash=tree {args}") == \
                f"sha256-tree64k:{tree.hexdigest()}\n"


def test_shows_progress_as_qemu_img_does(platter, qemu_img, tmp_path):
    make_disk(tmp_path / "in.raw")
    out = platter.good("convert -p -f raw -O qcow2 in.raw out.qcow2")
    assert out.startswith("    (0.00/100%)\r")
    assert out.endswith("    (100.00/100%)\r\n")


def test_keeps_the_rate(platter, tmp_path):
    make_disk(tmp_path / "in.raw")
    platter.good("convert -r 1T -f raw -O qcow2 in.raw out.qcow2")
    platter.good("compare in.raw out.qcow2")
