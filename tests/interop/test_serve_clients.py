# SPDX-License-Identifier: BSD-3-Clause
"""Servers and their clients' lives: starting, many at once, stopping."""

import contextlib
import errno
import json
import os
import random
import resource
import select
import signal
import socket
import struct
import subprocess
import threading
import time

import nbd_server as wire
import pytest
from conftest import find
from nbd_server import START_SECONDS, Server, serving

SIZE = 8 << 20


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(random.Random(5).randbytes(1 << 16) * (SIZE >> 16))
    return path


# --- starting ----------------------------------------------------------------


def test_fork_returns_when_clients_may_come(platter, disk, tmp_path):
    platter.good("serve --fork --socket sock --pid-file pid -f raw", [disk])
    pid = int((tmp_path / "pid").read_text())
    try:
        client = wire.Client(tmp_path / "sock").start()
        assert client.error_of(wire.FLUSH, 0, 0) == 0
        client.close()
    finally:
        os.kill(pid, signal.SIGTERM)
    give_up = time.monotonic() + 30
    while (tmp_path / "sock").exists() or (tmp_path / "pid").exists():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_fork_tells_why_it_failed(platter, disk, tmp_path):
    assert "No such file" in platter.bad(
        "serve --fork --socket sock -f raw none.raw")
    (tmp_path / "sock").write_text("")
    assert "sock" in platter.bad("serve --fork --socket sock -f raw", [disk])
    assert (tmp_path / "sock").read_text() == ""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_starting_can_be_stopped(platter_path, disk, tmp_path, how):
    """While another server, which has an image, does not answer."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        process = subprocess.Popen(
            [str(platter_path), "serve", "-f", "raw", "-k", "sock", "-E",
             f"one={disk}", "nbd+unix:///?open-timeout=86400&socket=silent"],
            cwd=tmp_path)
        peer = silent.accept()[0]
        os.kill(process.pid, how)
        try:
            assert process.wait(timeout=30) == -how
        finally:
            process.kill()
            process.wait()
        peer.close()


def test_a_socket_left_behind_is_replaced(platter, platter_path, disk,
                                          tmp_path):
    server = Server(platter_path, tmp_path, "-f", "raw", disk)
    # Somebody listens there: it stays theirs.
    assert "sock" in platter.bad("serve --socket sock -r -U -f raw", [disk])
    server.stop(signal.SIGKILL)
    assert (tmp_path / "sock").exists()
    with serving(platter_path, tmp_path, "-f", "raw", disk) as again:
        again.connect().start().close()
    assert not (tmp_path / "sock").exists()


def test_a_socket_whose_owner_is_busy_stays_its_own(platter, disk, tmp_path):
    """One that takes no more connections must not be waited for."""
    with contextlib.ExitStack() as opened:
        busy = opened.enter_context(socket.socket(socket.AF_UNIX))
        busy.bind(str(tmp_path / "sock"))
        busy.listen(0)
        for full in (0, errno.EAGAIN):
            waiting = opened.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            assert waiting.connect_ex(str(tmp_path / "sock")) == full
        assert "Address already in use" in platter.bad(
            "serve --socket sock -f raw", [disk])


def test_only_the_owner_may_connect(platter_path, disk, tmp_path):
    with serving(platter_path, tmp_path, "-f", "raw", disk) as server:
        assert server.socket.stat().st_mode & 0o777 == 0o600


def test_sockets_may_be_handed_over(platter_path, disk, tmp_path):
    """As libnbd's tools start a server."""
    done = subprocess.run(
        [find("nbdinfo"), "--size", "--", "[", str(platter_path), "serve", "-r",
         "-f", "raw", str(disk), "]"], capture_output=True, check=False,
        text=True, timeout=60, cwd=tmp_path)
    assert (done.stdout.strip(), done.stderr) == (str(SIZE), "")


