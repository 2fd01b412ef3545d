# SPDX-License-Identifier: BSD-3-Clause
"""Requests that are in flight together, and share clusters, keep apart.

What to expect comes from a plain array of bytes. A failure names its seed;
RANDOM_SEEDS is how many there are, RANDOM_FIRST the first.
"""

import os
import random

import pytest
from disk_model import Disk, first_difference
from tools import commands

FIRST = int(os.environ.get("RANDOM_FIRST", "1"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("RANDOM_SEEDS", "3")))


def assert_content(tool, tmp_path, expected, label):
    tool.good("convert -O raw disk.qcow2 out.raw")
    found = (tmp_path / "out.raw").read_bytes()
    difference = first_difference(found, expected)
    assert not difference, f"{label}: {difference}"


def disjoint_ranges(rng, size, count):
    """Neighbours that share clusters, in any order."""
    edges = sorted(rng.sample(range(size), count * 2))
    ranges = list(zip(edges[::2], edges[1::2]))
    rng.shuffle(ranges)
    return ranges


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("options", [
    "cluster_size=4096", "cluster_size=64k,lazy_refcounts=on",
    "cluster_size=512,refcount_bits=1", "cluster_size=2M,compat=0.10"])
def test_writes_side_by_side_keep_apart(options, seed, tmp_path, platter,
                                        platter_io, qemu_img):
    rng = random.Random(f"{options} {seed}")
    disk = Disk(3 << 20, 512)
    platter.good("create -q -f qcow2 -o", options, "disk.qcow2 3M")
    lines = []
    for off, end in disjoint_ranges(rng, len(disk), 60):
        if rng.random() < 0.2:
            line = disk.zero(off, end - off, False)
        else:
            line = disk.write(off, end - off, rng.randrange(1, 256))
        lines.append("aio_" + line)
        if rng.random() < 0.1:
            lines.append("flush")
    platter_io.good(commands(lines + ["aio_flush"]), "-f qcow2 disk.qcow2")
    qemu_img.good("check -q disk.qcow2")
    assert_content(qemu_img, tmp_path, disk.bytes, f"{options} seed {seed}")
