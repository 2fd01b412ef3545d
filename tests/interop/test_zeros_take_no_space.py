# SPDX-License-Identifier: BSD-3-Clause
"""Zeros written where zeros are read already need no clusters.

Old images cannot state zeros, so there it is the empty entry that has to do;
above a base it would show the base, and zeros are written as data.
"""

import json

import pytest
from tools import commands

K = 1024


def allocated(tool, name):
    runs = json.loads(tool.good("map --output=json", name))
    return [(run["start"] // K, run["length"] // K) for run in runs
            if run["data"] and run["depth"] == 0]


@pytest.mark.parametrize("unmap", ["", "-u"])
@pytest.mark.parametrize("version", ["0.10", "1.1"])
def test_only_what_was_data_stays(version, unmap, platter, platter_io,
                                  qemu_img, qemu_io):
    platter.good(f"create -q -f qcow2 -o compat={version} disk 4M")
    platter_io.good(commands(["write -P 1 64k 64k",
                              f"write -z {unmap} 32k 3M"]), "disk")
    kept = version == "0.10" and not unmap
    for tool in (platter, qemu_img):
        assert allocated(tool, "disk") == ([(64, 64)] if kept else [])
    qemu_io.good(commands(["read -P 0 0 4M"]), "disk")
    qemu_img.good("check -q disk")


@pytest.mark.parametrize("unmap", ["", "-u"])
def test_old_image_hides_its_base(unmap, tmp_path, platter, platter_io,
                                  qemu_img, qemu_io):
    (tmp_path / "base.raw").write_bytes(b"\xbb" * (256 * K))
    platter.good("create -q -f qcow2 -o compat=0.10 -b base.raw -F raw disk")
    platter_io.good(commands([f"write -z {unmap} 64k 128k"]), "disk")
    for tool in (platter, qemu_img):
        assert allocated(tool, "disk") == [(64, 128)]
    qemu_io.good(commands(["read -P 0xbb 0 64k", "read -P 0 64k 128k",
                           "read -P 0xbb 192k 64k"]), "disk")
    qemu_img.good("check -q disk")