def test_sockets_handed_over_are_taken_along_by_fork(platter_path, disk,
                                                     tmp_path):
    """They come with the number of the process that is started."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "a"))
        listener.listen()
        done = subprocess.run(
            ["/bin/bash", "-c", f"exec 3<&{listener.fileno()}; "
             "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", "-",
             str(platter_path), "serve", "--fork", "--pid-file", "pid", "-r",
             "-f", "raw", str(disk)], check=False, capture_output=True,
            pass_fds=[listener.fileno()], timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    try:
        wire.Client(tmp_path / "a").start().close()
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)


@pytest.mark.parametrize("words,many", [("-e 1", False), ("-e 2", True),
                                        ("-e 0", True), ("", True)])
def test_many_connections_are_offered_where_they_fit(platter_path, disk,
                                                     tmp_path, words, many):
    with serving(platter_path, tmp_path, "-f", "raw", *words.split(),
                 disk) as server:
        client = server.connect()
        client.greet()
        info = dict(client.go()[:1])[wire.INFO_REPLY]
        client.close()
    flags = struct.unpack(">HQH", info)[2]
    assert bool(flags & 0x100) == many


def test_tcp(platter_path, disk, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [str(platter_path), "serve", "-b", "127.0.0.1", "-p", str(port),
         "-f", "raw", str(disk)], cwd=tmp_path)
    try:
        give_up = time.monotonic() + 30
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port)):
                    break
            except ConnectionRefusedError:
                assert time.monotonic() < give_up
                time.sleep(0.01)
        done = subprocess.run(
            [find("nbdcopy"), f"nbd://127.0.0.1:{port}", "copy.raw"],
            check=False, capture_output=True, timeout=60, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, b"")
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0
    assert (tmp_path / "copy.raw").read_bytes() == disk.read_bytes()


@pytest.mark.parametrize("words,text", [
    ("-f raw", "Expecting one image file name"),
    ("-f raw disk.raw disk.raw", "Expecting one image file name"),
    ("-f raw -E disk.raw", "not NAME=FILE"),
    ("-f raw -E a=disk.raw -E a=disk.raw", "Two exports"),
    ("--max-clients 0 -f raw disk.raw", "Must be between 1 and 1024"),
    ("--threads 257 -f raw disk.raw", "Must be between 0 and 256"),
    ("--handshake-timeout 0 -f raw disk.raw", "handshake timeout"),
    ("--stall-timeout 86401 -f raw disk.raw", "stall timeout"),
    ("--vsock 4294967295 -f raw disk.raw", "vsock port is '4294967295'"),
    ("--vsock -1 -f raw disk.raw", "vsock port is '-1'"),
    ("--discard no -f raw disk.raw", "Invalid discard mode 'no'"),
    ("--detect-zeroes no -f raw disk.raw", "--detect-zeroes mode 'no'"),
    ("--detect-zeroes unmap --discard off -f raw disk.raw",
     "needs discard=unmap"),
    ("-k " + " -k ".join(f"s{n}" for n in range(65)) + " -f raw disk.raw",
     "More than 64 addresses"),
    ("-e many -f raw disk.raw", "number of clients"),
    ("--stats=few -f raw disk.raw", "expecting 'human' or 'json'"),
    ("disk.raw", "has to be given by -f"),
    ("-r disk.raw", "has to be given by -f"),
    ("-E a=disk.raw", "has to be given by -f"),
    ("--image-opts file.filename=disk.raw", "has to be given by -f"),
    ("-f none disk.raw", "none"),
    ("-B b -f raw disk.raw", "offers no bitmaps"),
    ("-B " + "b" * 5000 + " -f raw disk.raw", "Bitmap name"),
    ("-l s -f raw disk.raw", "offers no internal snapshots"),
    ("-l snapshot.no=s -f raw disk.raw", "Failed in parsing snapshot param"),
    ("-k " + "s" * 200 + " -f raw disk.raw", "longer than"),
    ("-b no.such.host.invalid -f raw disk.raw", "no.such.host.invalid"),
    ("--untrusted -k s -r -f raw disk.raw", "cannot be served"),
])
def test_wrong_words(platter, disk, words, text):
    assert text in platter.bad("serve", words)


def has_data(client):
    client.socket.setblocking(False)
    try:
        return bool(client.socket.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        client.socket.settimeout(wire.START_SECONDS)


def test_several_addresses(platter_path, disk, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serving(platter_path, tmp_path, "-k", "other", "-b", "127.0.0.1",
                 "-p", port, "-f", "raw", disk) as server:
        server.connect().start().close()
        wire.Client(tmp_path / "other").start().close()
        with socket.create_connection(("127.0.0.1", port)) as client:
            assert client.recv(18)[:8] == b"NBDMAGIC"
    assert not (tmp_path / "other").exists()


def test_one_address_of_several_is_taken(platter, disk, tmp_path):
    """The others are given up again."""
    (tmp_path / "b").write_text("")
    assert "'b'" in platter.bad("serve -k a -k b -f raw", [disk])
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "b").exists()


def test_vsock(platter_path, disk, tmp_path):
    """Only that it listens: no machine is here to connect from."""
    port = 20000 + os.getpid() % 20000

    def is_taken():
        with socket.socket(socket.AF_VSOCK) as probe:
            try:
                probe.bind((socket.VMADDR_CID_ANY, port))
            except OSError as error:
                assert error.errno == errno.EADDRINUSE
                return True
            return False

    assert not is_taken()
    with serving(platter_path, tmp_path, "--vsock", port, "-f", "raw", disk):
        assert is_taken()
        done = subprocess.run(
            [str(platter_path), "serve", "--vsock", str(port), "-U", "-r",
             "-f", "raw", str(disk)], check=False, capture_output=True,
            timeout=60, cwd=tmp_path)
        assert done.returncode == 1
        assert f"listen on vsock port {port}".encode() in done.stderr
    assert not is_taken()


# --- limits ------------------------------------------------------------------


@pytest.mark.parametrize("form", ["handshake", "stall"])
def test_deadlines_can_be_chosen(platter_path, disk, tmp_path, form):
    """A client of a patient server, which came first, outlives the other."""
    state = STATES["nothing said" if form == "handshake" else "not reading"]
    folders = [tmp_path / name for name in ("long", "short")]
    words = [f"--{form}-timeout", "-U", "-r", "-f", "raw", disk]
    for folder in folders:
        folder.mkdir()
    with (serving(platter_path, folders[0], words[0], "1000",
                  *words[1:]) as patient,
          serving(platter_path, folders[1], words[0], "1",
                  *words[1:]) as hasty):
        clients = [state(patient), state(hasty)]
        hung_up = select.poll()
        for client in clients:
            hung_up.register(client.socket, 0)
        found = [fd for fd, _ in hung_up.poll(60000)]
        assert found == [clients[1].socket.fileno()]
        for client in clients:
            client.close()


def test_the_others_wait_outside(platter_path, disk, tmp_path):
    with serving(platter_path, tmp_path, "--max-clients", "1", "-f", "raw",
                 disk) as server:
        first = server.connect().start()
        second = server.connect()
        for _ in range(100):
            assert first.error_of(wire.FLUSH, 0, 0) == 0
        assert not has_data(second)
        first.close()
        second.start().close()


def becomes(wanted, look):
    """Now or a little later."""
    give_up = time.monotonic() + START_SECONDS
    while look() != wanted:
        assert time.monotonic() < give_up, f"{look()}, not {wanted}"
        time.sleep(0.01)


@pytest.mark.parametrize("words,wanted", [("", True), ("--threads 0", False)])
def test_threads_for_what_waits(platter_path, disk, tmp_path, words, wanted):
    """Beside the one that accepts clients, the client's own, and that of
    ThreadSanitizer."""
    usual = 3 if os.environ.get("PLATTER_VARIANT") == "tsan" else 2
    with serving(platter_path, tmp_path, *words.split(), "-f", "raw",
                 disk) as server:
        client = server.connect().start(wire.STRUCTURED, b"base:allocation")
        one = struct.pack(">IHHQQI", 0x25609513, 0, wire.STATUS, 0, 0, SIZE)
        client.send(one * 50)
        for _ in range(50):
            assert client.chunks()[-1][0] == wire.STATUS_CHUNK
        # Threads of clients that were there before may still be ending.
        tasks = f"/proc/{server.process.pid}/task"
        becomes(wanted, lambda: len(os.listdir(tasks)) > usual)
        client.close()


# --- what it tells -----------------------------------------------------------


def stats_of(text):
    return {line["export"]: line for line in map(json.loads,
                                                 text.splitlines())}


def test_stats_count_what_was_asked(platter_path, disk, tmp_path):
    (tmp_path / "other.raw").write_bytes(bytes(512))
    server = Server(platter_path, tmp_path, "--stats=json", "-f", "raw",
                    "-E", f"one={disk}", "-E", "two=other.raw")
    client = server.connect().start(wire.STRUCTURED, name=b"one")
    for _ in range(5):
        client.read(0, 4096)
    assert client.error_of(wire.WRITE, 0, 512, 0, bytes(512)) == 0
    assert client.error_of(wire.READ, SIZE, 1) != 0
    assert client.error_of(wire.FLUSH, 0, 0) == 0
    os.kill(server.process.pid, signal.SIGUSR1)
    early = [server.process.stderr.readline() for _ in range(2)]
    assert client.error_of(wire.FLUSH, 0, 0) == 0
    status, text = server.stop()
    assert status == 0
    before, after = stats_of("".join(early)), stats_of(text)
    assert before["one"]["flush"]["requests"] == 1
    one = after["one"]
    assert one["read"] == {"requests": 6, "errors": 1, "bytes": 5 * 4096}
    assert one["write"] == {"requests": 1, "errors": 0, "bytes": 512}
    assert one["flush"] == {"requests": 2, "errors": 0, "bytes": 0}
    assert one["clients"] == 1 and one["depth-max"] >= 1
    assert sum(row["count"] for row in one["latency"]) == 9
    assert after["two"] == {"export": "two", "clients": 0, "depth-max": 0,
                            "latency": []}


def test_stats_for_people(platter_path, disk, tmp_path):
    server = Server(platter_path, tmp_path, "--stats", "-f", "raw", disk)
    server.connect().start(wire.STRUCTURED).read(0, 1 << 20)
    status, text = server.stop()
    assert status == 0
    assert "read    1 requests, 1 MiB, 0 failed" in text


def test_images_are_closed_before_figures_are_told(platter_path, qemu_img,
                                                   tmp_path):
    """To somebody who does not read them: no data waits for that."""
    qemu_img.good("create -f qcow2 disk.qcow2 1M")
    reader, writer = os.pipe()
    server = subprocess.Popen(
        [str(platter_path), "serve", "--stats", "-f", "qcow2", "-k", "sock",
         "disk.qcow2"], cwd=tmp_path, stderr=writer)
    try:
        give_up = time.monotonic() + START_SECONDS
        while not (tmp_path / "sock").exists():
            assert time.monotonic() < give_up
            time.sleep(0.01)
        client = wire.Client(tmp_path / "sock").start()
        assert client.error_of(wire.WRITE, 0, 4096, payload=b"x" * 4096) == 0
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while os.write(writer, b"-" * 4096):
                pass
        os.set_blocking(writer, True)
        server.terminate()
        # It takes the lock of a writer, so the server has closed the image.
        while qemu_img("check disk.qcow2").returncode:
            assert time.monotonic() < give_up
            time.sleep(0.05)
        qemu_img.good("convert -f qcow2 -O raw disk.qcow2 out.raw")
        assert (tmp_path / "out.raw").read_bytes()[:4096] == b"x" * 4096
        assert server.poll() is None
        client.close()
    finally:
        os.close(writer)
        with open(reader, "rb") as said:
            text = said.read()
        assert server.wait(timeout=START_SECONDS) == 0
    assert b"export ''" in text


# --- many --------------------------------------------------------------------


COUNT, PIECE = 64, 61440


class Crowd:
    """Clients at once: each writer has a piece, readers one that stays."""

    def __init__(self, server, constant):
        self.server, self.constant = server, constant
        self.ends = {}
        self.failures = []

    def run(self):
        """What each piece has to hold at the end, in order."""
        threads = [threading.Thread(target=self.work, args=(number,))
                   for number in range(COUNT)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not self.failures
        return b"".join(self.ends[number] for number in range(COUNT))

    def work(self, number):
        try:
            client = self.server.connect().start(wire.STRUCTURED)
            work = self.read if number % 4 == 0 else self.write
            self.ends[number] = bytes(work(client, number))
            client.close()
        except Exception as failure:
            self.failures.append(failure)

    def read(self, client, number):
        base = number * PIECE
        mine = self.constant[base:base + PIECE]
        for _ in range(40):
            assert client.read(base, PIECE) == mine
        return mine

    def write(self, client, number):
        rng, base = random.Random(number), number * PIECE
        model = bytearray(self.constant[base:base + PIECE])
        for _ in range(30):
            at, length = rng.randrange(PIECE - 5000), rng.randrange(1, 5000)
            data = rng.choice((bytes(length), rng.randbytes(length)))
            if any(data):
                error = client.error_of(wire.WRITE, base + at, length, 0, data)
            else:
                error = client.error_of(wire.ZEROES, base + at, length)
            assert error == 0
            model[at:at + length] = data
            assert client.read(base, PIECE) == model
        assert client.error_of(wire.FLUSH, 0, 0) == 0
        return model


@pytest.mark.parametrize("form,options", [
    ("raw", []), ("qcow2", ["-o", "cluster_size=64k"]),
    ("qcow2", ["-o", "cluster_size=4k,lazy_refcounts=on"]),
], ids=["raw", "64k", "4k"])
def test_sixty_four_clients_at_once(form, options, platter, platter_path,
                                    qemu_img, tmp_path):
    """No piece ends where a cluster does, so that neighbours share some."""
    constant = random.Random(64).randbytes(COUNT * PIECE)
    (tmp_path / "source.raw").write_bytes(constant)
    platter.good("create -q -f", form, options, "many.img", str(COUNT * PIECE))
    platter.good("convert -n -f raw -O", form, "source.raw many.img")
    with serving(platter_path, tmp_path, "-e", "0", "-f", form,
                 "many.img") as server:
        expected = Crowd(server, constant).run()
    if form == "qcow2":
        qemu_img.good("check -q many.img")
    qemu_img.good("convert -f", form, "-O raw many.img end.raw")
    assert (tmp_path / "end.raw").read_bytes() == expected


def test_no_more_clients_than_allowed(platter_path, disk, tmp_path):
    with serving(platter_path, tmp_path, "-e", "2", "-f", "raw",
                 disk) as server:
        first, second = (server.connect().start() for _ in range(2))
        third = server.connect()
        third.greet()
        assert third.go()[-1][0] == wire.POLICY
        assert third.go(option=wire.INFO)[-1][0] == wire.ACK
        first.close()
        give_up = time.monotonic() + 30
        while third.go()[-1][0] == wire.POLICY:
            assert time.monotonic() < give_up
        assert third.error_of(wire.FLUSH, 0, 0) == 0
        second.close()


def test_a_thousand_exports(platter, platter_path, tmp_path):
    platter.good("create -q -f qcow2 disk.qcow2 1G")
    words = []
    for number in range(1000):
        os.link(tmp_path / "disk.qcow2", tmp_path / f"{number}.qcow2")
        words += ["-E", f"n{number}={number}.qcow2"]
    with serving(platter_path, tmp_path, "-r", "-f", "qcow2",
                 *words) as server:
        client = server.connect()
        client.greet()
        assert len(client.option(wire.LIST)) == 1001
        client.start_name = client.go(b"n999")
        client.send_request(wire.READ, 0, 512)
        assert client.simple_reply(512)[2] == bytes(512)


# --- stopping ----------------------------------------------------------------


def in_handshake(server):
    client = server.connect()
    client.greet()
    return client


def in_a_payload(server):
    client = server.connect().start()
    client.send_request(wire.WRITE, 0, 1 << 20, 0, bytes(1000))
    return client


def not_reading(server):
    """Has asked for more than any buffer between us holds."""
    client = server.connect().start()
    for _ in range(16):
        client.send_request(wire.READ, 0, 4 << 20)
    return client


STATES = {
    "nothing said": lambda server: server.connect(),
    "in its handshake": in_handshake,
    "idle": lambda server: server.connect().start(),
    "in a payload": in_a_payload,
    "not reading": not_reading,
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT,
                                 signal.SIGHUP], ids=lambda how: how.name)
def test_clients_never_keep_a_server_from_stopping(platter_path, disk,
                                                   tmp_path, state, how):
    server = Server(platter_path, tmp_path, "-f", "raw", disk)
    clients = [state(server) for _ in range(3)]
    assert server.stop(how) == (0, "")
    for client in clients:
        client.close()
    assert not server.socket.exists()


def test_what_has_arrived_is_answered_before_the_end(platter_path, disk,
                                                     tmp_path):
    server = Server(platter_path, tmp_path, "-f", "raw", disk)
    client = server.connect().start()
    for number in range(64):
        client.send_request(wire.WRITE, number * 512, 512, 0,
                            bytes([number]) * 512)
    assert server.stop() == (0, "")
    for number in range(64):
        assert client.simple_reply()[1] == 0
    assert client.at_end()
    data = disk.read_bytes()
    assert data[:32768] == b"".join(bytes([n]) * 512 for n in range(64))


def test_a_slow_reader_delays_nobody(platter_path, disk, tmp_path):
    with serving(platter_path, tmp_path, "-f", "raw", disk) as server:
        slow = not_reading(server)
        other = server.connect().start(wire.STRUCTURED)
        assert other.read(0, 1 << 20) == disk.read_bytes()[:1 << 20]
        other.close()
        for _ in range(16):
            assert slow.simple_reply(4 << 20)[1] == 0
        slow.close()


def test_a_slow_reader_keeps_no_range(platter_path, disk, tmp_path):
    """What it has asked for and does not take can be changed by others."""
    disk.read_bytes()
    with serving(platter_path, tmp_path, "-f", "raw", disk) as server:
        before = disk.read_bytes()
        slow = not_reading(server)
        other = server.connect().start(wire.STRUCTURED)
        other.read(0, 4096)
        assert other.error_of(wire.ZEROES, 0, SIZE) == 0
        assert other.error_of(wire.FLUSH, 0, 0) == 0
        # The reply at hand was read before, what followed it after or before.
        for _ in range(16):
            _, error, data = slow.simple_reply(4 << 20)
            assert error == 0
            for at in range(0, len(data), 1 << 16):
                piece = data[at:at + (1 << 16)]
                assert piece in (before[at:at + (1 << 16)], bytes(1 << 16))
        slow.close()
        other.close()


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_a_client_never_waits_for_itself(form, qemu_img, platter_path,
                                         tmp_path):
    """Reads, and changes of what is where in the same places, at once."""
    name = f"disk.{form}"
    (tmp_path / "source.raw").write_bytes(b"y" * (1 << 20))
    qemu_img.good("convert -f raw -S 0 -O", form, "source.raw", name)
    (tmp_path / name).read_bytes()
    with serving(platter_path, tmp_path, "-f", form, name) as server:
        clients = [server.connect().start() for _ in range(3)]
        rng = random.Random(6)
        for _ in range(200):
            for client in clients:
                asked = []
                for _ in range(12):
                    at = rng.randrange(256) * 4096
                    kind = rng.choice((wire.READ, wire.READ, wire.ZEROES,
                                       wire.WRITE, wire.TRIM))
                    payload = b"x" * 4096 if kind == wire.WRITE else b""
                    client.send_request(kind, at, 4096, 0, payload, len(asked))
                    asked.append(4096 if kind == wire.READ else 0)
                client.asked = asked
            for client in clients:
                for _ in client.asked:
                    magic, error, cookie = client.reply_head()
                    assert (magic, error) == (wire.SIMPLE_REPLY, 0)
                    client.receive(client.asked[cookie])
    qemu_img.good("compare -q -f", form, "-F", form, name, name)


def test_silent_clients_keep_nobody_out(platter_path, disk, tmp_path):
    with serving(platter_path, tmp_path, "-f", "raw", disk) as server:
        silent = [server.connect() for _ in range(100)]
        client = server.connect().start()
        assert client.error_of(wire.FLUSH, 0, 0) == 0
        for one in [*silent, client]:
            one.close()


def test_exports_and_clients_may_be_more_than_the_usual_limit(platter_path,
                                                              tmp_path):
    """Of descriptors, of which each of them takes one."""
    exports, few = [], 64
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    for number in range(few):
        path = tmp_path / f"{number}.raw"
        path.write_bytes(bytes([number]) * 512)
        exports += ["-E", f"e{number}={path}"]
    with serving(platter_path, tmp_path, "-f", "raw", *exports,
                 preexec_fn=lambda: resource.setrlimit(
                     resource.RLIMIT_NOFILE, (few, most))) as server:
        clients = [server.connect().start(wire.STRUCTURED, name=b"e%d" % number)
                   for number in range(few)]
        for number, client in enumerate(clients):
            assert client.read(0, 512) == bytes([number]) * 512
            client.close()


def memory_of(pid):
    """What it has written to, in bytes: no files, no zeros."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
        fields = dict(line.split(":") for line in list(rollup)[1:])
    return int(fields["Anonymous"].split()[0]) << 10


