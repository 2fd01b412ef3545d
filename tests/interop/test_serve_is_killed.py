# SPDX-License-Identifier: BSD-3-Clause
"""Servers that are killed again and again while clients write: what was
flushed, or written with FUA, is there when the image is served anew.

NBD_KILLS is how often each is killed.
"""

import itertools
import os
import random
import signal
import struct
import threading

import nbd_server as wire
import pytest
from nbd_server import Server

KILLS = int(os.environ.get("NBD_KILLS", "6"))
BLOCKS, BLOCK, CLIENTS, BATCH = 1024, 4096, 4, 16


class Blocks:
    """What those of one client may hold: what is durable, and all that was
    asked for since. A byte stands for the block's content."""

    def __init__(self, number):
        self.mine = range(number, BLOCKS, CLIENTS)
        self.allowed = {block: {0} for block in self.mine}
        self.newest = {}

    def asked(self, block, byte):
        self.allowed[block].add(byte)

    def answered(self, block, byte, fua):
        if fua:
            self.allowed[block] = {byte}
            self.newest.pop(block, None)
        else:
            self.newest[block] = byte

    def flushed(self):
        for block, byte in self.newest.items():
            self.allowed[block] = {byte}
        self.newest = {}

    def judge(self, content):
        """What is there after a kill is what stays."""
        for block in self.mine:
            found = content[block * BLOCK:(block + 1) * BLOCK]
            assert found == found[:1] * BLOCK, block
            assert found[0] in self.allowed[block], (
                block, found[0], self.allowed[block])
            self.allowed[block] = {found[0]}
        self.newest = {}


class Load:
    """Clients that write and flush until the server is gone."""

    def __init__(self, server, all_blocks, rng):
        self.enough = threading.Event()
        self.answers = 0
        self.limit = rng.randrange(100, 1500)
        self.flushes = [0] * CLIENTS
        self.failures = []
        self.threads = [
            threading.Thread(target=self.work, args=(server.connect(), blocks,
                                                     rng.randrange(1 << 30),
                                                     number))
            for number, blocks in enumerate(all_blocks)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        assert self.enough.wait(60)
        return self

    def __exit__(self, *_):
        for thread in self.threads:
            thread.join()
        assert not self.failures

    def work(self, client, blocks, seed, number):
        try:
            client.start()
            rng = random.Random(seed)
            for turn in itertools.count():
                self.write(client, blocks, rng)
                if turn % 3 == 2:
                    client.send_request(wire.FLUSH, 0, 0)
                    assert client.simple_reply()[1] == 0
                    blocks.flushed()
                    self.flushes[number] += 1
        except (EOFError, ConnectionError):
            pass  # the server is gone, as it has to be
        except Exception as failure:
            self.failures.append(failure)
        finally:
            client.close()
            if self.failures:
                self.enough.set()

    def write(self, client, blocks, rng):
        """Several at once, in places that differ."""
        asked, said = [], b""
        for block in rng.sample(blocks.mine, BATCH):
            byte, fua = rng.randrange(1, 256), rng.random() < 0.2
            blocks.asked(block, byte)
            said += wire.request_bytes(False, wire.WRITE, block * BLOCK, BLOCK,
                                       wire.FUA if fua else 0, len(asked))
            said += bytes([byte]) * BLOCK
            asked.append((block, byte, fua))
        client.send(said)
        for _ in asked:
            magic, error, cookie = struct.unpack(">IIQ", client.receive(16))
            assert (magic, error) == (wire.SIMPLE_REPLY, 0)
            blocks.answered(*asked[cookie])
            self.answers += 1
            if self.answers >= self.limit:
                self.enough.set()


IMAGES = {
    "raw": ("raw", []),
    "64k": ("qcow2", ["-o", "cluster_size=64k"]),
    "4k": ("qcow2", ["-o", "cluster_size=4k,lazy_refcounts=on"]),
    "old": ("qcow2", ["-o", "cluster_size=512,compat=0.10"]),
}


@pytest.mark.parametrize("form,options", IMAGES.values(), ids=IMAGES)
def test_durable_writes_outlive_a_kill(form, options, platter, platter_path,
                                       qemu_img, tmp_path):
    rng = random.Random(str(options))
    all_blocks = [Blocks(number) for number in range(CLIENTS)]
    platter.good("create -q -f", form, options, "disk.img",
                 str(BLOCKS * BLOCK))
    flushes = 0
    for _ in range(KILLS):
        server = Server(platter_path, tmp_path, "-f", form, "disk.img")
        with Load(server, all_blocks, rng) as load:
            server.stop(signal.SIGKILL)
        flushes += sum(load.flushes)
        if form == "qcow2":
            check = qemu_img("check -r all disk.img")
            assert check.returncode == 0, check.stdout + check.stderr
        qemu_img.good("convert -f", form, "-O raw disk.img out.raw")
        content = (tmp_path / "out.raw").read_bytes()
        for blocks in all_blocks:
            blocks.judge(content)
    assert flushes > KILLS


def test_what_is_lost_is_noticed():
    """The judge itself: a flushed write, one with FUA, and one of neither."""
    for fua, flush, lost in ((True, False, True), (False, True, True),
                             (False, False, False)):
        blocks = Blocks(0)
        blocks.asked(0, 7)
        blocks.answered(0, 7, fua)
        if flush:
            blocks.flushed()
        if lost:
            with pytest.raises(AssertionError):
                blocks.judge(bytes(BLOCKS * BLOCK))
        else:
            blocks.judge(bytes(BLOCKS * BLOCK))
