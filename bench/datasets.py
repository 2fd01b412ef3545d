# SPDX-License-Identifier: BSD-3-Clause
"""Makes the images that are measured with, each when it is first asked for.

Contents come from this machine's own files, taken in the order of their names,
and from a generator with a fixed seed: the same machine makes the same images
every time. They are kept between runs.
"""

import concurrent.futures
import dataclasses
import os
import random
import shutil
import subprocess
import sys

MIB = 1 << 20
GIB = 1 << 30
CLUSTER = 1 << 16
BLOCK = 4096

TEXT_FOLDERS = ("/usr/share",)
PROGRAM_FOLDERS = ("/usr/bin", "/usr/lib")
PACKED_FOLDERS = ("/usr/share", "/usr/lib")
PACKED_ENDS = (".gz", ".xz", ".zst", ".bz2", ".png", ".jpg", ".zip", ".jar",
               ".whl", ".deb", ".woff2")
# What there is of a machine's disk, in parts of a hundred. "full" has the
# first four only.
PARTS = {"text": 25, "programs": 20, "packed": 15, "random": 10,
         "zeros": 10, "hole": 20}
EXTENT_BLOCKS = (1, 4, 16, 16, 64, 256, 1024)

HERE = os.path.dirname(os.path.abspath(__file__))


class Unavailable(Exception):
    """A data set that this machine cannot have, and why."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large the data sets are."""

    disk: int
    sparse: int
    sparse_data: int
    metadata_gib: int


FULL = Sizes(2 * GIB, 64 * GIB, 256 * MIB, 2048)
QUICK = Sizes(256 * MIB, 8 * GIB, 32 * MIB, 128)


def call(*argv, **options):
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, **options)


# --- contents ----------------------------------------------------------------


def files_below(folders, wanted):
    """Plain files in the order of their names, without following links."""
    for top in folders:
        for folder, names, files in os.walk(top):
            names.sort()
            for name in sorted(files):
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not os.path.islink(path) \
                        and wanted(name):
                    yield path


def is_packed(name):
    return name.endswith(PACKED_ENDS)


def is_program(name):
    return ".so" in name or "." not in name


def file_bytes(folders, wanted):
    """What all these files hold, again and again."""
    while True:
        found = False
        for path in files_below(folders, wanted):
            try:
                with open(path, "rb") as file:
                    while chunk := file.read(MIB):
                        found = True
                        yield chunk
            except OSError:
                continue
        if not found:
            raise Unavailable(f"no files to take data from in {folders}")


def random_bytes(seed):
    source = random.Random(seed)
    while True:
        yield source.randbytes(MIB)


class Pool:
    """Bytes without end, taken in the lengths that are asked for."""

    def __init__(self, chunks):
        self.chunks = chunks
        self.rest = b""

    def take(self, count):
        parts = []
        while count > len(self.rest):
            parts.append(self.rest)
            count -= len(self.rest)
            self.rest = next(self.chunks)
        parts.append(self.rest[:count])
        self.rest = self.rest[count:]
        return b"".join(parts)


def new_pools():
    return {
        "text": Pool(file_bytes(TEXT_FOLDERS, lambda name:
                                not is_packed(name))),
        "programs": Pool(file_bytes(PROGRAM_FOLDERS, is_program)),
        "packed": Pool(file_bytes(PACKED_FOLDERS, is_packed)),
        "random": Pool(random_bytes("random")),
    }


def without_zero_clusters(data, filler):
    """The same data, where each cluster has at least one block that is not
    zero."""
    zero = bytes(CLUSTER)
    if data.find(zero) < 0:
        return data
    clusters = (data[at:at + CLUSTER] for at in range(0, len(data), CLUSTER))
    return b"".join(filler.take(len(cluster)) if not any(cluster) else cluster
                    for cluster in clusters)


