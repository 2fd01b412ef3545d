# SPDX-License-Identifier: BSD-3-Clause
"""What a discarded range reads as, and what becomes of its space.

New images (compat 1.1) read zeros wherever a whole cluster was discarded. Old
ones cannot state zeros: without a base they drop the cluster, above a base the
data stays. QEMU has to see the same, before and after.
"""

import os

import pytest
from tools import commands

K = 1024


@pytest.fixture
def base(tmp_path):
    (tmp_path / "base.raw").write_bytes(b"\xbb" * (1024 * K))
    return "-b base.raw -F raw"


def filled(platter, platter_io, options, more=""):
    platter.good("create -q -f qcow2 -o", options, more, "disk.qcow2 1M")
    platter_io.good(commands(["write -P 1 0 512k"]), "disk.qcow2")


def assert_patterns(tools, runs):
    """`runs`: (pattern, offset, length) in KiB."""
    lines = [f"read -P {pattern} {off * K} {length * K}"
             for pattern, off, length in runs]
    for tool in tools:
        tool.good(commands(lines), "disk.qcow2")


def test_new_image_reads_zeros(platter, platter_io, qemu_img, qemu_io):
    filled(platter, platter_io, "compat=1.1")
    platter_io.good(commands(["discard 64k 128k"]), "disk.qcow2")
    assert_patterns((platter_io, qemu_io),
                    [(1, 0, 64), (0, 64, 128), (1, 192, 320)])
    qemu_img.good("check -q disk.qcow2")


def test_new_image_reads_zeros_above_a_base(base, platter, platter_io,
                                            qemu_img, qemu_io):
    filled(platter, platter_io, "compat=1.1", base)
    # Allocated, and not: the base must not show through either.
    platter_io.good(commands(["discard 64k 64k", "discard 640k 64k"]),
                    "disk.qcow2")
    assert_patterns((platter_io, qemu_io),
                    [(1, 0, 64), (0, 64, 64), (1, 128, 384),
                     (0xbb, 512, 128), (0, 640, 64), (0xbb, 704, 320)])
    qemu_img.good("check -q disk.qcow2")


def test_old_image_drops_clusters(platter, platter_io, qemu_img, qemu_io):
    filled(platter, platter_io, "compat=0.10")
    platter_io.good(commands(["discard 64k 64k"]), "disk.qcow2")
    assert_patterns((platter_io, qemu_io),
                    [(1, 0, 64), (0, 64, 64), (1, 128, 384)])
    done = qemu_io(commands(["alloc 64k 64k"]), "disk.qcow2")
    assert done.stdout.startswith("0/65536 bytes allocated")
    qemu_img.good("check -q disk.qcow2")


def test_old_image_keeps_data_above_a_base(base, platter, platter_io,
                                           qemu_img, qemu_io):
    filled(platter, platter_io, "compat=0.10", base)
    platter_io.good(commands(["discard 64k 64k", "discard 640k 64k"]),
                    "disk.qcow2")
    assert_patterns((platter_io, qemu_io), [(1, 0, 512), (0xbb, 512, 512)])
    qemu_img.good("check -q disk.qcow2")


def test_parts_of_clusters_stay(platter, platter_io, qemu_img, qemu_io):
    filled(platter, platter_io, "compat=1.1")
    platter_io.good(commands(["discard 1k 63k", "discard 64k 63k",
                              "discard 130k 130k"]), "disk.qcow2")
    assert_patterns((platter_io, qemu_io),
                    [(1, 0, 192), (0, 192, 64), (1, 256, 256)])
    qemu_img.good("check -q disk.qcow2")


def test_end_of_the_disk_counts_as_whole(platter, platter_io, qemu_img,
                                         qemu_io):
    platter.good("create -q -f qcow2 disk.qcow2 100k")
    platter_io.good(commands(["write -P 1 0 100k", "discard 64k 36k"]),
                    "disk.qcow2")
    assert_patterns((platter_io, qemu_io), [(1, 0, 64), (0, 64, 36)])
    qemu_img.good("check -q disk.qcow2")


def test_snapshots_keep_what_is_discarded(tmp_path, platter, platter_io,
                                          qemu_img):
    filled(platter, platter_io, "compat=1.1")
    qemu_img.good("snapshot -c before disk.qcow2")
    platter_io.good(commands(["discard 0 512k"]), "disk.qcow2")
    qemu_img.good("check -q disk.qcow2")
    qemu_img.good("convert -l before -O raw disk.qcow2 before.raw")
    expected = b"\x01" * (512 * K) + bytes(512 * K)
    assert (tmp_path / "before.raw").read_bytes() == expected


def test_packed_clusters_can_be_discarded(platter, platter_io, qemu_img,
                                          qemu_io):
    platter.good("create -q -f qcow2 disk.qcow2 1M")
    platter_io.good(commands(["write -c -P 1 0 256k", "discard 64k 64k",
                              "write -c -P 2 64k 64k"]), "disk.qcow2")
    assert_patterns((platter_io, qemu_io),
                    [(1, 0, 64), (2, 64, 64), (1, 128, 128)])
    qemu_img.good("check -q disk.qcow2")


def test_discard_gives_space_back(tmp_path, platter, platter_io):
    platter.good("create -q -f qcow2 disk.qcow2 64M")
    platter_io.good(commands(["write -P 1 0 32M"]), "disk.qcow2")
    full = os.stat(tmp_path / "disk.qcow2").st_blocks
    platter_io.good(commands(["discard 0 32M"]), "disk.qcow2")
    assert os.stat(tmp_path / "disk.qcow2").st_blocks < full // 4


def test_raw_discard_reads_zeros_or_data(tmp_path, platter_io):
    """A file's hole reads as zeros; a file system without holes keeps data."""
    (tmp_path / "disk.raw").write_bytes(b"\x01" * (1024 * K))
    platter_io.good(commands(["discard 64k 64k"]), "-f raw disk.raw")
    content = (tmp_path / "disk.raw").read_bytes()
    assert len(content) == 1024 * K
    assert set(content[64 * K:128 * K]) in ({0}, {1})
    assert set(content[:64 * K] + content[128 * K:]) == {1}
