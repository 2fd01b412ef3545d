# SPDX-License-Identifier: BSD-3-Clause
"""NBD servers to compare: how they are started, ended, and what they use."""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
MIB = 1 << 20
START_SECONDS = 30


def program(variable, default):
    path = os.environ.get(variable, str(TOP / default))
    if not os.access(path, os.X_OK):
        sys.exit(f"bench: no program {path}: run make first")
    return path


def ours():
    return program("PLATTER", "build/platter")


def make_keys(folder):
    """A file with the key of a user, in a folder of its own."""
    keys = folder / "psk" / "keys.psk"
    keys.parent.mkdir(exist_ok=True)
    keys.write_text("qemu:" + "0123456789abcdef" * 4 + "\n")
    keys.chmod(0o600)
    return keys


def servers(disk, form, keys=None):
    """Command lines by name; {socket} is where each has to listen. With keys
    all of them want TLS."""
    found = plain_servers(disk, form)
    for words in found.values() if keys else ():
        if words[0] == "nbdkit":
            words[1:1] = ["--tls=require", f"--tls-psk={keys}"]
        elif words[0] == "qemu-nbd":
            words[1:1] = ["--tls-creds=t", "--object",
                          "tls-creds-psk,id=t,endpoint=server,"
                          f"dir={keys.parent}"]
        else:
            words[2:2] = ["--tls-psk", str(keys)]
    return found


def plain_servers(disk, form):
    found = {f"platter {form}": [ours(), "serve", "-f", form, "-e", "0", "-k",
                                 "{socket}", disk]}
    if shutil.which("qemu-nbd"):
        for aio in ("threads", "io_uring"):
            found[f"qemu-nbd {form} {aio}"] = [
                "qemu-nbd", "-t", "-e", "64", "-f", form, f"--aio={aio}",
                "-k", "{socket}", disk]
    if shutil.which("nbdkit") and form == "raw":
        found["nbdkit file"] = ["nbdkit", "-f", "-U", "{socket}", "file", disk]
    return found


def make_disk(path, form, size_bytes):
    """Data everywhere, no two blocks of a MiB the same."""
    if path.exists():
        return
    raw = path if form == "raw" else path.with_suffix(".tmp")
    block = random.Random(1).randbytes(MIB)
    with raw.open("wb") as file:
        for number in range(size_bytes // MIB):
            at = number * 4096 % MIB
            file.write(block[at:] + block[:at])
    if form != "raw":
        subprocess.run(["qemu-img", "convert", "-O", form, raw, path],
                       check=True)
        raw.unlink()


def warm(path):
    """Page by page: pages that readahead brings are dear to write to."""
    with open(path, "rb", buffering=0) as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        while file.read(65536):
            pass


def cpu_ns(pid):
    """All that a process has used, threads that have ended as well."""
    return time.clock_gettime_ns((~pid << 3) | 2)


def memory_kib(pid):
    """Resident, and its share of what it has in common with others."""
    found = {}
    rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    for line in rollup.splitlines()[1:]:
        name, value = line.split(":")
        found[name] = int(value.split()[0])
    return found["Rss"], found["Pss"]


class Running:
    """A server, from when it listens."""

    def __init__(self, words, folder, keys=None):
        self.socket = folder / "nbd.sock"
        self.keys = keys
        self.socket.unlink(missing_ok=True)
        started = time.monotonic()
        self.process = subprocess.Popen(
            [str(word).replace("{socket}", str(self.socket)) for word in words],
            stdin=subprocess.DEVNULL)
        while not self.socket.exists():
            if (self.process.poll() is not None or
                    time.monotonic() > started + START_SECONDS):
                sys.exit(f"bench: {' '.join(map(str, words))} does not start")
            time.sleep(0.002)
        self.start_seconds = time.monotonic() - started
        time.sleep(0.2)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)

    def uri(self):
        if self.keys:
            return (f"nbds+unix://qemu@/?socket={self.socket}&"
                    f"tls-psk-file={self.keys}")
        return f"nbd+unix:///?socket={self.socket}"

    def cpu_ns(self):
        return cpu_ns(self.process.pid)
