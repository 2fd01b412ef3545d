# SPDX-License-Identifier: BSD-3-Clause
"""Requests: what each does, what is refused and how, in all reply modes."""

import itertools
import random
import struct

import nbd_server as wire
import pytest
from nbd_server import serving

SIZE = (1 << 20) + 512
CONTENT = random.Random(1).randbytes(SIZE)
EPERM, EINVAL, ENOSPC, EOVERFLOW = 1, 22, 28, 75


@pytest.fixture
def server(platter_path, tmp_path):
    (tmp_path / "disk.raw").write_bytes(CONTENT)
    with serving(platter_path, tmp_path, "-f", "raw", "disk.raw") as running:
        yield running


@pytest.fixture
def disk(tmp_path):
    return lambda: (tmp_path / "disk.raw").read_bytes()


MODES = {"simple": 0, "structured": wire.STRUCTURED,
         "extended": wire.EXTENDED}


@pytest.fixture(params=MODES)
def client(server, request):
    found = server.connect().start(MODES[request.param])
    yield found
    found.close()


@pytest.fixture
def chunky(server):
    found = server.connect().start(wire.STRUCTURED, b"base:allocation")
    yield found
    found.close()


def read(client, offset, length):
    if client.mode_is_simple:
        client.send_request(wire.READ, offset, length)
        return client.simple_reply(length)[2]
    return client.read(offset, length)


@pytest.fixture(autouse=True)
def mark_mode(request):
    if "client" in request.fixturenames:
        found = request.getfixturevalue("client")
        found.mode_is_simple = request.node.callspec.params["client"] == (
            "simple")


def test_any_offset_and_length(client):
    rng = random.Random(2)
    for _ in range(200):
        offset = rng.randrange(SIZE)
        length = rng.randint(1, min(SIZE - offset,
                                    rng.choice((1, 600, 70000, SIZE))))
        assert read(client, offset, length) == CONTENT[offset:offset + length]


def test_writes_are_exact_to_the_byte(client, disk):
    rng = random.Random(3)
    model = bytearray(CONTENT)
    for _ in range(150):
        offset = rng.randrange(SIZE)
        length = rng.randint(1, min(SIZE - offset,
                                    rng.choice((1, 600, 300000))))
        data = rng.randbytes(length)
        flags = rng.choice((0, 0, 0, wire.FUA))
        if client.extended:
            flags |= wire.PAYLOAD_LEN
        client.send_request(wire.WRITE, offset, length, flags, data)
        assert client.chunk()[3] in (0, b"")
        model[offset:offset + length] = data
    assert read(client, 0, SIZE) == model
    assert disk() == model


def test_zeroes_and_trims(client, disk):
    model = bytearray(CONTENT)
    for flags, (offset, length) in itertools.product(
            (0, wire.NO_HOLE, wire.FAST_ZERO, wire.FUA | wire.NO_HOLE),
            ((5, 1), (4096, 8192), (100000, 123457), (SIZE - 10, 10))):
        client.send_request(wire.ZEROES, offset, length, flags)
        assert client.chunk()[3] in (0, b"")
        model[offset:offset + length] = bytes(length)
    assert read(client, 0, SIZE) == model
    client.send_request(wire.TRIM, 300000, 100000, wire.FUA)
    assert client.chunk()[3] in (0, b"")
    assert disk()[:300000] == model[:300000]
    assert disk()[400000:] == model[400000:]
    for command in (wire.FLUSH, wire.CACHE):
        client.send_request(command, 0, 0)
        assert client.chunk()[3] in (0, b"")


def test_no_length_is_no_error(client, disk):
    for command in (wire.READ, wire.WRITE, wire.TRIM, wire.ZEROES, wire.CACHE):
        for offset in (0, 77, SIZE):
            assert client.error_of(command, offset, 0) == 0
    assert disk() == CONTENT


@pytest.mark.parametrize("offset,length", [
    (SIZE, 1), (SIZE - 1, 2), (0, SIZE + 1), (1 << 63, 1),
    ((1 << 64) - 1, 1), ((1 << 64) - 1, 2), ((1 << 64) - 4096, 8192)])
