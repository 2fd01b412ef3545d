# SPDX-License-Identifier: BSD-3-Clause
"""An NBD server that says what a test wants it to, right or wrong.

It serves each connection in turn, and a test gives it what to say as bytes; so
it knows of the protocol only what a client has to be told to get that far.
"""

import socket
import struct
import threading
import time

NBDMAGIC, IHAVEOPT = b"NBDMAGIC", b"IHAVEOPT"
OPT_GO, OPT_SR, OPT_META = 7, 8, 10
ACK, INFO, META = 1, 3, 4
ERR_UNSUP = 0x80000001
READ, WRITE, DISC, FLUSH, STATUS = 0, 1, 2, 3, 7
DONE = 1
NONE, OFFSET_DATA, OFFSET_HOLE, BLOCK_STATUS = 0, 1, 2, 5
ERROR, ERROR_OFFSET = 0x8001, 0x8002
CONTEXT_ID = 7
SIZE = 65536
WHEEL = bytes(range(1, 252))
FLAGS = 0x1 | 0x80  # HAS_FLAGS, SEND_DF


class Gone(Exception):
    """The client has left, or has been left."""


def reply(option, kind, payload=b"", magic=0x3e889045565a9, length=None):
    return struct.pack(">QIII", magic, option, kind,
                       len(payload) if length is None else length) + payload


def export(size=SIZE, flags=FLAGS):
    return struct.pack(">HQH", 0, size, flags)


def blocks(least, preferred, most):
    return struct.pack(">HIII", 3, least, preferred, most)


def chunk(cookie, kind, payload=b"", flags=DONE, magic=0x668e33ef,
          length=None):
    return struct.pack(">IHHQI", magic, flags, kind, cookie,
                       len(payload) if length is None else length) + payload


def data(cookie, offset, content, flags=DONE):
    return chunk(cookie, OFFSET_DATA, struct.pack(">Q", offset) + content,
                 flags)


def hole(cookie, offset, length, flags=DONE):
    return chunk(cookie, OFFSET_HOLE, struct.pack(">QI", offset, length), flags)


def error(cookie, code, text=b"", flags=DONE, text_len=None):
    text_len = len(text) if text_len is None else text_len
    return chunk(cookie, ERROR, struct.pack(">IH", code, text_len) + text,
                 flags)


def extents(cookie, pairs, context=CONTEXT_ID, flags=DONE):
    return chunk(cookie, BLOCK_STATUS, struct.pack(">I", context) + b"".join(
        struct.pack(">II", *pair) for pair in pairs), flags)


def content(offset, length):
    """What the disk holds: no byte of it is 0."""
    start = offset % 251
    return (WHEEL * (length // 251 + 2))[start:start + length]


class Script:
    """A server without fault; tests put their faults in its place."""

    greeting = NBDMAGIC + IHAVEOPT + struct.pack(">H", 3)
    structured = reply(OPT_SR, ACK)
    meta = reply(OPT_META, META, struct.pack(">I", CONTEXT_ID)
                 + b"base:allocation") + reply(OPT_META, ACK)
    go = reply(OPT_GO, INFO, export()) + reply(OPT_GO, ACK)
    most = None  # bytes to send in all, or as many as there are
    stays = False  # it says no more then, and does not leave
    piece, pause = None, 0  # bytes at a time, and the seconds in between

    def read(self, cookie, offset, length):
        return data(cookie, offset, content(offset, length))

    def write(self, cookie, offset, length):
        return chunk(cookie, NONE)

    def flush(self, cookie):
        return chunk(cookie, NONE)

    def status(self, cookie, offset, length):
        return extents(cookie, [(length, 0)])

    def with_(self, **parts):
        for name, part in parts.items():
            setattr(self, name, part)
        return self


class Connection:
    def __init__(self, sock, script, silent):
        self.sock = sock
        self.silent = silent
        self.script = script
        self.left = script.most
        self.sent = 0

    def send(self, part):
        if self.left is not None:
            part = part[:self.left]
            self.left -= len(part)
        if not part:
            self.silent.set()
        try:
            step = self.script.piece or len(part) or 1
            for start in range(0, len(part), step):
                self.sock.sendall(part[start:start + step])
                time.sleep(self.script.pause)
        except OSError:
            raise Gone from None
        self.sent += len(part)
        if self.left == 0:
            self.leave()

    def leave(self):
        self.silent.set()
        while self.script.stays:
            self.receive(1)
        raise Gone

    def receive(self, length):
        got = b""
        while len(got) < length:
            try:
                more = self.sock.recv(length - len(got))
            except OSError:
                more = b""
            if not more:
                raise Gone
            got += more
        return got

    def options(self):
        answers = {OPT_SR: self.script.structured, OPT_META: self.script.meta,
                   OPT_GO: self.script.go}
        while True:
            _, option, length = struct.unpack(">8sII", self.receive(16))
            self.receive(length)
            self.send(answers.get(option, reply(option, ERR_UNSUP)))
            if option == OPT_GO:
                return

    def requests(self):
        while True:
            _, _, kind, cookie, offset, length = struct.unpack(
                ">IHHQQI", self.receive(28))
            if kind == READ:
                self.send(self.script.read(cookie, offset, length))
            elif kind == WRITE:
                self.receive(length)
                self.send(self.script.write(cookie, offset, length))
            elif kind == FLUSH:
                self.send(self.script.flush(cookie))
            elif kind == STATUS:
                self.send(self.script.status(cookie, offset, length))
            else:
                raise Gone

    def serve(self):
        try:
            self.send(self.script.greeting)
            self.receive(4)
            self.options()
            self.requests()
        except Gone:
            pass


class HostileServer:
    """Serves the scripts that it gets, one connection each."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.scripts = []
        self.serving = []
        self.silent = threading.Event()  # a client waits in vain
        self.last_sent = self.served = 0  # of the last connection; how many
        self.thread = threading.Thread(target=self.run, daemon=True)

    def start(self, *scripts):
        """The last one serves all the connections that follow as well."""
        self.scripts = list(scripts)
        self.thread.start()

    def run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            script = self.scripts[0]
            if len(self.scripts) > 1:
                self.scripts.pop(0)
            thread = threading.Thread(target=self.serve, args=(sock, script))
            thread.start()
            self.serving.append(thread)

    def serve(self, sock, script):
        with sock:
            connection = Connection(sock, script, self.silent)
            connection.serve()
            self.last_sent = connection.sent
            self.served += 1

    def stop(self):
        # A close alone does not end an accept() that waits.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        for thread in self.serving:
            thread.join()
        self.listener.close()
