# SPDX-License-Identifier: BSD-3-Clause
"""The files that the scenarios start from; all are made once."""

import gzip
import shutil
import struct
import subprocess

from scenarios import DISK, HOLE, KIB, OLD, OTHER, PIECE, SIZE, run


def damage(path, counts):
    """Sets 16-bit counts of clusters in the first refcount block."""
    with open(path, "r+b") as file:
        file.seek(48)
        table = struct.unpack(">Q", file.read(8))[0]
        file.seek(table)
        block = struct.unpack(">Q", file.read(8))[0]
        for cluster, count in counts.items():
            file.seek(block + 2 * cluster)
            file.write(struct.pack(">H", count))


def lose_block(path):
    """No refcount block is found any more."""
    with open(path, "r+b") as file:
        file.seek(48)
        file.seek(struct.unpack(">Q", file.read(8))[0])
        file.write(bytes(8))


def add_extension(path):
    """Puts a header extension that nobody knows in front of the others."""
    with open(path, "r+b") as file:
        file.seek(100)
        start = struct.unpack(">I", file.read(4))[0]
        file.seek(start)
        others = file.read(1024)
        file.seek(start)
        file.write(struct.pack(">II", 0x11223344, 8) + b"whatever" + others)


def make_files(program, folder):
    """Everything that scenarios start from."""
    def good(line):
        done = run(program, line, folder)
        assert done.status == 0, (line, done)

    small = "-O qcow2 -o cluster_size=4k"
    (folder / "src.raw").write_bytes(DISK)
    (folder / "keys.psk").write_text("qemu:4c0ffee5\n")
    (folder / "other.raw").write_bytes(OTHER)
    (folder / "old").write_bytes(OLD)
    good(f"convert -f raw {small} src.raw src.qcow2")
    good(f"convert -f raw {small} other.raw full.qcow2")
    good(f"convert -f raw -c {small} src.raw packed.qcow2")
    good("convert -f raw -c -O qcow2 -o compression_type=zstd src.raw "
         "packed-zstd.qcow2")
    with open(folder / "hole.raw", "wb") as file:
        file.write(HOLE[:64 * KIB])
        file.truncate(len(HOLE))
    good("create -q -f qcow2 -b src.raw -F raw over.qcow2")
    good(["io", "-f", "qcow2", "-c", "write -q -P 7 100k 50k", "over.qcow2"])
    (folder / "folder").mkdir()
    (folder / "folder" / "src.raw").write_bytes(DISK)
    good("create -q -f qcow2 -b folder/src.raw -F raw deep.qcow2")
    good(f"create -q -f qcow2 -o cluster_size=4k,lazy_refcounts=on "
         f"lazy.qcow2 {SIZE}")
    good("create -q -f qcow2 -o cluster_size=512,refcount_bits=64 "
         "dense.qcow2 4M")
    # Its L1 table is long, and mostly empty.
    good("create -q -f qcow2 -o cluster_size=512 wide.qcow2 160M")
    good(["io", "-f", "qcow2", "-c", "write -q 0 64k", "wide.qcow2"])
    (folder / "src.raw.gz").write_bytes(gzip.compress(DISK, 1))
    for tool, name in (("zstd", "src.raw.zst"), ("lz4", "src.raw.lz4")):
        subprocess.run([tool, "-q", "-f", "src.raw", *(
            ("-o", name) if tool == "zstd" else (name,))], cwd=folder,
                       check=True, stdin=subprocess.DEVNULL)
    (folder / "piece").write_bytes(PIECE)
    (folder / "keys.psk").write_text("qemu:00112233445566778899aabbccddeeff\n")
    shutil.copy(folder / "src.qcow2", folder / "snap.qcow2")
    shutil.copy(folder / "src.qcow2", folder / "marked.qcow2")
    for line in ("snapshot -c one snap.qcow2", "bitmap --add marked.qcow2 b"):
        subprocess.run(["qemu-img", *line.split()], cwd=folder, check=True)
    shutil.copy(folder / "src.qcow2", folder / "extended.qcow2")
    add_extension(folder / "extended.qcow2")
    end = len((folder / "src.qcow2").read_bytes()) // (4 * KIB)
    for name, counts in (("leaky", {end + 3: 1, end + 9: 2, 20: 2}),
                         ("broken", {end + 3: 1, 20: 0, 30: 0, 33: 5})):
        path = folder / f"{name}.qcow2"
        shutil.copy(folder / "src.qcow2", path)
        with open(path, "ab") as file:
            file.write(bytes(64 * KIB))
        damage(path, counts)
    shutil.copy(folder / "snap.qcow2", folder / "shared.qcow2")
    damage(folder / "shared.qcow2", {30: 9})
    shutil.copy(folder / "src.qcow2", folder / "lost.qcow2")
    lose_block(folder / "lost.qcow2")
