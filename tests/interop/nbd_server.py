# SPDX-License-Identifier: BSD-3-Clause
"""A server for a test, and a client that speaks the protocol byte by byte."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import time

START_SECONDS = 60
STOP_SECONDS = 30

NBDMAGIC = 0x4e42444d41474943
IHAVEOPT = 0x49484156454F5054
REPLY_MAGIC = 0x3e889045565a9

EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO = 1, 2, 3, 5, 6, 7
STRUCTURED, LIST_META, SET_META, EXTENDED = 8, 9, 10, 11
ACK, SERVER, INFO_REPLY, META_REPLY = 1, 2, 3, 4
UNSUP, POLICY, INVALID, TLS_REQD, UNKNOWN, EXT_HEADER_REQD = (
    0x80000000 + n for n in (1, 2, 3, 5, 6, 10))

READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS, RESIZE = range(9)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = (1 << n for n in range(6))
SIMPLE_REPLY, CHUNK, EXT_CHUNK = 0x67446698, 0x668e33ef, 0x6e8a278c
DONE = 1
NONE, DATA, HOLE, STATUS_CHUNK, STATUS_EXT, ERROR = 0, 1, 2, 5, 6, 0x8001


class Server:
    """platter serve on a Unix socket, ended by its pid."""

    first = ["serve"]

    def __init__(self, program, folder, *words, **more):
        self.socket = pathlib.Path(folder) / "sock"
        self.process = subprocess.Popen(
            [str(program), *self.first, "--socket", str(self.socket),
             *map(str, words)], cwd=folder, stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, **more)
        self.wait_until_it_listens()

    def wait_until_it_listens(self):
        give_up = time.monotonic() + START_SECONDS
        while not self.listens():
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < give_up, "the server does not start"
            time.sleep(0.01)

    def listens(self):
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def uri(self, export=""):
        return f"nbd+unix:///{export}?socket={self.socket}"

    def connect(self):
        return Client(self.socket)

    def stop(self, how=signal.SIGTERM):
        """Its exit status and what it had to say."""
        if self.process.poll() is None:
            os.kill(self.process.pid, how)
        _, text = self.process.communicate(timeout=STOP_SECONDS)
        return self.process.returncode, text


class NamedServer(Server):
    """A program that is called qemu-nbd, ours or the real one."""

    def __init__(self, program, folder, *words, **more):
        self.pid_file = pathlib.Path(folder) / "pid"
        self.pid_file.unlink(missing_ok=True)
        self.first = [f"--pid-file={self.pid_file}"]
        super().__init__(program, folder, *words, **more)

    def listens(self):
        """Without a connection, which would be a client."""
        return self.pid_file.exists() and self.pid_file.read_text()


@contextlib.contextmanager
def serving(program, folder, *words, kind=Server, says="", **more):
    """Has to end well, and to say what matches `says`: nothing else. The text
    is the server's `said` then."""
    server = kind(program, folder, *words, **more)
    try:
        yield server
    except BaseException:
        server.stop(signal.SIGKILL)
        raise
    status, server.said = server.stop()
    assert status == 0
    assert re.fullmatch(says, server.said, re.DOTALL), server.said