@pytest.mark.skipif(
    os.environ.get("PLATTER_VARIANT", "release") != "release",
    reason="sanitizers keep memory of their own, and what was freed")
def test_silent_clients_keep_no_large_buffers(platter, platter_path, disk,
                                              tmp_path):
    """They had them: what is compressed needs one to be read to."""
    count, limit, half = 16, 16 << 20, SIZE // 2
    platter.good("convert -c -f raw -O qcow2", [disk], "packed.qcow2")
    with serving(platter_path, tmp_path, "-f", "qcow2", "-e", count,
                 "packed.qcow2") as server:
        before = memory_of(server.process.pid)
        clients = [server.connect().start() for _ in range(count)]
        for client in clients:
            client.send_request(wire.READ, 0, half)
        for client in clients:
            assert client.simple_reply(half)[2] == disk.read_bytes()[:half]
        give_up = time.monotonic() + 60
        while memory_of(server.process.pid) > before + limit:
            assert time.monotonic() < give_up
            time.sleep(0.1)
        for client in clients:
            client.close()


def policies_of(pid):
    """How the threads of a process are scheduled."""
    found = set()
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            found.add(os.sched_getscheduler(int(task)))
    return found


@pytest.mark.parametrize("start,clients", [
    (os.SCHED_OTHER, os.SCHED_BATCH),
    (os.SCHED_IDLE, os.SCHED_IDLE),
])
def test_threads_of_clients_let_others_run_first(start, clients, platter_path,
                                                 disk, tmp_path):
    """Unless whoever started the server has said how it is to run."""
    def choose():
        os.sched_setscheduler(0, start, os.sched_param(0))

    with serving(platter_path, tmp_path, "-f", "raw", disk,
                 preexec_fn=choose) as server:
        def policies():
            return policies_of(server.process.pid)

        client = server.connect().start()
        becomes({start, clients}, policies)
        # Who waits for us to take what it sends is served at once,
        for _ in range(2):
            assert client.error_of(wire.WRITE, 0, 1 << 18,
                                   payload=bytes(1 << 18)) == 0
        becomes({start}, policies)
        # and that ends with a copy.
        for _ in range(256):
            client.send_request(wire.READ, 0, 1 << 18)
            client.simple_reply(1 << 18)
        becomes({start, clients}, policies)
        client.close()
