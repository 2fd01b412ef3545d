# SPDX-License-Identifier: BSD-3-Clause
"""Runs one command and says what it cost: wall, CPU, peak memory.

The kernel's own accounting of the child is used (wait4). Linux carries the
peak of the process that started a program over into it, so no peak below
floor_kib(), this program's own, can be seen.
"""

import dataclasses
import os
import resource
import select
import signal
import time

READ_ONCE = 1 << 20

# What stays free of memory: above what the kernel keeps free by itself, and
# less than what commands take.
KEEP_FREE = 300 << 20
FILLER_SIZE = 1 << 43


class Failed(Exception):
    """A command that was to be measured failed."""


@dataclasses.dataclass
class Sample:
    """The cost of running a command, summed over its repetitions."""

    wall: float = 0.0
    cpu: float = 0.0
    peak_kib: int = 0
    cut_off: bool = False

    def add(self, other):
        self.wall += other.wall
        self.cpu += other.cpu
        self.peak_kib = max(self.peak_kib, other.peak_kib)
        self.cut_off |= other.cut_off


def floor_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def spawn(argv, log):
    """Starts a command; what it prints goes to nowhere and to the log."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
               (os.POSIX_SPAWN_OPEN, 2, log, flags, 0o644)]
    return os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions)


def outlives(pid, seconds):
    """Whether the child still runs after so many seconds; None: for ever."""
    fd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return not poll.poll(None if seconds is None else seconds * 1000)
    finally:
        os.close(fd)


def run_once(argv, log, limit):
    start = time.monotonic()
    pid = spawn(argv, log)
    try:
        cut_off = outlives(pid, limit)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    if cut_off:
        os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    wall = time.monotonic() - start
    if status and not cut_off:
        with open(log, encoding="utf-8", errors="replace") as file:
            raise Failed(f"{' '.join(argv)}: status "
                         f"{os.waitstatus_to_exitcode(status)}: "
                         f"{file.read().strip()[-400:]}")
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss,
                  cut_off)


def run(argv, log, repeat=1, limit=None):
    """One sample of a command, which gets limit seconds per repetition."""
    total = Sample()
    for _ in range(repeat):
        total.add(run_once(argv, log, limit))
        if total.cut_off:
            break
    return total


def warm(paths):
    """Brings what the files hold into the page cache; holes stay unread."""
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            for start, end in data_of(file.fileno()):
                os.lseek(file.fileno(), start, os.SEEK_SET)
                while start < end:
                    count = len(file.read(min(READ_ONCE, end - start)))
                    if not count:
                        break
                    start += count


def data_of(fd):
    """The runs of a file that are no holes."""
    size = os.fstat(fd).st_size
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end


def memory_free():
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name == "MemFree":
                return int(value.split()[0]) << 10
    return 0


class Filler:
    """Keeps free memory in use, as page cache that is dropped for others.

    A virtual machine may give free memory back to its host. Each page then
    costs a fault on the host when it is used again, up to 3 s for a GiB, which
    is more than all else in a copy, and it hits now one command, now another.
    Here all of them take their memory from the cache of one file that nobody
    reads again. The file is one hole and takes no room on the disk.
    """

    def __init__(self, folder):
        self.path = os.path.join(folder, "filler")
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self.fd, FILLER_SIZE)
        self.at = 0
        self.buffer = bytearray(READ_ONCE)

    def fill(self):
        """Bounded: what the kernel frees meanwhile is not followed."""
        left = memory_free() - KEEP_FREE
        while left > 0:
            os.preadv(self.fd, [self.buffer], self.at)
            self.at = (self.at + READ_ONCE) % FILLER_SIZE
            left -= READ_ONCE

    def close(self):
        os.close(self.fd)
        os.unlink(self.path)
