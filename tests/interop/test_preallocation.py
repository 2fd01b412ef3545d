# SPDX-License-Identifier: BSD-3-Clause
"""Space that is set aside ahead is there, reads as zeros and is written in place.
"""

import json
import os

import pytest
from tools import commands

M = 1 << 20
GEOMETRIES = ["cluster_size=64k", "cluster_size=512,refcount_bits=1",
              "cluster_size=4k,compat=0.10", "cluster_size=2M"]
MODES = ["metadata", "falloc", "full"]


def occupied(path):
    return os.stat(path).st_blocks * 512


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("mode", MODES)
def test_new_disk_is_mapped_and_zero(mode, geometry, tmp_path, platter,
                                     platter_io, qemu_img, qemu_io):
    platter.good(f"create -q -f qcow2 -o {geometry},preallocation={mode} "
                 "disk 5M")
    qemu_img.good("check -q disk")
    platter.good("check -q disk")
    for tool in (platter_io, qemu_io):
        tool.good(commands(["read -P 0 0 5M"]), "disk")
        done = tool(commands(["alloc 0 5M"]), "disk")
        assert done.stdout.startswith(f"{5 * M}/{5 * M} bytes allocated")
    platter.good(f"create -q -f qcow2 -o {geometry} thin 5M")
    taken = occupied(tmp_path / "disk") - occupied(tmp_path / "thin")
    assert taken < 4 * M if mode == "metadata" else taken >= 5 * M


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("mode", MODES)
def test_writes_stay_in_place(mode, geometry, tmp_path, platter, platter_io,
                              qemu_img, qemu_io):
    platter.good(f"create -q -f qcow2 -o {geometry},preallocation={mode} "
                 "disk 5M")
    before = os.stat(tmp_path / "disk").st_size
    for number, tool in enumerate((platter_io, qemu_io)):
        tool.good(commands([f"write -P {number + 1} {number}M 3M"]), "disk")
    assert os.stat(tmp_path / "disk").st_size == before
    qemu_img.good("check -q disk")
    lines = ["read -P 1 0 1M", "read -P 2 1M 3M", "read -P 0 4M 1M"]
    platter_io.good(commands(lines), "disk")
    qemu_io.good(commands(lines), "disk")


@pytest.mark.parametrize("mode", MODES)
def test_layout_is_as_large_as_qemus(mode, tmp_path, platter, qemu_img):
    for tool, name in ((platter, "ours"), (qemu_img, "theirs")):
        tool.good(f"create -q -f qcow2 -o preallocation={mode}", name, "64M")
    ends = [json.loads(qemu_img.good("check --output=json", name))
            ["image-end-offset"] for name in ("ours", "theirs")]
    assert ends[0] <= ends[1] + 65536
    assert os.stat(tmp_path / "ours").st_size >= 64 * M


@pytest.mark.parametrize("mode", MODES)
def test_growing_sets_space_aside(mode, tmp_path, platter, platter_io,
                                  qemu_img, qemu_io):
    platter.good("create -q -f qcow2 disk 1M")
    platter_io.good(commands(["write -P 1 0 1M"]), "disk")
    platter.good(f"resize -q --preallocation={mode} disk 9M")
    qemu_img.good("check -q disk")
    for tool in (platter_io, qemu_io):
        tool.good(commands(["read -P 1 0 1M", "read -P 0 1M 8M"]), "disk")
        done = tool(commands(["alloc 0 9M"]), "disk")
        assert done.stdout.startswith(f"{9 * M}/{9 * M} bytes allocated")
    if mode != "metadata":
        assert occupied(tmp_path / "disk") >= 9 * M


@pytest.mark.parametrize("mode", ["falloc", "full"])
def test_raw_file_holds_its_space(mode, tmp_path, platter):
    platter.good(f"create -q -f raw -o preallocation={mode} disk.raw 5M")
    assert (tmp_path / "disk.raw").read_bytes() == bytes(5 * M)
    assert occupied(tmp_path / "disk.raw") >= 5 * M


@pytest.mark.parametrize("mode", ["metadata", "sparse"])
def test_raw_has_no_metadata_to_set_aside(mode, tmp_path, platter):
    platter.bad(f"create -f raw -o preallocation={mode} disk.raw 5M")
    assert not (tmp_path / "disk.raw").exists()


@pytest.mark.parametrize("mode", MODES)
def test_copies_into_set_aside_space(mode, tmp_path, platter, qemu_img):
    content = os.urandom(3 * M) + bytes(2 * M)
    (tmp_path / "source.raw").write_bytes(content)
    platter.good(f"convert -f raw -O qcow2 -o preallocation={mode} "
                 "source.raw disk")
    qemu_img.good("check -q disk")
    qemu_img.good("compare -q -f raw -F qcow2 source.raw disk")
    if mode != "metadata":
        assert occupied(tmp_path / "disk") >= 5 * M