def write_mixture(path, size, parts):
    """Extents of all kinds and lengths in a random order, always the same."""
    order = random.Random("order")
    kinds, weights = list(parts), list(parts.values())
    pools = new_pools()
    with open(path, "wb") as file:
        at = 0
        while at < size:
            kind = order.choices(kinds, weights)[0]
            length = min(order.choice(EXTENT_BLOCKS) * BLOCK, size - at)
            if kind == "zeros":
                file.write(bytes(length))
            elif kind == "hole":
                file.seek(length, os.SEEK_CUR)
            else:
                file.write(pools[kind].take(length))
            at += length
        file.truncate(size)


def make_mixed(path, sizes):
    write_mixture(path, sizes.disk, PARTS)


def make_full(path, sizes):
    """The same kinds of data in whole clusters, and nothing left out."""
    kinds = {kind: PARTS[kind]
             for kind in ("text", "programs", "packed", "random")}
    write_mixture(path, sizes.disk, kinds)
    filler = Pool(random_bytes("filler"))
    with open(path, "r+b") as file:
        for at in range(0, sizes.disk, MIB):
            file.seek(at)
            data = file.read(MIB)
            better = without_zero_clusters(data, filler)
            if better is not data:
                file.seek(at)
                file.write(better)


def make_sparse(path, sizes):
    """A large disk with little on it, in clusters far from each other."""
    places = random.Random("places").sample(
        range(sizes.sparse // CLUSTER), sizes.sparse_data // CLUSTER)
    pool = Pool(random_bytes("sparse"))
    with open(path, "wb") as file:
        file.truncate(sizes.sparse)
        for place in sorted(places):
            file.seek(place * CLUSTER)
            file.write(pool.take(CLUSTER))


# --- a disk as an installed system has it ------------------------------------


def copy_tree(folder, limit):
    """Copies files of this machine until they are so many bytes."""
    total = 0
    for path in files_below(("/usr/share", "/usr/bin", "/usr/lib"),
                            lambda name: True):
        size = os.stat(path).st_size
        if total + size > limit:
            continue
        if total > limit * 95 // 100:
            return
        target = folder + path
        os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            shutil.copyfile(path, target)
        except PermissionError:
            continue
        total += size + BLOCK


def make_os(path, sizes):
    """A GPT disk with one ext4 file system, about half full."""
    tree = path + ".tree"
    shutil.rmtree(tree, ignore_errors=True)
    os.mkdir(tree)
    try:
        copy_tree(tree, sizes.disk // 2)
        with open(path, "wb") as file:
            file.truncate(sizes.disk)
        subprocess.run(["sfdisk", "-q", path], check=True, text=True,
                       input="label: gpt\nstart=1MiB, type=linux\n",
                       stdout=subprocess.DEVNULL)
        call("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree,
             "-U", "d6d2d5b4-1f0c-4ad3-9c0e-2f5d4a1b7c10",
             "-E", f"offset={MIB},nodiscard", path,
             f"{sizes.disk // MIB - 2}M", stderr=subprocess.DEVNULL)
    finally:
        shutil.rmtree(tree)


# --- images ------------------------------------------------------------------


def converted(source, *options):
    """A qcow2 image, written by qemu-img so that no layout favours us."""
    def make(path, sizes):
        raw = os.path.join(os.path.dirname(path), source)
        call("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options,
             raw, path)
    return make


def metadata(*options):
    """A qcow2 image that has all of its tables and none of its data."""
    def make(path, sizes):
        call(sys.executable, os.path.join(HERE, "make-metadata-image.py"),
             "--size-gib", str(sizes.metadata_gib), *options, path)
    return make


def make_small(path, sizes):
    call("qemu-img", "create", "-f", "qcow2", path, "1G")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to make one data set, from what, and how much room it takes."""

    make: object
    room: object
    needs: tuple = ()


def disk(sizes):
    return sizes.disk


RECIPES = {
    "mixed.raw": Recipe(make_mixed, disk),
    "full.raw": Recipe(make_full, disk),
    "os.raw": Recipe(make_os, lambda sizes: 2 * sizes.disk),
    "sparse.raw": Recipe(make_sparse, lambda sizes: sizes.sparse_data),
    "mixed.qcow2": Recipe(converted("mixed.raw"), disk, ("mixed.raw",)),
    "full.qcow2": Recipe(converted("full.raw"), disk, ("full.raw",)),
    "os.qcow2": Recipe(converted("os.raw"), disk, ("os.raw",)),
    "sparse.qcow2": Recipe(converted("sparse.raw"),
                           lambda sizes: sizes.sparse_data * 2,
                           ("sparse.raw",)),
    "full-deflate.qcow2": Recipe(converted("full.raw", "-c"), disk,
                                 ("full.raw",)),
    "full-zstd.qcow2": Recipe(
        converted("full.raw", "-c", "-o", "compression_type=zstd"), disk,
        ("full.raw",)),
    "sequential.qcow2": Recipe(metadata(),
                               lambda sizes: sizes.metadata_gib * MIB // 4),
    "shuffled.qcow2": Recipe(metadata("--shuffled"),
                             lambda sizes: sizes.metadata_gib * MIB // 4),
    "small.qcow2": Recipe(make_small, lambda sizes: MIB),
}



def make_part(name, part, sizes):
    RECIPES[name].make(part, sizes)


# File systems that share blocks between files, each in a file of its own.
MOUNTS = {"xfs": ("mkfs.xfs", "-q", "-f", "-m", "reflink=1"),
          "btrfs": ("mkfs.btrfs", "-q", "-f")}
MOUNT_FACTOR = 6


class DataSets:
    """The folder they live in, and the file systems mounted below it."""

    def __init__(self, folder, sizes, say):
        self.folder = folder
        self.sizes = sizes
        self.say = say
        self.mounted = []

    def path(self, name):
        return os.path.join(self.folder, name)

    def room_for(self, names):
        """How many bytes making the missing ones of these will take."""
        missing, todo = set(), list(names)
        while todo:
            name = todo.pop()
            place, _, base = name.rpartition("/")
            if place:
                missing.add(place)
                todo.append(base)
            elif name not in missing and not os.path.exists(self.path(name)):
                missing.add(name)
                todo.extend(RECIPES[name].needs)
        return sum(MOUNT_FACTOR * self.sizes.disk if name in MOUNTS
                   else RECIPES[name].room(self.sizes) for name in missing)

    def get(self, name):
        """Makes the data set unless it is there; "xfs/x" is x on XFS."""
        place, _, base = name.rpartition("/")
        if place:
            self.mount(place)
        if os.path.exists(self.path(name)):
            return
        if place:
            self.copy(base, name)
        else:
            self.make(name)

    def make(self, name):
        recipe = RECIPES[name]
        for need in recipe.needs:
            self.get(need)
        self.say(f"making {name}")
        part = self.path(name) + ".part"
        # Elsewhere, so that measuring starts from a small program.
        with concurrent.futures.ProcessPoolExecutor(1) as pool:
            pool.submit(make_part, name, part, self.sizes).result()
        os.rename(part, self.path(name))

    def copy(self, base, name):
        self.get(base)
        self.say(f"making {name}")
        part = self.path(name) + ".part"
        call("cp", "--sparse=always", self.path(base), part)
        os.rename(part, self.path(name))

    def mount(self, place):
        folder = self.path(place)
        if place in self.mounted:
            return
        if os.path.ismount(folder):
            self.mounted.append(place)  # left by a run that was killed
            return
        if os.geteuid() != 0:
            raise Unavailable("mounting a file system needs root")
        mkfs = MOUNTS[place]
        if not shutil.which(mkfs[0]):
            raise Unavailable(f"{mkfs[0]} is not installed")
        store = self.path(place + ".img")
        with open(store, "wb") as file:
            file.truncate(MOUNT_FACTOR * self.sizes.disk + GIB)
        os.makedirs(folder, exist_ok=True)
        try:
            call(*mkfs, store)
            call("mount", "-o", "loop", store, folder)
        except subprocess.CalledProcessError as error:
            os.unlink(store)
            raise Unavailable(f"{error.cmd[0]} failed") from error
        self.mounted.append(place)

    def close(self):
        for place in self.mounted:
            call("umount", self.path(place))
            os.unlink(self.path(place + ".img"))
        self.mounted = []
