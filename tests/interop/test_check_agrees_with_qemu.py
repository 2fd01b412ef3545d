# SPDX-License-Identifier: BSD-3-Clause
"""check finds in damaged images what qemu-img finds, and repair mends them.

Images of many kinds are damaged at random places of their metadata. The figures
of both programs must be the same. Then ours repairs: what it calls clean must be
clean to qemu-img, and the guest's data must be what it was.

Each case is named by its kind and seed. CHECK_SEEDS is how many seeds each kind
gets, PLATTER the program.
"""

import json
import os
import pathlib
import random
import shutil
import struct
import subprocess

import pytest

SEEDS = int(os.environ.get("CHECK_SEEDS", "12"))
MASK = 0x00FFFFFFFFFFFE00
COPIED = 1 << 63
COMPRESSED = 1 << 62
SECRET = ["--object", "secret,id=s,data=x"]

pytestmark = pytest.mark.skipif(
    not shutil.which("qemu-img") or not shutil.which("qemu-io"),
    reason="qemu-img or qemu-io is not installed")


def platter():
    default = pathlib.Path(__file__).resolve().parents[2] / "build/platter"
    return os.environ.get("PLATTER", str(default))


def run(*command, **more):
    return subprocess.run([str(word) for word in command], check=False,
                          capture_output=True, timeout=120, **more)


def good(*command, **more):
    done = run(*command, **more)
    assert done.returncode == 0, (command, done.stderr)
    return done


# --- images ------------------------------------------------------------------


def image_io(path, *commands):
    words = [word for command in commands for word in ("-c", command)]
    good("qemu-io", *words, path)


def create(path, size, **options):
    text = ",".join(f"{key}={value}" for key, value in options.items())
    good("qemu-img", "create", "-q", "-f", "qcow2",
         *(["-o", text] if text else []), path, size)


def write_some(path, zeros=True):
    image_io(path, "write -P 1 0 700k", "write -P 2 1500k 300k",
             "write -P 3 3M 64k", "write -P 4 2500k 5k")
    if zeros:
        image_io(path, "write -z 128k 64k", "write -z -u 256k 64k",
                 "discard 320k 64k", "write -z 2800k 64k")


def plain(**options):
    def make(path):
        create(path, "4M", **options)
        write_some(path, zeros=options.get("compat") != "0.10")
    return make


def with_snapshots(**options):
    def make(path):
        create(path, "4M", **options)
        write_some(path)
        good("qemu-img", "snapshot", "-c", "one", path)
        image_io(path, "write -P 5 100k 200k", "write -P 6 3500k 64k")
        good("qemu-img", "snapshot", "-c", "two", path)
        image_io(path, "write -P 7 1600k 64k", "write -z 0 64k")
    return make


def compressed(**options):
    def make(path):
        source = path.with_suffix(".source")
        create(source, "4M")
        write_some(source)
        text = ",".join(f"{k}={v}" for k, v in options.items())
        good("qemu-img", "convert", "-c", "-O", "qcow2",
             *(["-o", text] if text else []), source, path)
        image_io(path, "write -P 9 64k 64k", "write -P 9 3500k 64k")
    return make


def with_bitmaps(path):
    create(path, "4M")
    good("qemu-img", "bitmap", "--add", "-g", "512", path, "b0")
    good("qemu-img", "bitmap", "--add", path, "b1")
    write_some(path)


def encrypted(path):
    """QEMU times a key derivation; where clocks are coarse that often fails."""
    for _ in range(60):
        done = run("qemu-img", "create", "-q", "-f", "qcow2", *SECRET, "-o",
                   "encrypt.format=luks,encrypt.key-secret=s,"
                   "encrypt.iter-time=10", path, "4M")
        if b"accurate CPU usage" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr


def with_data_file(path):
    create(path, "4M", data_file=path.with_suffix(".data"))
    write_some(path)


