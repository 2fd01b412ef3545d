# SPDX-License-Identifier: BSD-3-Clause
"""io answers as qemu-io does: texts on both streams, and the exit status.

Only speeds differ. Both programs run the same commands on images of like
content, one process for each command where order on two streams matters.
"""

import re

import pytest

SPEED = re.compile(r"\([^()]*/sec and [0-9.]* ops/sec\)")
TIME = re.compile(r"[0-9]+:?[0-9:]*\.[0-9]{2}( sec)?(?=[ ,])")
COMPACT = re.compile(r"^([0-9]+,1),.*$", re.MULTILINE)


def normal(text):
    text = COMPACT.sub(r"\1,SPEED", SPEED.sub("SPEED", text))
    return TIME.sub("TIME", text)


class Pair:
    """qemu-io and ours, each in a folder of its own."""

    def __init__(self, links, twins):
        runner = type(twins.ours)
        self.ours = runner(links / "qemu-io", twins.ours.cwd)
        self.theirs = runner(twins.their_io, twins.theirs.cwd)
        self.setup = twins.setup

    def same(self, args, **more):
        results = [runner(args, **more) for runner in (self.ours, self.theirs)]
        for result in results:
            result.out = normal(result.out)
            result.err = normal(result.err)
        assert results[0] == results[1], args
        return results[0]

    def same_commands(self, lines, name="disk"):
        for line in lines:
            self.same(["-c", line, "-f", name.split(".")[-1], name])


@pytest.fixture
def pair(links, twins):
    twins.setup("img create -q -f qcow2 disk.qcow2 1M",
                "img create -q -f raw disk.raw 1M")
    return Pair(links, twins)


READS = [
    "read 0 64k", "r 0 1", "read -q 0 512", "read -C 0 512", "read -p 0 1",
    "read -P 1 0 64k", "read -P 1 -q 0 64k", "read -v 512 20",
    "read -v 1020 40", "read -v -q 0 20", "read -v -C 0 3",
    "read -P 0xcd 0 64k", "read -P 1 -s 1 0 4", "read -P 0 -s 0 -l 1 0 4",
    "read -P 0 -l 5 0 4", "read -P 0 -s 5 0 4", "read -P 0 -s 2 -l 3 0 4",
    "read -s 1 0 4", "read -l 1 0 4", "read -P 0 -s x 0 4",
    "read -P 0 -l x 0 4", "read -P 0 -l -1 0 4", "read -P 0 -s 3G 0 4",
    "read -P x 0 1", "read -P", "read", "read 0", "read 0 1 2", "read -y 0 1",
    "read 1M 1", "read 1M 0", "read 0 2G", "read 0 x", "read x 0",
    "read 99999999999999999999 1", "read 8E 1", "read 7E 1", "read 0.5 1",
    "read 1kb 5", "read +1 1", "read 010 010", "read 0x200 0x10",
    "read 1.5k 1.5k", "readv 0 512 1k", "readv -P 3 0 512 1k",
    "readv -v 0 3 5", "readv 0", "readv 0 x", "readv x 0", "readv 0 1G 1G",
    "readv 0 3G", "readv 1M 5 5", "readv -C 0 5", "readv 0 -5",
    "readv -P x 0 5", "readv -p 0 5",
]

