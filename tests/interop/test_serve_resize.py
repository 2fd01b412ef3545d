# SPDX-License-Identifier: BSD-3-Clause
"""A client that makes the disk of its export larger.

No program offers this to clients yet, nor asks for it: it is an experiment of
the protocol. The requests are made byte by byte; what became of the image is
judged by qemu-img.
"""

import json
import random
import struct

import nbd_server as wire
import pytest
from nbd_server import serving

SIZE = 1 << 20
CONTENT = random.Random(1).randbytes(SIZE)
EINVAL, ENOSPC = 22, 28
SEND_RESIZE = 0x200
MODES = {"simple": 0, "structured": wire.STRUCTURED,
         "extended": wire.EXTENDED}


@pytest.fixture(params=["raw", "qcow2"])
def form(request):
    return request.param


@pytest.fixture
def disk(form, qemu_img, tmp_path):
    (tmp_path / "source.raw").write_bytes(CONTENT)
    qemu_img.good("convert", "-f", "raw", "-O", form, "source.raw", "disk")
    return tmp_path / "disk"


@pytest.fixture
def server(platter_path, form, disk, tmp_path):
    with serving(platter_path, tmp_path, "-f", form, "-e", 1, "--resize",
                 disk) as running:
        yield running


def export_of(replies):
    """size, flags of INFO and GO"""
    for kind, data in replies:
        if kind == wire.INFO_REPLY and data[:2] == b"\0\0":
            return struct.unpack(">QH", data[2:])
    raise AssertionError(replies)


def told(server):
    """What a client hears that has not chosen the export."""
    other = server.connect()
    other.greet()
    found = export_of(other.go(option=wire.INFO))
    other.close()
    return found


def judge(qemu_img, form, disk, content):
    """The image holds this and nothing else, and is sound."""
    info = json.loads(qemu_img.good("info --output=json -f", form, [disk]))
    assert info["virtual-size"] == len(content)
    if form == "qcow2":
        qemu_img.good("check", [disk])
    qemu_img.good("convert", "-f", form, "-O raw", [disk], "out.raw")
    assert (disk.parent / "out.raw").read_bytes() == content


@pytest.mark.parametrize("mode", MODES)
def test_a_disk_grows_and_keeps_what_it_had(server, form, disk, qemu_img,
                                            mode):
    larger, data = 3 * SIZE + 512, b"new" * 1000
    assert told(server)[1] & SEND_RESIZE
    client = server.connect().start(MODES[mode])
    assert client.error_of(wire.WRITE, SIZE, 512, payload=bytes(512),
                           flags=wire.PAYLOAD_LEN if client.extended
                           else 0) == ENOSPC
    assert client.error_of(wire.RESIZE, larger, 0, wire.FUA) == 0
    assert told(server)[0] == larger
    at = larger - len(data)
    assert client.error_of(wire.WRITE, at, len(data), payload=data,
                           flags=wire.PAYLOAD_LEN if client.extended
                           else 0) == 0
    assert client.error_of(wire.FLUSH, 0, 0) == 0
    client.close()
    assert server.stop()[0] == 0
    judge(qemu_img, form, disk,
          CONTENT + bytes(larger - SIZE - len(data)) + data)


def test_what_is_refused_changes_nothing(server, form, disk, qemu_img):
    client = server.connect().start(wire.STRUCTURED)
    for offset, length, flags, error in [
            (SIZE - 512, 0, 0, EINVAL), (0, 0, 0, EINVAL),
            (2 * SIZE, 512, 0, EINVAL), (2 * SIZE, 0, wire.DF, EINVAL),
            (1 << 63, 0, 0, ENOSPC), ((1 << 64) - 512, 0, 0, ENOSPC)]:
        assert client.error_of(wire.RESIZE, offset, length, flags) == error
        assert told(server)[0] == SIZE
    assert client.error_of(wire.RESIZE, SIZE, 0) == 0
    client.close()
    assert server.stop()[0] == 0
    judge(qemu_img, form, disk, CONTENT)


def test_requests_before_and_behind_it_keep_their_bounds(server, form, disk,
                                                         qemu_img):
    """All sent in one piece: the ones in front see the old size. What has to
    be durable is still under way when the size is asked for."""
    client = server.connect().start(wire.STRUCTURED)
    piece, count = 64 << 10, 16
    model = bytearray(CONTENT + bytes(count * piece))
    sent, wanted = b"", []

    def ask(error, *request, flags=0, payload=b""):
        nonlocal sent
        sent += wire.request_bytes(False, *request, flags,
                                   len(wanted)) + payload
        wanted.append(error)

    for i in range(count):
        data = bytes([i + 1]) * piece
        model[i * piece:(i + 1) * piece] = data
        ask(0, wire.WRITE, i * piece, piece, flags=wire.FUA, payload=data)
        ask(ENOSPC, wire.WRITE, SIZE + i * piece, piece, payload=data)
    ask(0, wire.RESIZE, SIZE + count * piece, 0)
    for i in range(count):
        data = bytes([i + 101]) * piece
        model[SIZE + i * piece:SIZE + (i + 1) * piece] = data
        ask(0, wire.WRITE, SIZE + i * piece, piece, payload=data)
    client.send(sent)
    found = {}
    while len(found) < len(wanted):
        cookie, flags, kind, payload = client.chunk()
        assert flags & wire.DONE and cookie not in found
        found[cookie] = (payload if kind is None else
                         struct.unpack(">I", payload[:4])[0]
                         if kind == wire.ERROR else 0)
    assert [found[i] for i in range(len(wanted))] == wanted
    assert client.read(0, len(model)) == model
    client.close()
    assert server.stop()[0] == 0
    judge(qemu_img, form, disk, model)


def test_nobody_resizes_unless_it_is_allowed(platter_path, form, disk,
                                             tmp_path):
    with serving(platter_path, tmp_path, "-f", form, "-e", 1,
                 disk) as server:
        client = server.connect()
        client.greet()
        assert not export_of(client.go())[1] & SEND_RESIZE
        assert client.error_of(wire.RESIZE, 2 * SIZE, 0) == EINVAL
        assert told(server)[0] == SIZE
        client.close()


@pytest.mark.parametrize("words", [["-e", "2"], [], ["-e", "0"],
                                   ["-e", "1", "-r"]], ids=" ".join)
def test_others_may_not_be_surprised(platter, disk, form, words):
    """By a size that is not the one that they were told."""
    said = platter.bad("serve -k sock --resize -f", form, words, [disk])
    assert "has to be writable and have one client only" in said
