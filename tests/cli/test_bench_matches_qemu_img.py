# SPDX-License-Identifier: BSD-3-Clause
"""bench takes the options of qemu-img and says the same, times aside."""

import re

import pytest

TIME = re.compile(r"completed in [0-9.]+ seconds")


def same(twins, args):
    results = twins.both(args)
    for result in results:
        result.out = TIME.sub("completed in TIME", result.out)
    assert results[0] == results[1], args
    return results[0]


@pytest.fixture
def disk(twins):
    twins.setup("img create -q -f qcow2 disk 4M", "img create -q small 1k")
    return twins


@pytest.mark.parametrize("words", [
    "", "-w", "-w --pattern=7", "-d 1", "-d 4 -w --flush-interval=10",
    "-d 64 -w --flush-interval=64 --no-drain", "--no-drain", "-o 64k",
    "-s 64k", "-S 8k", "-s 1k -S 2k", "-o 1M -s 512 -S 4k", "-q", "-t none",
    "-t unsafe", "-i threads", "-U", "-s 0"])
def test_runs(words, disk):
    assert same(disk, f"bench -f qcow2 -c 100 {words} disk").status == 0


@pytest.mark.parametrize("words", [
    "-c x", "-c -1", "-d x", "-s x", "-s 3G", "-S x", "-S 3G", "-o x", "-o -1",
    "--pattern=256 -w", "--pattern=x", "--flush-interval=10",
    "-w --flush-interval=x", "-w --flush-interval=10 -d 64", "-t bad",
    "-i bad", "-s 8M", "-o 5M", "-o 4M", "-U -w", "disk"])
def test_refusals(words, disk):
    assert same(disk, f"bench -f qcow2 -c 100 {words} disk").status == 1


def test_missing_images(disk):
    for words in ("", "missing", "disk disk"):
        assert same(disk, f"bench {words}").status == 1


def test_disk_smaller_than_a_request(disk):
    assert same(disk, "bench -f raw -c 5 small").status == 1


def test_writes_what_it_says(disk):
    disk.ours.good("bench -f qcow2 -w -c 256 -s 4k -o 1M --pattern=9 disk")
    for tool in (disk.ours, disk.theirs):
        tool.good("convert -f qcow2 -O raw disk out.raw")
    content = (disk.ours.cwd / "out.raw").read_bytes()
    assert content == bytes(1 << 20) + b"\x09" * (1 << 20) + bytes(2 << 20)