KINDS = {
    "v3": plain(),
    "v2": plain(compat="0.10"),
    "tiny clusters": plain(cluster_size=512),
    "huge clusters": plain(cluster_size="2M"),
    "4k clusters": plain(cluster_size=4096),
    "1 bit": plain(refcount_bits=1),
    "2 bits": plain(refcount_bits=2, cluster_size=4096),
    "4 bits, snapshots": with_snapshots(refcount_bits=4),
    "8 bits, tiny": plain(refcount_bits=8, cluster_size=512),
    "32 bits": with_snapshots(refcount_bits=32),
    "64 bits, tiny": plain(refcount_bits=64, cluster_size=512),
    "preallocated": plain(preallocation="metadata"),
    "lazy": plain(lazy_refcounts="on"),
    "snapshots": with_snapshots(),
    "snapshots, tiny": with_snapshots(cluster_size=512),
    "compressed": compressed(),
    "compressed, tiny": compressed(cluster_size=512),
    "compressed, 4k": compressed(cluster_size=4096),
    "compressed, zstd": compressed(compression_type="zstd"),
    "bitmaps": with_bitmaps,
    "subclusters": plain(extended_l2="on"),
    "subclusters, 16k": plain(extended_l2="on", cluster_size=16384),
    "encrypted": encrypted,
    "data file": with_data_file,
}

# Guests cannot be read by the tools as they are called here.
NO_GUEST = ("encrypted",)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Made when first asked for, copied for each case."""
    folder = tmp_path_factory.mktemp("images")
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = folder / f"{len(made)}.qcow2"
            KINDS[kind](made[kind])
        return made[kind]
    return get


# --- damage ------------------------------------------------------------------


class Image:
    """The bytes of an image and where its tables are."""

    def __init__(self, data):
        self.data = bytearray(data)
        self.cluster = 1 << struct.unpack_from(">I", data, 20)[0]
        self.order = 4
        self.extended = False
        if struct.unpack_from(">I", data, 4)[0] >= 3:
            self.order = struct.unpack_from(">I", data, 96)[0]
            self.extended = bool(self.u64(72) & 16)
        l1_size = struct.unpack_from(">I", data, 36)[0]
        self.l1 = [self.u64(40) + 8 * i for i in range(l1_size)]
        self.tables = self.used(self.l1)
        self.reftable_off = self.u64(48)
        count = struct.unpack_from(">I", data, 56)[0] * self.cluster // 8
        self.reftable = [self.reftable_off + 8 * i for i in range(count)]
        self.blocks = self.used(self.reftable)

    def u64(self, at):
        """Past the end there are zeros."""
        word = bytes(self.data[at:at + 8]).ljust(8, b"\0")
        return struct.unpack(">Q", word)[0]

    def used(self, places):
        return [self.u64(at) & MASK for at in places if self.u64(at) & MASK]

    def put(self, at, value):
        if len(self.data) < at + 8:
            self.data.extend(bytes(at + 8 - len(self.data)))
        struct.pack_into(">Q", self.data, at, value & (1 << 64) - 1)


def damaged_value(rng, image, old):
    """Something that a pointer may turn into."""
    clusters = len(image.data) // image.cluster
    elsewhere = rng.randrange(1, clusters + 2) * image.cluster
    return rng.choice([
        0, old ^ COPIED, old ^ 1, old ^ 512, old ^ COMPRESSED,
        old ^ 1 << rng.randrange(64), elsewhere, elsewhere | COPIED,
        elsewhere | 1, elsewhere | COMPRESSED, old + image.cluster,
        old & ~MASK | (1 << 40), old | 1 << rng.randrange(56, 62)])


def damage_l1(rng, image):
    at = rng.choice(image.l1)
    value = damaged_value(rng, image, image.u64(at))
    # Without an offset but with flags qemu-img takes the header for a table.
    if value & MASK:
        image.put(at, value)


def damage_l2(rng, image):
    table = rng.choice(image.tables)
    step = 16 if image.extended else 8
    slot = rng.choice([rng.randrange(8), rng.randrange(64),
                       rng.randrange(image.cluster // step)])
    at = table + slot % (image.cluster // step) * step
    if image.extended and rng.random() < 0.4:
        old = image.u64(at + 8)
        image.put(at + 8, rng.choice([0, old ^ 1 << rng.randrange(64),
                                      rng.getrandbits(64)]))
        return
    image.put(at, damaged_value(rng, image, image.u64(at)))


def damage_counts(rng, image):
    block = rng.choice(image.blocks)
    used = max(len(image.data) // image.cluster * (1 << image.order) // 8, 1)
    at = block + rng.randrange(min(used, image.cluster)) // 8 * 8
    old = image.u64(at)
    image.put(at, rng.choice([0, old ^ 1 << rng.randrange(64),
                              rng.getrandbits(64), old + 1]))


def damage_reftable(rng, image):
    slot = rng.choice([0, rng.randrange(len(image.reftable))])
    at = image.reftable[slot]
    clusters = len(image.data) // image.cluster
    elsewhere = rng.randrange(clusters) * image.cluster
    image.put(at, rng.choice([0, image.u64(at) ^ 512, image.u64(at) | 1,
                              elsewhere, 1 << 40]))


COUNTS_ONLY = {"counts": damage_counts, "reftable": damage_reftable}
DAMAGES = {**COUNTS_ONLY, "l1": damage_l1, "l2": damage_l2}
WEIGHTS = (4, 2, 2, 8)


def damage(path, rng):
    """Damages the image; returns what kinds of damage it has."""
    image = Image(path.read_bytes())
    done = rng.choices(list(DAMAGES), WEIGHTS, k=rng.choice([1, 1, 1, 2, 3, 5]))
    for name in done:
        if name != "l2" or image.tables:
            DAMAGES[name](rng, image)
    path.write_bytes(image.data)
    return set(done)


# --- the tests ---------------------------------------------------------------


def check(program, path, *args, kind=None):
    """Exit status, figures and findings."""
    name = ["-f", "qcow2", path]
    if kind == "encrypted" and program == "qemu-img":
        name = [*SECRET, "--image-opts", "driver=qcow2,encrypt.key-secret=s,"
                f"file.filename={path}"]
    done = run(program, "check", "--output=json", *args, *name)
    try:
        figures = json.loads(done.stdout)
        del figures["filename"]
    except ValueError:
        figures = None
    return done.returncode, figures, done.stderr.decode()


def guest_hash(path, folder):
    """The guest's bytes, or nothing if some cannot be read."""
    raw = folder / "guest.raw"
    done = run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
    return raw.read_bytes() if done.returncode == 0 else None


