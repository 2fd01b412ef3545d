#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Records what file systems do to a disk, for crash_traces.

    record.py [ROOT [NAME...]]

A Linux kernel that runs as a process makes a file system, fills it, deletes and
syncs; its dm-log-writes target tells what was written and when it was flushed.
The kernel is Debian's package user-mode-linux, installed or unpacked in ROOT
(/); the files of the host are its root, to read only, and have e2fsprogs,
xfsprogs, btrfs-progs, dmsetup and sqlite3. The result is a trace NAME.trace
beside this script:

    disk 4096      sectors of 512 bytes
    w 64 8         written: first sector, count
    d 64 8         discarded
    f              flushed

A write with FUA is one that a flush follows, as a disk without FUA gets it. The
data do not matter, the test has its own. Parts of the disk which nobody writes,
or only fills with zeros, are cut out, so that very many states of it can be
looked at.
"""

import os
import pathlib
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SECTOR = 512
CHUNK = 64 * 1024  # what is cut out of the disk is whole ones
TIMEOUT_S = 300
LOG_BYTES = 1 << 30  # a sparse file

# An entry of the log is a sector, which its data follow; the superblock is one.
ENTRY = struct.Struct("<QQQQ")
SUPER = struct.Struct("<QQQI")
MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD = 1, 2, 4

# In the guest $disk is the disk, and the file system goes to $at.
FILES = """
    mount -t $type -o $options $disk $at
    mkdir $at/a $at/b
    for i in 1 2 3 4 5 6 7 8; do
        head -c $((i * 3000)) /dev/urandom > $at/a/$i
        [ $((i % 3)) -ne 0 ] || sync -f $at
    done
    for i in 1 3 5 7; do rm $at/a/$i; done
    sync -f $at
    for i in 1 2 3 4; do
        head -c 5000 /dev/urandom > $at/b/$i
        sync $at/b/$i
        head -c 700 /dev/urandom >> $at/a/2
    done
    mv $at/b $at/a/c
    truncate -s 1000 $at/a/8
    sync -f $at
    rm -r $at/a
    fstrim $at || true
    head -c 40000 /dev/urandom > $at/last
    umount $at
"""
DATABASE = """
    mount -t ext4 -o discard $disk $at
    for mode in delete wal; do
        sqlite3 $at/$mode "pragma journal_mode=$mode; create table t(k, v);"
        for i in 1 2 3 4 5 6; do
            sqlite3 $at/$mode "begin; insert into t values($i,
                randomblob(2500)); update t set v = randomblob(900)
                where k % 2 = 1; commit;"
        done
        sqlite3 $at/$mode "delete from t where k < 4; vacuum;"
    done
    rm $at/delete
    umount $at
"""
WORK = {
    "ext4-files": (
        4,
        "mke2fs -q -t ext4 $disk; type=ext4; options=discard" + FILES,
    ),
    "ext4-database": (6, "mke2fs -q -t ext4 $disk" + DATABASE),
    "xfs-files": (
        300,
        "mkfs.xfs -q $disk; type=xfs; options=discard" + FILES,
    ),
    "btrfs-files": (
        32,
        "mkfs.btrfs -q --mixed $disk; type=btrfs; options=discard=sync" + FILES,
    ),
}

INSERT = """
import ctypes, sys
for path in sys.argv[1:]:
    with open(path) as module:
        assert ctypes.CDLL(None).syscall(313, module.fileno(), b"", 0) == 0
