#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Records what NBD servers say, as seeds for tests/fuzz/fuzz_nbd_client.c.

    tests/fuzz/record-nbd-client.py [FOLDER]

The results are in the tree; run this only to make other ones. What it has done
is what the target does, by the same library, so that the answers fit its requests.
PLATTER names the program that is one of the servers.
"""

import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

import nbd

TOP = pathlib.Path(__file__).resolve().parents[2]
PLATTER = os.environ.get("PLATTER", str(TOP / "build" / "platter"))
WRITABLE, READ_ONLY = b"\2", b"\0"  # the target's first byte
SIZE = 64 * 1024 + 512
SERVERS = {
    "qemu-nbd": (WRITABLE, ["qemu-nbd", "-t", "-e", "2", "-f", "raw", "-k", "SOCKET",
                            "disk"]),
    "qemu-nbd-read-only": (READ_ONLY, ["qemu-nbd", "-t", "-e", "2", "-r", "-f", "raw",
                                       "-k", "SOCKET", "disk"]),
    "nbdkit": (WRITABLE, ["nbdkit", "-f", "-U", "SOCKET", "file", "disk"]),
    "nbdkit-simple": (WRITABLE, ["nbdkit", "-f", "--no-sr", "-U", "SOCKET",
                                 "file", "disk"]),
    "nbdkit-sparse": (WRITABLE, ["nbdkit", "-f", "-U", "SOCKET", "data",
                                 "@32768 1 2 3 @66048"]),
    "nbdkit-errors": (WRITABLE, ["nbdkit", "-f", "-U", "SOCKET",
                                 "--filter=error", "file", "disk",
                                 "error-rate=50%"]),
    "platter": (WRITABLE, [PLATTER, "serve", "--socket", "SOCKET", "-f", "raw",
                           "disk"]),
    "platter-read-only": (READ_ONLY, [PLATTER, "serve", "-r", "--socket",
                                      "SOCKET", "-f", "raw", "disk"]),
}


def pump(source, target, kept):
    while True:
        try:
            part = source.recv(65536)
            if not part:
                break
            kept.append(part)
            target.sendall(part)
        except OSError:
            break
    for sock in (source, target):
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def connected(path):
    while True:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(path))
            return sock
        except OSError:
            sock.close()
            time.sleep(0.01)


def use(path, read_only):
    """What use() of the target does; errors are a part of it."""
    client = nbd.NBD()
    client.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    client.set_strict_mode(0)
    client.connect_unix(str(path))
    changes = [lambda: client.pwrite(b"\1\2\3".ljust(512, b"\0"), 1024),
               lambda: client.zero(1024, 2048),
               lambda: client.trim(1024, 4096)]
    holes = [lambda: client.block_status(SIZE, 0, lambda *_: 0)]
    if not client.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION):
        holes = []
    steps = [lambda: client.pread(1024, 0), *([] if read_only else changes),
             *holes, *([] if read_only else [client.flush]),
             lambda: client.pread(4096, 0), *holes]
    for step in steps:
        try:
            step()
        except nbd.Error:
            pass
    client.shutdown()


def converse(folder, read_only):
    """Between a client and the server; what the server said."""
    connected(folder / "s").close()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "between"))
    listener.listen(1)
    user = threading.Thread(target=use, args=(folder / "between", read_only))
    user.start()
    client, _ = listener.accept()
    server = connected(folder / "s")
    said = []
    up = threading.Thread(target=pump, args=(client, server, []))
    up.start()
    pump(server, client, said)
    up.join()
    user.join()
    for sock in (client, server, listener):
        sock.close()
    return b"".join(said)


def record(name, kind, argv, corpus):
    with tempfile.TemporaryDirectory() as top:
        folder = pathlib.Path(top)
        with open(folder / "disk", "wb") as disk:
            disk.truncate(SIZE)
            disk.write(b"\xa5" * 8192)
            disk.seek(50000)
            disk.write(b"\xa5" * 100)
        words = [str(folder / "s") if word == "SOCKET" else word
                 for word in argv]
        with subprocess.Popen(words, cwd=folder,
                              stderr=subprocess.DEVNULL) as server:
            try:
                said = converse(folder, kind == READ_ONLY)
            finally:
                server.terminate()
        (corpus / name).write_bytes(kind + said)


def main():
    corpus = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else
                          TOP / "tests" / "fuzz" / "corpus" / "nbd_client")
    corpus.mkdir(parents=True, exist_ok=True)
    for name, (kind, argv) in SERVERS.items():
        record(name, kind, argv, corpus)


main()
