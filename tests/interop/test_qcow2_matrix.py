# SPDX-License-Identifier: BSD-3-Clause
"""Every shape of qcow2 goes both ways.

What platter creates and writes, qemu-img finds clean and reads alike; what QEMU
creates and writes, platter finds clean, reads alike and goes on writing. One
test is one geometry; inside it all kinds of compression, base and size follow
one another. Rarer geometries get every third or fifth of these cases.
"""

import itertools
import random

import pytest
from disk_model import Disk, first_difference, random_command, random_pack
from tools import commands

CLUSTERS = {"512": 512, "4k": 4096, "64k": 65536, "2M": 2 << 20}
GEOMETRIES = [(cluster, "0.10", 16) for cluster in CLUSTERS] + [
    (cluster, "1.1", width) for cluster in CLUSTERS
    for width in (1, 2, 4, 8, 16, 32, 64)]
COMPRESSIONS = [None, "zlib", "zstd"]
BASES = [None, ("qcow2", "shorter"), ("qcow2", "longer"),
         ("raw", "shorter"), ("raw", "longer")]
SIZES = ["clusters", "half", "odd"]
COMMANDS = 12


def disk_size(cluster, kind):
    """Several L2 tables where clusters are small; never large."""
    count = {512: 150, 4096: 530, 65536: 9}.get(cluster, 3)
    size = count * cluster
    if kind == "half":
        size += max(cluster // 2, 512)
    elif kind == "odd":
        size += 512 if cluster > 512 else 1024
    return size


def cases(cluster, version, width):
    step = {"4k": 1, "64k": 1}.get(cluster, 3) if width == 16 else 5
    for number, case in enumerate(
            itertools.product(COMPRESSIONS, BASES, SIZES)):
        if version == "0.10" and case[0] == "zstd":
            continue
        # The shift lets each base meet each size somewhere.
        if (number + number // step + width.bit_length()) % step == 0:
            yield number, case


class Case:
    """One shape of image."""

    def __init__(self, tmp_path, qemu_img, geometry, number, shape):
        self.cluster = CLUSTERS[geometry[0]]
        self.packing, self.base, size_kind = shape
        self.size = disk_size(self.cluster, size_kind)
        self.rng = random.Random(f"{geometry} {number}")
        self.options = (f"cluster_size={self.cluster},compat={geometry[1]}"
                        + (f",refcount_bits={geometry[2]}"
                           if geometry[2] != 16 else "")
                        + (",compression_type=zstd"
                           if self.packing == "zstd" else ""))
        self.base_bytes = self.make_base(tmp_path, qemu_img)

    def make_base(self, folder, qemu_img):
        if not self.base:
            return b""
        kind, length = self.base
        size = self.size // 2 if length == "shorter" else self.size * 3 // 2
        content = self.rng.randbytes(64) * (size // 64)
        content = content[:size // 512 * 512]
        (folder / "base.raw").write_bytes(content)
        if kind == "qcow2":
            qemu_img.good("convert -f raw -O qcow2 base.raw base.qcow2")
        return content

    def create_words(self, name):
        words = ["create -q -f qcow2 -o", self.options]
        if self.base:
            words += ["-F", self.base[0], "-b", f"base.{self.base[0]}"]
        return words + [name, str(self.size)]

    def disk(self):
        return Disk(self.size, self.cluster, self.base_bytes)

    def commands(self, disk):
        return [random_command(self.rng, disk, packs=bool(self.packing))
                for _ in range(COMMANDS)]

    def their_commands(self, disk):
        """Packed clusters first: QEMU 7.2 loses data if it packs later.

        It goes on behind the last packed cluster even when that has been
        overwritten and its space belongs to other data by now.
        """
        packs = [random_pack(self.rng, disk, self.rng.randrange(1, 256))
                 for _ in range(3 if self.packing else 0)]
        return [line for line in packs if line] + [
            random_command(self.rng, disk, packs=False)
            for _ in range(COMMANDS)]

    def __str__(self):
        return f"{self.options} base={self.base} size={self.size}"


def assert_reads(tool, folder, name, disk, case):
    tool.good("convert -O raw", name, "out.raw")
    found = (folder / "out.raw").read_bytes()
    assert found == disk.bytes, (
        f"{case}: {name} read by {tool.argv}: "
        f"{first_difference(found, disk.bytes)}")


def ours_is_good(case, tmp_path, platter, platter_io, qemu_img):
    disk = case.disk()
    platter.good(*case.create_words("ours.qcow2"))
    lines = case.commands(disk)
    platter_io.good(commands(lines), "-t unsafe -f qcow2 ours.qcow2")
    qemu_img.good("check -q ours.qcow2")
    for tool in (qemu_img, platter):
        assert_reads(tool, tmp_path, "ours.qcow2", disk, f"{case} {lines}")


def theirs_is_good(case, tmp_path, platter, platter_io, qemu_img, qemu_io):
    disk = case.disk()
    qemu_img.good(*case.create_words("theirs.qcow2"))
    lines = case.their_commands(disk)
    qemu_io.good(commands(lines), "-t unsafe -f qcow2 theirs.qcow2")
    platter.good("check -q theirs.qcow2")
    assert_reads(platter, tmp_path, "theirs.qcow2", disk, f"{case} {lines}")

    more = case.commands(disk)
    platter_io.good(commands(more), "-t unsafe -f qcow2 theirs.qcow2")
    qemu_img.good("check -q theirs.qcow2")
    platter.good("check -q theirs.qcow2")
    assert_reads(qemu_img, tmp_path, "theirs.qcow2", disk,
                 f"{case} {lines} {more}")


@pytest.mark.parametrize("geometry", GEOMETRIES,
                         ids=lambda g: f"{g[0]}-{g[1]}-{g[2]}bit")
def test_image_goes_both_ways(geometry, tmp_path, platter, platter_io,
                              qemu_img, qemu_io):
    ran = 0
    for number, shape in cases(*geometry):
        case = Case(tmp_path, qemu_img, geometry, number, shape)
        ours_is_good(case, tmp_path, platter, platter_io, qemu_img)
        theirs_is_good(case, tmp_path, platter, platter_io, qemu_img, qemu_io)
        ran += 1
    assert ran >= 6


@pytest.mark.parametrize("packing", ["zlib", "zstd"])
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_packed_copies_go_both_ways(cluster, packing, tmp_path, platter,
                                    qemu_img):
    rng = random.Random(f"{cluster} {packing}")
    disk = Disk(disk_size(CLUSTERS[cluster], "half"), CLUSTERS[cluster])
    for _ in range(40):
        random_command(rng, disk, packs=False)
    (tmp_path / "source.raw").write_bytes(disk.bytes)
    for writer, reader in ((platter, qemu_img), (qemu_img, platter)):
        writer.good("convert -c -f raw -O qcow2 -o",
                    f"cluster_size={cluster},compression_type={packing}",
                    "source.raw packed.qcow2")
        reader.good("check -q packed.qcow2")
        reader.good("compare -q -f raw -F qcow2 source.raw packed.qcow2")
        assert_reads(reader, tmp_path, "packed.qcow2", disk, cluster)
