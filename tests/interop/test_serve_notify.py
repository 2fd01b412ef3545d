# SPDX-License-Identifier: BSD-3-Clause
"""A server tells the service manager when it is ready, and when it stops."""

import contextlib
import os
import signal
import socket
import subprocess
import time

import pytest
from nbd_server import Client, Server

WAIT_SECONDS = 30
READY = {"READY": "1", "STATUS": "Serving 1 exports on 1 sockets"}
STOPPING = {"STOPPING": "1", "STATUS": "Stopping"}


class Manager:
    """The socket that a service manager listens on."""

    def __init__(self, name):
        self.name = str(name)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(WAIT_SECONDS)
        self.socket.bind(self.name.replace("@", "\0"))
        self.environment = {**os.environ, "NOTIFY_SOCKET": self.name}

    def told(self):
        """One message, as a dictionary."""
        lines = self.socket.recv(4096).decode().rstrip("\n").split("\n")
        return dict(line.split("=", 1) for line in lines)

    def was_told_no_more(self):
        self.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            self.socket.recv(4096)
        return True


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    abstract = f"@platter-{os.getpid()}-{time.monotonic_ns()}"
    found = Manager(tmp_path / "notify" if request.param == "path"
                    else abstract)
    with contextlib.closing(found.socket):
        yield found


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(1 << 20))
    return path


@pytest.fixture
def start(manager, platter_path, tmp_path):
    """Starts the server; it does not outlive the test."""
    started = []

    def start_one(*words):
        started.append(subprocess.Popen(
            [str(platter_path), "serve", "--socket", "sock", "-f", "raw",
             "disk.raw", *words], cwd=tmp_path, env=manager.environment,
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE))
        return started[0]

    yield start_one
    for process in started:
        process.kill()
        process.communicate()


def test_clients_may_come_when_it_says_so(manager, disk, start, tmp_path):
    process = start()
    assert manager.told() == READY
    Client(tmp_path / "sock").start().close()
    process.terminate()
    _, text = process.communicate(timeout=WAIT_SECONDS)
    assert (process.returncode, text) == (0, b"")
    assert manager.told() == STOPPING
    assert manager.was_told_no_more()


def test_it_says_that_it_stops_while_clients_are_there(manager, disk, start,
                                                       tmp_path):
    process = start()
    assert manager.told() == READY
    client = Client(tmp_path / "sock").start()
    # Reads that it does not take yet keep the server for a while.
    for _ in range(64):
        client.send_request(0, 0, 1 << 20)
    process.terminate()
    assert manager.told() == STOPPING
    for _ in range(64):
        assert client.simple_reply(1 << 20)[1] == 0
    client.close()
    assert process.wait(timeout=WAIT_SECONDS) == 0


def test_the_last_client_ends_it_too(manager, disk, ours, tmp_path):
    process = subprocess.Popen(
        [str(ours), "-k", str(tmp_path / "sock"), "-f", "raw",
         "disk.raw"], cwd=tmp_path, env=manager.environment)
    try:
        assert manager.told() == READY
        Client(tmp_path / "sock").start().close()
        assert manager.told() == STOPPING
        assert process.wait(timeout=WAIT_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


def test_the_background_process_is_the_main_one(manager, disk, start,
                                                tmp_path):
    process = start("--fork", "--pid-file", "pid")
    assert process.wait(timeout=WAIT_SECONDS) == 0
    pid = (tmp_path / "pid").read_text().strip()
    try:
        assert manager.told() == {**READY, "MAINPID": pid}
    finally:
        os.kill(int(pid), signal.SIGTERM)
    assert manager.told() == STOPPING


def test_it_never_says_that_it_is_ready_if_it_is_not(manager, start):
    process = start()
    _, text = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 1
    assert b"disk.raw" in text
    assert manager.was_told_no_more()


def test_nobody_listens(disk, platter_path, tmp_path):
    """It serves nevertheless, and says what is wrong."""
    server = Server(platter_path, tmp_path, "-f", "raw", disk, env={
        **os.environ, "NOTIFY_SOCKET": str(tmp_path / "none")})
    server.connect().start().close()
    status, text = server.stop()
    assert status == 0
    assert text.count("warning: Could not tell the service manager") == 2


@pytest.mark.parametrize("name", ["notify", "/", "@", "vsock:2:1234",
                                  "/" + "s" * 200], ids=range(5))
def test_no_such_address(name, disk, platter_path, tmp_path):
    done = subprocess.run(
        [str(platter_path), "serve", "-k", "sock", "-f", "raw", "disk.raw"],
        check=False, capture_output=True, timeout=WAIT_SECONDS, cwd=tmp_path,
        env={**os.environ, "NOTIFY_SOCKET": name})
    assert done.returncode == 1
    assert b"NOTIFY_SOCKET is '" in done.stderr