"""
INIT = """#!/bin/sh
[ $$ -eq 1 ] || exit 1  # a guest's only
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
work() {{
    set -eux
    mount -t proc proc /proc
    mount -t sysfs sys /sys
    mount -t tmpfs tmpfs /mnt
    /usr/bin/python3 -c '{insert}' {modules}
    at=/mnt/at disk=/dev/dm-0
    mkdir $at
    dmsetup create logged --noudevrules --noudevsync --table \\
        "0 $(cat /sys/block/ubda/size) log-writes /dev/ubda /dev/ubdb"
    {work}
    dmsetup remove --noudevrules --noudevsync logged
    echo "traced: $(uname -sr)"
}}
(work) >/dev/console 2>&1
sync
echo o > /proc/sysrq-trigger
sleep 60
"""


def sparse_file(path, size):
    path.touch()
    os.truncate(path, size)


def run_guest(root, work, size, folder):
    """Returns the log and the name of the kernel."""
    disk, log, init = (folder / name for name in ("disk", "log", "init"))
    sparse_file(disk, size)
    sparse_file(log, LOG_BYTES)
    modules = [
        str(next(root.glob(f"usr/lib/uml/modules/*/kernel/drivers/md/{name}")))
        for name in ("dm-mod.ko", "dm-log-writes.ko")
    ]
    init.write_text(
        INIT.format(insert=INSERT, work=work, modules=" ".join(modules))
    )
    init.chmod(0o755)
    command = [root / "usr/bin/linux.uml", "mem=160M", "root=/dev/root"]
    command += ["rootfstype=hostfs", "ro", f"ubd0={disk}", f"ubd1={log}"]
    command += [f"init={init}", "con=null", "con0=null,fd:1", "quiet"]
    done = subprocess.run(
        command,
        env=os.environ | {"TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT_S,
        check=False,
        text=True,
    )
    for line in done.stdout.splitlines():
        if line.startswith("traced: "):
            return log, line.removeprefix("traced: ")
    sys.exit(f"the guest failed:\n{done.stdout}")


def read_log(path):
    """Yields kind, offset, length, and whether the data are zeros."""
    with open(path, "rb") as log:
        magic, _, count, sector = SUPER.unpack_from(log.read(SECTOR))
        if (magic, sector) != (MAGIC, SECTOR):
            sys.exit("that is no log of writes")
        for _ in range(count):
            first, sectors, flags, _ = ENTRY.unpack_from(log.read(SECTOR))
            off, length = first * SECTOR, sectors * SECTOR
            if flags & FLUSH:
                yield "f", 0, 0, True
            if flags & DISCARD:
                yield "d", off, length, True
            elif length:
                yield "w", off, length, not any(log.read(length))
            if flags & FUA:
                yield "f", 0, 0, True


def chunks_of(off, length):
    return range(off // CHUNK, (off + length - 1) // CHUNK + 1)


def pieces(off, length, places):
    """What is left of a range when chunks are cut out: [first, end], ..."""
    parts = []
    for chunk in chunks_of(off, length):
        if chunk not in places:
            continue
        moved = (places[chunk] - chunk) * CHUNK
        first = max(off, chunk * CHUNK) + moved
        end = min(off + length, (chunk + 1) * CHUNK) + moved
        if parts and parts[-1][1] == first:
            parts[-1][1] = end
        else:
            parts.append([first, end])
    return parts


def trace(ops, kernel, name):
    ops = list(ops)
    kept = sorted(
        {
            chunk
            for kind, off, length, zeros in ops
            if kind == "w" and not zeros
            for chunk in chunks_of(off, length)
        }
    )
    places = {chunk: place for place, chunk in enumerate(kept)}
    yield f"# {name}: {kernel}; see record.py"
    yield f"disk {len(kept) * CHUNK // SECTOR}"
    for kind, off, length, _ in ops:
        if kind == "f":
            yield "f"
            continue
        for first, end in pieces(off, length, places):
            yield f"{kind} {first // SECTOR} {(end - first) // SECTOR}"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "/").resolve()
    for name in sys.argv[2:] or WORK:
        size_mib, work = WORK[name]
        with tempfile.TemporaryDirectory() as folder:
            log, kernel = run_guest(
                root, work, size_mib << 20, pathlib.Path(folder)
            )
            lines = list(trace(read_log(log), kernel, name))
        (HERE / f"{name}.trace").write_text("\n".join(lines) + "\n")
        print(f"{name}: {len(lines) - 2} requests")


if __name__ == "__main__":
    main()
