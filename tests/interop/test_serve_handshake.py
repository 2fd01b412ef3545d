# SPDX-License-Identifier: BSD-3-Clause
"""The handshake: every option, whole or broken. Orders of them, and cuts, are in
test_serve_handshake_orders.py."""

import struct

import nbd_server as wire
import pytest
from nbd_server import serving

SIZE = 1 << 20


@pytest.fixture
def server(platter_path, tmp_path):
    for name in ("one.raw", "two.raw"):
        (tmp_path / name).write_bytes(bytes(SIZE))
    with serving(platter_path, tmp_path, "-f", "raw", "-D", "a disk",
                 "-E", "one=one.raw", "-E", "two=two.raw") as running:
        yield running


@pytest.fixture
def client(server):
    found = server.connect()
    yield found
    found.close()


def still_serves(server):
    client = server.connect()
    client.start(name=b"one")
    client.send_request(wire.READ, 0, 512)
    assert client.simple_reply(512) == (0, 0, bytes(512))
    client.send_request(wire.DISC, 0, 0)
    assert client.at_end()
    client.close()


def test_greeting(client):
    assert client.greet() == (wire.NBDMAGIC, wire.IHAVEOPT, 3)


@pytest.mark.parametrize("flags", [4, 0x80000003])
def test_unknown_flags_end_it(client, flags):
    client.greet(flags)
    assert client.at_end()


def test_export_name_has_zeroes_unless_agreed(server):
    for flags, length in ((3, 10), (1, 134), (0, 134)):
        client = server.connect()
        client.greet(flags)
        client.send_option(wire.EXPORT_NAME, b"two")
        reply = client.receive(length)
        assert struct.unpack(">Q", reply[:8]) == (SIZE,)
        assert not any(reply[10:])
        client.send_request(wire.READ, SIZE - 1, 1)
        assert client.simple_reply(1) == (0, 0, b"\0")
        client.close()


@pytest.mark.parametrize("name", [b"", b"three", b"one\0", b"o" * 4096,
                                  b"o" * 5000],
                         ids=["", "other", "nul", "longest", "too long"])
def test_export_name_of_nothing_ends_it(client, name):
    client.greet()
    client.send_option(wire.EXPORT_NAME, name)
    assert client.at_end()


def test_list_names_all(client):
    client.greet()
    names = []
    for kind, data in client.option(wire.LIST)[:-1]:
        assert kind == wire.SERVER
        length = struct.unpack(">I", data[:4])[0]
        names.append(data[4:4 + length])
        assert data[4 + length:] == b"a disk"
    assert names == [b"one", b"two"]


def test_info_and_go_say_the_same(client):
    client.greet()
    infos = client.go(b"one", wire.INFO, (1, 2, 3, 99, 3))
    assert infos == client.go(b"one", wire.GO, (1, 2, 3, 99, 3))
    kinds = [struct.unpack(">H", data[:2])[0] for _, data in infos[:-1]]
    assert sorted(kinds) == [0, 1, 2, 3]
    by_kind = {kind: data for kind, (_, data) in zip(kinds, infos)}
    assert by_kind[1][2:] == b"one"
    assert by_kind[2][2:] == b"a disk"
    assert struct.unpack(">QH", by_kind[0][2:]) == (SIZE, 0xd6d)
    assert struct.unpack(">III", by_kind[3][2:]) == (1, 4096, 32 << 20)
    client.send_request(wire.READ, 0, 1)
    assert client.simple_reply(1)[1] == 0


def test_failed_go_can_be_followed_by_another(client):
    client.greet()
    for name in (b"", b"three", b"on", b"ones", b"x" * 4096):
        assert client.go(name)[-1][0] == wire.UNKNOWN
    assert client.go(b"one")[-1][0] == wire.ACK


@pytest.mark.parametrize("data", [
    b"", b"\0\0\0\0", b"\0\0\0\0\0", wire.go_data(b"one") + b"\0",
    wire.go_data(b"one")[:-1], wire.go_data(b"one", (3,))[:-1],
    wire.go_data(b"o\0e"), struct.pack(">I", 0xffffffff) + b"one\0\0",
    struct.pack(">I", 0xfffffffe) + b"\0\0",
    struct.pack(">I", 4) + b"one\0\0", struct.pack(">I3sH", 3, b"one", 0xffff),
])
def test_malformed_go_is_invalid(client, data):
    client.greet()
    assert client.last(wire.GO, data) == wire.INVALID
    assert client.last(wire.INFO, data) == wire.INVALID
    assert client.go(b"one")[-1][0] == wire.ACK


@pytest.mark.parametrize("length", [255, 256, 257, 1023, 4095, 4096, 4097,
                                    61000])
@pytest.mark.parametrize("byte", [b"x", b"%", b"\n"])
def test_names_of_all_lengths(client, length, byte):
    """Refused, with texts of 4096 bytes at most and nothing in them that a
    terminal would obey."""
    client.greet()
    assert client.last(wire.STRUCTURED) == wire.ACK
    name = byte * length
    for option, data in ((wire.INFO, wire.go_data(name)),
                         (wire.GO, wire.go_data(name)),
                         (wire.LIST_META, wire.meta_data(name)),
                         (wire.SET_META, wire.meta_data(name, name[:4096]))):
        *_, (kind, text) = client.option(option, data)
        assert kind == (wire.UNKNOWN if length <= 4096 else wire.INVALID)
        assert len(text) <= 4096 and text.decode("ascii").isprintable()
    assert client.go(b"one")[-1][0] == wire.ACK