def test_past_the_end(client, disk, offset, length):
    for command, error in ((wire.READ, EINVAL), (wire.TRIM, EINVAL),
                           (wire.CACHE, EINVAL), (wire.ZEROES, ENOSPC)):
        assert client.error_of(command, offset, length) == error
    assert client.error_of(wire.WRITE, offset, length,
                           payload=bytes(length)) == ENOSPC
    assert disk() == CONTENT


def test_flags_and_commands_that_do_not_exist(client, disk):
    allowed = {wire.READ: {wire.FUA}, wire.WRITE: {wire.FUA},
               wire.FLUSH: {wire.FUA}, wire.TRIM: {wire.FUA},
               wire.CACHE: {wire.FUA},
               wire.ZEROES: {wire.FUA, wire.NO_HOLE, wire.FAST_ZERO}}
    if not client.mode_is_simple:
        allowed[wire.READ].add(wire.DF)
    for command, bit in itertools.product(allowed, range(16)):
        flag = 1 << bit
        if flag in allowed[command] or flag == wire.PAYLOAD_LEN:
            continue
        payload = b"x" * 512 if command == wire.WRITE else b""
        assert client.error_of(command, 0, 512, flag, payload) == EINVAL, (
            command, flag)
    for command in (8, 9, 255, 65535):
        assert client.error_of(command, 0, 512) == EINVAL
    assert client.error_of(wire.STATUS, 0, 512) == EINVAL
    assert disk() == CONTENT


def test_a_refused_payload_is_no_request(client, disk):
    """The payload of a refused write is a valid trim: nothing is trimmed."""
    head = ">IHHQQQ" if client.extended else ">IHHQQI"
    magic = 0x21e41c71 if client.extended else 0x25609513
    trim = struct.pack(head, magic, 0, wire.TRIM, 9, 0, SIZE)
    zero = struct.pack(head, magic, 0, wire.ZEROES, 9, 0, SIZE)
    payload = (trim + zero) * 100
    assert client.error_of(wire.WRITE, SIZE, len(payload),
                           payload=payload) == ENOSPC
    assert client.error_of(wire.WRITE, 0, len(payload), 0x8000,
                           payload) == EINVAL
    assert client.error_of(wire.FLUSH, 0, 0) == 0
    assert disk() == CONTENT


def test_cookies_come_back_as_they_are(client):
    cookies = [0, 1, (1 << 64) - 1, 0x6e8a278c67446698, 1]
    for cookie in cookies:
        client.send_request(wire.READ, 0, 0, cookie=cookie)
    assert [client.chunk()[0] for _ in cookies] == cookies


@pytest.mark.parametrize("bad", [0, 0x67446698, 0x12560953, 0xffffffff])
def test_a_wrong_magic_ends_it(server, client, bad):
    client.send(struct.pack(">I", bad) + bytes(28))
    assert client.at_end()
    assert server.connect().start().error_of(wire.FLUSH, 0, 0) == 0


def test_too_large_a_write_ends_it(server, client):
    client.send_request(wire.WRITE, 0, (32 << 20) + 1)
    assert client.at_end()
    assert server.connect().start().error_of(wire.FLUSH, 0, 0) == 0


def test_largest_payloads(platter_path, tmp_path):
    (tmp_path / "big.raw").write_bytes(bytes(40 << 20))
    data = random.Random(4).randbytes(1 << 20) * 32
    with serving(platter_path, tmp_path, "-f", "raw", "big.raw") as server:
        client = server.connect().start(wire.STRUCTURED)
        assert client.error_of(wire.WRITE, 4097, len(data), 0, data) == 0
        assert client.read(4097, len(data)) == data
        assert client.error_of(wire.READ, 0, (32 << 20) + 1) == EOVERFLOW
        client.send_request(wire.DISC, 0, 0)
        assert client.at_end()


