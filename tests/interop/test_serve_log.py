# SPDX-License-Identifier: BSD-3-Clause
"""With --log a server tells who came, what for, and why they left."""

import json
import os
import signal
import socket
import struct
import subprocess
import time

import nbd_server as wire
import pytest
from conftest import find
from nbd_server import Server

SIZE = 1 << 20
WAIT_SECONDS = 30


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(SIZE))
    return path


@pytest.fixture
def serve(platter_path, tmp_path, disk):
    """A server of the disk; it does not outlive the test."""
    started = []

    def start(*words):
        started.append(Server(platter_path, tmp_path, "-f", "raw", "-x", "a",
                              *words, disk))
        return started[0]

    yield start
    for server in started:
        server.stop(signal.SIGKILL)


def events_of(text, client):
    """Those of one client; the first one only looked whether it listens."""
    lines = [json.loads(line) for line in text.splitlines()]
    return [line for line in lines if line.get("client") == client]


def wait_for_end(client):
    while not client.at_end():
        pass
    client.close()


def test_text_for_people(serve):
    server = serve("--log")
    client = server.connect().start(wire.STRUCTURED, name=b"a")
    client.read(0, 65536)
    client.error_of(wire.WRITE, 0, 512, 0, bytes(512))
    client.error_of(wire.WRITE, SIZE, 512, 0, bytes(512))
    client.send_request(wire.DISC, 0, 0)
    wait_for_end(client)
    status, text = server.stop()
    assert status == 0
    who = (f"platter: client 2 (pid {os.getpid()}, uid {os.getuid()}, "
           f"gid {os.getgid()}): ")
    lines = [line for line in text.splitlines() if "client 2 " in line]
    assert lines[:2] == [who + "connected", who + "chose export 'a'"]
    assert lines[2].startswith(who + "left, it disconnected; ")
    assert lines[2].endswith(" s, 3 requests, 64 KiB read, 512 B written")
    assert len(lines) == 3


def test_json_for_programs(serve):
    server = serve("--log=json")
    before = int(time.time()) - 1  # that clock may be ahead of coarse ones
    client = server.connect().start(wire.STRUCTURED, name=b"a")
    client.read(0, 65536)
    client.error_of(wire.WRITE, 0, 512, 0, bytes(512))
    # Seen before the server stops, which would be the reason else.
    client.socket.shutdown(socket.SHUT_WR)
    wait_for_end(client)
    server.connect().start(name=b"a").close()
    status, text = server.stop()
    assert status == 0
    came, chose, left = events_of(text, 2)
    peer = {"client": 2, "pid": os.getpid(), "uid": os.getuid(),
            "gid": os.getgid(), "peer": f"pid {os.getpid()}, uid "
            f"{os.getuid()}, gid {os.getgid()}"}
    for event in (came, chose, left):
        assert before <= event.pop("time") <= time.time()
    assert left.pop("seconds") >= 0
    assert came == {"event": "connected", **peer}
    assert chose == {"event": "export", "export": "a", **peer}
    assert left == {"event": "left", "export": "a", "why": "eof",
                    "requests": 2, "bytes-read": 65536, "bytes-written": 512,
                    **peer}
    assert [event["event"] for event in events_of(text, 3)] == [
        "connected", "export", "left"]


def greet_wrongly(client):
    client.receive(18)
    client.send(struct.pack(">I", 0x80))


def with_option(option, data=b"", magic=wire.IHAVEOPT, length=None, flags=3):
    def say(client):
        client.greet(flags)
        length_told = len(data) if length is None else length
        client.send(struct.pack(">QII", magic, option, length_told) + data)
    return say


def with_request(data):
    def say(client):
        client.start(name=b"a")
        client.send(data)
    return say


def request(command, length, magic=0x25609513):
    return struct.pack(">IHHQQI", magic, 0, command, 0, 0, length)


def half(data):
    def say(client):
        client.start(name=b"a")
        client.send(data)
        client.socket.shutdown(socket.SHUT_WR)
    return say


ENDS = [
    (greet_wrongly, "protocol", "client flags are 0x80"),
    (with_option(wire.ABORT), "disconnect", None),
    (with_option(wire.LIST, magic=1), "protocol",
     "magic of an option is 0x1"),
    (with_option(wire.LIST, length=65537), "protocol",
     "option 3 has 65537 bytes, allowed are 65536"),
    (with_option(wire.LIST, flags=0), "protocol",
     "option 3 of a client that is not fixed newstyle"),
    (with_option(wire.EXPORT_NAME, b"\x1b[31m\n\xff"), "error",
     "no export is called '\\x1b[31m\\n\\xff'"),
    (with_request(request(wire.DISC, 0)), "disconnect", None),
    (with_request(request(wire.READ, 0, 7)), "protocol",
     "magic of a request is 0x7, not 0x25609513"),
    (with_request(request(wire.WRITE, (32 << 20) + 1)), "protocol",
     "payload of 33554433 bytes, allowed are 33554432"),
    (half(request(wire.FLUSH, 0)[:9]), "eof", "in a request"),
    (half(request(wire.WRITE, 9) + b"four"), "eof",
     "in the payload of a request"),
    (half(b""), "eof", None),
]


@pytest.mark.parametrize("say,why,cause", ENDS, ids=range(len(ENDS)))
def test_why_they_left(serve, say, why, cause):
    server = serve("--log=json")
    client = server.connect()
    say(client)
    wait_for_end(client)
    status, text = server.stop()
    assert status == 0
    left = events_of(text, 2)[-1]
    assert (left["event"], left["why"], left.get("cause")) == (
        "left", why, cause)


