# SPDX-License-Identifier: BSD-3-Clause
"""What is measured, against what, and how much faster it has to be.

Commands are lists of words in which {ours} or {theirs} stands for the program,
{out} for the file to write. Files are named from the folder of the data sets.
"""

import dataclasses
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))

BEST = "-m 16 -W"
CONVERT_PEAK_MIB = 128
CHECK_PEAK_MIB = 80


@dataclasses.dataclass(frozen=True)
class Target:
    """How many times faster, how many times less CPU, how large at most."""

    wall: float = None
    cpu: float = None
    size: float = None


@dataclasses.dataclass(frozen=True)
class Peer:
    """A command that does the same, and what we want against it."""

    label: str
    argv: tuple
    target: Target


@dataclasses.dataclass(frozen=True)
class Workload:
    """One command of ours and its peers, run in turn."""

    name: str
    needs: tuple
    argv: tuple
    peers: tuple
    out: str = ""
    source: str = ""
    repeat: int = 1
    peak_mib: int = None


def words(text):
    return tuple(text.split())


def format_of(name):
    return name.rpartition(".")[2]


def convert(name, source, target_format, peers, options="", place=""):
    """A convert; peers are (label, options, target) of qemu-img."""
    def command(program, extra):
        return words(f"{program} convert {extra} -f {format_of(source)} "
                     f"-O {target_format} {options} {source} {{out}}")
    return Workload(
        name, (source,), command("{ours}", ""),
        tuple(Peer(label, command("{theirs}", extra), target)
              for label, extra, target in peers),
        out=f"{place}out.{{who}}.{target_format}", source=source,
        peak_mib=CONVERT_PEAK_MIB)


def pair(defaults, best):
    """qemu-img as it is, and at its best."""
    return (("qemu-img", "", defaults),
            (f"qemu-img {BEST}", BEST, best))


# Ours leaves a file that is on the disk. qemu-img's default leaves that to
# later; with these words it does the same, and no target is set for that.
SYNCED = ("qemu-img -t writeback", "-t writeback", Target())
# The other way round: neither waits for the disk.
UNSYNCED = "-t unsafe"


def packing():
    deflate = pair(Target(15, size=1.06), Target(8, size=1.06))
    deflate_full = pair(Target(12, size=1.06), Target(6, size=1.06))
    zstd = pair(Target(4, size=1.01), Target(1.8, size=1.01))
    zstd_full = pair(Target(2, size=1.01), Target(1.1, size=1.01))
    for data, wanted in (("mixed", deflate), ("full", deflate_full)):
        yield convert(f"pack-deflate-{data}", f"{data}.raw", "qcow2", wanted,
                      "-c")
    for data, wanted in (("mixed", zstd), ("full", zstd_full)):
        yield convert(f"pack-zstd-{data}", f"{data}.raw", "qcow2", wanted,
                      "-c -o compression_type=zstd")


def unpacking():
    for method, defaults, best in (("deflate", 3, 2.5), ("zstd", 2, 2)):
        yield convert(f"unpack-{method}-full", f"full-{method}.qcow2", "raw",
                      pair(Target(defaults), Target(best)))


DIRECTIONS = (("raw", "qcow2"), ("qcow2", "raw"), ("raw", "raw"))


def copying():
    wanted = pair(Target(1.3, cpu=2), Target(1.2, cpu=2)) + (SYNCED,)
    for data in ("full", "mixed", "os"):
        for source, target in DIRECTIONS:
            yield convert(f"copy-{data}-{source}-{target}",
                          f"{data}.{source}", target, wanted)
    for source, target in DIRECTIONS:
        yield convert(f"copy-unsynced-{source}-{target}", f"full.{source}",
                      target, wanted[:2], UNSYNCED)


def sharing():
    wanted = (("qemu-img", "", Target(50)), SYNCED)
    for place in ("xfs", "btrfs"):
        for source, target in DIRECTIONS:
            yield convert(f"reflink-{place}-{source}-{target}",
                          f"{place}/full.{source}", target, wanted,
                          place=f"{place}/")
            yield convert(f"reflink-unsynced-{place}-{source}-{target}",
                          f"{place}/full.{source}", target, wanted[:1],
                          UNSYNCED, place=f"{place}/")


def sparse():
    wanted = pair(Target(2), Target(1.5))
    for source, target in DIRECTIONS + (("qcow2", "qcow2"),):
        yield convert(f"sparse-{source}-{target}", f"sparse.{source}", target,
                      wanted)
        yield convert(f"sparse-unsynced-{source}-{target}",
                      f"sparse.{source}", target, wanted, UNSYNCED)


def direct():
    """Without the page cache the disk is the limit, not qemu-img."""
    copier = (sys.executable, "-I", "-S", os.path.join(HERE, "direct-copy.py"))
    for target in ("raw", "qcow2"):
        options = "-t none -T none"
        base = convert(f"direct-raw-{target}", "full.raw", target,
                       (("qemu-img", "", Target()),), options)
        disk = Peer("the disk itself", copier + ("full.raw", "{out}"),
                    Target(0.95))
        yield dataclasses.replace(base, peers=base.peers + (disk,))


def same(name, needs, command, target, **options):
    """The same words for both programs."""
    return Workload(
        name, needs, words("{ours} " + command),
        (Peer("qemu-img", words("{theirs} " + command), target),), **options)


def comparing():
    for data in ("full", "mixed"):
        yield same(f"compare-{data}", (f"{data}.raw", f"{data}.qcow2"),
                   f"compare -f raw -F qcow2 {data}.raw {data}.qcow2",
                   Target(1.6))


def metadata(sizes):
    for data, faster in (("sequential", 10), ("shuffled", 100)):
        image = f"{data}.qcow2"
        yield same(f"check-{data}", (image,), f"check -f qcow2 {image}",
                   Target(faster), peak_mib=CHECK_PEAK_MIB)
        yield same(f"map-{data}", (image,),
                   f"map --output=json -f qcow2 {image}", Target(10))
        yield same(f"measure-{data}", (image,),
                   f"measure --output=json -f qcow2 -O qcow2 {image}",
                   Target(10))
    yield same("create-metadata", (),
               f"create -q -f qcow2 -o preallocation=metadata {{out}} "
               f"{sizes.metadata_gib}G", Target(5), out="out.{who}.qcow2")


def small():
    yield same("info-small", ("small.qcow2",), "info small.qcow2",
               Target(1.5), repeat=50)


def all_workloads(sizes):
    return [*packing(), *unpacking(), *copying(), *sharing(), *sparse(),
            *direct(), *comparing(), *metadata(sizes), *small()]
