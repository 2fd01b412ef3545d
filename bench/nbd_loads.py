# SPDX-License-Identifier: BSD-3-Clause
"""What NBD servers are loaded with. Each load gives two figures: requests in
a second, and nanoseconds of the server's CPU for one of them."""

import json
import re
import subprocess
import time

from nbd_servers import MIB, program

# Copies are counted in these.
COPY_UNIT = MIB
# What a server likes best is not known before; all of them get all of these.
COPY_OPTIONS = ([], ["--connections=1"], ["--request-size=1048576"],
                ["--connections=1", "--threads=1"])


class NbdLoad:
    """bench/nbd-load.c: batches, and little CPU of its own."""

    size_bytes = 512 * MIB
    name = "nbd"
    tls = False

    def __init__(self, connections, depth, length, kind):
        self.words = [str(word) for word in (connections, depth, length, kind)]

    def run(self, server, seconds):
        client = subprocess.Popen(
            [program("NBD_LOAD", "build/bench/nbd-load"), server.socket,
             *self.words, str(seconds)], stdout=subprocess.PIPE, text=True)
        before, start = server.cpu_ns(), time.monotonic()
        time.sleep(seconds * 0.9)
        used = server.cpu_ns() - before
        span = time.monotonic() - start
        done = json.loads(client.communicate(timeout=60)[0])
        rate = done["requests"] / done["seconds"]
        return rate, used / (rate * span)


class FioLoad:
    """fio's own client, libnbd, on one connection."""

    size_bytes = 512 * MIB
    name = "nbd"
    tls = False

    def __init__(self, depth, kind):
        self.depth, self.kind = depth, kind

    def command(self, uri, seconds):
        return ["fio", "--name=load", "--ioengine=nbd", f"--uri={uri}",
                f"--rw=rand{self.kind}", "--bs=4k", f"--iodepth={self.depth}",
                "--time_based", f"--runtime={seconds}", "--randrepeat=1",
                "--norandommap", "--output-format=json"]

    def run(self, server, seconds):
        before = server.cpu_ns()
        done = subprocess.run(self.command(server.uri(), seconds), check=True,
                              capture_output=True, text=True)
        used = server.cpu_ns() - before
        # libnbd may say a word before the JSON.
        result = json.loads(done.stdout[done.stdout.index("{"):])
        side = result["jobs"][0][self.kind]
        return side["iops"], used / side["total_ios"]


class CopyLoad:
    """nbdcopy of the whole disk, the best of some options. Requests are MiB."""

    size_bytes = 2048 * MIB
    name = "nbd-copy"
    tls = False

    def __init__(self, inwards):
        self.inwards = inwards

    def command(self, uri, source, options):
        ends = [str(source), uri] if self.inwards else [uri, "null:"]
        return ["nbdcopy", *options, *ends]

    def one(self, server, options):
        source = server.socket.parent / "nbd-source"
        before, start = server.cpu_ns(), time.monotonic()
        subprocess.run(self.command(server.uri(), source, options), check=True)
        span = time.monotonic() - start
        count = self.size_bytes // COPY_UNIT
        return count / span, (server.cpu_ns() - before) / count

    def run(self, server, seconds):
        del seconds
        self.one(server, [])  # everybody's first copy fills its own tables
        found = [self.one(server, options) for options in COPY_OPTIONS]
        return max(rate for rate, _ in found), min(cost for _, cost in found)


class TlsLoad:
    """nbdcopy over TLS. The client deciphers on the same processors."""

    size_bytes = 1024 * MIB
    name = "nbd-tls"
    tls = True
    piece = 256 * 1024

    def __init__(self, connections):
        self.connections = connections

    def command(self, uri):
        return ["nbdcopy", "--no-extents",
                f"--connections={self.connections}",
                f"--request-size={self.piece}", uri, "null:"]

    def run(self, server, seconds):
        del seconds
        before, start = server.cpu_ns(), time.monotonic()
        subprocess.run(self.command(server.uri()), check=True)
        span = time.monotonic() - start
        count = self.size_bytes // self.piece
        return count / span, (server.cpu_ns() - before) / count


LOADS = {
    "read 4K, 4 x 16": NbdLoad(4, 16, 4096, "read"),
    "read 4K, 1 x 1": NbdLoad(1, 1, 4096, "read"),
    "read 4K, 1 x 32": NbdLoad(1, 32, 4096, "read"),
    "write 4K, 4 x 16": NbdLoad(4, 16, 4096, "write"),
    "write 4K, 1 x 1": NbdLoad(1, 1, 4096, "write"),
    "read 256K, 1 x 8": NbdLoad(1, 8, 262144, "read"),
    "write 256K, 1 x 8": NbdLoad(1, 8, 262144, "write"),
    "fio read 4K, 1": FioLoad(1, "read"),
    "fio read 4K, 32": FioLoad(32, "read"),
    "fio write 4K, 1": FioLoad(1, "write"),
    "fio write 4K, 32": FioLoad(32, "write"),
    "nbdcopy out, MiB": CopyLoad(False),
    "nbdcopy in, MiB": CopyLoad(True),
    "TLS read 256K, 1": TlsLoad(1),
    "TLS read 256K, 4": TlsLoad(4),
}


def commands(pattern):
    """As they are typed, for the page of results."""
    shown = {}
    for title, load in LOADS.items():
        if not re.search(pattern, title):
            continue
        if isinstance(load, NbdLoad):
            shown[title] = ["nbd-load", "{socket}", *load.words, "SECONDS"]
        elif isinstance(load, FioLoad):
            shown[title] = load.command("{uri}", "SECONDS")
        elif isinstance(load, TlsLoad):
            shown[title] = load.command("{uri}")
        else:
            shown[title] = load.command("{uri}", "nbd-source", ["OPTIONS"])
    return shown
