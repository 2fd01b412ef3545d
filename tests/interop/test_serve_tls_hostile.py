# SPDX-License-Identifier: BSD-3-Clause
"""Clients that do not end their handshake, or not as they should."""

import os
import re
import socket
import ssl
import struct

import nbd_server as wire
import pytest
from nbd_peers import wait_until
from nbd_server import Held, serving
from tls_keys import authority, certify

SIZE = 1 << 20
LINE = r"platter: client pid \d+, uid \d+, gid \d+: TLS handshake failed: ([^\n]+)\n"
LEFT_OUT = r"platter: (\d+) more such lines left out\n"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = authority(tmp_path_factory.mktemp("keys") / "good")
    certify(folder, "server", "localhost")
    certify(folder, "client", "alice")
    return folder


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def served(platter_path, tmp_path, disk, keys):
    def serve(*words, says):
        return serving(platter_path, tmp_path, "--tls-certificates", keys,
                       *words, "-f", "raw", disk, says=says)
    return serve


def starttls(server, *options):
    client = server.connect()
    client.greet()
    for option in options:
        client.option(option)
    assert client.last(wire.STARTTLS) == wire.ACK
    return client


def context_of(keys, version=None, certificate=False):
    context = ssl.create_default_context(cafile=keys / "ca-cert.pem")
    if version:
        context.minimum_version = context.maximum_version = version
    if certificate:
        context.load_cert_chain(keys / "client-cert.pem",
                                keys / "client-key.pem")
    return context


class Cut(Exception):
    pass


class Handshake:
    """Byte by byte: what goes in either direction may end early."""

    def __init__(self, client, context, send=None, receive=None):
        self.client = client
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing,
                                    server_hostname="localhost")
        self.may_send, self.may_receive = send, receive
        self.sent = self.received = 0
        self.answered = 0  # what had been received when we sent last

    def send(self):
        data = self.outgoing.read()
        if data:
            self.answered = self.received
        if self.may_send is not None:
            data = data[:self.may_send - self.sent]
        self.client.send(data)
        self.sent += len(data)
        if self.sent == self.may_send:
            raise Cut

    def receive(self):
        count = 1 << 16
        if self.may_receive is not None:
            count = self.may_receive - self.received
            if not count:
                raise Cut
        data = self.client.socket.recv(count)
        assert data
        self.incoming.write(data)
        self.received += len(data)

    def run(self):
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.send()
                self.receive()
                continue
            self.send()
            return self


def list_exports(shake):
    """What the other side of the handshake is for."""
    shake.tls.write(struct.pack(">QII", wire.IHAVEOPT, wire.LIST, 0))
    shake.send()
    while True:
        try:
            return shake.tls.read(20)
        except ssl.SSLWantReadError:
            shake.receive()


def leave(server, options, context, **limits):
    client = starttls(server, *options)
    with pytest.raises(Cut):
        Handshake(client, context, **limits).run()
    client.close()


def count_failures(text):
    """Each is told or counted, and nothing else is said."""
    assert re.fullmatch(f"({LINE}|{LEFT_OUT})*", text), text
    return (len(re.findall(LINE, text)) +
            sum(map(int, re.findall(LEFT_OUT, text))))


@pytest.mark.parametrize("options,version,certificate", [
    ((), ssl.TLSVersion.TLSv1_3, False),
    ((), ssl.TLSVersion.TLSv1_2, False),
    ((wire.LIST, 77), ssl.TLSVersion.TLSv1_3, True),
])
def test_a_client_may_leave_at_any_byte(served, keys, options, version,
                                        certificate):
    """All the server has to say is that; nothing stays behind."""
    words = ["--tls-verify-peer"] if certificate else []
    context = context_of(keys, version, certificate)
    with served(*words, says=".*") as server:
        def whole():
            client = starttls(server, *options)
            shake = Handshake(client, context).run()
            lengths = shake.sent, shake.answered
            list_exports(shake)
            client.close()
            return lengths

        held = Held(server.process.pid)
        wait_until(lambda: not held.has_clients(), "all clients to be gone")
        before = held.descriptors()
        # Signatures differ in length by some bytes.
        sent, received = (length - 8 for length in whole())
        for cut in range(sent):
            leave(server, options, context, send=cut)
        for cut in range(0, received, 16):
            leave(server, options, context, receive=cut)
        whole()
        wait_until(lambda: held.descriptors() == before,
                   f"{before} descriptors")
    assert count_failures(server.said) == sent + len(range(0, received, 16))


def cut_hello(server, keys):
    client = starttls(server)
    with pytest.raises(Cut):
        Handshake(client, context_of(keys), send=100).run()
    return client


def only_hello(server, keys):
    client = starttls(server)
    with pytest.raises(Cut):
        Handshake(client, context_of(keys), receive=100).run()
    return client


def no_option(server, keys):
    client = starttls(server)
    client.socket = context_of(keys).wrap_socket(client.socket,
                                                 server_hostname="localhost")
    return client


def half_an_option(server, keys):
    client = no_option(server, keys)
    client.send(b"IHAVEOPT\0")
    return client


def test_handshakes_have_an_end(served, keys):
    """All states at once, as it takes its time."""
    states = [lambda server, _: starttls(server), cut_hello, only_hello,
              no_option, half_an_option]
    with served(says=LINE * 3) as server:
        for client in [state(server, keys) for state in states]:
            while not client.at_end():
                pass
        assert list_exports(Handshake(starttls(server),
                                      context_of(keys)).run())
    assert re.findall(LINE, server.said) == ["it took too long"] * 3


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1,
                                     ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_are_refused(served, keys, version):
    context = context_of(keys)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with served(says=LINE) as server:
        with pytest.raises(ssl.SSLError):
            Handshake(starttls(server), context).run()
    assert re.findall(LINE, server.said) == ["unsupported protocol"]


@pytest.mark.parametrize("data", [
    b"\0" * 4096, b"\xff" * 4096, b"\x16\x03\x01\xff\xff" + b"A" * 70000,
    b"\x16\x03\x01\0\0" * 100, b"\x17\x03\x03\0\x10" + b"B" * 16,
    b"\x16\x03\x03\0\x04\x01\xff\xff\xff" + b"\x16\x03\x03\x40\0" * 20,
    b"GET / HTTP/1.1\r\n\r\n", b"\x15\x03\x01\0\x02\x02\x28",
])
def test_what_is_no_handshake(served, keys, data):
    with served(says=LINE) as server:
        client = starttls(server)
        try:
            client.send(data)
            client.socket.shutdown(socket.SHUT_WR)
            while client.socket.recv(4096):
                pass
        except OSError:
            pass
        assert list_exports(Handshake(starttls(server),
                                      context_of(keys)).run())
