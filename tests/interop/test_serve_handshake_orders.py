# SPDX-License-Identifier: BSD-3-Clause
"""Handshakes in every order of up to four options, and cut at every byte of
what either side says. Afterwards the server has all it had before."""

import itertools
import socket
import struct

import nbd_server as wire
import pytest
from nbd_peers import wait_until
from nbd_server import Held, serving

SIZE = 1 << 20
START = struct.pack(">I", 3)
EINVAL = 22
# They stay, once there was work for them.
WORKERS = 16


@pytest.fixture
def server(platter_path, tmp_path):
    for name in ("one.raw", "two.raw"):
        (tmp_path / name).write_bytes(bytes(SIZE))
    # Clients that have left count until the server knows.
    with serving(platter_path, tmp_path, "-f", "raw", "-D", "a disk", "-A",
                 "-e", "1000", "-E", "one=one.raw", "-E",
                 "two=two.raw") as running:
        yield running


def hear_all(server, said):
    """All that is answered, to a client that says no more."""
    client = server.connect()
    client.send(said)
    client.socket.shutdown(socket.SHUT_WR)
    answer = bytearray()
    while more := client.socket.recv(1 << 16):
        answer += more
    client.close()
    return bytes(answer)


# --- orders ------------------------------------------------------------------

OPTIONS = {
    "list": (wire.LIST, b""),
    "structured": (wire.STRUCTURED, b""),
    "extended": (wire.EXTENDED, b""),
    "starttls": (wire.STARTTLS, b""),
    "info": (wire.INFO, wire.go_data(b"two")),
    "bad go": (wire.GO, wire.go_data(b"none")),
    "set": (wire.SET_META, wire.meta_data(b"one", b"base:allocation")),
    "set other": (wire.SET_META, wire.meta_data(b"two", b"base:allocation")),
    "bad set": (wire.SET_META, b"junk"),
    "list meta": (wire.LIST_META, wire.meta_data(b"one")),
    "unknown": (99, b"abc"),
}
ALWAYS = {"list": wire.ACK, "starttls": wire.POLICY, "info": wire.ACK,
          "bad go": wire.UNKNOWN, "list meta": wire.ACK,
          "unknown": wire.UNSUP}


class Agreed:
    """What the options so far have come to."""

    def __init__(self):
        self.mode, self.selected = 0, None

    def take(self, name):
        """The last answer to this option."""
        if name in ALWAYS:
            return ALWAYS[name]
        if name == "extended":
            self.mode = 2
            return wire.ACK
        if name == "structured":
            if self.mode == 2:
                return wire.EXT_HEADER_REQD
            self.mode = 1
            return wire.ACK
        self.selected = None
        if name == "bad set" or not self.mode:
            return wire.INVALID
        self.selected = "one" if name == "set" else "two"
        return wire.ACK


class Answers:
    """What came back, taken apart."""

    def __init__(self, data):
        self.data, self.at = data, 18

    def take(self, form):
        found = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return found

    def last_reply(self, option):
        """The kind of the last reply to an option."""
        while True:
            magic, echo, kind, length = self.take(">QIII")
            assert (magic, echo) == (wire.REPLY_MAGIC, option)
            self.at += length
            if kind == wire.ACK or kind >= 0x80000000:
                return kind

    def error(self, mode):
        """That of a reply to a request, whose data is skipped."""
        magic, = self.take(">I")
        if magic == wire.SIMPLE_REPLY:
            assert mode < 2
            return self.take(">IQ")[0]
        if mode == 2:
            assert magic == wire.EXT_CHUNK
            flags, kind, _, _, length = self.take(">HHQQQ")
        else:
            assert magic == wire.CHUNK
            flags, kind, _, length = self.take(">HHQI")
        assert flags == wire.DONE
        start, self.at = self.at, self.at + length
        if kind != wire.ERROR:
            return 0
        return struct.unpack_from(">I", self.data, start)[0]

    def at_end(self):
        return self.at == len(self.data)


def ask(extended):
    """A block status, a flush, and the end."""
    return (wire.request_bytes(extended, wire.STATUS, 0, 512) +
            wire.request_bytes(extended, wire.FLUSH, 0, 0) +
            wire.request_bytes(extended, wire.DISC, 0, 0))


def judge_requests(answers, agreed):
    """A status only of what was selected last, of this export."""
    good = agreed.mode and agreed.selected == "one"
    assert answers.error(agreed.mode) == (0 if good else EINVAL)
    assert answers.error(agreed.mode) == 0
    assert answers.at_end()


def judge_options(answers, order, agreed):
    for name in order:
        assert answers.last_reply(OPTIONS[name][0]) == agreed.take(name), order


def said_in(order):
    return START + b"".join(wire.option_bytes(*OPTIONS[name])
                            for name in order)


def orders(longest):
    for count in range(longest + 1):
        yield from itertools.product(OPTIONS, repeat=count)


