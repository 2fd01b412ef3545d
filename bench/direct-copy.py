#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Copies a file as fast as the disk itself goes, to compare with.

    direct-copy.py SOURCE TARGET

No page cache, aligned blocks of 1 MiB, many in flight, space reserved ahead,
one sync at the end. It knows nothing of holes or formats.
"""

import mmap
import os
import sys
import threading

BLOCK = 1 << 20
DEPTH = 16
ALIGN = 4096


class Copy:
    """Blocks are handed out in order; the first error stops all."""

    def __init__(self, source, target):
        self.source = os.open(source, os.O_RDONLY | os.O_DIRECT)
        self.target = os.open(
            target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_DIRECT, 0o644)
        self.size = os.fstat(self.source).st_size
        if self.size % ALIGN:
            sys.exit(f"{source}: length is no multiple of {ALIGN}")
        self.next = 0
        self.lock = threading.Lock()
        self.error = None
        os.posix_fallocate(self.target, 0, self.size)

    def take(self):
        with self.lock:
            at = self.next
            self.next += BLOCK
        return at

    def one(self, buffer, at):
        view = memoryview(buffer)[:min(BLOCK, self.size - at)]
        if os.preadv(self.source, [view], at) != len(view):
            raise OSError("short read")
        if os.pwritev(self.target, [view], at) != len(view):
            raise OSError("short write")

    def work(self):
        buffer = mmap.mmap(-1, BLOCK)
        try:
            while not self.error and (at := self.take()) < self.size:
                self.one(buffer, at)
        except OSError as error:
            self.error = error

    def run(self):
        threads = [threading.Thread(target=self.work) for _ in range(DEPTH)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.error:
            sys.exit(f"copying failed: {self.error}")
        os.fsync(self.target)


if __name__ == "__main__":
    Copy(sys.argv[1], sys.argv[2]).run()
