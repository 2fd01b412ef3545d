# SPDX-License-Identifier: BSD-3-Clause
"""platter and QEMU keep out of each other's way on one image."""

import contextlib

import pytest
from tools import commands

LOCKED = "Is another process using the image"


@pytest.fixture
def disk(platter):
    platter.good("create -q -f qcow2 disk 1M")
    platter.good("create -q -f qcow2 -b disk -F qcow2 overlay")


@contextlib.contextmanager
def holding(tool, *args):
    """The tool has the image open until the block ends."""
    process = tool.start(*args)
    process.stdin.write("length\n")
    process.stdin.flush()
    # The answer shows that the image is open.
    answer = process.stdout.readline()
    assert "MiB" in answer
    try:
        yield process
    finally:
        if process.poll() is None:
            process.communicate("quit\n", timeout=60)
        process.stdout.close()


@pytest.fixture(params=["qemu", "platter"])
def sides(request, platter_io, qemu_io):
    """Who holds the image, and who comes second."""
    if request.param == "qemu":
        return qemu_io, platter_io
    return platter_io, qemu_io


def test_writer_keeps_writer_out(disk, sides):
    first, second = sides
    with holding(first, "disk"):
        assert LOCKED in second.bad(commands(["write 0 1k"]), "disk")
    second.good(commands(["write 0 1k"]), "disk")


def test_writer_keeps_reader_out(disk, sides):
    first, second = sides
    with holding(first, "disk"):
        assert LOCKED in second.bad(commands(["read 0 1k"]), "-r disk")
        second.good(commands(["read 0 1k"]), "-r -U disk")


def test_reader_keeps_writer_out(disk, sides):
    first, second = sides
    with holding(first, "-r disk"):
        assert LOCKED in second.bad(commands(["write 0 1k"]), "disk")


def test_readers_share(disk, sides):
    first, second = sides
    with holding(first, "-r disk"):
        second.good(commands(["read 0 1k"]), "-r disk")


def test_base_in_use_is_not_written(disk, sides):
    first, second = sides
    with holding(first, "overlay"):
        assert LOCKED in second.bad(commands(["write 0 1k"]), "disk")
        second.good(commands(["read 0 1k"]), "-r disk")


def test_base_being_written_is_not_read(disk, sides):
    first, second = sides
    with holding(first, "disk"):
        assert LOCKED in second.bad(commands(["read 0 1k"]), "-r overlay")


def test_bases_are_shared(disk, sides, platter):
    platter.good("create -q -f qcow2 -b disk -F qcow2 other")
    first, second = sides
    with holding(first, "overlay"):
        second.good(commands(["write 0 1k"]), "other")


@pytest.mark.parametrize("words", [
    "check -r all disk", "resize disk 2M", "convert -n -O qcow2 overlay disk",
    "compare disk overlay", "info disk", "check disk", "map disk"])
def test_commands_respect_qemu(words, disk, platter, qemu_io):
    with holding(qemu_io, "disk"):
        done = platter(words)
    assert done.returncode in (1, 2) and LOCKED in done.stderr


@pytest.mark.parametrize("words", ["info -U disk", "check -U disk",
                                   "map -U disk", "info -U --backing-chain "
                                   "overlay"])
def test_shared_look_is_possible(words, disk, platter, qemu_io):
    with holding(qemu_io, "disk"):
        platter.good(words)


def test_killed_holder_leaves_no_lock(disk, sides):
    first, second = sides
    with holding(first, "disk") as process:
        process.kill()
        process.wait(timeout=60)
        process.stdin.close()
        second.good(commands(["write 0 1k"]), "disk")
