# SPDX-License-Identifier: BSD-3-Clause
"""Random kinds of images, and the files below them."""

import dataclasses
import json

from layers import Base

CLUSTER_SIZES = [512, 512, 1024, 4096, 4096, 16384, 65536, 65536, 131072,
                 2 << 20]
CLUSTERS = {512: 700, 1024: 400, 4096: 530, 16384: 60, 65536: 20,
            131072: 12, 2 << 20: 3}
CACHES = ["", ",l2-cache-size=8192",
          ",l2-cache-size=4096,refcount-cache-size=4096"]


@dataclasses.dataclass
class Shape:
    """What kind of image, and what may happen to it."""

    format: str = "qcow2"
    size: int = 0
    cluster: int = 512  # raw images: the unit of random ranges only
    version: int = 3
    refcount_bits: int = 16
    lazy: bool = False
    compression: str = "zlib"
    preallocation: str = "off"
    base: str = ""  # its format
    base_size: int = 0
    packs: bool = False
    resizes: bool = False
    snapshots: bool = False
    caches: str = ""  # more words of --image-opts, for platter
    offset: int = 0  # raw images: the disk is a window of its file

    def create_options(self):
        words = {"cluster_size": self.cluster,
                 "compat": "1.1" if self.version == 3 else "0.10"}
        if self.version == 3:
            words |= {"refcount_bits": self.refcount_bits,
                      "lazy_refcounts": "on" if self.lazy else "off",
                      "compression_type": self.compression}
        if self.preallocation != "off":
            words["preallocation"] = self.preallocation
        return ",".join(f"{name}={value}" for name, value in words.items())

    def image_opts(self, name):
        opts = f"driver={self.format},file.filename={name}"
        if self.format == "raw":
            return f"{opts},offset={self.offset},size={self.size}"
        return opts


def random_size(rng, cluster, clusters):
    """Whole sectors; often not whole clusters."""
    size = rng.randint(max(1, clusters // 2), clusters) * cluster
    return size + rng.choice([0, 0, 512, cluster // 2 // 512 * 512])


def random_raw(rng):
    return Shape(format="raw", size=rng.randint(1, 600) * 512,
                 offset=rng.choice([0, 512, 4096, 65536 + 512]))


def choose_counts(rng, shape):
    """What an option allows, others may forbid."""
    shape.packs = rng.random() < 0.5 and shape.preallocation == "off"
    if shape.version == 3:
        shape.refcount_bits = rng.choice([1, 2, 4, 8, 16, 16, 32, 64])
        shape.lazy = rng.random() < 0.25
        shape.compression = rng.choice(["zlib", "zlib", "zstd"])
    # Many packed clusters and snapshots share one counted cluster.
    shape.snapshots = rng.random() < 0.4 and shape.refcount_bits >= (
        16 if shape.packs else 8)


def choose_base(rng, shape):
    shape.base = rng.choice(["raw", "qcow2"])
    half = max(512, shape.size // 2 // 512 * 512)
    shape.base_size = rng.choice([half, shape.size, shape.size + half])


def random_shape(rng):
    if rng.random() < 0.06:
        return random_raw(rng)
    cluster = rng.choice(CLUSTER_SIZES)
    shape = Shape(cluster=cluster, version=rng.choice([2, 3, 3, 3]),
                  size=random_size(rng, cluster, CLUSTERS[cluster]),
                  caches=rng.choice(CACHES))
    if rng.random() < 0.5:
        choose_base(rng, shape)
    elif rng.random() < 0.2:
        shape.preallocation = rng.choice(["metadata", "falloc", "full"])
    choose_counts(rng, shape)
    # Version 2 is not resized with snapshots, nor by QEMU where it would have
    # to state zeros above a base.
    shape.resizes = rng.random() < 0.4 and (
        shape.version == 3 or not (shape.snapshots or shape.base))
    return shape


def make_base(rng, shape, folder, tools):
    """The file below the image: (bytes, layers.Base), or nothing."""
    if not shape.base:
        return b"", None
    content = bytearray(shape.base_size)
    piece = 4096 if shape.base_size >= 65536 else 512
    with open(folder / "base.raw", "wb") as file:
        file.truncate(shape.base_size)
        for off in range(0, shape.base_size, piece):
            if rng.random() < 0.6:
                length = min(piece, shape.base_size - off)
                content[off:off + length] = bytes([off // piece % 255 + 1]
                                                  ) * length
                file.seek(off)
                file.write(content[off:off + length])
    if shape.base == "qcow2":
        packed = "-c" if rng.random() < 0.3 else ""
        tools.qemu_img.good("convert -f raw -O qcow2 -o cluster_size=4k",
                            packed, "base.raw base.qcow2")
    found = tools.qemu_img.good("map --output=json -f", shape.base,
                                f"base.{shape.base}")
    return bytes(content), Base(shape.base, shape.base_size,
                                map_runs(json.loads(found)))


def letter_of(entry):
    """One of the kinds of layers.py for an entry of `map --output=json`."""
    if not entry["present"]:
        return "U"
    if entry["data"]:
        return "D" if "offset" in entry else "P"
    return "A" if "offset" in entry else "Z"


def same_but_for_holes(entries):
    """Entries of a map, as if no file had a hole inside of its data."""
    merged = []
    for entry in entries:
        entry = dict(entry)
        if entry["data"]:
            entry["zero"] = False
        last = merged[-1] if merged else None
        if last and entry["data"] and last.get("offset", -1) == entry.get(
                "offset", 0) - last["length"] and (
                last["data"] and last["depth"] == entry["depth"]):
            last["length"] += entry["length"]
        else:
            merged.append(entry)
    return merged


def map_runs(entries):
    """(start, end, kind, depth), neighbours of one kind as one run."""
    runs = []
    for entry in entries:
        letter = letter_of(entry)
        add_run(runs, entry["start"], entry["start"] + entry["length"],
                letter, entry["depth"])
    return runs


def add_run(runs, start, end, letter, depth):
    """Where nothing is present, no layer is the one that says so."""
    if letter == "U":
        depth = 0
    if runs and runs[-1][1:] == (start, letter, depth):
        start = runs.pop()[0]
    runs.append((start, end, letter, depth))