def test_a_disconnect_finishes_what_came_before(server, disk):
    client = server.connect().start()
    for n in range(100):
        client.send_request(wire.WRITE, n * 512, 512, 0, bytes([n]) * 512)
    client.send_request(wire.DISC, 0, 0)
    for _ in range(100):
        assert client.simple_reply()[1] == 0
    assert client.at_end()
    assert disk()[:51200] == b"".join(bytes([n]) * 512 for n in range(100))


def test_a_write_cut_short_is_not_written(server, disk):
    for length in (512, 300000):
        client = server.connect().start()
        client.send_request(wire.WRITE, 0, length, 0, b"x" * (length - 1))
        client.close()
    assert server.connect().start().error_of(wire.FLUSH, 0, 0) == 0
    assert disk() == CONTENT


def test_an_odd_file_ends_in_zeros(platter_path, tmp_path):
    """Disks are whole sectors, as with qemu-nbd."""
    (tmp_path / "odd.raw").write_bytes(CONTENT[:1000])
    with serving(platter_path, tmp_path, "-f", "raw", "odd.raw") as server:
        client = server.connect().start(wire.STRUCTURED)
        assert client.read(0, 1024) == CONTENT[:1000] + bytes(24)
        assert client.error_of(wire.READ, 1023, 2) == EINVAL
        assert client.error_of(wire.WRITE, 990, 34, 0, b"x" * 34) == 0
        assert client.read(980, 44) == CONTENT[980:990] + b"x" * 34
        client.close()


# --- read-only ---------------------------------------------------------------


def test_read_only(platter_path, tmp_path):
    (tmp_path / "disk.raw").write_bytes(CONTENT)
    with serving(platter_path, tmp_path, "-r", "-f", "raw",
                 "disk.raw") as server:
        client = server.connect().start(wire.STRUCTURED)
        for command in (wire.TRIM, wire.ZEROES):
            assert client.error_of(command, 0, 512) == EPERM
        assert client.error_of(wire.WRITE, 0, 512, 0, bytes(512)) == EPERM
        assert client.error_of(wire.FLUSH, 0, 0) == 0
        assert client.read(0, SIZE) == CONTENT
        client.close()
    assert (tmp_path / "disk.raw").read_bytes() == CONTENT


# --- chunks ------------------------------------------------------------------


def test_zeros_are_sent_as_holes(chunky):
    assert chunky.error_of(wire.ZEROES, 65536, 131072) == 0
    chunky.send_request(wire.READ, 0, 262144)
    sent = [(kind, len(payload)) for kind, payload in chunky.chunks()]
    assert sent == [(wire.DATA, 8 + 65536), (wire.HOLE, 12),
                    (wire.DATA, 8 + 65536)]
    assert chunky.read(0, SIZE)[65536:65536 + 131072] == bytes(131072)
    chunky.send_request(wire.READ, 0, 262144, wire.DF)
    sent = [(kind, len(payload)) for kind, payload in chunky.chunks()]
    assert sent == [(wire.DATA, 8 + 262144)]


def extents_of(client, offset, length, flags=0):
    client.send_request(wire.STATUS, offset, length, flags)
    (kind, payload), = client.chunks()
    assert kind == wire.STATUS_CHUNK
    return list(struct.iter_unpack(">II", payload[4:]))


def test_block_status(chunky):
    assert chunky.error_of(wire.ZEROES, 65536, 131072) == 0
    rest = SIZE - 65536 - 131072
    assert extents_of(chunky, 0, SIZE) == [(65536, 0), (131072, 3), (rest, 0)]
    assert extents_of(chunky, 0, SIZE, wire.REQ_ONE) == [(65536, 0)]
    assert extents_of(chunky, 0, 100) == [(100, 0)]
    assert extents_of(chunky, 65537, 100) == [(100, 3)]
    assert extents_of(chunky, SIZE - 1, 1) == [(1, 0)]
    for offset, length in ((0, 0), (SIZE, 1), (0, SIZE + 1),
                           (0, 0xffffffff)):
        assert chunky.error_of(wire.STATUS, offset, length) == EINVAL


