# SPDX-License-Identifier: BSD-3-Clause
"""What NBD servers need to be there: memory with idle clients, and memory and
time to start with many exports."""

import shutil
import socket
import struct

from nbd_servers import (MIB, Running, make_disk, memory_kib, ours,
                         servers)

CLIENTS = 64
EXPORTS = 1000
READ = 0
REQUEST_MAGIC, OPTION_MAGIC = 0x25609513, 0x49484156454F5054
GO, ACK, ERROR = 7, 1, 1 << 31


def receive(client, count):
    data = b""
    while len(data) < count:
        more = client.recv(count - len(data))
        assert more, "the server has gone"
        data += more
    return data


def connect(path):
    """A client that has chosen the default export."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    receive(client, 18)
    client.sendall(struct.pack(">IQIIIH", 3, OPTION_MAGIC, GO, 6, 0, 0))
    kind = None
    while kind != ACK:
        _, _, kind, length = struct.unpack(">QIII", receive(client, 20))
        receive(client, length)
        assert kind < ERROR, "the server has no default export"
    return client


def read_mib(client):
    """So that the server has had all the buffers that it keeps."""
    client.sendall(struct.pack(">IHHQQI", REQUEST_MAGIC, 0, READ, 0, 0, MIB))
    receive(client, 16 + MIB)


def with_clients(folder):
    """By server: its memory when they have connected, and have read."""
    disk = folder / "nbd.raw"
    make_disk(disk, "raw", 512 * MIB)
    found = {}
    for name, words in servers(str(disk), "raw").items():
        with Running(words, folder) as server:
            clients = [connect(server.socket) for _ in range(CLIENTS)]
            idle = memory_kib(server.process.pid)
            for client in clients:
                read_mib(client)
            found[name] = idle, memory_kib(server.process.pid)
            for client in clients:
                client.close()
    return found


def with_exports(folder):
    """Of ours, by format: seconds until it listens, and memory."""
    many = folder / "nbd-many"
    many.mkdir(exist_ok=True)
    found = {}
    for form in ("raw", "qcow2"):
        words = [ours(), "serve", "-f", form, "-k", "{socket}"]
        for number in range(EXPORTS):
            disk = many / f"{number}.{form}"
            if number == 0:
                disk.unlink(missing_ok=True)
                make_disk(disk, form, MIB)
            else:
                shutil.copyfile(many / f"0.{form}", disk)
            words += ["-E", f"disk-{number}={disk}"]
        with Running(words, folder) as server:
            found[form] = server.start_seconds, memory_kib(server.process.pid)
    shutil.rmtree(many)
    return found


def show(folder):
    print(f"\n{CLIENTS} clients, MiB{'RSS':>19}{'PSS':>8}"
          f"{'RSS, each has read 1 MiB':>28}")
    for name, (idle, used) in with_clients(folder).items():
        print(f"  {name:<22}{idle[0] / 1024:>9.1f}{idle[1] / 1024:>8.1f}"
              f"{used[0] / 1024:>28.1f}")
    print(f"\n{EXPORTS} exports{'listens after':>26}{'RSS, MiB':>14}")
    for form, (seconds, memory) in with_exports(folder).items():
        print(f"  platter {form:<14}{seconds * 1000:>11.0f} ms"
              f"{memory[0] / 1024:>14.1f}")
