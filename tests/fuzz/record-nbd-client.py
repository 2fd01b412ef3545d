#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Records what NBD servers say, as seeds for tests/fuzz/fuzz_nbd_client.c.

    tests/fuzz/record-nbd-client.py [FOLDER]

The results are in the tree; run this only to make other ones. What it has done
is what the target does, so that the answers fit its requests. PLATTER names the
program that is the client.
"""

import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
PLATTER = os.environ.get("PLATTER", str(TOP / "build" / "platter"))
WRITABLE, READ_ONLY = b"\2", b"\0"  # the target's first byte
SIZE = 64 * 1024 + 512
USE = ["read 0 1k", "write 1k 512", "write -z -u 2k 1k", "discard 4k 1k",
       "map", "flush", "read 0 4k", "map"]
SERVERS = {
    "qemu-nbd": (WRITABLE, ["qemu-nbd", "-t", "-f", "raw", "-k", "SOCKET",
                            "disk"]),
    "qemu-nbd-read-only": (READ_ONLY, ["qemu-nbd", "-t", "-r", "-f", "raw",
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


def converse(folder, read_only):
    """Between a client and the server; what the server said."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "between"))
    listener.listen(1)
    words = [word for line in USE if not read_only or line[0] in "rm"
             for word in ("-c", line)]
    with subprocess.Popen(
            [PLATTER, "io", "-f", "raw", *(["-r"] if read_only else []),
             *words, f"nbd+unix:///?socket={folder}/between"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        client, _ = listener.accept()
        server = connected(folder / "s")
        said = []
        up = threading.Thread(target=pump, args=(client, server, []))
        up.start()
        pump(server, client, said)
        up.join()
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
