# SPDX-License-Identifier: BSD-3-Clause
"""On a file system that can, convert shares extents rather than copying them.

What is shared is found by asking the file system how much space is left.
"""

import os
import random
import subprocess

import pytest
from conftest import Runner, require

MIB = 1 << 20
FILE_SYSTEM = 512 * MIB
SIZE = 32 * MIB
# Metadata of the target and of the file system.
LITTLE = 4 * MIB


def run_tool(*args):
    done = subprocess.run(args, capture_output=True, check=False)
    return done.returncode, done.stderr.decode().strip()


@pytest.fixture(scope="module")
def xfs(tmp_path_factory):
    """A folder on a new XFS, which has reflinks."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder = tmp_path_factory.mktemp("xfs")
    with open(folder / "disk", "wb") as file:
        file.truncate(FILE_SYSTEM)
    mkfs, mount, umount = map(require, ("mkfs.xfs", "mount", "umount"))
    status, said = run_tool(mkfs, "-q", "-m", "reflink=1", folder / "disk")
    assert status == 0, said
    (folder / "top").mkdir()
    status, said = run_tool(mount, "-o", "loop", folder / "disk",
                            folder / "top")
    if status:
        pytest.skip(f"cannot mount XFS: {said}")
    yield folder / "top"
    status, said = run_tool(umount, folder / "top")
    assert status == 0, said


@pytest.fixture
def here(xfs, platter_path):
    """Runs platter on the XFS, with a source of noise and holes."""
    for path in xfs.iterdir():
        path.unlink()
    content = bytearray(random.Random(1).randbytes(SIZE))
    content[8 * MIB:16 * MIB] = bytes(8 * MIB)
    with open(xfs / "in.raw", "wb") as file:
        file.truncate(SIZE)
        for at in range(0, SIZE, MIB):
            if any(content[at:at + MIB]):
                file.seek(at)
                file.write(content[at:at + MIB])
        os.fsync(file.fileno())
    runner = Runner(platter_path, xfs)
    runner.content = bytes(content)
    return runner


def used(folder):
    """Bytes of the whole file system that are in use now."""
    os.sync()
    st = os.statvfs(folder)
    return (st.f_blocks - st.f_bfree) * st.f_frsize


def content_of(here, name, image_format):
    here.good(f"convert -f {image_format} -O raw -S 0 {name} check.raw")
    content = (here.cwd / "check.raw").read_bytes()
    (here.cwd / "check.raw").unlink()
    return content


def overwrite(path):
    with open(path, "r+b") as file:
        file.write(b"\xee" * SIZE)
        os.fsync(file.fileno())


SHARED = {
    "raw": "-f raw -O raw",
    "qcow2": "-f raw -O qcow2",
    "qcow2 of small clusters": "-f raw -O qcow2 -o cluster_size=4k",
    "one thread": "-f raw -O qcow2 -m 1",
    "many threads": "-f raw -O qcow2 -m 8",
}


@pytest.mark.parametrize("args", SHARED.values(), ids=SHARED)
def test_takes_no_space_and_stays_when_the_source_changes(here, args):
    before = used(here.cwd)
    here.good(f"convert {args} in.raw out")
    assert used(here.cwd) - before < LITTLE
    target = args.split()[3]
    if target == "qcow2":
        here.good("check -q -f qcow2 out")
    assert content_of(here, "out", target) == here.content

    overwrite(here.cwd / "in.raw")
    assert used(here.cwd) - before > SIZE // 2
    assert content_of(here, "out", target) == here.content


def test_writing_to_the_target_leaves_the_source(here):
    here.good("convert -f raw -O raw in.raw out")
    overwrite(here.cwd / "out")
    assert (here.cwd / "in.raw").read_bytes() == here.content


def test_a_qcow2_source_is_shared_too(here):
    here.good("convert -f raw -O qcow2 in.raw middle.qcow2")
    before = used(here.cwd)
    here.good("convert -f qcow2 -O raw middle.qcow2 out.raw")
    assert used(here.cwd) - before < LITTLE
    assert (here.cwd / "out.raw").read_bytes() == here.content


def punched(path, at, length):
    """Makes a hole."""
    status, said = run_tool(require("fallocate"), "-p", "-o", str(at), "-l",
                            str(length), path)
    assert status == 0, said


@pytest.mark.parametrize("target", ("raw", "qcow2"))
def test_small_holes_are_shared_with_what_is_around_them(here, target):
    content = bytearray(here.content)
    for at in range(0, SIZE, 256 << 10):
        for start, length in ((4 << 10, 8 << 10), (60 << 10, 8 << 10),
                              (200 << 10, 52 << 10)):
            punched(here.cwd / "in.raw", at + start, length)
            content[at + start:at + start + length] = bytes(length)
    before = used(here.cwd)
    here.good(f"convert -f raw -O {target} in.raw out")
    assert used(here.cwd) - before < LITTLE
    assert content_of(here, "out", target) == content


def test_a_zero_cluster_hides_what_lies_at_its_place(here):
    """Host clusters in a row, some of which the guest has zeroed since."""
    here.good("create -q -f qcow2 -o cluster_size=4k in.qcow2 1M")
    here.good("io -c 'write -P 0x77 0 1M' in.qcow2")
    expected = bytearray(b"\x77" * MIB)
    for at in range(8192, MIB, 32768):
        here.good(f"io -c 'write -z {at} 4096' in.qcow2")
        expected[at:at + 4096] = bytes(4096)
    here.good("convert -f qcow2 -O raw in.qcow2 out.raw")
    assert (here.cwd / "out.raw").read_bytes() == expected


def test_runs_that_change_places_within_a_block(here):
    """The guest's order and the file's differ, in pieces of every size."""
    dice = random.Random(7)
    here.good("create -q -f qcow2 -o cluster_size=4k in.qcow2 4M")
    order = []
    for at in range(0, 4 * MIB, 4096):
        if dice.random() < 0.05:
            order.append(at)
    cuts = [0] + order + [4 * MIB]
    ranges = [(a, b - a) for a, b in zip(cuts, cuts[1:]) if b > a]
    dice.shuffle(ranges)
    expected = bytearray(4 * MIB)
    words = []
    for n, (at, length) in enumerate(ranges):
        if n % 7 == 6:
            continue
        words.append(f"-c 'write -P {n % 255 + 1} {at} {length}'")
        expected[at:at + length] = bytes([n % 255 + 1]) * length
    here.good("io " + " ".join(words) + " in.qcow2")
    for target in ("raw", "qcow2", "qcow2 -o cluster_size=4k",
                   "qcow2 -o cluster_size=512k"):
        here.good(f"convert -f qcow2 -O {target} in.qcow2 out")
        assert content_of(here, "out", target.split()[0]) == expected


@pytest.mark.parametrize("head", (512, 3584))
def test_what_is_not_aligned_is_copied(here, head):
    """Sources behind each other: the second one lies at an odd place."""
    (here.cwd / "head.raw").write_bytes(b"h" * head)
    here.good("convert -f raw -O raw head.raw in.raw out")
    assert (here.cwd / "out").read_bytes() == b"h" * head + here.content


def test_the_odd_end_of_a_disk(here):
    """The last block is shared, the rest of its cluster reads as zeros."""
    odd = SIZE - 24 * 512 - 512
    os.truncate(here.cwd / "in.raw", odd)
    here.good("convert -f raw -O qcow2 in.raw out")
    here.good("check -q -f qcow2 out")
    here.good(f"resize -q -f qcow2 out {SIZE}")
    expected = here.content[:odd] + bytes(SIZE - odd)
    assert content_of(here, "out", "qcow2") == expected


@pytest.mark.parametrize("args", ("-c", "--hash", "-S 4k"))
def test_what_has_to_be_looked_at_is_copied(here, args):
    before = used(here.cwd)
    here.good(f"convert {args} -f raw -O qcow2 in.raw out")
    assert used(here.cwd) - before > SIZE // 2
    assert content_of(here, "out", "qcow2") == here.content