def test_every_order_of_four_options(server):
    """Each has its answer, and then an export is chosen and used."""
    for order in orders(4):
        said = said_in(order) + wire.option_bytes(wire.GO,
                                                  wire.go_data(b"one"))
        answers = Answers(hear_all(server, said + ask("extended" in order)))
        agreed = Agreed()
        judge_options(answers, order, agreed)
        assert answers.last_reply(wire.GO) == wire.ACK
        judge_requests(answers, agreed)


def test_every_order_before_an_export_name(server):
    """It is there for old clients: extended headers end it."""
    for order in orders(3):
        said = said_in(order) + wire.option_bytes(wire.EXPORT_NAME, b"one")
        if "extended" not in order:
            said += ask(False)
        answers = Answers(hear_all(server, said))
        agreed = Agreed()
        judge_options(answers, order, agreed)
        if agreed.mode < 2:
            assert answers.take(">QH")[0] == SIZE
            judge_requests(answers, agreed)
        assert answers.at_end()


def test_every_order_before_the_end(server):
    for order in orders(3):
        answers = Answers(hear_all(server, said_in(order) +
                                   wire.option_bytes(wire.ABORT)))
        judge_options(answers, order, Agreed())
        assert answers.last_reply(wire.ABORT) == wire.ACK
        assert answers.at_end()


# --- cuts --------------------------------------------------------------------


def opening(*options):
    return START + b"".join(wire.option_bytes(*option) for option in options)


ONE, TWO = wire.go_data(b"one", (1, 2, 3)), wire.go_data(b"two")
CONTEXTS = wire.meta_data(b"one", b"base:allocation", b"qemu:allocation-depth")
FILTER = struct.pack(">QI", 4096, 2)
WRITE = b"x" * 100


def reads(extended):
    return (wire.request_bytes(extended, wire.STATUS, 0, 4096) +
            wire.request_bytes(extended, wire.READ, 0, 100) +
            (wire.request_bytes(True, wire.STATUS, 0, len(FILTER),
                                wire.PAYLOAD_LEN) + FILTER
             if extended else b""))


def write(extended):
    """It is the last, so that no cut leaves it whole."""
    return wire.request_bytes(extended, wire.WRITE, 0, len(WRITE),
                              wire.PAYLOAD_LEN if extended else 0) + WRITE


STRUCTURED = opening(
    (wire.LIST,), (wire.STRUCTURED,), (wire.SET_META, CONTEXTS),
    (wire.INFO, TWO), (wire.GO, ONE)) + reads(False)
EXTENDED = opening(
    (wire.EXTENDED,), (wire.STRUCTURED,),
    (wire.LIST_META, wire.meta_data(b"two", b"base:", b"qemu:")),
    (wire.SET_META, CONTEXTS), (wire.GO, ONE)) + reads(True)

# What is said, and a write that may follow it.
HANDSHAKES = {
    "old": (struct.pack(">I", 0) + wire.option_bytes(wire.EXPORT_NAME, b"one"),
            b""),
    "export name": (opening((wire.EXPORT_NAME, b"two")), b""),
    "structured": (STRUCTURED, write(False)),
    "extended": (EXTENDED, write(True)),
    "refused": (opening(
        (wire.STARTTLS,), (99, b"abc"), (wire.SET_META, CONTEXTS),
        (wire.GO, wire.go_data(b"none")), (wire.INFO, b"junk"),
        (wire.ABORT,)), b""),
}


@pytest.fixture
def counted(server):
    """Descriptors are as many after the test as they were before, threads no
    more than there are workers, and clients are served."""
    held = Held(server.process.pid)
    for said, _ in HANDSHAKES.values():
        hear_all(server, said)
    still_serves(server)
    wait_until(lambda: not held.has_clients(), "all clients to be gone")
    before = held.descriptors()
    yield server
    still_serves(server)
    wait_until(lambda: held.descriptors() == before, f"{before} descriptors")
    wait_until(lambda: held.threads() <= 1 + WORKERS, "the ends of threads")


def still_serves(server):
    client = server.connect().start(name=b"one")
    client.send_request(wire.READ, 0, 512)
    assert client.simple_reply(512) == (0, 0, bytes(512))
    client.close()


@pytest.mark.parametrize("name", HANDSHAKES)
def test_clients_leave_at_every_byte_they_say(counted, tmp_path, name):
    """At once, or when they have seen all the answers there are."""
    said = b"".join(HANDSHAKES[name])
    for cut in range(len(said)):
        client = counted.connect()
        client.send(said[:cut])
        client.close()
        hear_all(counted, said[:cut])
    for path in tmp_path.glob("*.raw"):
        assert path.read_bytes() == bytes(SIZE)


@pytest.mark.parametrize("name", HANDSHAKES)
def test_clients_leave_at_every_byte_they_hear(counted, name):
    """The rest of what the server says has nowhere to go."""
    said, _ = HANDSHAKES[name]
    for cut in range(len(hear_all(counted, said))):
        client = counted.connect()
        client.send(said)
        client.receive(cut)  # answers to requests come in any order
        client.close()
