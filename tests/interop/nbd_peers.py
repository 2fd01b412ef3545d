# SPDX-License-Identifier: BSD-3-Clause
"""NBD servers of others, for the tests of our client. All of them listen on a
socket in the test's folder, and are ended with the test."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

WAIT_SECONDS = 30
SOCKET = "s"
URI = f"nbd+unix:///?socket={SOCKET}"


def find(name):
    path = shutil.which(name)
    if not path:
        pytest.skip(f"{name} is not installed")
    return path


def wait_until(condition, what):
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)


class Server:
    """A server that runs, in `cwd`."""

    def __init__(self, argv, cwd, pidfile):
        with open(cwd / "server.log", "ab") as log:
            self.process = subprocess.Popen(argv, cwd=cwd, stdout=log,
                                            stderr=log,
                                            stdin=subprocess.DEVNULL)
        # Written when it listens.
        wait_until(lambda: self.process.poll() is not None
                   or pidfile.exists() and pidfile.read_text(), argv)
        assert self.process.poll() is None, (cwd / "server.log").read_text()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()


class Servers:
    """Starts them; one socket each."""

    def __init__(self, cwd):
        self.cwd = cwd
        self.running = []

    def start(self, argv, socket):
        pidfile = self.cwd / f"{socket}.pid"
        pidfile.unlink(missing_ok=True)
        (self.cwd / socket).unlink(missing_ok=True)
        server = Server([*argv], self.cwd, pidfile)
        self.running.append(server)
        return server

    def nbdkit(self, words, *more, socket=SOCKET):
        """`more` are parameters that hold blanks."""
        return self.start([find("nbdkit"), "-f", "-U", socket, "-P",
                           f"{socket}.pid", *words.split(), *more], socket)

    def qemu_nbd(self, words, socket=SOCKET):
        return self.start([find("qemu-nbd"), "-k", str(self.cwd / socket),
                           "-t", f"--pid-file={socket}.pid", *words.split()],
                          socket)

    def stop(self):
        for server in self.running:
            server.stop()


def uri(socket=SOCKET, export=""):
    return f"nbd+unix:///{export}?socket={socket}"


def random_disk(path, size, pieces):
    """A file with holes, and random bytes at [offset, length] of `pieces`."""
    path = pathlib.Path(path)
    with open(path, "wb") as file:
        file.truncate(size)
        for offset, length in pieces:
            file.seek(offset)
            file.write(os.urandom(length))
    return path


def allocated(path):
    return os.stat(path).st_blocks * 512