def test_extended_status_with_a_filter(platter, platter_io, platter_path,
                                       tmp_path):
    platter.good("create -q -f qcow2 base.qcow2 1G")
    platter_io.good(["-c", "write -q 64k 64k"], "base.qcow2")
    platter.good("create -q -f qcow2 -F qcow2 -b base.qcow2 top.qcow2 8G")
    platter_io.good(["-c", "write -q 0 64k", "-c", "write -q -z 256k 64k"],
                    "top.qcow2")
    with serving(platter_path, tmp_path, "-A", "-f", "qcow2",
                 "top.qcow2") as server:
        client = server.connect().start(wire.EXTENDED, b"base:allocation",
                                        b"qemu:allocation-depth")

        def status(ids):
            payload = struct.pack(f">Q{len(ids)}I", 8 << 30, *ids)
            client.send_request(wire.STATUS, 0, len(payload),
                                wire.PAYLOAD_LEN, payload)
            return client.chunks()

        found = {}
        client.send_request(wire.STATUS, 0, 8 << 30)
        for kind, payload in client.chunks():
            assert kind == wire.STATUS_EXT
            number, count = struct.unpack(">II", payload[:8])
            found[number] = list(struct.iter_unpack(">QQ", payload[8:]))
            assert len(found[number]) == count
        k = 1024
        assert found[1] == [(128 * k, 0), ((8 << 30) - 128 * k, 3)]
        assert found[2] == [(64 * k, 1), (64 * k, 2), (128 * k, 0),
                            (64 * k, 1), ((8 << 30) - 320 * k, 0)]
        (_, payload), = status([2])
        assert struct.unpack(">I", payload[:4]) == (2,)
        for ids in ([], [3], [1, 1], [4], [0]):
            (kind, payload), = status(ids)
            assert kind == wire.ERROR
        assert client.error_of(wire.FLUSH, 0, 0) == 0


def test_status_of_a_disk_larger_than_four_gigabytes(platter, platter_path,
                                                     tmp_path):
    platter.good("create -q -f qcow2 disk.qcow2 8G")
    with serving(platter_path, tmp_path, "-f", "qcow2",
                 "disk.qcow2") as server:
        client = server.connect().start(wire.STRUCTURED, b"base:allocation")
        for offset in (0, 1, 511, 512, (4 << 30) - 1, 4 << 30,
                       (4 << 30) + 1):
            extents = extents_of(client, offset, 0xffffffff)
            assert extents == [(0xffffffff, 3)]


# --- image formats -----------------------------------------------------------

IMAGES = {
    "512": "cluster_size=512,compat=0.10",
    "4k": "cluster_size=4k",
    "64k": "cluster_size=64k,lazy_refcounts=on",
    "2M": "cluster_size=2M",
}


@pytest.mark.parametrize("options", IMAGES.values(), ids=IMAGES)
def test_four_connections_share_a_qcow2(options, platter, platter_path,
                                        qemu_img, tmp_path):
    """Each owns every fourth piece; what all have written is on the disk."""
    size, piece = 4 << 20, 1500
    rng = random.Random(options)
    model = bytearray(size)
    platter.good("create -q -f qcow2 -o", options, "disk.qcow2", str(size))
    with serving(platter_path, tmp_path, "-f", "qcow2",
                 "disk.qcow2") as server:
        clients = [server.connect().start(wire.STRUCTURED) for _ in range(4)]
        for _ in range(60):
            for owner, client in enumerate(clients):
                at = (rng.randrange(size // piece // 4) * 4 + owner) * piece
                if rng.random() < 0.3:
                    client.send_request(wire.ZEROES, at, piece)
                    model[at:at + piece] = bytes(piece)
                else:
                    data = rng.randbytes(50) * (piece // 50)
                    client.send_request(wire.WRITE, at, piece,
                                        rng.choice((0, 0, 0, wire.FUA)), data)
                    model[at:at + piece] = data
            for client in clients:
                assert client.chunk()[3] in (0, b"")
        for client in clients:
            assert client.read(0, size) == model
    qemu_img.good("convert -O raw disk.qcow2 out.raw")
    assert (tmp_path / "out.raw").read_bytes() == model
    qemu_img.good("check -q disk.qcow2")