WRITES = [
    "write 0 64k", "w 0 1", "write -P 0xab 1k 64k", "write -q 0 512",
    "write -C 0 512", "write -z 0 64k", "write -z -u 0 64k", "write -f 0 512",
    "write -p 0 512", "write 0 0", "write -u 0 64k", "write -z -P 3 0 64k",
    "write -n 0 64k", "write -z -n 0 64k", "write -c -f 0 64k",
    "write -b -z 0 512", "write -b -f 0 512", "write -P 256 0 1",
    "write -P -1 0 1", "write -P x 0 1", "write -P 0x1ff 0 1",
    "write -P 010 0 1", "write -P1 0 1k", "write  -P  1   0    1k",
    "write -x 0 1", "write -P", "write", "write 0", "write 0 1 2",
    "write 1M 1", "write 2M 1", "write 0 -1", "write -1 5", "write 0 2G",
    "write 0 3G", "write -z 0 3G", "write z 1", "write 0 z",
    "write -s source 0 4k", "write -s missing 0 4k", "write -s empty 0 4k",
    "write -z -s source 0 4k", "write -P 1 -s source 0 4k",
    "writev 0 512 1k", "writev -P 3 0 512 1k", "writev x 5",
    "writev 1M 5 5", "writev -q 0 5", "writev -z 0 5", "writev -f 0 5",
    "writev -P 999 0 5", "discard 0 64k", "d 0 63k", "discard -C 0 64k",
    "discard -q 0 64k", "discard 0 2M", "discard x 1", "discard -1 1",
    "discard 0 x", "discard 0 3G", "discard 1 0", "discard", "discard 1",
    "discard 1 2 3",
]

OTHERS = [
    "length", "l", "length 1", "flush", "f", "flush 1", "map", "map 1",
    "alloc 0", "a 0 1024", "a 100", "a 0 100", "a 0 1M", "a 1M", "a 1M 1",
    "a 2M", "a x", "a 0 x", "a -1", "a 0 3G", "a 0 -5", "a 1023k 3k",
    "alloc", "alloc 0 1 2", "truncate", "truncate x",
    "truncate -m bad 4M", "truncate -1", "info 1", "close", "close 1", "quit",
    "q", "quit 1", "help a b", "help nosuch", "help close", "help length",
    "help map", "sleep", "sleep x", "sleep 1", "sleep -1", "sleep 1 2",
    "nosuch", "", "   ", "reopen -r -w", "reopen x", "reopen -z",
    "reopen -c bad", "open disk.raw", "open -z disk.raw", "open", "open a b",
    "aio_flush 1", "aio_write -u 0 64k", "aio_write -z 0 5 5", "aio_read 0",
    "aio_read 0 x", "aio_read x 5", "aio_read -i 0 5", "aio_write -i 0 5",
    "aio_write -b 0 5",
]

PACKED = [
    "write -c 0 64k", "write -c 0 64k", "write -c 128k 32k",
    "write -c 192k 128k", "write -c 1000k 24k", "write -c 960k 64k", "map",
]


@pytest.mark.parametrize("name", ["disk.qcow2", "disk.raw"])
def test_reads(pair, name):
    pair.same_commands(["write -q -P 1 1k 100k"] + READS, name)


@pytest.mark.parametrize("name", ["disk.qcow2", "disk.raw"])
def test_writes(pair, name):
    for runner in (pair.ours, pair.theirs):
        (runner.cwd / "source").write_bytes(b"abc")
        (runner.cwd / "empty").touch()
    for line in WRITES:
        pair.same_commands([line], name)
    pair.same_commands(["read -v 0 4k", "read -v 60k 10k"], name)


@pytest.mark.parametrize("name", ["disk.qcow2", "disk.raw"])
def test_other_commands(pair, name):
    pair.same_commands(["write -q 64k 100k"] + OTHERS, name)


@pytest.mark.parametrize("name", ["disk.qcow2", "disk.raw"])
def test_packed_writes(pair, name):
    pair.same_commands(PACKED, name)


@pytest.mark.parametrize("name", ["disk.qcow2", "disk.raw"])
def test_truncate(pair, name):
    for size in ("1536k", "1000k", "7M", "0", "1G"):
        pair.same(["-c", f"truncate {size}", "-c", "length", "-c", "map",
                   "-f", name.split(".")[-1], name])


def test_maps_of_a_chain(pair):
    pair.same_commands(["write -q 64k 100k"], "disk.qcow2")
    pair.setup("img create -q -f qcow2 -b disk.qcow2 -F qcow2 top.qcow2")
    pair.same_commands(["map", "a 0 1M", "write -q -z 0 64k", "map",
                        "discard -q 64k 64k", "map", "write -q 300k 1k",
                        "a 0 1M"], "top.qcow2")