def cases():
    return [pytest.param(kind, seed, id=f"{kind}-{seed}")
            for kind in KINDS for seed in range(SEEDS)]


@pytest.mark.parametrize("kind", KINDS)
def test_sound_images_are_clean(images, kind):
    ours = check(platter(), images(kind))
    theirs = check("qemu-img", images(kind), kind=kind)
    assert ours[:2] == theirs[:2]
    assert ours[0] == 0 and ours[2] == ""


@pytest.mark.parametrize("kind,seed", cases())
def test_figures_of_damaged_images_are_the_same(images, tmp_path, kind, seed):
    path = tmp_path / "x.qcow2"
    shutil.copy(images(kind), path)
    damage(path, random.Random(f"{kind} {seed}"))
    before = path.read_bytes()
    ours = check(platter(), path)
    theirs = check("qemu-img", path, kind=kind)
    # Readers ignore this bitmap, so the data is in use, but QEMU's check does
    # not count it.
    if "with subcluster bitmap" not in ours[2]:
        assert ours[:2] == theirs[:2], (ours[2], theirs[2])
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind,seed", cases())
def test_repair_keeps_data_and_satisfies_qemu(images, tmp_path, kind, seed):
    path = tmp_path / "x.qcow2"
    shutil.copy(images(kind), path)
    kinds = damage(path, random.Random(f"{kind} {seed}"))
    readable = kind not in NO_GUEST
    data = guest_hash(path, tmp_path) if readable else None

    status, figures, err = check(platter(), path, "-r", "all")
    assert figures, err
    assert status == check("qemu-img", path, kind=kind)[0], err
    if kinds <= set(COUNTS_ONLY):
        assert status == 0, err
    if data is not None:
        assert guest_hash(path, tmp_path) == data

    if status == 0:
        again = path.read_bytes()
        assert check(platter(), path, "-r", "all")[0] == 0
        assert path.read_bytes() == again

    # Writing does no harm. What shares a cluster now may lose its flag when
    # QEMU writes to one of them, which is why only counts are damaged here;
    # those past the end, which neither program looks at, become leaks.
    if kinds <= set(COUNTS_ONLY) and readable:
        image_io(path, "write -P 0x55 1M 1M", "write -P 0x56 0 64k")
        assert check("qemu-img", path)[0] in (0, 3)