class Held:
    """What a process has open, and its threads."""

    def __init__(self, pid):
        self.folder = f"/proc/{pid}"

    def links(self):
        for number in os.listdir(f"{self.folder}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                yield os.readlink(f"{self.folder}/fd/{number}")

    def has_clients(self):
        """One socket is there to listen."""
        return sum(link.startswith("socket:") for link in self.links()) > 1

    def descriptors(self):
        return len(list(self.links()))

    def threads(self):
        return len(os.listdir(f"{self.folder}/task"))


class Client:
    """A connection; methods send and receive single messages."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.socket.settimeout(START_SECONDS)
        self.extended = False

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def receive(self, count):
        data = bytearray()
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return bytes(data)

    def at_end(self):
        """The server has closed the connection."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    # --- handshake -----------------------------------------------------------

    def greet(self, flags=3):
        greeting = struct.unpack(">QQH", self.receive(18))
        self.send(struct.pack(">I", flags))
        return greeting

    def send_option(self, option, data=b"", length=None):
        self.send(option_bytes(option, data, length))

    def option_reply(self):
        """option, type, data"""
        magic, option, kind, length = struct.unpack(">QIII", self.receive(20))
        assert magic == REPLY_MAGIC
        return option, kind, self.receive(length)

    def option(self, option, data=b""):
        """All replies up to the last: (type, data) each."""
        self.send_option(option, data)
        replies = []
        while True:
            echo, kind, text = self.option_reply()
            assert echo == option
            replies.append((kind, text))
            if kind == ACK or kind >= 0x80000000:
                return replies

    def last(self, option, data=b""):
        return self.option(option, data)[-1][0]

    def go(self, name=b"", option=GO, infos=()):
        return self.option(option, go_data(name, infos))

    def meta(self, option, name, *queries):
        return self.option(option, meta_data(name, *queries))

    def start(self, mode=0, *queries, name=b""):
        """All the way into transmission; `mode` is an option or 0."""
        self.greet()
        if mode:
            assert self.last(mode) == ACK
        self.extended = mode == EXTENDED
        if queries:
            assert self.meta(SET_META, name, *queries)[-1][0] == ACK
        replies = self.go(name)
        assert replies[-1][0] == ACK
        return self

    # --- transmission --------------------------------------------------------

    def send_request(self, command, offset, length, flags=0, payload=b"",
                     cookie=0):
        self.send(request_bytes(self.extended, command, offset, length, flags,
                                cookie) + payload)

    def reply_head(self):
        """magic, error, cookie of a simple reply"""
        return struct.unpack(">IIQ", self.receive(16))

    def simple_reply(self, data=0):
        """cookie, error, data"""
        magic, error, cookie = self.reply_head()
        assert magic == SIMPLE_REPLY
        return cookie, error, b"" if error else self.receive(data)

    def chunk(self):
        """cookie, flags, type, payload; a simple reply is (.., None, error)"""
        magic = struct.unpack(">I", self.receive(4))[0]
        if magic == SIMPLE_REPLY:
            error, cookie = struct.unpack(">IQ", self.receive(12))
            return cookie, DONE, None, error
        if self.extended:
            assert magic == EXT_CHUNK
            flags, kind, cookie, _, length = struct.unpack(
                ">HHQQQ", self.receive(28))
        else:
            assert magic == CHUNK
            flags, kind, cookie, length = struct.unpack(">HHQI",
                                                        self.receive(16))
        return cookie, flags, kind, self.receive(length)

    def chunks(self):
        """Those of one request: (type, payload) each."""
        found = []
        while True:
            _, flags, kind, payload = self.chunk()
            found.append((kind, payload))
            if flags & DONE:
                return found

    def error_of(self, *request, **more):
        """The error on the wire, 0 for none; nothing is read back."""
        self.send_request(*request, **more)
        kind, payload = self.chunks()[-1]
        if kind is None:  # a simple reply
            return payload
        return struct.unpack(">I", payload[:4])[0] if kind == ERROR else 0

    def read(self, offset, length, flags=0):
        """The bytes of a structured read, holes filled in."""
        self.send_request(READ, offset, length, flags)
        data, seen = bytearray(length), 0
        for kind, payload in self.chunks():
            if kind == NONE:
                continue
            at = struct.unpack(">Q", payload[:8])[0] - offset
            if kind == HOLE:
                size = struct.unpack(">I", payload[8:])[0]
            else:
                assert kind == DATA
                size = len(payload) - 8
                data[at:at + size] = payload[8:]
            assert 0 <= at and at + size <= length and size
            seen += size
        assert seen == length
        return bytes(data)


def option_bytes(option, data=b"", length=None):
    length = len(data) if length is None else length
    return struct.pack(">QII", IHAVEOPT, option, length) + data


def request_bytes(extended, command, offset, length, flags=0, cookie=0):
    magic, form = ((0x21e41c71, ">IHHQQQ") if extended
                   else (0x25609513, ">IHHQQI"))
    return struct.pack(form, magic, flags, command, cookie, offset, length)


def go_data(name, infos=()):
    return (struct.pack(">I", len(name)) + name +
            struct.pack(f">H{len(infos)}H", len(infos), *infos))


def meta_data(name, *queries):
    data = struct.pack(">I", len(name)) + name
    data += struct.pack(">I", len(queries))
    for query in queries:
        data += struct.pack(">I", len(query)) + query
    return data