def test_read_only_images(pair):
    for line in ("write 0 1", "writev 0 1", "write -z 0 64k", "discard 0 64k",
                 "truncate 2M", "flush", "read 0 1", "aio_write 0 1"):
        pair.same(["-r", "-c", line, "disk.qcow2"])


def test_options(pair):
    for words in (["-t", "bad"], ["-d", "bad"], ["-i", "bad"],
                  ["--cache=none"], ["-n"], ["-t", "unsafe"], ["-m"],
                  ["-d", "unmap"], ["-i", "threads"], ["-U"], ["-U", "-r"]):
        pair.same(words + ["-c", "length", "disk.qcow2"])
    pair.same(["-c", "length", "missing"])
    pair.same(["-c", "length", "--image-opts",
               "driver=qcow2,file.filename=disk.qcow2"])
    pair.same(["-c", "length", "disk.raw"])
    pair.same(["-r", "-c", "length", "disk.raw"])


def test_open_and_close(pair):
    for lines in (["length"], ["close", "length"],
                  ["open disk.qcow2", "length", "open disk.qcow2"],
                  ["open -r disk.qcow2", "write 0 1"],
                  ["open -o driver=raw disk.qcow2", "alloc 0"],
                  ["open -o driver=qcow2,file.filename=disk.qcow2", "length"],
                  ["open -t none disk.qcow2", "read 0 1"],
                  ["open missing"], ["open -t bad disk.qcow2"],
                  ["open -d bad disk.qcow2"], ["quit", "nosuch"]):
        pair.same([word for line in lines for word in ("-c", line)])


def test_reopen(pair):
    for lines in (["reopen -r", "write 0 1"],
                  ["reopen -r", "reopen -w", "write 0 1"],
                  ["reopen", "reopen -c none", "read 0 512"],
                  ["reopen -o lazy-refcounts=on", "write 0 1"]):
        pair.same([word for line in lines for word in ("-c", line)]
                  + ["disk.qcow2"])


@pytest.mark.parametrize("text", [
    "length\n", "length", "", "nosuch\nlength\n", "q\nlength\n",
    "\n\n  length\n", "write 0 z\nread 1M 5", "read -q 0 5\n"])
def test_lines_from_stdin(pair, text):
    pair.same(["disk.qcow2"], input=text.encode())


def test_requests_on_threads(pair):
    lines = ["aio_write -P 3 0 512 512", "aio_flush", "aio_read -P 3 0 1k",
             "aio_flush", "aio_read -P 4 0 1k", "aio_flush", "aio_read 1M 5",
             "aio_flush", "aio_write 1M 5", "aio_flush"]
    pair.same([word for line in lines for word in ("-c", line)]
              + ["disk.qcow2"])


def test_many_requests_on_threads(platter, tmp_path):
    """More than run at once; closing waits for them."""
    platter.good("create -q -f qcow2 disk 4M")
    lines = [f"aio_write -q -P {i % 250 + 1} {i * 8192} 8192"
             for i in range(512)]
    platter.good(["io"] + [w for line in lines for w in ("-c", line)]
                 + ["disk"])
    checks = [f"read -q -P {i % 250 + 1} {i * 8192} 8192" for i in range(512)]
    platter.good(["io", "-r"] + [w for line in checks for w in ("-c", line)]
                 + ["disk"])


def test_long_requests_are_done_in_pieces(platter, tmp_path):
    platter.good("create -q -f qcow2 disk 1G")
    platter.good(["io", "-c", "write -P 7 1k 100M", "-c",
                  "read -P 7 -s 5 1k 100M", "disk"])
    result = platter(["io", "-c", "write -q -P 8 90M 1", "-c",
                      "read -P 7 1k 100M", "disk"])
    assert result.status == 1
    assert result.out.startswith(
        "Pattern verification failed at offset 1024, 104857600 bytes\n")


def test_temporary_snapshots_are_refused(platter):
    platter.good("create -q -f qcow2 disk 1M")
    result = platter("io -s -c 'write 0 1k' disk")
    assert result.status == 1 and "snapshot" in result.err
    platter.good("io -c 'read -P 0 0 1M' disk")