@pytest.mark.parametrize("option", [wire.LIST, wire.STRUCTURED, wire.EXTENDED])
def test_options_without_data_refuse_data(client, option):
    client.greet()
    assert client.last(option, b"x") == wire.INVALID
    assert client.last(option) == wire.ACK


def test_unknown_options_are_skipped(client):
    client.greet()
    for option in (0, 4, 12, 0x7fffffff, 0xffffffff):
        assert client.last(option, b"data") == wire.UNSUP
    assert client.last(wire.LIST) == wire.ACK


def test_no_tls_is_configured(client):
    client.greet()
    assert client.last(wire.STARTTLS) == wire.POLICY
    assert client.go(b"one")[-1][0] == wire.ACK


@pytest.mark.parametrize("length", [65537, 1 << 20, 0xfffffffe, 0xffffffff])
@pytest.mark.parametrize("option", [wire.GO, wire.EXPORT_NAME, wire.LIST,
                                    wire.SET_META, 77])
def test_too_much_data_ends_it(server, client, option, length):
    client.greet()
    client.send_option(option, b"", length)
    assert client.at_end()
    still_serves(server)


def test_old_clients_may_only_name_an_export(client):
    client.greet(0)
    client.send_option(wire.LIST)
    assert client.at_end()


def test_extended_headers_take_precedence(client):
    client.greet()
    assert client.last(wire.EXTENDED) == wire.ACK
    assert client.last(wire.STRUCTURED) == 0x80000000 + 10
    client.send_option(wire.EXPORT_NAME, b"one")
    assert client.at_end()


# --- metadata contexts -------------------------------------------------------


def names_of(replies):
    return [data[4:] for kind, data in replies if kind == wire.META_REPLY]


def test_meta_contexts_are_listed(client):
    client.greet()
    assert client.last(wire.STRUCTURED) == wire.ACK
    alloc = [b"base:allocation"]
    for queries, found in [
            ((), alloc), ((b"base:",), alloc), (alloc, alloc),
            ((b"base:allo",), []), ((b"qemu:",), []), ((b"",), []),
            ((b"x-other:thing", b"base:allocation"), alloc),
            ((b"nocolon",), [])]:
        replies = client.meta(wire.LIST_META, b"one", *queries)
        assert replies[-1][0] == wire.ACK
        assert names_of(replies) == found


def test_meta_selection_is_exact_and_once(client):
    client.greet()
    assert client.meta(wire.SET_META, b"one", b"base:allocation")[-1][0] == (
        wire.INVALID)
    assert client.last(wire.STRUCTURED) == wire.ACK
    for queries, count in [((), 0), ((b"base:",), 0),
                           ((b"base:allocation",) * 3, 1)]:
        replies = client.meta(wire.SET_META, b"one", *queries)
        assert replies[-1][0] == wire.ACK
        assert len(names_of(replies)) == count


@pytest.mark.parametrize("spoil", [
    lambda c: c.meta(wire.SET_META, b"two", b"base:allocation"),
    lambda c: c.meta(wire.SET_META, b"one"),
    lambda c: c.meta(wire.SET_META, b"three", b"base:allocation"),
    lambda c: c.option(wire.SET_META, b"junk"),
])
def test_selection_is_replaced_even_by_failure(client, spoil):
    client.greet()
    assert client.last(wire.STRUCTURED) == wire.ACK
    client.meta(wire.SET_META, b"one", b"base:allocation")
    spoil(client)
    assert client.go(b"one")[-1][0] == wire.ACK
    assert client.error_of(wire.STATUS, 0, 512) == 22


@pytest.mark.parametrize("data", [
    b"", wire.meta_data(b"one", b"base:allocation")[:-1],
    wire.meta_data(b"one") + b"\0",
    struct.pack(">I3sI", 3, b"one", 0xffffffff),
    struct.pack(">I3sII", 3, b"one", 1, 0xffffffff),
    struct.pack(">I3sII", 3, b"one", 2, 0),
    struct.pack(">I", 0xffffffff) + b"one",
])
def test_malformed_meta_is_invalid(client, data):
    client.greet()
    assert client.last(wire.STRUCTURED) == wire.ACK
    for option in (wire.SET_META, wire.LIST_META):
        assert client.last(option, data) == wire.INVALID
    assert client.go(b"one")[-1][0] == wire.ACK


def test_thousands_of_queries_are_fine(client):
    client.greet()
    assert client.last(wire.STRUCTURED) == wire.ACK
    queries = [b"x:%d" % n for n in range(5000)] + [b"base:allocation"]
    replies = client.meta(wire.SET_META, b"one", *queries)
    assert names_of(replies) == [b"base:allocation"]


# --- ends --------------------------------------------------------------------


def test_a_client_may_leave_without_reading(server):
    for _ in range(50):
        client = server.connect()
        client.send(struct.pack(">I", 3) +
                    wire.option_bytes(wire.LIST) * 200 +
                    wire.option_bytes(wire.ABORT))
        client.close()
    still_serves(server)
