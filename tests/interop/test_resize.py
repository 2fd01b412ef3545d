# SPDX-License-Identifier: BSD-3-Clause
"""A resized disk keeps its data, shows zeros where it grew, and stays clean.

QEMU resizes ours and reads what we resized.
"""

import os

import pytest
from tools import commands

K = 1024
M = 1024 * K
OPTIONS = ["cluster_size=512", "cluster_size=4k,compat=0.10",
           "cluster_size=64k", "cluster_size=64k,refcount_bits=1",
           "cluster_size=2M,lazy_refcounts=on"]


def assert_reads(tools, name, *runs):
    lines = [f"read -P {pattern} {off} {length}"
             for pattern, off, length in runs]
    for tool in tools:
        tool.good(commands(lines), "-f qcow2", name)


@pytest.mark.parametrize("options", OPTIONS)
def test_growing_adds_zeros(options, platter, platter_io, qemu_img, qemu_io):
    platter.good("create -q -f qcow2 -o", options, "disk 1000k")
    platter_io.good(commands(["write -P 1 0 1000k"]), "disk")
    platter.good("resize -q disk 5M")
    assert_reads((platter_io, qemu_io), "disk", (1, 0, 1000 * K),
                 (0, 1000 * K, 5 * M - 1000 * K))
    qemu_img.good("check -q disk")
    platter_io.good(commands(["write -P 2 4M 1M"]), "disk")
    qemu_img.good("check -q disk")
    assert_reads((qemu_io,), "disk", (2, 4 * M, M))


@pytest.mark.parametrize("options", OPTIONS)
def test_shrinking_keeps_the_rest(options, tmp_path, platter, platter_io,
                                  qemu_img, qemu_io):
    platter.good("create -q -f qcow2 -o", options, "disk 6M")
    platter_io.good(commands(["write -P 1 0 6M"]), "disk")
    full = os.stat(tmp_path / "disk").st_blocks * 512
    platter.good("resize -q --shrink disk 1234k")
    assert_reads((platter_io, qemu_io), "disk", (1, 0, 1234 * K))
    qemu_img.good("check -q disk")
    # Whole clusters go back, of up to 2 MiB.
    assert os.stat(tmp_path / "disk").st_blocks * 512 <= full - 4 * M


@pytest.mark.parametrize("options", OPTIONS)
def test_cut_bytes_never_come_back(options, platter, platter_io, qemu_img,
                                   qemu_io):
    platter.good("create -q -f qcow2 -o", options, "disk 6M")
    platter_io.good(commands(["write -P 1 0 6M"]), "disk")
    platter.good("resize -q --shrink disk 1234k")
    platter.good("resize -q disk 6M")
    assert_reads((platter_io, qemu_io), "disk", (1, 0, 1234 * K),
                 (0, 1234 * K, 6 * M - 1234 * K))
    qemu_img.good("check -q disk")


@pytest.mark.parametrize("options", OPTIONS)
def test_cut_bytes_of_qemu_never_come_back(options, platter, platter_io,
                                           qemu_img, qemu_io):
    """QEMU leaves them in the last cluster; growing must not show them."""
    platter.good("create -q -f qcow2 -o", options, "disk 6M")
    platter_io.good(commands(["write -P 1 0 6M"]), "disk")
    qemu_img.good("resize -q --shrink disk 1234k")
    platter.good("resize -q disk 6M")
    assert_reads((platter_io, qemu_io), "disk", (1, 0, 1234 * K),
                 (0, 1234 * K, 6 * M - 1234 * K))
    qemu_img.good("check -q disk")


@pytest.mark.parametrize("options", OPTIONS)
def test_qemu_goes_on_with_what_we_resized(options, platter, platter_io,
                                           qemu_img, qemu_io):
    platter.good("create -q -f qcow2 -o", options, "disk 1M")
    platter_io.good(commands(["write -P 1 0 1M"]), "disk")
    for size in ("9M", "3M", "70M", "2M"):
        platter.good("resize -q --shrink disk", size)
        qemu_io.good(commands(["write -P 2 1M 1M"]), "disk")
        qemu_img.good("resize -q --shrink disk 5M")
        platter.good("check -q disk")
        qemu_img.good("check -q disk")
    assert_reads((platter_io,), "disk", (1, 0, M), (2, M, M))


def test_snapshots_keep_their_size(tmp_path, platter, platter_io, qemu_img):
    platter.good("create -q -f qcow2 disk 1M")
    platter_io.good(commands(["write -P 1 0 1M"]), "disk")
    qemu_img.good("snapshot -c before disk")
    platter.good("resize -q disk 3M")
    platter_io.good(commands(["write -P 2 0 3M"]), "disk")
    qemu_img.good("check -q disk")
    qemu_img.good("snapshot -a before disk")
    qemu_img.good("convert -O raw disk before.raw")
    assert (tmp_path / "before.raw").read_bytes() == b"\x01" * M


def test_old_image_with_snapshots_is_refused(platter, qemu_img):
    platter.good("create -q -f qcow2 -o compat=0.10 disk 1M")
    qemu_img.good("snapshot -c before disk")
    assert "snapshots" in platter.bad("resize disk 2M")
    qemu_img.good("check -q disk")


def test_old_image_above_a_longer_base_stays_truthful(tmp_path, platter,
                                                      platter_io):
    """No way to state zeros there: refused, or zeros are really written."""
    (tmp_path / "base.raw").write_bytes(b"\xbb" * M)
    platter.good("create -q -f qcow2 -o compat=0.10 -b base.raw -F raw "
                 "disk 100k")
    done = platter("resize -q disk 1M")
    if done.returncode == 0:
        assert_reads((platter_io,), "disk", (0, 100 * K, M - 100 * K))
    else:
        assert done.stderr
        assert_reads((platter_io,), "disk", (0xbb, 0, 100 * K))


@pytest.mark.parametrize("size", ["600P", "8E", "-1M", "1000", "0"])
def test_impossible_sizes_change_nothing(size, tmp_path, platter, qemu_img):
    platter.good("create -q -f qcow2 disk 1M")
    before = (tmp_path / "disk").read_bytes()
    platter.bad("resize --shrink disk", size)
    assert (tmp_path / "disk").read_bytes() == before
    qemu_img.good("check -q disk")


def test_huge_disk_grows_its_table(platter, platter_io, qemu_img, qemu_io):
    platter.good("create -q -f qcow2 disk 1M")
    platter_io.good(commands(["write -P 1 0 1M"]), "disk")
    platter.good("resize -q disk 100T")
    platter_io.good(commands([f"write -P 2 {(100 << 40) - M} 1M"]), "disk")
    qemu_io.good(commands(["read -P 1 0 1M", f"read -P 2 {(100 << 40) - M} 1M"]),
                 "disk")
    qemu_img.good("check -q disk")
    platter.good("resize -q --shrink disk 1M")
    qemu_img.good("check -q disk")
    assert_reads((qemu_io,), "disk", (1, 0, M))


@pytest.mark.parametrize("size", [513, 4096, 3 * M])
def test_raw_files_change_length(size, tmp_path, platter):
    (tmp_path / "disk.raw").write_bytes(b"\x01" * M)
    platter.good("resize -q --shrink -f raw disk.raw", str(size))
    content = (tmp_path / "disk.raw").read_bytes()
    kept = min(size, M)
    assert content == b"\x01" * kept + bytes(size - kept)
