# SPDX-License-Identifier: BSD-3-Clause
"""Random commands leave an image that QEMU finds clean and reads as expected.

What to expect comes from a plain array of bytes. Commands run in few processes,
so that caches and the allocator live through many of them; between the
processes QEMU may take an internal snapshot. A failure names its seed; RANDOM_SEEDS
is how many there are, RANDOM_FIRST the first.
"""

import dataclasses
import os
import random

import pytest
from disk_model import Disk, first_difference, random_command, random_range
from tools import commands

FIRST = int(os.environ.get("RANDOM_FIRST", "1"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("RANDOM_SEEDS", "3")))
ROUNDS = 4
COMMANDS = 40


@dataclasses.dataclass
class Shape:
    """What kind of image, and what happens to it."""

    cluster: int
    clusters: int
    options: str = ""
    version: str = "1.1"
    base: str = ""  # its format and length: "qcow2 longer"
    packs: bool = False
    resizes: bool = False
    snapshots: bool = False
    caches: str = ""  # more words of --image-opts

    def create_options(self):
        words = [f"compat={self.version},cluster_size={self.cluster}"]
        return ",".join(words + ([self.options] if self.options else []))

    def discard_reads_zeros(self):
        return self.version == "1.1" or not self.base


SHAPES = {
    "plain": Shape(65536, 9),
    "packed": Shape(65536, 9, packs=True),
    "one bit counts": Shape(512, 200, "refcount_bits=1", packs=True),
    "wide counts": Shape(512, 200, "refcount_bits=64", packs=True,
                         snapshots=True),
    "resized": Shape(4096, 530, packs=True, resizes=True),
    "resized above a base": Shape(4096, 530, base="qcow2 longer",
                                  resizes=True),
    "old and resized": Shape(4096, 530, version="0.10", packs=True,
                             resizes=True),
    "old above a base": Shape(65536, 9, version="0.10", base="qcow2 longer"),
    "old with snapshots": Shape(512, 300, version="0.10", snapshots=True),
    "lazy": Shape(4096, 200, "lazy_refcounts=on", packs=True),
    "small caches": Shape(512, 600, packs=True, snapshots=True,
                          caches=",l2-cache-size=4096,"
                                 "refcount-cache-size=4096"),
    "small caches above a base": Shape(4096, 530, "compression_type=zstd",
                                       base="raw shorter", packs=True,
                                       caches=",l2-cache-size=8192"),
    "large clusters": Shape(2 << 20, 4, base="raw longer", snapshots=True),
    "snapshots": Shape(65536, 12, packs=True, snapshots=True,
                       base="qcow2 shorter"),
}


def make_base(shape, rng, tmp_path, qemu_img):
    if not shape.base:
        return b""
    kind, length = shape.base.split()
    size = shape.cluster * shape.clusters
    size = size // 2 if length == "shorter" else size * 2
    content = rng.randbytes(512) * (size // 512)
    (tmp_path / "base.raw").write_bytes(content)
    if kind == "qcow2":
        qemu_img.good("convert -f raw -O qcow2 base.raw base.qcow2")
    return content


def create(shape, disk, tool, name):
    words = ["create -q -f qcow2 -o", shape.create_options()]
    if shape.base:
        kind = shape.base.split()[0]
        words += ["-F", kind, "-b", f"base.{kind}"]
    tool.good(*words, name, str(len(disk)))


def next_commands(shape, rng, disk):
    """One command, or a few that belong together."""
    kind = rng.random()

    if kind < 0.1:
        off, length = random_range(rng, disk)
        return [disk.discard(off, length, shape.discard_reads_zeros())]
    if kind < 0.15:
        return ["reopen"]
    if kind < 0.25:
        off, length = random_range(rng, disk)
        pattern = rng.randrange(1, 256)
        return [disk.write(off, length, pattern),
                f"read -q -P {pattern} {off} {length}"]
    if shape.resizes and kind < 0.3:
        units = shape.cluster * shape.clusters // 512
        return [disk.resize(rng.randint(units // 2, units * 3 // 2) * 512)]
    return [random_command(rng, disk, packs=shape.packs)]


def image_opts(shape, name):
    return f"driver=qcow2,file.filename={name}{shape.caches}"


def assert_content(tool, tmp_path, expected, label, *words):
    tool.good("convert -O raw", *words, "out.raw")
    found = (tmp_path / "out.raw").read_bytes()
    difference = first_difference(found, expected)
    assert not difference, f"{label}, {words} read by {tool.argv}: {difference}"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_content_is_what_was_written(shape, seed, tmp_path, platter,
                                     platter_io, qemu_img, qemu_io):
    rng = random.Random(f"{shape} {seed}")
    label = f"shape {shape}, seed {seed}"
    shape = SHAPES[shape]
    base = make_base(shape, rng, tmp_path, qemu_img)
    disk = Disk(shape.cluster * shape.clusters + 512, shape.cluster, base)
    # QEMU loses data when it packs, and shows cut bytes when it grows again.
    twin = not shape.packs and not shape.resizes
    create(shape, disk, platter, "disk.qcow2")
    if twin:
        create(shape, disk, qemu_img, "twin.qcow2")
    snapshots = {}
    print(label)

    for number in range(ROUNDS):
        lines = []
        while len(lines) < COMMANDS:
            lines += next_commands(shape, rng, disk)
        platter_io.good(commands(lines), "--image-opts",
                        image_opts(shape, "disk.qcow2"))
        if twin:
            qemu_io.good(commands(lines), "-f qcow2 twin.qcow2")
        done = qemu_img("check disk.qcow2")
        assert done.returncode == 0, f"{label}: {done.stdout}{done.stderr}"
        for tool in (qemu_img, platter):
            assert_content(tool, tmp_path, disk.bytes, label, "disk.qcow2")
        if twin:
            assert_content(platter, tmp_path, disk.bytes, label, "twin.qcow2")
        if shape.snapshots:
            qemu_img.good("snapshot -c", f"s{number}", "disk.qcow2")
            snapshots[f"s{number}"] = bytes(disk.bytes)

    for name, content in snapshots.items():
        assert_content(qemu_img, tmp_path, content, label, "-l", name,
                       "disk.qcow2")


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
    assert_content(qemu_img, tmp_path, disk.bytes, f"{options} seed {seed}",
                   "disk.qcow2")


@pytest.mark.parametrize("options", ["lazy_refcounts=on",
                                     "lazy_refcounts=off", "compat=0.10"])
def test_flushed_data_outlives_a_kill(options, platter, platter_io, qemu_img,
                                      qemu_io):
    platter.good("create -q -f qcow2 -o", options, "disk.qcow2 1M")
    done = platter_io(commands(["write -P 1 0 300k", "flush",
                                "write -P 2 512k 100k", "sigraise 9"]),
                      "disk.qcow2")
    assert done.returncode == -9
    # Leaks are fine after a kill, errors are not.
    done = qemu_img("check -r all disk.qcow2")
    assert done.returncode == 0
    qemu_io.good(commands(["read -P 1 0 300k"]), "disk.qcow2")
    platter.good("check -q disk.qcow2")