def test_too_many_of_an_export(serve):
    server = serve("--log=json", "-e", "1")
    first = server.connect().start(name=b"a")
    second = server.connect()
    with_option(wire.EXPORT_NAME, b"a")(second)
    wait_for_end(second)
    first.close()
    left = events_of(server.stop()[1], 3)[-1]
    assert (left["why"], left["cause"]) == ("error",
                                            "too many clients of an export")


@pytest.mark.parametrize("words", ["--handshake-timeout", "--stall-timeout"])
def test_deadlines(serve, words):
    server = serve("--log=json", words, "1")
    client = server.connect()
    if words == "--stall-timeout":
        client.start(name=b"a")
        for _ in range(64):
            client.send_request(wire.READ, 0, SIZE)
        assert json_line(server, 2, "left")["why"] == "deadline"
    else:
        wait_for_end(client)
        assert json_line(server, 2, "left")["why"] == "deadline"
    client.close()


def json_line(server, client, kind):
    """Waits for that line."""
    while True:
        event = json.loads(server.process.stderr.readline())
        if (event.get("client"), event["event"]) == (client, kind):
            return event


def test_the_server_stops(serve):
    server = serve("--log=json")
    clients = [server.connect(), server.connect().start(name=b"a")]
    # It is there once it has been greeted.
    clients[0].greet()
    status, text = server.stop()
    assert status == 0
    for number in (2, 3):
        assert events_of(text, number)[-1]["why"] == "stop"
    for client in clients:
        client.close()


def test_addresses(serve):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = serve("--log=json", "-b", "127.0.0.1", "-p", str(port))
    with socket.create_connection(("127.0.0.1", port)) as client:
        own = client.getsockname()[1]
        client.recv(18)
    event = json_line(server, 2, "connected")
    assert event["peer"] == f"127.0.0.1:{own}"
    assert "pid" not in event
    assert server.stop()[0] == 0


def test_a_client_in_a_loop_fills_no_disk(serve):
    server = serve("--log=json")
    count = 600
    for _ in range(count):
        client = server.connect()
        client.receive(18)
        client.close()
    status, text = server.stop()
    assert status == 0
    lines = [json.loads(line) for line in text.splitlines()]
    told = [line for line in lines if line["event"] != "left-out"]
    left_out = sum(line["lines"] for line in lines
                   if line["event"] == "left-out")
    # The first one looked whether it listens.
    assert len(told) + left_out == 2 * (count + 1)
    assert left_out > 100


@pytest.mark.parametrize("words", ["--log=text", "--log=json"])
def test_nobody_waits_for_who_does_not_read(platter_path, disk, tmp_path,
                                            words):
    """Nor with names of which a few fill the pipe."""
    name = "\x01" * 4000
    (tmp_path / "serve.json").write_text(json.dumps({"exports": [
        {"name": name, "file": str(disk), "format": "raw"}]}))
    server = Server(platter_path, tmp_path, "--config", "serve.json", words)
    try:
        for _ in range(200):
            server.connect().start(name=name.encode()).close()
        status, text = server.stop()
        assert status == 0
    finally:
        server.stop(signal.SIGKILL)
    lines = text.splitlines()
    assert len(text) > 40000 and max(map(len, lines)) < 4096
    if words == "--log=json":
        chose = [event for event in map(json.loads, lines)
                 if event["event"] == "export"]
        assert chose[0]["export"] == "\\x01" * 63 + "..."


def test_fork_keeps_it(platter, platter_path, disk, tmp_path):
    with open(tmp_path / "log", "wb") as log:
        done = subprocess.run(
            [str(platter_path), "serve", "--fork", "--pid-file", "pid", "-k",
             "sock", "-v", "-f", "raw", str(disk)], cwd=tmp_path, check=False,
            stderr=log, stdout=subprocess.DEVNULL, timeout=WAIT_SECONDS)
    assert done.returncode == 0
    try:
        subprocess.run([find("nbdinfo"), "nbd+unix:///?socket=sock"],
                       cwd=tmp_path, check=True, stdout=subprocess.DEVNULL,
                       timeout=WAIT_SECONDS)
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    give_up = time.monotonic() + WAIT_SECONDS
    while (tmp_path / "sock").exists() or (tmp_path / "pid").exists():
        assert time.monotonic() < give_up
        time.sleep(0.01)
    text = (tmp_path / "log").read_text()
    assert "chose export ''" in text and "left, it disconnected" in text


def test_the_name_qemu_nbd_tells_with_verbose(ours, disk, tmp_path):
    process = subprocess.Popen(
        [str(ours), "-v", "-k", str(tmp_path / "sock"), "-f",
         "raw", "--pid-file=pid", str(disk)], cwd=tmp_path, text=True,
        stderr=subprocess.PIPE)
    give_up = time.monotonic() + WAIT_SECONDS
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < give_up
        time.sleep(0.01)
    wire.Client(tmp_path / "sock").start().close()
    _, text = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0
    assert "chose export ''" in text


def test_a_file_wants_it(platter_path, disk, tmp_path):
    (tmp_path / "serve.json").write_text(json.dumps({"log": "json"}))
    server = Server(platter_path, tmp_path, "--config", "serve.json", "-f",
                    "raw", disk)
    server.connect().start().close()
    status, text = server.stop()
    assert status == 0 and events_of(text, 2)


def test_no_such_form(platter, disk):
    assert "expecting 'text' or 'json'" in platter.bad(
        "serve --log=xml -f raw", [disk])
